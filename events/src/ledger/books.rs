//! What follows from events for accounts and leases. The projector loads the rows that a batch touches, applies the
//! batch here and writes back what changed; a rebuild and the property tests do the same from nothing.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use uuid::Uuid;

use super::rule::Rule;
use crate::{
    clock::Timestamp,
    envelope::Envelope,
    ids::{GatewayId, OrganisationId},
    kind::Event,
    payload::{
        account::{AccountId, AccountSpec, Unit},
        budget::{BudgetMode, Owner},
        lease::{BudgetBreached, LeaseTotals, WindowCarried},
        threshold::{ThresholdCrossed, Thresholds},
        usage::{AccountUse, UsageFinished},
    },
};

/// Every kind that moves no money. Named one by one, so that a new kind must be placed.
macro_rules! without_money {
    () => {
        Event::OrganisationCreated(_)
            | Event::OrganisationUpdated(_)
            | Event::OrganisationDeleted(_)
            | Event::TeamCreated(_)
            | Event::TeamUpdated(_)
            | Event::TeamDeleted(_)
            | Event::UserCreated(_)
            | Event::UserUpdated(_)
            | Event::UserDeleted(_)
            | Event::MembershipCreated(_)
            | Event::MembershipUpdated(_)
            | Event::MembershipDeleted(_)
            | Event::ProviderCreated(_)
            | Event::ProviderUpdated(_)
            | Event::ProviderDeleted(_)
            | Event::ProviderKeyCreated(_)
            | Event::ProviderKeyUpdated(_)
            | Event::ProviderKeyRevoked(_)
            | Event::ProviderKeyDeleted(_)
            | Event::ModelCreated(_)
            | Event::ModelUpdated(_)
            | Event::ModelDeleted(_)
            | Event::KeyCreated(_)
            | Event::KeyUpdated(_)
            | Event::KeyRevoked(_)
            | Event::KeyUnrevoked(_)
            | Event::KeyRotated(_)
            | Event::KeyDeleted(_)
            | Event::GrantCreated(_)
            | Event::GrantDeleted(_)
            | Event::BudgetCreated(_)
            | Event::BudgetUpdated(_)
            | Event::BudgetDeleted(_)
            | Event::QuotaCreated(_)
            | Event::QuotaUpdated(_)
            | Event::QuotaDeleted(_)
            | Event::OverlayCreated(_)
            | Event::OverlayUpdated(_)
            | Event::OverlayDeleted(_)
            | Event::GatewayOpened(_)
            | Event::GatewayClosed(_)
            | Event::BudgetBreached(_)
            | Event::ThresholdCrossed(_)
            | Event::GatewayLost(_)
            | Event::LogGap(_)
            | Event::CommandRejected(_)
    };
}

/// One window of one budget or quota, amounts in its unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub organisation_id: OrganisationId,
    pub owner: Owner,
    pub unit: Unit,
    pub mode: BudgetMode,
    pub limit: i64,
    pub window_end: Option<Timestamp>,
    /// Sum of the open parts of its leases.
    pub held: i64,
    pub settled: i64,
    /// What calls cost above their reservations; a part of `settled`.
    pub breached: i64,
    /// What the window before left, and what went on to the next.
    pub carried_in: i64,
    pub carried_out: i64,
    pub closed: bool,
    pub rollover: bool,
    pub thresholds: Thresholds,
    /// The largest threshold that was crossed, in percent.
    pub crossed: u8,
}

impl Account {
    /// What may be settled here: the limit with what was carried.
    #[must_use]
    pub fn allowance(&self) -> i64 {
        self.limit + self.carried_in - self.carried_out
    }

    #[must_use]
    pub fn free(&self) -> i64 {
        self.allowance() - self.held - self.settled
    }

    /// Whether calls that reserve nothing are refused from now on.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.mode == BudgetMode::Postpaid && self.settled >= self.allowance()
    }

    #[must_use]
    pub fn open(spec: &AccountSpec) -> Self {
        Self {
            organisation_id: spec.organisation_id,
            owner: spec.owner.clone(),
            unit: spec.unit,
            mode: spec.mode,
            limit: spec.limit,
            window_end: spec.window_end,
            held: 0,
            settled: 0,
            breached: 0,
            carried_in: 0,
            carried_out: 0,
            closed: false,
            rollover: spec.rollover,
            thresholds: spec.thresholds,
            crossed: 0,
        }
    }
}

/// One line of the ledger: what moved, and because of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    pub account: AccountId,
    pub gateway: Option<GatewayId>,
    pub kind: LineKind,
    pub amount: i64,
    pub reference: Uuid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineKind {
    Grant,
    Settle,
    Return,
    Breach,
    Limit,
    /// Into this window out of the one before, or, below zero, out of it.
    Carry,
    /// A gateway's own statement raised a granted total after Postgres went back.
    State,
}

impl LineKind {
    /// The name in table `ledger_entry`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Grant => "grant",
            Self::Settle => "settle",
            Self::Return => "return",
            Self::Breach => "breach",
            Self::Limit => "limit",
            Self::Carry => "carry",
            Self::State => "state",
        }
    }
}

