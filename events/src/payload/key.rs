//! Virtual keys. Only the SHA-256 of a secret and its mask are in any event.

use serde::{Deserialize, Serialize};

use super::JsonObject;
use crate::{
    clock::Timestamp,
    ids::{TeamId, UserId},
    units::Sha256Digest,
};

/// `key.created`, `key.updated`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyBody {
    #[serde(rename = "type")]
    pub kind: KeyType,
    pub team_id: Option<TeamId>,
    pub user_id: Option<UserId>,
    pub name: Option<String>,
    pub secret_sha256: Sha256Digest,
    /// First six and last four characters of the secret.
    pub key_preview: String,
    pub revoked: bool,
    pub rotation_count: u32,
    pub last_rotated_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    /// IANA name; a time without an offset was read in it.
    pub timezone: String,
    pub policies: JsonObject,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyType {
    Organisation,
    Team,
    User,
}

/// `key.rotated`: same key, new secret, new expiry. The fold keeps the rest and counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRotated {
    pub secret_sha256: Sha256Digest,
    pub key_preview: String,
    pub expires_at: Option<Timestamp>,
    pub previous_key_preview: String,
    pub previous_expires_at: Option<Timestamp>,
}
