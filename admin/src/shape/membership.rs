//! Memberships on the wire.

use odock_events::{
    clock::Timestamp,
    ids::{MembershipId, OrganisationId, TeamId, UserId},
    payload::team::MembershipRole,
    state::Membership,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::body::member::Member;

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MembershipCreate {
    #[schema(value_type = String)]
    pub(crate) team_id: TeamId,
    #[schema(value_type = String)]
    pub(crate) user_id: UserId,
    /// `manager` or `member`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) role: Option<MembershipRole>,
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MembershipPatch {
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) role: Member<MembershipRole>,
    #[serde(default)]
    #[schema(ignore)]
    pub(crate) team_id: Member<Value>,
    #[serde(default)]
    #[schema(ignore)]
    pub(crate) user_id: Member<Value>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct MembershipView {
    #[schema(value_type = String)]
    id: MembershipId,
    #[schema(value_type = String)]
    organisation_id: OrganisationId,
    #[schema(value_type = String)]
    team_id: TeamId,
    #[schema(value_type = String)]
    user_id: UserId,
    #[schema(value_type = String)]
    role: MembershipRole,
    version: u64,
    #[schema(value_type = String)]
    created_at: Timestamp,
    #[schema(value_type = String)]
    updated_at: Timestamp,
}

impl From<Membership> for MembershipView {
    fn from(row: Membership) -> Self {
        Self {
            id: row.id,
            organisation_id: row.organisation_id,
            team_id: row.body.team_id,
            user_id: row.body.user_id,
            role: row.body.role,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}
