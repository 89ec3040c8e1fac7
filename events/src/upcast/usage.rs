//! Schema 1 of `usage.finished`: no service tier, no pieces beside the units, six parts of a cost.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Error;
use crate::{
    clock::Timestamp,
    ids::{GatewayId, KeyId, ModelId, ProviderId, UsageId, UserId},
    payload::usage::{AccountUse, Attempt, TokenDetails, Units, UsageFinished, UsageStatus},
    pricing::{CostBreakdown, Pieces, ServiceTier, TokenUsage},
    units::NanoUsd,
};

#[derive(Deserialize)]
struct UsageFinished1 {
    usage_id: UsageId,
    request_id: String,
    gateway_id: GatewayId,
    key_id: KeyId,
    #[serde(default)]
    user_id: Option<UserId>,
    model_id: ModelId,
    model: String,
    slug: String,
    provider_id: ProviderId,
    provider: String,
    route: String,
    stream: bool,
    status: UsageStatus,
    http_status: u16,
    tokens: TokenUsage,
    #[serde(default)]
    details: TokenDetails1,
    #[serde(default)]
    units: Option<Units>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    end_user: Option<String>,
    cost: NanoUsd,
    breakdown: CostBreakdown1,
    #[serde(default)]
    accounts: Vec<AccountUse>,
    attempts: Vec<Attempt>,
    #[serde(default)]
    provider_request_id: Option<String>,
    #[serde(default)]
    trace_id: Option<String>,
    started_at: Timestamp,
    #[serde(default)]
    first_byte_at: Option<Timestamp>,
    finished_at: Timestamp,
    latency_ms: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenDetails1 {
    input_audio: u64,
    input_image: u64,
    input_video: u64,
    output_audio: u64,
    output_image: u64,
    cache_write_1h: u64,
    embeddings: u64,
    tool_input: u64,
    tool_output: u64,
    rejected_prediction: u64,
    tool_calls: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CostBreakdown1 {
    request: NanoUsd,
    input: NanoUsd,
    cached_input: NanoUsd,
    cache_write: NanoUsd,
    output: NanoUsd,
    reasoning: NanoUsd,
}

/// Every call of schema 1 was billed by the standard tier and by tokens alone.
pub(super) fn to_2(payload: &[u8]) -> Result<Vec<u8>, Error> {
    let old: UsageFinished1 = rmp_serde::from_slice(payload)?;
    let new = UsageFinished {
        usage_id: old.usage_id,
        request_id: old.request_id,
        gateway_id: old.gateway_id,
        key_id: old.key_id,
        user_id: old.user_id,
        model_id: old.model_id,
        model: old.model,
        slug: old.slug,
        provider_id: old.provider_id,
        provider: old.provider,
        route: old.route,
        stream: old.stream,
        status: old.status,
        http_status: old.http_status,
        tokens: old.tokens,
        details: details(&old.details),
        units: old.units,
        pieces: Pieces::new(),
        service_tier: ServiceTier::Standard,
        tags: old.tags,
        end_user: old.end_user,
        cost: old.cost,
        breakdown: breakdown(&old.breakdown),
        accounts: old.accounts,
        attempts: old.attempts,
        provider_request_id: old.provider_request_id,
        trace_id: old.trace_id,
        started_at: old.started_at,
        first_byte_at: old.first_byte_at,
        finished_at: old.finished_at,
        latency_ms: old.latency_ms,
    };
    Ok(rmp_serde::to_vec_named(&new)?)
}

fn details(old: &TokenDetails1) -> TokenDetails {
    TokenDetails {
        input_audio: old.input_audio,
        input_image: old.input_image,
        input_video: old.input_video,
        output_audio: old.output_audio,
        output_image: old.output_image,
        cache_write_1h: old.cache_write_1h,
        embeddings: old.embeddings,
        tool_input: old.tool_input,
        tool_output: old.tool_output,
        rejected_prediction: old.rejected_prediction,
        tool_calls: old.tool_calls,
        ..TokenDetails::default()
    }
}

fn breakdown(old: &CostBreakdown1) -> CostBreakdown {
    CostBreakdown {
        request: old.request,
        input: old.input,
        cached_input: old.cached_input,
        cache_write: old.cache_write,
        output: old.output,
        reasoning: old.reasoning,
        ..CostBreakdown::default()
    }
}
