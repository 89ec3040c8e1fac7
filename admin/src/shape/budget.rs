//! Budgets on the wire, with the window that is open now.

use odock_events::{
    clock::Timestamp,
    ids::{BudgetId, OrganisationId},
    payload::{
        budget::{BudgetMode, Owner, Period},
        threshold::Thresholds,
    },
    state::Budget,
    units::NanoUsd,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::rule::OwnerShape;
use crate::body::member::Member;

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BudgetCreate {
    #[serde(default)]
    pub(crate) name: Option<String>,
    #[schema(value_type = OwnerShape)]
    pub(crate) owner: Owner,
    /// `daily`, `weekly`, `monthly`, `quarterly` or `total`.
    #[schema(value_type = String)]
    pub(crate) period: Period,
    /// 0 refuses all.
    pub(crate) amount_nanos: i64,
    /// `hard`, `elastic` or `soft`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) mode: Option<BudgetMode>,
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
    pub(crate) raise: Option<BudgetRaise>,
    /// What people read amounts in; nothing is settled in it.
    #[serde(default)]
    pub(crate) currency: Option<String>,
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BudgetPatch {
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) name: Member<String>,
    #[serde(default)]
    #[schema(value_type = Option<i64>)]
    pub(crate) amount_nanos: Member<i64>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) mode: Member<BudgetMode>,
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
    #[schema(value_type = Option<BudgetRaise>)]
    pub(crate) raise: Member<BudgetRaise>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) currency: Member<String>,
    #[serde(default)]
    #[schema(ignore)]
    pub(crate) owner: Member<Value>,
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

#[derive(Serialize, ToSchema)]
pub(crate) struct BudgetView {
    #[schema(value_type = String)]
    id: BudgetId,
    #[schema(value_type = String)]
    organisation_id: OrganisationId,
    name: Option<String>,
    #[schema(value_type = OwnerShape)]
    owner: Owner,
    #[schema(value_type = String)]
    period: Period,
    #[schema(value_type = i64)]
    amount_nanos: NanoUsd,
    #[schema(value_type = String)]
    mode: BudgetMode,
    timezone: String,
    #[schema(value_type = Option<String>)]
    start_at: Option<Timestamp>,
    #[schema(value_type = Option<String>)]
    end_at: Option<Timestamp>,
    active: bool,
    rollover: bool,
    #[schema(value_type = Vec<u8>)]
    thresholds: Thresholds,
    #[schema(value_type = Option<BudgetRaise>)]
    raise: Option<Value>,
    currency: String,
    /// Null before `start_at`, from `end_at` on, and where each tag value or end user is counted by itself.
    #[schema(value_type = Option<BudgetWindowView>)]
    window: Option<Value>,
    version: u64,
    #[schema(value_type = String)]
    created_at: Timestamp,
    #[schema(value_type = String)]
    updated_at: Timestamp,
}

/// More than the amount, for a time.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BudgetRaise {
    /// On top of `amount_nanos`.
    pub(crate) amount_nanos: i64,
    /// Without it, until the end of the window of now.
    #[serde(default)]
    pub(crate) until: Option<String>,
}

/// The description of a budget's window: `free_nanos` is `limit_nanos - held_nanos - settled_nanos`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct BudgetWindowView {
    window_start: String,
    /// Null: it never ends.
    window_end: Option<String>,
    /// With a raise and with what was carried.
    limit_nanos: i64,
    held_nanos: i64,
    settled_nanos: i64,
    free_nanos: i64,
    /// Carried in from the window before, less what went on to the next.
    carried_nanos: i64,
    /// The largest threshold that was crossed.
    crossed_percent: u8,
}

impl BudgetView {
    pub(crate) fn new(row: Budget, window: Option<Value>) -> Self {
        Self {
            id: row.id,
            organisation_id: row.organisation_id,
            name: row.body.name,
            owner: row.body.owner,
            period: row.body.period,
            amount_nanos: row.body.amount_nanos,
            mode: row.body.mode,
            timezone: row.body.timezone,
            start_at: row.body.start_at,
            end_at: row.body.end_at,
            active: row.body.active,
            rollover: row.body.rollover,
            thresholds: row.body.thresholds,
            raise: row
                .body
                .raise
                .map(|raise| json!({ "amount_nanos": raise.amount, "until": raise.until })),
            currency: row.body.currency,
            window,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}
