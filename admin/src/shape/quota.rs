//! Quotas on the wire, with the window that is open now.

use odock_events::{
    clock::Timestamp,
    ids::{OrganisationId, QuotaId},
    payload::{
        budget::{Owner, Period},
        quota::Metric,
        threshold::Thresholds,
    },
    state::Quota,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::rule::OwnerShape;
use crate::body::member::Member;

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct QuotaCreate {
    #[serde(default)]
    pub(crate) name: Option<String>,
    #[schema(value_type = OwnerShape)]
    pub(crate) owner: Owner,
    /// `requests`, `tokens`, `tokens_in`, `tokens_out`, `errors`, `cost` (nano-USD) or `latency_ms`.
    #[schema(value_type = String)]
    pub(crate) metric: Metric,
    /// In the metric's unit; 0 refuses all.
    pub(crate) limit: i64,
    /// `daily`, `weekly`, `monthly`, `quarterly` or `total`.
    #[schema(value_type = String)]
    pub(crate) period: Period,
    #[serde(default)]
    pub(crate) timezone: Option<String>,
    /// Windows step from it; without it they lie on the calendar of the time zone.
    #[serde(default)]
    pub(crate) start_at: Option<String>,
    #[serde(default)]
    pub(crate) end_at: Option<String>,
    #[serde(default)]
    pub(crate) active: Option<bool>,
    /// What a window leaves goes on to the next one, at most one limit.
    #[serde(default)]
    pub(crate) rollover: Option<bool>,
    /// Percents whose crossing is told once a window: `[50, 80, 90, 100]`.
    #[serde(default)]
    pub(crate) thresholds: Option<Vec<u8>>,
    #[serde(default)]
    pub(crate) raise: Option<QuotaRaise>,
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct QuotaPatch {
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) name: Member<String>,
    #[serde(default)]
    #[schema(value_type = Option<i64>)]
    pub(crate) limit: Member<i64>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) end_at: Member<String>,
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    pub(crate) active: Member<bool>,
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    pub(crate) rollover: Member<bool>,
    #[serde(default)]
    #[schema(value_type = Option<Vec<u8>>)]
    pub(crate) thresholds: Member<Vec<u8>>,
    /// Null takes a raise back.
    #[serde(default)]
    #[schema(value_type = Option<QuotaRaise>)]
    pub(crate) raise: Member<QuotaRaise>,
    #[serde(default)]
    #[schema(ignore)]
    pub(crate) owner: Member<Value>,
    #[serde(default)]
    #[schema(ignore)]
    pub(crate) metric: Member<Value>,
    #[serde(default)]
    #[schema(ignore)]
    pub(crate) period: Member<Value>,
    #[serde(default)]
    #[schema(ignore)]
    pub(crate) timezone: Member<Value>,
    #[serde(default)]
    #[schema(ignore)]
    pub(crate) start_at: Member<Value>,
}

/// More than the limit, for a time.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct QuotaRaise {
    /// On top of `limit`.
    pub(crate) amount: i64,
    /// Without it, until the end of the window of now.
    #[serde(default)]
    pub(crate) until: Option<String>,
}

/// The description of a quota's window: `free` is `limit - held - settled`. Of a quota of cost the amounts end in `_nanos`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct QuotaWindowView {
    window_start: String,
    /// Null: it never ends.
    window_end: Option<String>,
    /// With a raise and with what was carried.
    limit: i64,
    held: i64,
    settled: i64,
    free: i64,
    /// Carried in from the window before, less what went on to the next.
    carried: i64,
    /// The largest threshold that was crossed.
    crossed_percent: u8,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct QuotaView {
    #[schema(value_type = String)]
    id: QuotaId,
    #[schema(value_type = String)]
    organisation_id: OrganisationId,
    name: Option<String>,
    #[schema(value_type = OwnerShape)]
    owner: Owner,
    #[schema(value_type = String)]
    metric: Metric,
    limit: i64,
    #[schema(value_type = String)]
    period: Period,
    timezone: String,
    #[schema(value_type = Option<String>)]
    start_at: Option<Timestamp>,
    #[schema(value_type = Option<String>)]
    end_at: Option<Timestamp>,
    active: bool,
    rollover: bool,
    #[schema(value_type = Vec<u8>)]
    thresholds: Thresholds,
    #[schema(value_type = Option<QuotaRaise>)]
    raise: Option<Value>,
    /// Null before `start_at`, from `end_at` on, and where each tag value or end user is counted by itself.
    #[schema(value_type = Option<QuotaWindowView>)]
    window: Option<Value>,
    version: u64,
    #[schema(value_type = String)]
    created_at: Timestamp,
    #[schema(value_type = String)]
    updated_at: Timestamp,
}

impl QuotaView {
    pub(crate) fn new(row: Quota, window: Option<Value>) -> Self {
        let body = row.body;
        Self {
            id: row.id,
            organisation_id: row.organisation_id,
            name: body.name,
            owner: body.owner,
            metric: body.metric,
            limit: body.limit,
            period: body.period,
            timezone: body.timezone,
            start_at: body.start_at,
            end_at: body.end_at,
            active: body.active,
            rollover: body.rollover,
            thresholds: body.thresholds,
            raise: body
                .raise
                .map(|raise| json!({ "amount": raise.amount, "until": raise.until })),
            window,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}
