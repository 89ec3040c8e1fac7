//! The streams in Redis: keys, scripts, and the small messages beside them. Redis orders and fans out; what must last
//! is in Postgres or in a gateway's journal.

use async_trait::async_trait;

use crate::ids::{GatewayId, OrganisationId};

mod connection;
pub mod generation;
pub mod keys;
pub mod limits;
pub mod memory;
pub mod messages;
pub mod reader;
pub mod redis;
pub mod turn;

/// Why the log did not answer. Nothing is known about what was sent.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("redis: {0}")]
    Redis(#[from] ::redis::RedisError),
    #[error("redis did not answer in time")]
    Timeout,
    #[error("unexpected answer from redis: {0}")]
    Answer(String),
    #[error("message cannot be encoded: {0}")]
    Encode(#[from] rmp_serde::encode::Error),
}

/// One command for the management stream.
#[derive(Clone, Copy, Debug)]
pub struct ManagementAppend<'a> {
    pub generation: u64,
    /// `None`: the platform's boundary.
    pub boundary: Option<OrganisationId>,
    pub expected_version: u64,
    /// An encoded `codec::Entry`.
    pub bytes: &'a [u8],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManagementAppended {
    Ok {
        seq: u64,
    },
    /// The boundary is at another version.
    Conflict {
        version: u64,
    },
    /// No generation is open: the projector has to come first.
    Closed,
    Stale {
        generation: u64,
    },
}

/// Consecutive events `first ..= last` of one gateway, at most 256.
#[derive(Clone, Copy, Debug)]
pub struct UsageAppend<'a> {
    pub generation: u64,
    pub gateway_id: GatewayId,
    pub epoch: u64,
    pub nonce: &'a str,
    pub first: u64,
    pub last: u64,
    /// What Postgres is known to have: an emptied Redis takes the stream again above it.
    pub base: u64,
    /// `codec::pack_batch` of the events.
    pub bytes: &'a [u8],
}

/// What a shipper makes of it: whatever moves its place but its own `Ok` (`Duplicate`, `Gap`, a watermark above what it
/// shipped, a new generation, a start) may be another process' work on a copied disk. It asks `usage_owner` before it
/// goes on: itself is fine; an earlier start of its own journal is fine up to the start that followed that one; anybody
/// else, or nobody above 0, means to wait for a new generation for a while, and then to take a new identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsageAppended {
    Ok {
        last: u64,
    },
    Duplicate {
        top: u64,
    },
    /// Cut anew from `top + 1`.
    Gap {
        top: u64,
    },
    /// Another process has this identity.
    Fenced {
        owner: String,
    },
    Closed,
    Stale {
        generation: u64,
    },
}

/// One entry of the management stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagementEntry {
    pub seq: u64,
    pub bytes: Vec<u8>,
}

/// One entry of a usage stream. It may begin below a reader's cursor: the reader takes only what is above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageEntry {
    pub gateway_id: GatewayId,
    pub first: u64,
    pub last: u64,
    pub bytes: Vec<u8>,
}

/// One entry of the config stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    pub version: u64,
    pub bytes: Vec<u8>,
}

/// The append rules of the two streams that must be exact: Redis in production, memory in property tests.
#[async_trait]
pub trait EventLog: Send + Sync {
    async fn append_management(
        &self,
        append: &ManagementAppend<'_>,
    ) -> Result<ManagementAppended, LogError>;

    async fn append_usage(&self, append: &UsageAppend<'_>) -> Result<UsageAppended, LogError>;

    /// Entries above `after_seq`, without waiting.
    async fn read_management(
        &self,
        generation: u64,
        after_seq: u64,
        count: usize,
    ) -> Result<Vec<ManagementEntry>, LogError>;

    /// Entries of one gateway whose last seq is above `after_seq`, without waiting.
    async fn read_usage(
        &self,
        generation: u64,
        gateway: GatewayId,
        after_seq: u64,
        count: usize,
    ) -> Result<Vec<UsageEntry>, LogError>;
}

/// The field of a boundary in the versions hash.
fn boundary_field(boundary: Option<OrganisationId>) -> String {
    boundary.map_or_else(|| "platform".to_owned(), |id| id.to_string())
}
