//! Overlays: for a time, the rate limits of a scope are other than its policy says, by a percentage.

use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    ids::{KeyId, ModelId, OrganisationId, TeamId},
};

/// `overlay.created`, `overlay.updated`. The scope never changes. It ends by itself; the row stays as history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayBody {
    pub name: Option<String>,
    pub scope: OverlayScope,
    /// Of each limit of requests, tokens and concurrency: 200 doubles, 50 halves, 0 refuses everything.
    pub percent: u32,
    pub starts_at: Timestamp,
    pub ends_at: Timestamp,
}

/// What carries the policy that is scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum OverlayScope {
    Organisation { id: OrganisationId },
    Team { id: TeamId },
    Key { id: KeyId },
    Model { id: ModelId },
}

impl OverlayScope {
    /// `organisation`, `team`, `key` or `model`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Organisation { .. } => "organisation",
            Self::Team { .. } => "team",
            Self::Key { .. } => "key",
            Self::Model { .. } => "model",
        }
    }

    #[must_use]
    pub fn uuid(&self) -> uuid::Uuid {
        match self {
            Self::Organisation { id } => id.0,
            Self::Team { id } => id.0,
            Self::Key { id } => id.0,
            Self::Model { id } => id.0,
        }
    }
}
