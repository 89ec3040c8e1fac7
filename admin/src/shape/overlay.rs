//! Overlays on the wire.

use odock_events::{
    clock::Timestamp,
    ids::{OrganisationId, OverlayId},
    payload::overlay::OverlayScope,
    state::Overlay,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::body::member::Member;

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OverlayCreate {
    #[serde(default)]
    pub(crate) name: Option<String>,
    #[schema(value_type = OverlayScopeShape)]
    pub(crate) scope: OverlayScope,
    /// Of each limit of requests, tokens and concurrency, 0 to 10000.
    pub(crate) percent: u32,
    /// Absent: now.
    #[serde(default)]
    pub(crate) starts_at: Option<String>,
    pub(crate) ends_at: String,
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OverlayPatch {
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) name: Member<String>,
    #[serde(default)]
    #[schema(value_type = Option<u32>)]
    pub(crate) percent: Member<u32>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) starts_at: Member<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) ends_at: Member<String>,
    #[serde(default)]
    #[schema(ignore)]
    pub(crate) scope: Member<Value>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct OverlayScopeShape {
    /// `organisation`, `team`, `key` or `model`.
    r#type: String,
    id: String,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct OverlayView {
    #[schema(value_type = String)]
    id: OverlayId,
    #[schema(value_type = String)]
    organisation_id: OrganisationId,
    name: Option<String>,
    #[schema(value_type = OverlayScopeShape)]
    scope: OverlayScope,
    percent: u32,
    #[schema(value_type = String)]
    starts_at: Timestamp,
    #[schema(value_type = String)]
    ends_at: Timestamp,
    version: u64,
    #[schema(value_type = String)]
    created_at: Timestamp,
    #[schema(value_type = String)]
    updated_at: Timestamp,
}

impl From<Overlay> for OverlayView {
    fn from(row: Overlay) -> Self {
        Self {
            id: row.id,
            organisation_id: row.organisation_id,
            name: row.body.name,
            scope: row.body.scope,
            percent: row.body.percent,
            starts_at: row.body.starts_at,
            ends_at: row.body.ends_at,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}
