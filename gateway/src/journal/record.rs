//! What the journal holds: numbered events, which are shipped, and local records, which are not.

use odock_events::{
    envelope::Meta,
    ids::UsageId,
    payload::{account::AccountSpec, usage::UsageFinished},
    pricing::{CostBreakdown, TokenUsage},
    units::NanoUsd,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_bytes::ByteBuf;

use super::{LeaseMap, frame};

/// Written before each attempt: the record that the call becomes if nothing follows. Under a hard budget its cost is
/// the whole reservation, else nothing, until a progress mark says more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Started {
    pub meta: Meta,
    pub usage: UsageFinished,
}

/// A mark in a call under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub usage_id: UsageId,
    pub tokens: TokenUsage,
    pub cost: NanoUsd,
    pub breakdown: CostBreakdown,
}

impl Started {
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, rmp_serde::encode::Error> {
        rmp_serde::to_vec_named(self)
    }
}

impl Progress {
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, rmp_serde::encode::Error> {
        rmp_serde::to_vec(self)
    }
}

/// The head of each segment: with it, replay needs no earlier one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct StateRecord {
    pub(crate) next_seq: u64,
    pub(crate) leases: LeaseMap,
    /// Started and last progress of each open call.
    pub(crate) open: Vec<(UsageId, ByteBuf, Option<ByteBuf>)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GrantedRecord {
    pub(crate) account: AccountSpec,
    pub(crate) granted: i64,
}

/// One record, its payload encoded.
#[derive(Clone, Debug)]
pub(crate) enum Record {
    State { bytes: Vec<u8> },
    Started { bytes: Vec<u8> },
    Progress { bytes: Vec<u8> },
    Granted { bytes: Vec<u8> },
    Event { seq: u64, bytes: Vec<u8> },
}

const STATE: u8 = 1;
const STARTED: u8 = 2;
const PROGRESS: u8 = 3;
const GRANTED: u8 = 4;
const EVENT: u8 = 5;

impl Record {
    pub(crate) fn state(state: &StateRecord) -> Result<Self, rmp_serde::encode::Error> {
        Ok(Self::State { bytes: rmp_serde::to_vec_named(state)? })
    }

    pub(crate) fn granted(
        account: &AccountSpec,
        granted: i64,
    ) -> Result<Self, rmp_serde::encode::Error> {
        let record = GrantedRecord { account: account.clone(), granted };
        Ok(Self::Granted { bytes: rmp_serde::to_vec_named(&record)? })
    }

    /// Adds the record with its frame.
    pub(crate) fn frame_into(&self, buffer: &mut Vec<u8>) {
        frame::append(buffer, |buffer| match self {
            Self::State { bytes } => tagged(buffer, STATE, bytes),
            Self::Started { bytes } => tagged(buffer, STARTED, bytes),
            Self::Progress { bytes } => tagged(buffer, PROGRESS, bytes),
            Self::Granted { bytes } => tagged(buffer, GRANTED, bytes),
            Self::Event { seq, bytes } => {
                buffer.push(EVENT);
                buffer.extend_from_slice(&seq.to_le_bytes());
                buffer.extend_from_slice(bytes);
            }
        });
    }

    /// Reads a frame's payload.
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, String> {
        let (tag, rest) = payload.split_first().ok_or("an empty record")?;
        let bytes = rest.to_vec();
        match *tag {
            STATE => Ok(Self::State { bytes }),
            STARTED => Ok(Self::Started { bytes }),
            PROGRESS => Ok(Self::Progress { bytes }),
            GRANTED => Ok(Self::Granted { bytes }),
            EVENT => {
                let (seq, bytes) = rest.split_first_chunk().ok_or("an event without a seq")?;
                Ok(Self::Event { seq: u64::from_le_bytes(*seq), bytes: bytes.to_vec() })
            }
            other => Err(format!("an unknown record of type {other}")),
        }
    }
}

fn tagged(buffer: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    buffer.push(tag);
    buffer.extend_from_slice(bytes);
}

pub(crate) fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    rmp_serde::from_slice(bytes).map_err(|error| error.to_string())
}
