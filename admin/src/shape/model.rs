//! Models on the wire.

use odock_events::{
    clock::Timestamp,
    ids::{ModelId, OrganisationId, ProviderId, ProviderKeyId},
    payload::{
        JsonObject,
        model::{Capability, ModelConfig, ModelType, PriceSource},
    },
    pricing::Pricing,
    state::Model,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::body::member::Member;

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelCreate {
    /// What clients send; unique in the organisation.
    pub(crate) name: String,
    /// What goes upstream; by default the name.
    #[serde(default)]
    pub(crate) slug: Option<String>,
    /// `chat`, `reasoning`, `image`, `embeddings`, `audio`, `moderation`, `transcription`, `tts` or `ocr`.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub(crate) kind: ModelType,
    /// `vision`, `reasoning`, `tool_use`.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    pub(crate) capabilities: Option<Vec<Capability>>,
    #[schema(value_type = String)]
    pub(crate) provider_id: ProviderId,
    #[schema(value_type = String)]
    pub(crate) provider_key_id: ProviderKeyId,
    #[serde(default)]
    #[schema(value_type = Option<ModelConfigShape>)]
    pub(crate) config: Option<ModelConfig>,
    /// Null takes the catalogue's price.
    #[serde(default)]
    #[schema(value_type = Option<PricingShape>)]
    pub(crate) pricing: Option<Box<Pricing>>,
    /// The catalogue's entry it is, `<vendor>/<slug>`; by default the one of its provider's type and its slug.
    #[serde(default)]
    pub(crate) catalogue_id: Option<String>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) policies: Option<JsonObject>,
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelPatch {
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) name: Member<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) slug: Member<String>,
    #[serde(default, rename = "type")]
    #[schema(value_type = Option<String>)]
    pub(crate) kind: Member<ModelType>,
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    pub(crate) capabilities: Member<Vec<Capability>>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) provider_id: Member<ProviderId>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) provider_key_id: Member<ProviderKeyId>,
    #[serde(default)]
    #[schema(value_type = Option<ModelConfigShape>)]
    pub(crate) config: Member<ModelConfig>,
    #[serde(default)]
    #[schema(value_type = Option<PricingShape>)]
    pub(crate) pricing: Member<Box<Pricing>>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) catalogue_id: Member<String>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) policies: Member<JsonObject>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct ModelView {
    #[schema(value_type = String)]
    id: ModelId,
    #[schema(value_type = String)]
    organisation_id: OrganisationId,
    name: String,
    slug: String,
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    kind: ModelType,
    #[schema(value_type = Vec<String>)]
    capabilities: Vec<Capability>,
    #[schema(value_type = String)]
    provider_id: ProviderId,
    #[schema(value_type = String)]
    provider_key_id: ProviderKeyId,
    #[schema(value_type = ModelConfigShape)]
    config: ModelConfig,
    #[schema(value_type = Option<PricingShape>)]
    pricing: Option<Box<Pricing>>,
    catalogue_id: Option<String>,
    #[schema(value_type = Object)]
    policies: JsonObject,
    price_version: u32,
    /// `model`, `catalogue` or `none`.
    #[schema(value_type = String)]
    price_source: PriceSource,
    version: u64,
    #[schema(value_type = String)]
    created_at: Timestamp,
    #[schema(value_type = String)]
    updated_at: Timestamp,
}

impl From<Model> for ModelView {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            organisation_id: row.organisation_id,
            name: row.body.name,
            slug: row.body.slug,
            kind: row.body.kind,
            capabilities: row.body.capabilities,
            provider_id: row.body.provider_id,
            provider_key_id: row.body.provider_key_id,
            config: row.body.config,
            pricing: row.body.pricing,
            catalogue_id: row.body.catalogue_id,
            policies: row.body.policies,
            price_version: row.body.price.version,
            price_source: row.body.price.source,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// The description of `ModelConfig`: bounds that a reservation is computed from.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct ModelConfigShape {
    context_window: Option<u64>,
    max_output_tokens: Option<u64>,
    /// The most tokens that one image part can cost.
    max_image_tokens: Option<u64>,
    /// The same for an image that is sent with `detail` low.
    max_low_detail_image_tokens: Option<u64>,
    max_audio_tokens: Option<u64>,
    max_file_tokens: Option<u64>,
    /// The most searches that one answer can bring about.
    max_web_searches: Option<u64>,
}

/// The description of `Pricing`: nano-USD for a request, for 1,000,000 tokens of each class, for 1,000,000 pieces.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct PricingShape {
    per_request_nanos: Option<i64>,
    input_per_million_nanos: Option<i64>,
    output_per_million_nanos: Option<i64>,
    cached_input_per_million_nanos: Option<i64>,
    cache_write_per_million_nanos: Option<i64>,
    cache_write_1h_per_million_nanos: Option<i64>,
    reasoning_per_million_nanos: Option<i64>,
    input_audio_per_million_nanos: Option<i64>,
    cached_input_audio_per_million_nanos: Option<i64>,
    input_image_per_million_nanos: Option<i64>,
    cached_input_image_per_million_nanos: Option<i64>,
    input_video_per_million_nanos: Option<i64>,
    embeddings_per_million_nanos: Option<i64>,
    output_audio_per_million_nanos: Option<i64>,
    output_image_per_million_nanos: Option<i64>,
    output_video_per_million_nanos: Option<i64>,
    tool_input_per_million_nanos: Option<i64>,
    tool_output_per_million_nanos: Option<i64>,
    /// By kind: `pages`, `seconds`, `characters`, `images`, `input_images`, `web_search_low`, …
    units_per_million_nanos: Option<std::collections::BTreeMap<String, i64>>,
    /// Lists for long inputs, the lowest threshold first.
    long_context: Option<Vec<LongContextShape>>,
    service_tiers: Option<ServiceTiersShape>,
    /// Use without a price, refused under a hard budget: `every_call`, `input_audio`, `input_image`, `input_video`,
    /// `output_audio`, `output_image`, `output_video`, `cache_write_1h`, `web_search`.
    unpriced: Option<Vec<String>>,
}

/// Prices that differ from the list below; absent ones do not.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
#[expect(clippy::struct_field_names, reason = "the names on the wire")]
pub(crate) struct RatesShape {
    input_per_million_nanos: Option<i64>,
    output_per_million_nanos: Option<i64>,
    cached_input_per_million_nanos: Option<i64>,
    cache_write_per_million_nanos: Option<i64>,
    cache_write_1h_per_million_nanos: Option<i64>,
    reasoning_per_million_nanos: Option<i64>,
    input_audio_per_million_nanos: Option<i64>,
    cached_input_audio_per_million_nanos: Option<i64>,
    input_image_per_million_nanos: Option<i64>,
    cached_input_image_per_million_nanos: Option<i64>,
    input_video_per_million_nanos: Option<i64>,
    embeddings_per_million_nanos: Option<i64>,
    output_audio_per_million_nanos: Option<i64>,
    output_image_per_million_nanos: Option<i64>,
    output_video_per_million_nanos: Option<i64>,
    tool_input_per_million_nanos: Option<i64>,
    tool_output_per_million_nanos: Option<i64>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct LongContextShape {
    above_input_tokens: u64,
    rates: RatesShape,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct ServiceTiersShape {
    batch: Option<TierShape>,
    flex: Option<TierShape>,
    priority: Option<TierShape>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct TierShape {
    per_request_nanos: Option<i64>,
    rates: Option<RatesShape>,
    units_per_million_nanos: Option<std::collections::BTreeMap<String, i64>>,
    long_context: Option<Vec<LongContextShape>>,
}
