//! Grants on the wire.

use odock_events::{
    clock::Timestamp,
    ids::{GrantId, KeyId, OrganisationId},
    payload::grant::GrantTarget,
    state::Grant,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GrantCreate {
    #[schema(value_type = String)]
    pub(crate) key_id: KeyId,
    #[schema(value_type = GrantTargetShape)]
    pub(crate) target: GrantTarget,
}

/// Everything in it happens, or nothing.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GrantBatch {
    #[serde(default)]
    pub(crate) create: Vec<GrantCreate>,
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub(crate) delete: Vec<GrantId>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct GrantView {
    #[schema(value_type = String)]
    id: GrantId,
    #[schema(value_type = String)]
    organisation_id: OrganisationId,
    #[schema(value_type = String)]
    key_id: KeyId,
    #[schema(value_type = GrantTargetShape)]
    target: GrantTarget,
    version: u64,
    #[schema(value_type = String)]
    created_at: Timestamp,
    #[schema(value_type = String)]
    updated_at: Timestamp,
}

impl From<Grant> for GrantView {
    fn from(row: Grant) -> Self {
        Self {
            id: row.id,
            organisation_id: row.organisation_id,
            key_id: row.body.key_id,
            target: row.body.target,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// The description of `GrantTarget`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct GrantTargetShape {
    /// `model`.
    #[schema(rename = "type")]
    kind: String,
    id: String,
}

/// The answer of a batch.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct GrantBatchView {
    created: Vec<GrantView>,
    deleted: Vec<String>,
}
