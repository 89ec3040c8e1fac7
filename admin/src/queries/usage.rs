//! Table `usage`: records of calls as answers show them.

use chrono::{DateTime, Utc};
use odock_events::{
    clock::Timestamp,
    ids::{
        BudgetId, GatewayId, KeyId, ModelId, OrganisationId, ProviderId, QuotaId, TeamId, UsageId,
        UserId,
    },
    payload::usage::{AccountUse, Attempt},
    pricing::{CostBreakdown, Pieces, ServiceTier, TokenDetails, TokenUsage, Units},
};
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::{FromRow, PgConnection, QueryBuilder};
use uuid::Uuid;

use crate::{
    error::ApiError,
    page::{ListQuery, Place},
};

const COLUMNS: &str = "SELECT id, request_id, organisation_id, team_id, user_id, key_id, model_id,
    provider_id, model, slug, provider, route, stream, status, http_status, estimated, input_tokens,
    cached_input_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_nanos,
    price_version, config_version, gateway_id, started_at, first_byte_at, finished_at, latency_ms, more
    FROM usage WHERE organisation_id = ";

#[derive(FromRow)]
struct UsageRow {
    id: Uuid,
    request_id: String,
    organisation_id: Uuid,
    team_id: Option<Uuid>,
    user_id: Option<Uuid>,
    key_id: Uuid,
    model_id: Uuid,
    provider_id: Uuid,
    model: String,
    slug: String,
    provider: String,
    route: String,
    stream: bool,
    status: String,
    http_status: i16,
    estimated: bool,
    input_tokens: i64,
    cached_input_tokens: i64,
    cache_write_tokens: i64,
    output_tokens: i64,
    reasoning_tokens: i64,
    cost_nanos: i64,
    price_version: i32,
    config_version: i64,
    gateway_id: Uuid,
    started_at: DateTime<Utc>,
    first_byte_at: Option<DateTime<Utc>>,
    finished_at: DateTime<Utc>,
    latency_ms: i64,
    more: Value,
}

/// What has no column of its own, as the projector writes it.
#[derive(Deserialize)]
struct More {
    breakdown: CostBreakdown,
    #[serde(default)]
    accounts: Vec<AccountUse>,
    #[serde(default)]
    attempts: Vec<Attempt>,
    #[serde(default)]
    details: TokenDetails,
    #[serde(default)]
    units: Option<Units>,
    #[serde(default)]
    pieces: Pieces,
    #[serde(default)]
    service_tier: ServiceTier,
    #[serde(default)]
    tags: Value,
    #[serde(default)]
    end_user: Value,
    #[serde(default)]
    provider_request_id: Option<String>,
    #[serde(default)]
    trace_id: Option<String>,
}

pub(crate) async fn list(
    connection: &mut PgConnection,
    organisation: OrganisationId,
    query: &ListQuery,
) -> Result<Vec<(Place, Value)>, ApiError> {
    let mut sql = QueryBuilder::new(COLUMNS);
    sql.push_bind(organisation.0);
    query.push_filters(&mut sql);
    if let Some(Place { key, tie }) = query.after {
        sql.push(" AND (started_at, id)")
            .push(query.order.beyond())
            .push("(");
        sql.push_bind(Timestamp(key).to_datetime())
            .push(", ")
            .push_bind(tie)
            .push(")");
    }
    let direction = query.order.direction();
    sql.push(" ORDER BY started_at")
        .push(direction)
        .push(", id")
        .push(direction);
    sql.push(" LIMIT ").push_bind(query.rows());
    let rows: Vec<UsageRow> = sql.build_query_as().fetch_all(connection).await?;
    rows.into_iter()
        .map(|row| {
            let place = Place {
                key: Timestamp::from_datetime(row.started_at).0,
                tie: row.id,
            };
            Ok((place, view(row)?))
        })
        .collect()
}

pub(crate) async fn find(
    connection: &mut PgConnection,
    organisation: OrganisationId,
    id: UsageId,
) -> Result<Option<Value>, ApiError> {
    let mut sql = QueryBuilder::new(COLUMNS);
    sql.push_bind(organisation.0)
        .push(" AND id = ")
        .push_bind(id.0)
        .push(" LIMIT 1");
    let row: Option<UsageRow> = sql.build_query_as().fetch_optional(connection).await?;
    row.map(view).transpose()
}

/// A record with what an explanation needs of it.
pub(crate) struct Recorded {
    pub(crate) id: UsageId,
    pub(crate) organisation_id: OrganisationId,
    pub(crate) team_id: Option<TeamId>,
    pub(crate) user_id: Option<UserId>,
    pub(crate) key_id: KeyId,
    pub(crate) model_id: ModelId,
    pub(crate) provider_id: ProviderId,
    pub(crate) gateway_id: GatewayId,
    pub(crate) model: String,
    pub(crate) config_version: i64,
    pub(crate) price_version: i64,
    pub(crate) accounts: Vec<AccountUse>,
    pub(crate) tokens: TokenUsage,
    pub(crate) details: TokenDetails,
    pub(crate) units: Option<Units>,
    pub(crate) pieces: Pieces,
    pub(crate) service_tier: ServiceTier,
    /// As the API shows it.
    pub(crate) view: Value,
}

