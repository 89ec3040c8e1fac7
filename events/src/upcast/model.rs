//! Schema 1 of `model.created` and `model.updated`: six prices, three bounds, no entry of the catalogue named.

use serde::Deserialize;

use super::Error;
use crate::{
    ids::{ProviderId, ProviderKeyId},
    payload::{
        JsonObject,
        model::{Capability, ModelBody, ModelConfig, ModelType, PriceSource, ResolvedPrice},
    },
    pricing::Pricing,
};

#[derive(Deserialize)]
struct ModelBody1 {
    name: String,
    slug: String,
    #[serde(rename = "type")]
    kind: ModelType,
    capabilities: Vec<Capability>,
    provider_id: ProviderId,
    provider_key_id: ProviderKeyId,
    config: ModelConfig1,
    pricing: Option<Pricing1>,
    policies: JsonObject,
    price: ResolvedPrice1,
}

#[derive(Deserialize)]
struct ModelConfig1 {
    #[serde(default)]
    context_window: Option<u64>,
    #[serde(default)]
    max_output_tokens: Option<u64>,
    #[serde(default)]
    max_image_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct ResolvedPrice1 {
    version: u32,
    source: PriceSource,
    pricing: Option<Pricing1>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_field_names, reason = "the names on the wire")]
struct Pricing1 {
    per_request_nanos: i64,
    input_per_million_nanos: i64,
    output_per_million_nanos: i64,
    cached_input_per_million_nanos: Option<i64>,
    cache_write_per_million_nanos: Option<i64>,
    reasoning_per_million_nanos: Option<i64>,
}

/// What was not there in schema 1 was not priced, not bounded and not named.
pub(super) fn to_2(payload: &[u8]) -> Result<Vec<u8>, Error> {
    let old: ModelBody1 = rmp_serde::from_slice(payload)?;
    let new = ModelBody {
        name: old.name,
        slug: old.slug,
        kind: old.kind,
        capabilities: old.capabilities,
        provider_id: old.provider_id,
        provider_key_id: old.provider_key_id,
        config: ModelConfig {
            context_window: old.config.context_window,
            max_output_tokens: old.config.max_output_tokens,
            max_image_tokens: old.config.max_image_tokens,
            ..ModelConfig::default()
        },
        pricing: old.pricing.as_ref().map(pricing),
        catalogue_id: None,
        policies: old.policies,
        price: ResolvedPrice {
            version: old.price.version,
            source: old.price.source,
            pricing: old.price.pricing.as_ref().map(pricing),
        },
    };
    Ok(rmp_serde::to_vec_named(&new)?)
}

fn pricing(old: &Pricing1) -> Box<Pricing> {
    Box::new(Pricing {
        per_request_nanos: old.per_request_nanos,
        cached_input_per_million_nanos: old.cached_input_per_million_nanos,
        cache_write_per_million_nanos: old.cache_write_per_million_nanos,
        reasoning_per_million_nanos: old.reasoning_per_million_nanos,
        ..Pricing::of_tokens(old.input_per_million_nanos, old.output_per_million_nanos)
    })
}
