//! What events say about an account: enough to open it from nothing, so that a fold needs no look-up.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    budget::{BudgetMode, Owner},
    threshold::Thresholds,
    usage::{AccountUse, UsageFinished, UsageStatus},
};
use crate::{
    clock::Timestamp,
    envelope::EntityRef,
    ids::{BudgetId, OrganisationId, ParseIdError, QuotaId},
};

/// The rule that an account belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleId {
    Budget(BudgetId),
    Quota(QuotaId),
}

impl RuleId {
    /// `budget` or `quota`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Budget(_) => "budget",
            Self::Quota(_) => "quota",
        }
    }

    #[must_use]
    pub fn uuid(&self) -> Uuid {
        match self {
            Self::Budget(id) => id.0,
            Self::Quota(id) => id.0,
        }
    }

    /// The rule of this kind with this id; `None` where there is no such kind.
    #[must_use]
    pub fn of(kind: &str, id: Uuid) -> Option<Self> {
        match kind {
            "budget" => Some(Self::Budget(BudgetId(id))),
            "quota" => Some(Self::Quota(QuotaId(id))),
            _ => None,
        }
    }

    #[must_use]
    pub fn budget(&self) -> Option<BudgetId> {
        match self {
            Self::Budget(id) => Some(*id),
            Self::Quota(_) => None,
        }
    }

    #[must_use]
    pub fn quota(&self) -> Option<QuotaId> {
        match self {
            Self::Quota(id) => Some(*id),
            Self::Budget(_) => None,
        }
    }
}

impl From<BudgetId> for RuleId {
    fn from(id: BudgetId) -> Self {
        Self::Budget(id)
    }
}

impl From<QuotaId> for RuleId {
    fn from(id: QuotaId) -> Self {
        Self::Quota(id)
    }
}

impl From<RuleId> for EntityRef {
    fn from(rule: RuleId) -> Self {
        match rule {
            RuleId::Budget(id) => id.into(),
            RuleId::Quota(id) => id.into(),
        }
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Budget(id) => fmt::Display::fmt(id, f),
            Self::Quota(id) => fmt::Display::fmt(id, f),
        }
    }
}

impl fmt::Debug for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RuleId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        if text.starts_with(QuotaId::PREFIX) {
            text.parse().map(Self::Quota)
        } else {
            text.parse().map(Self::Budget)
        }
    }
}

/// One window of one budget or quota. Of a rule that counts each tag value or end user by itself, the window of one of
/// them: `subject` is a digest of its name, and nil for all other rules. As text `bud_…@<start in Unix seconds>`, with
/// `/<subject>` before the `@` where there is one. On the wire a map with `budget` or `quota`, `subject` where there is one, and
/// `window_start`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "AccountIdWire", try_from = "AccountIdWire")]
pub struct AccountId {
    pub rule: RuleId,
    pub subject: Uuid,
    pub window_start: Timestamp,
}

impl AccountId {
    /// The account of a rule that counts everything together.
    #[must_use]
    pub fn of(rule: impl Into<RuleId>, window_start: Timestamp) -> Self {
        Self {
            rule: rule.into(),
            subject: Uuid::nil(),
            window_start,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct AccountIdWire {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    budget: Option<BudgetId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quota: Option<QuotaId>,
    #[serde(default, skip_serializing_if = "Uuid::is_nil")]
    subject: Uuid,
    window_start: Timestamp,
}

impl From<AccountId> for AccountIdWire {
    fn from(id: AccountId) -> Self {
        Self {
            budget: id.rule.budget(),
            quota: id.rule.quota(),
            subject: id.subject,
            window_start: id.window_start,
        }
    }
}

impl TryFrom<AccountIdWire> for AccountId {
    type Error = &'static str;
    fn try_from(wire: AccountIdWire) -> Result<Self, Self::Error> {
        let rule = match (wire.budget, wire.quota) {
            (Some(id), None) => RuleId::Budget(id),
            (None, Some(id)) => RuleId::Quota(id),
            _ => return Err("an account names a budget or a quota, and one of them"),
        };
        Ok(Self {
            rule,
            subject: wire.subject,
            window_start: wire.window_start,
        })
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.window_start.seconds();
        if self.subject.is_nil() {
            write!(f, "{}@{seconds}", self.rule)
        } else {
            write!(f, "{}/{}@{seconds}", self.rule, self.subject.simple())
        }
    }
}

impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for AccountId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let error = ParseIdError {
            prefix: BudgetId::PREFIX,
        };
        let (name, start) = text.split_once('@').ok_or_else(|| error.clone())?;
        let (rule, subject) = match name.split_once('/') {
            Some((rule, subject)) => {
                let subject = Uuid::try_parse(subject).map_err(|_| error.clone())?;
                (rule, subject)
            }
            None => (name, Uuid::nil()),
        };
        let seconds: i64 = start.parse().map_err(|_| error.clone())?;
        let micros = seconds.checked_mul(1_000_000).ok_or(error)?;
        Ok(Self {
            rule: rule.parse()?,
            subject,
            window_start: Timestamp(micros),
        })
    }
}

/// An account as the one who names it knew it at that moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountSpec {
    pub id: AccountId,
    pub organisation_id: OrganisationId,
    /// Of a rule that counts each tag value or end user by itself: the one that is counted here.
    pub owner: Owner,
    pub unit: Unit,
    pub mode: BudgetMode,
    /// In the unit, a temporary raise included.
    pub limit: i64,
    /// `None`: the window never ends (period `total`).
    pub window_end: Option<Timestamp>,
    /// What is left of the window goes on to the next.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rollover: bool,
    #[serde(default, skip_serializing_if = "Thresholds::is_default")]
    pub thresholds: Thresholds,
}