/// What applying one event asks to be recorded beside it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    pub lines: Vec<Line>,
    /// Facts for the projector to write, when it applies the event for the first time: breaches and crossings. A replay
    /// ignores them.
    pub facts: Vec<(AccountId, Event)>,
}

/// A gateway's account of itself that cannot be: its event goes to the dead letters and its money stays held.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BooksError {
    #[error("{account:?}: gateway {gateway} has settled or returned more than it was granted")]
    Overdrawn {
        account: AccountId,
        gateway: GatewayId,
    },
}

/// Accounts and leases, with marks on what changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books {
    pub accounts: BTreeMap<AccountId, Account>,
    pub leases: BTreeMap<(AccountId, GatewayId), LeaseTotals>,
    pub changed_accounts: BTreeSet<AccountId>,
    pub changed_leases: BTreeSet<(AccountId, GatewayId)>,
}

/// The accounts and leases that an event touches: what must be loaded and locked before it is applied.
#[must_use]
pub fn touched(envelope: &Envelope) -> Vec<(AccountId, Option<GatewayId>)> {
    match &envelope.event {
        Event::UsageFinished(usage) => usage
            .accounts
            .iter()
            .map(|used| (used.account.id, Some(usage.gateway_id)))
            .collect(),
        Event::LeaseReturned(returned) => {
            let leases = returned.leases.iter();
            leases
                .map(|lease| (lease.account, Some(returned.gateway_id)))
                .collect()
        }
        Event::LeaseStated(stated) => {
            let leases = stated.leases.iter();
            leases
                .map(|lease| (lease.account.id, Some(stated.gateway_id)))
                .collect()
        }
        Event::LeaseGranted(granted) => vec![(granted.account.id, Some(granted.gateway_id))],
        Event::WindowClosed(closed) => vec![(closed.account, None)],
        Event::WindowCarried(carried) => vec![(carried.from, None), (carried.to.id, None)],
        Event::RaiseEnded(ended) => vec![(ended.account, None)],
        without_money!() => Vec::new(),
    }
}

impl Books {
    /// Applies one event. On an error nothing of it has been applied.
    pub fn apply(&mut self, envelope: &Envelope) -> Result<Applied, BooksError> {
        let mut applied = Applied::default();
        match &envelope.event {
            Event::UsageFinished(usage) => self.settle(usage, &mut applied)?,
            Event::LeaseGranted(granted) => {
                self.open_account(&granted.account);
                let key = (granted.account.id, granted.gateway_id);
                let before = self.lease(key).granted;
                self.change_lease(key, |lease| {
                    lease.granted = lease.granted.max(granted.granted);
                });
                let amount = self.lease(key).granted - before;
                applied
                    .lines
                    .push(line(key, LineKind::Grant, amount, envelope.meta.id.0));
            }
            Event::LeaseReturned(returned) => {
                let id = returned.gateway_id;
                for lease in &returned.leases {
                    let totals = self.lease((lease.account, id));
                    if totals.settled + lease.returned.max(totals.returned) > totals.granted {
                        return Err(BooksError::Overdrawn {
                            account: lease.account,
                            gateway: id,
                        });
                    }
                }
                for lease in &returned.leases {
                    let key = (lease.account, id);
                    let amount = lease.returned - self.lease(key).returned;
                    if amount > 0 {
                        self.change_lease(key, |totals| totals.returned = lease.returned);
                        applied
                            .lines
                            .push(line(key, LineKind::Return, amount, envelope.meta.id.0));
                    }
                }
            }
            Event::LeaseStated(stated) => {
                for lease in &stated.leases {
                    self.open_account(&lease.account);
                    let key = (lease.account.id, stated.gateway_id);
                    let amount = lease.totals.granted - self.lease(key).granted;
                    if amount > 0 {
                        self.change_lease(key, |totals| totals.granted = lease.totals.granted);
                        applied
                            .lines
                            .push(line(key, LineKind::State, amount, envelope.meta.id.0));
                    }
                }
            }
            Event::WindowClosed(closed) => {
                if let Some(account) = self.accounts.get_mut(&closed.account) {
                    account.closed = true;
                    self.changed_accounts.insert(closed.account);
                }
            }
            Event::WindowCarried(carried) => {
                self.carry(carried, envelope.meta.id.0, &mut applied);
            }
            Event::RaiseEnded(ended) => {
                let reference = envelope.meta.id.0;
                if let Some(line) = self.change_limit(ended.account, ended.limit, reference) {
                    applied.lines.push(line);
                }
            }
            // A breach moved its money when the usage was applied; the event only says so. The rest is not about money.
            without_money!() => {}
        }
        Ok(applied)
    }

