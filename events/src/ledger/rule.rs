//! A budget or a quota, as what they have in common: a schedule, an owner, a limit. Gateways and the projector make
//! accounts of both in the same way.

use uuid::Uuid;

use super::window::{Window, window_at};
use crate::{
    clock::Timestamp,
    ids::OrganisationId,
    payload::{
        account::{AccountId, AccountSpec, RuleId, Unit},
        budget::{BudgetBody, BudgetMode, Owner, Period, Raise},
        quota::QuotaBody,
        threshold::Thresholds,
    },
    state::{Budget, EntityRow, Quota},
};

/// Which windows a rule has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule<'a> {
    pub period: Period,
    /// IANA name.
    pub timezone: &'a str,
    pub start_at: Option<Timestamp>,
    pub end_at: Option<Timestamp>,
}

impl<'a> From<&'a BudgetBody> for Schedule<'a> {
    fn from(body: &'a BudgetBody) -> Self {
        Self {
            period: body.period,
            timezone: &body.timezone,
            start_at: body.start_at,
            end_at: body.end_at,
        }
    }
}

impl<'a> From<&'a QuotaBody> for Schedule<'a> {
    fn from(body: &'a QuotaBody) -> Self {
        Self {
            period: body.period,
            timezone: &body.timezone,
            start_at: body.start_at,
            end_at: body.end_at,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    Budget(Budget),
    Quota(Quota),
}

macro_rules! of_both {
    ($rule:expr, $row:ident => $value:expr) => {
        match $rule {
            Rule::Budget($row) => $value,
            Rule::Quota($row) => $value,
        }
    };
}

impl Rule {
    #[must_use]
    pub fn id(&self) -> RuleId {
        of_both!(self, row => row.id.into())
    }

    #[must_use]
    pub fn organisation_id(&self) -> OrganisationId {
        of_both!(self, row => row.organisation_id)
    }

    #[must_use]
    pub fn version(&self) -> u64 {
        of_both!(self, row => row.version)
    }

    #[must_use]
    pub fn owner(&self) -> &Owner {
        of_both!(self, row => &row.body.owner)
    }

    #[must_use]
    pub fn is_active(&self) -> bool {
        of_both!(self, row => row.body.active)
    }

    #[must_use]
    pub fn end_at(&self) -> Option<Timestamp> {
        of_both!(self, row => row.body.end_at)
    }

    #[must_use]
    pub fn rollover(&self) -> bool {
        of_both!(self, row => row.body.rollover)
    }

    #[must_use]
    pub fn thresholds(&self) -> Thresholds {
        of_both!(self, row => row.body.thresholds)
    }

    #[must_use]
    pub fn raise(&self) -> Option<Raise> {
        of_both!(self, row => row.body.raise)
    }

    #[must_use]
    pub fn schedule(&self) -> Schedule<'_> {
        of_both!(self, row => (&row.body).into())
    }

    #[must_use]
    pub fn unit(&self) -> Unit {
        match self {
            Self::Budget(_) => Unit::Nanos,
            Self::Quota(row) => row.body.metric.unit(),
        }
    }

    #[must_use]
    pub fn mode(&self) -> BudgetMode {
        match self {
            Self::Budget(row) => row.body.mode,
            Self::Quota(row) => row.body.metric.mode(),
        }
    }

    /// The limit without a raise, in the unit.
    #[must_use]
    pub fn limit(&self) -> i64 {
        match self {
            Self::Budget(row) => row.body.amount_nanos.0,
            Self::Quota(row) => row.body.limit,
        }
    }

    /// The limit that holds at `now`.
    #[must_use]
    pub fn limit_at(&self, now: Timestamp) -> i64 {
        Raise::limit_at(self.raise(), self.limit(), now)
    }

    /// The window that `at` lies in.
    #[must_use]
    pub fn window_at(&self, at: Timestamp) -> Option<Window> {
        window_at(self.schedule(), at)
    }

    /// The account of a window. `each` names the value or end user of a rule that counts each by itself; without it such a
    /// rule has none.
    #[must_use]
    pub fn account(
        &self,
        window: Window,
        each: Option<&str>,
        now: Timestamp,
    ) -> Option<AccountSpec> {
        let (owner, subject) = match each {
            Some(name) => self.owner().one(name),
            None if self.owner().is_each() => return None,
            None => (self.owner().clone(), Uuid::nil()),
        };
        Some(self.account_of(owner, subject, window, now))
    }

    /// The account of a window for an owner and subject that are known, such as those of an earlier window.
    #[must_use]
    pub fn account_of(
        &self,
        owner: Owner,
        subject: Uuid,
        window: Window,
        now: Timestamp,
    ) -> AccountSpec {
        AccountSpec {
            id: AccountId {
                rule: self.id(),
                subject,
                window_start: window.start,
            },
            organisation_id: self.organisation_id(),
            owner,
            unit: self.unit(),
            mode: self.mode(),
            limit: self.limit_at(now),
            window_end: window.end,
            rollover: self.rollover(),
            thresholds: self.thresholds(),
        }
    }

    /// The rule that a row is; nothing for all else.
    #[must_use]
    pub fn of_row(row: EntityRow) -> Option<Self> {
        match row {
            EntityRow::Budget(row) => Some(Self::Budget(row)),
            EntityRow::Quota(row) => Some(Self::Quota(row)),
            _ => None,
        }
    }
}

impl From<Rule> for EntityRow {
    fn from(rule: Rule) -> Self {
        match rule {
            Rule::Budget(row) => row.into(),
            Rule::Quota(row) => row.into(),
        }
    }
}
