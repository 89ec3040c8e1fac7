//! Why a projector's work stops. Everything but [`ProjectorError::Unreadable`] is cured by starting a new term.

use odock_events::{
    codec::{DecodeError, EncodeError},
    log::LogError,
    state::RowError,
};

#[derive(Debug, thiserror::Error)]
pub enum ProjectorError {
    #[error("postgres: {0}")]
    Database(#[from] sqlx::Error),
    #[error("redis: {0}")]
    Log(#[from] LogError),
    /// Another projector moved the checkpoint or raised the generation.
    #[error("another projector is active: {what}")]
    Fenced { what: String },
    /// Redis or Postgres is not as this projector left it.
    #[error("the streams are not what postgres knows: {what}")]
    Estranged { what: String, went_back: WentBack },
    /// Nothing may be skipped in the management stream, so this stops the projector.
    #[error("management entry {seq} cannot be read, a newer release or damage: {source}")]
    Unreadable { seq: u64, source: DecodeError },
    #[error("a row of the database does not read: {0}")]
    Row(#[from] RowError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error("json: {0}")]
    Json(#[from] serde_json::Error),
    #[error("compression: {0}")]
    Compression(#[from] std::io::Error),
    #[error("a task died: {0}")]
    Task(#[from] tokio::task::JoinError),
    /// A stored value that no release of this program writes.
    #[error("table {table} holds `{value}`, which no release writes")]
    Foreign { table: &'static str, value: String },
}

/// Whether Postgres is older than what Redis has seen of it: then gateways hold leases that it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WentBack {
    No,
    Postgres,
}

impl ProjectorError {
    /// Whether a new term cannot help: somebody has to act.
    pub(crate) fn is_fatal(&self) -> bool {
        matches!(self, Self::Unreadable { .. })
    }
}