    /// A rule's new limit and manner, for those of its accounts that are loaded and not closed.
    pub fn change_rule(&mut self, rule: &Rule, at: Timestamp, reference: Uuid) -> Vec<Line> {
        let id = rule.id();
        let own: Vec<AccountId> = self
            .accounts
            .iter()
            .filter(|(account, row)| account.rule == id && !row.closed)
            .map(|(account, _)| *account)
            .collect();
        let mut lines = Vec::new();
        for account in own {
            if let Some(row) = self.accounts.get_mut(&account) {
                let manner = (rule.mode(), rule.rollover(), rule.thresholds());
                if (row.mode, row.rollover, row.thresholds) != manner {
                    (row.mode, row.rollover, row.thresholds) = manner;
                    self.changed_accounts.insert(account);
                }
            }
            lines.extend(self.change_limit(account, rule.limit_at(at), reference));
        }
        lines
    }

    fn change_limit(&mut self, account: AccountId, limit: i64, reference: Uuid) -> Option<Line> {
        let row = self.accounts.get_mut(&account)?;
        let amount = limit - row.limit;
        if amount == 0 {
            return None;
        }
        row.limit = limit;
        self.changed_accounts.insert(account);
        Some(Line {
            account,
            gateway: None,
            kind: LineKind::Limit,
            amount,
            reference,
        })
    }

    fn carry(&mut self, carried: &WindowCarried, reference: Uuid, applied: &mut Applied) {
        self.open_account(&carried.to);
        let line = |account, amount| Line {
            account,
            gateway: None,
            kind: LineKind::Carry,
            amount,
            reference,
        };
        if let Some(from) = self.accounts.get_mut(&carried.from) {
            from.carried_out += carried.amount;
            self.changed_accounts.insert(carried.from);
            applied.lines.push(line(carried.from, -carried.amount));
        }
        if let Some(to) = self.accounts.get_mut(&carried.to.id) {
            to.carried_in += carried.amount;
            self.changed_accounts.insert(carried.to.id);
            applied.lines.push(line(carried.to.id, carried.amount));
        }
    }

    /// The totals of a lease; zeros where there is none.
    #[must_use]
    pub fn lease(&self, key: (AccountId, GatewayId)) -> LeaseTotals {
        self.leases.get(&key).copied().unwrap_or_default()
    }

    fn settle(&mut self, usage: &UsageFinished, applied: &mut Applied) -> Result<(), BooksError> {
        for used in &usage.accounts {
            let key = (used.account.id, usage.gateway_id);
            if used.from_lease(usage) > self.lease(key).open() {
                return Err(BooksError::Overdrawn {
                    account: key.0,
                    gateway: key.1,
                });
            }
        }
        for used in &usage.accounts {
            self.settle_one(usage, used, applied);
        }
        Ok(())
    }

    fn settle_one(&mut self, usage: &UsageFinished, used: &AccountUse, applied: &mut Applied) {
        self.open_account(&used.account);
        let key = (used.account.id, usage.gateway_id);
        let (id, amount) = (usage.usage_id, used.amount(usage));
        let from_lease = used.from_lease(usage);
        if from_lease > 0 {
            self.change_lease(key, |lease| lease.settled += from_lease);
        }
        let hard = used.account.mode == BudgetMode::Hard;
        let excess = if hard { amount - from_lease } else { 0 };
        applied
            .lines
            .push(line(key, LineKind::Settle, amount, id.0));
        if excess > 0 {
            applied
                .lines
                .push(line(key, LineKind::Breach, excess, id.0));
            let breached = BudgetBreached {
                account: used.account.id,
                usage_id: id,
                excess,
            };
            applied
                .facts
                .push((used.account.id, Event::BudgetBreached(breached)));
        }
        let Some(account) = self.accounts.get_mut(&used.account.id) else {
            return;
        };
        account.settled += amount;
        account.breached += excess;
        self.changed_accounts.insert(used.account.id);
        let (settled, limit) = (account.settled, account.allowance());
        for percent in account.thresholds.crossed(account.crossed, settled, limit) {
            account.crossed = percent;
            let crossed = ThresholdCrossed {
                account: AccountSpec {
                    limit: account.limit,
                    ..used.account.clone()
                },
                percent,
                settled,
                limit,
                usage_id: id,
            };
            applied
                .facts
                .push((used.account.id, Event::ThresholdCrossed(crossed)));
        }
    }

    fn open_account(&mut self, spec: &AccountSpec) {
        if let Entry::Vacant(vacant) = self.accounts.entry(spec.id) {
            vacant.insert(Account::open(spec));
            self.changed_accounts.insert(spec.id);
        }
    }

    /// Changes a lease and keeps its account's `held` the sum of open parts.
    fn change_lease(&mut self, key: (AccountId, GatewayId), change: impl FnOnce(&mut LeaseTotals)) {
        let lease = self.leases.entry(key).or_default();
        let before = lease.open();
        change(lease);
        let difference = lease.open() - before;
        self.changed_leases.insert(key);
        if let Some(account) = self.accounts.get_mut(&key.0) {
            account.held += difference;
            self.changed_accounts.insert(key.0);
        }
    }
}

fn line(key: (AccountId, GatewayId), kind: LineKind, amount: i64, reference: Uuid) -> Line {
    Line {
        account: key.0,
        gateway: Some(key.1),
        kind,
        amount,
        reference,
    }
}
