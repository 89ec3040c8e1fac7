//! Configuration as it is pushed to gateways and admins: one entry a version, each with the full new rows.

use serde::{Deserialize, Serialize};

use super::EntityRow;
use crate::{
    clock::Timestamp,
    codec::{DecodeError, EncodeError},
    envelope::EntityRef,
    ids::CommandId,
};

/// One entry of `{c}:<gen>:cfg` and one row of table `config_delta`. Versions are contiguous; applying is swapping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigDelta {
    pub version: u64,
    /// Where in the log it was decided.
    pub position: u64,
    pub command_id: Option<CommandId>,
    pub committed_at: Timestamp,
    pub changes: Vec<ConfigChange>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfigChange {
    Put(Box<EntityRow>),
    Delete(EntityRef),
}

impl ConfigDelta {
    pub fn to_bytes(&self) -> Result<Vec<u8>, EncodeError> {
        Ok(rmp_serde::to_vec_named(self)?)
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(rmp_serde::from_slice(bytes)?)
    }
}
