//! What the journal holds: numbered events, which are shipped, and local records, which are not.

use odock_events::{
    codec,
    envelope::Meta,
    ids::UsageId,
    payload::{
        account::{AccountId, AccountSpec},
        usage::UsageFinished,
    },
    pricing::{CostBreakdown, TokenUsage},
    units::NanoUsd,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_bytes::ByteBuf;

use super::LeaseMap;

/// Written before each attempt: the record that the call becomes if nothing follows. Under a hard budget its cost is
/// the whole reservation, under an elastic one its input, else nothing, until a progress mark says more.
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
    /// What each account has reserved by now, where that is more than at the start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reserved: Vec<(AccountId, i64)>,
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

/// The first byte of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    State = 1,
    Started = 2,
    Progress = 3,
    Granted = 4,
    Event = 5,
}

/// One record as it was read, its payload still encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    State(&'a [u8]),
    Started(&'a [u8]),
    Progress(&'a [u8]),
    Granted(&'a [u8]),
    Event { seq: u64, bytes: &'a [u8] },
}

impl<'a> Record<'a> {
    /// Reads a frame's payload.
    pub(crate) fn parse(payload: &'a [u8]) -> Result<Self, String> {
        let (tag, rest) = payload.split_first().ok_or("an empty record")?;
        match *tag {
            tag if tag == Tag::State as u8 => Ok(Self::State(rest)),
            tag if tag == Tag::Started as u8 => Ok(Self::Started(rest)),
            tag if tag == Tag::Progress as u8 => Ok(Self::Progress(rest)),
            tag if tag == Tag::Granted as u8 => Ok(Self::Granted(rest)),
            tag if tag == Tag::Event as u8 => {
                let (seq, bytes) = rest.split_first_chunk().ok_or("an event without a seq")?;
                Ok(Self::Event {
                    seq: u64::from_le_bytes(*seq),
                    bytes,
                })
            }
            other => Err(format!("an unknown record of type {other}")),
        }
    }
}

pub(crate) fn pack<T: Serialize>(value: &T) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    codec::pack_named(value, TYPICAL)
}

/// A `started` record of a call with one budget takes a little less.
const TYPICAL: usize = 1_536;

pub(crate) fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    rmp_serde::from_slice(bytes).map_err(|error| error.to_string())
}
