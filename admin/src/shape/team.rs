//! Teams on the wire.

use odock_events::{
    clock::Timestamp,
    ids::{OrganisationId, TeamId},
    payload::JsonObject,
    state::Team,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::body::member::Member;

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TeamCreate {
    pub(crate) name: String,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) policies: Option<JsonObject>,
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TeamPatch {
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) name: Member<String>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) policies: Member<JsonObject>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct TeamView {
    #[schema(value_type = String)]
    id: TeamId,
    #[schema(value_type = String)]
    organisation_id: OrganisationId,
    name: String,
    #[schema(value_type = Object)]
    policies: JsonObject,
    version: u64,
    #[schema(value_type = String)]
    created_at: Timestamp,
    #[schema(value_type = String)]
    updated_at: Timestamp,
}

impl From<Team> for TeamView {
    fn from(row: Team) -> Self {
        Self {
            id: row.id,
            organisation_id: row.organisation_id,
            name: row.body.name,
            policies: row.body.policies,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}
