//! Users on the wire: in plain, for whoever may read them.

use odock_events::{
    clock::Timestamp,
    ids::{OrganisationId, UserId},
    payload::user::{UserRole, UserStatus},
    state::User,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{body::member::Member, person::Person};

#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UserCreate {
    pub(crate) email: String,
    #[serde(default)]
    pub(crate) name: Option<String>,
    /// `super_admin`, `org_admin`, `manager` or `user`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) role: Option<UserRole>,
}

#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UserPatch {
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) email: Member<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) name: Member<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) role: Member<UserRole>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct UserView {
    #[schema(value_type = String)]
    id: UserId,
    #[schema(value_type = String)]
    organisation_id: OrganisationId,
    /// Null once the person was erased.
    email: Option<String>,
    name: Option<String>,
    #[schema(value_type = String)]
    role: UserRole,
    #[schema(value_type = String)]
    status: UserStatus,
    version: u64,
    #[schema(value_type = String)]
    created_at: Timestamp,
    #[schema(value_type = String)]
    updated_at: Timestamp,
}

impl UserView {
    pub(crate) fn new(row: &User, person: Person) -> Self {
        Self {
            id: row.id,
            organisation_id: row.organisation_id,
            email: person.email,
            name: person.name,
            role: row.body.role,
            status: row.body.status,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}
