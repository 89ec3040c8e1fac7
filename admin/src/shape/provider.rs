//! Providers on the wire.

use odock_events::{
    clock::Timestamp,
    ids::{OrganisationId, ProviderId},
    payload::{JsonObject, provider::ProviderType},
    state::Provider,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::body::member::Member;

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProviderCreate {
    /// `openai`, `anthropic`, `google`, `azure_openai`, `vllm`, `mistral`, `huggingface` or `custom`.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub(crate) kind: ProviderType,
    /// Unique in the organisation.
    pub(crate) name: String,
    /// By default that of the type.
    #[serde(default)]
    pub(crate) base_url: Option<String>,
    #[serde(default)]
    pub(crate) timeout_ms: Option<u64>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) config: Option<JsonObject>,
    #[serde(default)]
    pub(crate) enabled: Option<bool>,
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProviderPatch {
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) name: Member<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) base_url: Member<String>,
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    pub(crate) timeout_ms: Member<u64>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) config: Member<JsonObject>,
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    pub(crate) enabled: Member<bool>,
    #[serde(default, rename = "type")]
    #[schema(ignore)]
    pub(crate) kind: Member<Value>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct ProviderView {
    #[schema(value_type = String)]
    id: ProviderId,
    #[schema(value_type = String)]
    organisation_id: OrganisationId,
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    kind: ProviderType,
    name: String,
    base_url: String,
    timeout_ms: u64,
    #[schema(value_type = Object)]
    config: JsonObject,
    enabled: bool,
    version: u64,
    #[schema(value_type = String)]
    created_at: Timestamp,
    #[schema(value_type = String)]
    updated_at: Timestamp,
}

impl From<Provider> for ProviderView {
    fn from(row: Provider) -> Self {
        Self {
            id: row.id,
            organisation_id: row.organisation_id,
            kind: row.body.kind,
            name: row.body.name,
            base_url: row.body.base_url,
            timeout_ms: row.body.timeout_ms,
            config: row.body.config,
            enabled: row.body.enabled,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}