/// The records of a request id, or the one of a usage id, the newest first; at most [`MOST_RECORDED`].
pub(crate) async fn recorded(
    connection: &mut PgConnection,
    organisation: OrganisationId,
    request_id: Option<&str>,
    id: Option<UsageId>,
) -> Result<Vec<Recorded>, ApiError> {
    let mut sql = QueryBuilder::new(COLUMNS);
    sql.push_bind(organisation.0);
    if let Some(request_id) = request_id {
        sql.push(" AND request_id = ")
            .push_bind(request_id.to_owned());
    }
    if let Some(id) = id {
        sql.push(" AND id = ").push_bind(id.0);
    }
    sql.push(" ORDER BY started_at DESC, id DESC LIMIT ")
        .push_bind(MOST_RECORDED);
    let rows: Vec<UsageRow> = sql.build_query_as().fetch_all(connection).await?;
    rows.into_iter().map(record).collect()
}

/// A client that labels all its calls alike gets the last of them explained.
const MOST_RECORDED: i64 = 20;

fn record(row: UsageRow) -> Result<Recorded, ApiError> {
    let more: More = serde_json::from_value(row.more.clone()).map_err(ApiError::internal)?;
    let count = |tokens: i64| tokens.unsigned_abs();
    Ok(Recorded {
        id: UsageId(row.id),
        organisation_id: OrganisationId(row.organisation_id),
        team_id: row.team_id.map(TeamId),
        user_id: row.user_id.map(UserId),
        key_id: KeyId(row.key_id),
        model_id: ModelId(row.model_id),
        provider_id: ProviderId(row.provider_id),
        gateway_id: GatewayId(row.gateway_id),
        model: row.model.clone(),
        config_version: row.config_version,
        price_version: row.price_version.into(),
        tokens: TokenUsage {
            input: count(row.input_tokens),
            cached_input: count(row.cached_input_tokens),
            cache_write: count(row.cache_write_tokens),
            output: count(row.output_tokens),
            reasoning: count(row.reasoning_tokens),
        },
        accounts: more.accounts,
        details: more.details,
        units: more.units,
        pieces: more.pieces,
        service_tier: more.service_tier,
        view: view(row)?,
    })
}

fn view(row: UsageRow) -> Result<Value, ApiError> {
    let more: More = serde_json::from_value(row.more).map_err(ApiError::internal)?;
    let time = Timestamp::from_datetime;
    let total = row.input_tokens
        + row.cached_input_tokens
        + row.cache_write_tokens
        + row.output_tokens
        + row.reasoning_tokens;
    let rules = || more.accounts.iter().map(|used| used.account.id.rule);
    let budgets: Vec<BudgetId> = rules().filter_map(|rule| rule.budget()).collect();
    let quotas: Vec<QuotaId> = rules().filter_map(|rule| rule.quota()).collect();
    let attempts: Vec<Value> = more.attempts.iter().map(attempt).collect();
    Ok(json!({
        "id": UsageId(row.id),
        "request_id": row.request_id,
        "organisation_id": OrganisationId(row.organisation_id),
        "team_id": row.team_id.map(TeamId),
        "user_id": row.user_id.map(UserId),
        "key_id": KeyId(row.key_id),
        "model_id": ModelId(row.model_id),
        "model": row.model,
        "slug": row.slug,
        "provider_id": ProviderId(row.provider_id),
        "provider": row.provider,
        "route": row.route,
        "stream": row.stream,
        "status": row.status,
        "http_status": row.http_status.cast_unsigned(),
        "estimated": row.estimated,
        "tokens": {
            "input": row.input_tokens,
            "cached_input": row.cached_input_tokens,
            "cache_write": row.cache_write_tokens,
            "output": row.output_tokens,
            "reasoning": row.reasoning_tokens,
            "total": total,
        },
        "cost_nanos": row.cost_nanos,
        "cost": more.breakdown,
        "price_version": row.price_version,
        "config_version": row.config_version,
        "budget_ids": budgets,
        "quota_ids": quotas,
        "provider_request_id": more.provider_request_id,
        "trace_id": more.trace_id,
        "attempts": attempts,
        "details": more.details,
        "units": more.units,
        "pieces": more.pieces,
        "service_tier": more.service_tier,
        "tags": more.tags,
        "end_user": more.end_user,
        "gateway_id": GatewayId(row.gateway_id),
        "started_at": time(row.started_at),
        "first_byte_at": row.first_byte_at.map(time),
        "finished_at": time(row.finished_at),
        "latency_ms": row.latency_ms,
    }))
}

fn attempt(attempt: &Attempt) -> Value {
    json!({
        "id": attempt.id,
        "model": attempt.model,
        "provider": attempt.provider,
        "outcome": attempt.outcome,
        "status": attempt.status,
        "cost_nanos": attempt.cost_nanos,
        "reserved_nanos": attempt.reserved,
    })
}
