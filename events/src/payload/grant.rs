//! Grants: which key may use what. Without one a key may use nothing.

use serde::{Deserialize, Serialize};

use crate::ids::{KeyId, ModelId};

/// `grant.created`. A grant is made and deleted, never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantBody {
    pub key_id: KeyId,
    pub target: GrantTarget,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum GrantTarget {
    Model { id: ModelId },
}