/// What an account counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    Nanos,
    Requests,
    /// All tokens that an upstream reports, of every class.
    Tokens,
    TokensIn,
    TokensOut,
    /// Calls that the upstream or the way to it failed.
    Errors,
    /// Milliseconds that calls took, summed up.
    LatencyMs,
}

impl Unit {
    pub const ALL: [Self; 7] = [
        Self::Nanos,
        Self::Requests,
        Self::Tokens,
        Self::TokensIn,
        Self::TokensOut,
        Self::Errors,
        Self::LatencyMs,
    ];

    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Nanos => "nanos",
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::TokensIn => "tokens_in",
            Self::TokensOut => "tokens_out",
            Self::Errors => "errors",
            Self::LatencyMs => "latency_ms",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.name() == name)
    }

    /// What a finished call counts for.
    #[must_use]
    pub fn amount_of(self, usage: &UsageFinished) -> i64 {
        let tokens = &usage.tokens;
        let count = match self {
            Self::Nanos => return usage.cost.0,
            Self::Requests => 1,
            Self::Tokens => tokens.total(),
            Self::TokensIn => tokens.input_side(),
            Self::TokensOut => tokens.output_side(),
            Self::Errors => u64::from(match usage.status {
                UsageStatus::UpstreamError | UsageStatus::Timeout | UsageStatus::Interrupted => {
                    true
                }
                UsageStatus::Completed | UsageStatus::ClientClosed => false,
            }),
            Self::LatencyMs => usage.latency_ms,
        };
        i64::try_from(count).unwrap_or(i64::MAX)
    }
}

impl AccountUse {
    /// What the call settles on this account, in its unit. Nobody knows how many tokens an interrupted call took: on an account
    /// that reserved a bound of them it takes all of that, as its cost takes all of R.
    #[must_use]
    pub fn amount(&self, usage: &UsageFinished) -> i64 {
        let amount = self.account.unit.amount_of(usage);
        let unknown = matches!(
            self.account.unit,
            Unit::Tokens | Unit::TokensIn | Unit::TokensOut
        ) && usage.status == UsageStatus::Interrupted;
        if unknown && self.account.mode == BudgetMode::Hard {
            amount.max(self.reserved)
        } else {
            amount
        }
    }

    /// The part of it that comes out of the gateway's lease.
    #[must_use]
    pub fn from_lease(&self, usage: &UsageFinished) -> i64 {
        self.amount(usage).min(self.reserved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_id_reads_back() {
        let budget = AccountId::of(BudgetId::generate(), Timestamp(-86_400_000_000));
        let quota = AccountId {
            subject: Uuid::from_u128(7),
            ..AccountId::of(QuotaId::generate(), Timestamp(3_000_000))
        };
        for id in [budget, quota] {
            assert_eq!(id.to_string().parse::<AccountId>().unwrap(), id);
            let json = serde_json::to_string(&id).unwrap();
            assert_eq!(serde_json::from_str::<AccountId>(&json).unwrap(), id);
            let bytes = rmp_serde::to_vec_named(&id).unwrap();
            assert_eq!(rmp_serde::from_slice::<AccountId>(&bytes).unwrap(), id);
        }
        assert!("bud_x@1".parse::<AccountId>().is_err());
        let both = serde_json::json!({
            "budget": BudgetId::generate(), "quota": QuotaId::generate(), "window_start": Timestamp(0),
        });
        assert!(serde_json::from_value::<AccountId>(both).is_err());
        let none = serde_json::json!({ "window_start": Timestamp(0) });
        assert!(serde_json::from_value::<AccountId>(none).is_err());
    }

    #[test]
    fn units_read_back() {
        for unit in Unit::ALL {
            assert_eq!(Unit::from_name(unit.name()), Some(unit));
            let json = serde_json::to_value(unit).unwrap();
            assert_eq!(json, unit.name());
        }
        assert_eq!(Unit::from_name("dollars"), None);
    }
}
