//! Organisations on the wire.

use odock_events::{
    clock::Timestamp,
    ids::OrganisationId,
    payload::{JsonObject, organisation::OrganisationStatus},
    state::Organisation,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::body::member::Member;

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrganisationCreate {
    /// Unique on the platform.
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) contact: Option<String>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) branding: Option<JsonObject>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) policies: Option<JsonObject>,
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrganisationPatch {
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) name: Member<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) contact: Member<String>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) branding: Member<JsonObject>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) policies: Member<JsonObject>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct OrganisationView {
    #[schema(value_type = String)]
    id: OrganisationId,
    #[schema(value_type = String)]
    organisation_id: OrganisationId,
    name: String,
    contact: Option<String>,
    #[schema(value_type = Object)]
    branding: JsonObject,
    #[schema(value_type = Object)]
    policies: JsonObject,
    #[schema(value_type = String)]
    status: OrganisationStatus,
    version: u64,
    #[schema(value_type = String)]
    created_at: Timestamp,
    #[schema(value_type = String)]
    updated_at: Timestamp,
}

impl From<Organisation> for OrganisationView {
    fn from(row: Organisation) -> Self {
        Self {
            id: row.id,
            organisation_id: row.organisation_id,
            name: row.body.name,
            contact: row.body.contact,
            branding: row.body.branding,
            policies: row.body.policies,
            status: row.body.status,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}
