//! Virtual keys on the wire. The secret is no member of the view: the one answer that reveals it puts it in.

use odock_events::{
    clock::Timestamp,
    ids::{KeyId, OrganisationId, TeamId, UserId},
    payload::{JsonObject, key::KeyType},
    state::Key,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::body::member::Member;

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyCreate {
    /// `organisation`, `team` or `user`.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub(crate) kind: KeyType,
    /// With type `team`, and only then.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) team_id: Option<TeamId>,
    /// With type `user`, and only then.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) user_id: Option<UserId>,
    #[serde(default)]
    pub(crate) name: Option<String>,
    /// Without an offset it is read in `timezone`; must lie in the future.
    #[serde(default)]
    pub(crate) expires_at: Option<String>,
    #[serde(default)]
    pub(crate) timezone: Option<String>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) policies: Option<JsonObject>,
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyPatch {
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) name: Member<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) expires_at: Member<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) timezone: Member<String>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) policies: Member<JsonObject>,
    #[serde(default, rename = "type")]
    #[schema(ignore)]
    pub(crate) kind: Member<Value>,
    #[serde(default)]
    #[schema(ignore)]
    pub(crate) team_id: Member<Value>,
    #[serde(default)]
    #[schema(ignore)]
    pub(crate) user_id: Member<Value>,
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyRotate {
    /// Absent keeps the expiry, null removes it.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) expires_at: Member<String>,
}

/// The body of an action that takes none.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoBody {}

#[derive(Serialize, ToSchema)]
pub(crate) struct KeyView {
    #[schema(value_type = String)]
    id: KeyId,
    #[schema(value_type = String)]
    organisation_id: OrganisationId,
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    kind: KeyType,
    #[schema(value_type = Option<String>)]
    team_id: Option<TeamId>,
    #[schema(value_type = Option<String>)]
    user_id: Option<UserId>,
    name: Option<String>,
    key_preview: String,
    revoked: bool,
    rotation_count: u32,
    #[schema(value_type = Option<String>)]
    last_rotated_at: Option<Timestamp>,
    #[schema(value_type = Option<String>)]
    expires_at: Option<Timestamp>,
    timezone: String,
    #[schema(value_type = Object)]
    policies: JsonObject,
    version: u64,
    #[schema(value_type = String)]
    created_at: Timestamp,
    #[schema(value_type = String)]
    updated_at: Timestamp,
}

impl From<Key> for KeyView {
    fn from(row: Key) -> Self {
        Self {
            id: row.id,
            organisation_id: row.organisation_id,
            kind: row.body.kind,
            team_id: row.body.team_id,
            user_id: row.body.user_id,
            name: row.body.name,
            key_preview: row.body.key_preview,
            revoked: row.body.revoked,
            rotation_count: row.body.rotation_count,
            last_rotated_at: row.body.last_rotated_at,
            expires_at: row.body.expires_at,
            timezone: row.body.timezone,
            policies: row.body.policies,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}
