//! Organisations: the tenants.

use serde::{Deserialize, Serialize};

use super::JsonObject;

/// `organisation.created`, `organisation.updated`: the whole organisation after the change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrganisationBody {
    pub name: String,
    pub contact: Option<String>,
    pub branding: JsonObject,
    pub policies: JsonObject,
    pub status: OrganisationStatus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrganisationStatus {
    Active,
}
