//! What each kind of event says, one family a file. A struct of a released kind is never edited: a new schema
//! version gets a new struct, an upcast and a golden of the old one.

pub mod account;
pub mod budget;
pub mod command;
pub mod gateway;
pub mod grant;
pub mod key;
pub mod lease;
pub mod model;
pub mod organisation;
pub mod overlay;
pub mod provider;
pub mod quota;
pub mod team;
pub mod threshold;
pub mod usage;
pub mod user;

/// A JSON object as the caller wrote it: `branding`, `policies`, `config`.
pub type JsonObject = serde_json::Map<String, serde_json::Value>;

/// Nothing but the entity in the envelope: `team.deleted`, `key.revoked`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Nothing {}
