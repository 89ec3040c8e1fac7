//! Budgets on the wire, with the window that is open now.

use odock_events::{
    clock::Timestamp,
    ids::{BudgetId, OrganisationId},
    ledger::window::Window,
    payload::budget::{BudgetMode, BudgetOwner, Period},
    state::Budget,
    units::NanoUsd,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{body::member::Member, queries::account::AccountRow};

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BudgetCreate {
    #[serde(default)]
    pub(crate) name: Option<String>,
    #[schema(value_type = BudgetOwnerShape)]
    pub(crate) owner: BudgetOwner,
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
    #[schema(value_type = BudgetOwnerShape)]
    owner: BudgetOwner,
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
    /// Null before `start_at` and from `end_at` on.
    window: Option<WindowView>,
    version: u64,
    #[schema(value_type = String)]
    created_at: Timestamp,
    #[schema(value_type = String)]
    updated_at: Timestamp,
}

/// `free_nanos` is `limit_nanos - held_nanos - settled_nanos`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct WindowView {
    #[schema(value_type = String)]
    pub(crate) window_start: Timestamp,
    /// Null: it never ends.
    #[schema(value_type = Option<String>)]
    pub(crate) window_end: Option<Timestamp>,
    pub(crate) limit_nanos: i64,
    pub(crate) held_nanos: i64,
    pub(crate) settled_nanos: i64,
    pub(crate) free_nanos: i64,
}

impl WindowView {
    pub(crate) fn new(window: Window, limit: NanoUsd, account: AccountRow) -> Self {
        let taken = account.held.saturating_add(account.settled);
        Self {
            window_start: window.start,
            window_end: window.end,
            limit_nanos: limit.0,
            held_nanos: account.held,
            settled_nanos: account.settled,
            free_nanos: limit.0.saturating_sub(taken),
        }
    }
}

impl BudgetView {
    pub(crate) fn new(row: Budget, window: Option<WindowView>) -> Self {
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
            window,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// The description of `BudgetOwner`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct BudgetOwnerShape {
    /// `organisation`, `team`, `user` or `key`.
    #[schema(rename = "type")]
    kind: String,
    id: String,
}
