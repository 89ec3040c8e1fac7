//! What follows from events for accounts and leases. The projector loads the rows that a batch touches, applies the
//! batch here and writes back what changed; a rebuild and the property tests do the same from nothing.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use uuid::Uuid;

use crate::{
    clock::Timestamp,
    envelope::Envelope,
    ids::{BudgetId, GatewayId, OrganisationId},
    kind::Event,
    payload::{
        account::{AccountId, AccountSpec, Unit},
        budget::{BudgetBody, BudgetMode, BudgetOwner},
        lease::{BudgetBreached, LeaseTotals},
        usage::UsageFinished,
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
            | Event::OverlayCreated(_)
            | Event::OverlayUpdated(_)
            | Event::OverlayDeleted(_)
            | Event::GatewayOpened(_)
            | Event::GatewayClosed(_)
            | Event::BudgetBreached(_)
            | Event::GatewayLost(_)
            | Event::LogGap(_)
            | Event::CommandRejected(_)
    };
}

/// One window of one budget, amounts in its unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub organisation_id: OrganisationId,
    pub owner: BudgetOwner,
    pub unit: Unit,
    pub mode: BudgetMode,
    pub limit: i64,
    pub window_end: Option<Timestamp>,
    /// Sum of the open parts of its leases.
    pub held: i64,
    pub settled: i64,
    /// What calls cost above their reservations; a part of `settled`.
    pub breached: i64,
    pub closed: bool,
}

impl Account {
    #[must_use]
    pub fn free(&self) -> i64 {
        self.limit - self.held - self.settled
    }

    #[must_use]
    pub fn open(spec: &AccountSpec) -> Self {
        Self {
            organisation_id: spec.organisation_id,
            owner: spec.owner,
            unit: spec.unit,
            mode: spec.mode,
            limit: spec.limit.0,
            window_end: spec.window_end,
            held: 0,
            settled: 0,
            breached: 0,
            closed: false,
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
            Self::State => "state",
        }
    }
}

/// What applying one event asks to be recorded beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    pub lines: Vec<Line>,
    /// Facts for the projector to write, when it applies the event for the first time. A replay ignores them.
    pub breaches: Vec<BudgetBreached>,
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
            // A breach moved its money when the usage was applied; the event only says so. The rest is not about money.
            without_money!() => {}
        }
        Ok(applied)
    }

    /// A budget's limit and mode, for those of its accounts that are loaded and not closed.
    pub fn change_budget(&mut self, id: BudgetId, body: &BudgetBody, reference: Uuid) -> Vec<Line> {
        let mut lines = Vec::new();
        let own = self
            .accounts
            .iter_mut()
            .filter(|(account, row)| account.budget == id && !row.closed);
        for (account, row) in own {
            let limit = body.amount_nanos.0;
            if row.limit != limit || row.mode != body.mode {
                let amount = limit - row.limit;
                (row.limit, row.mode) = (limit, body.mode);
                self.changed_accounts.insert(*account);
                lines.push(Line {
                    account: *account,
                    gateway: None,
                    kind: LineKind::Limit,
                    amount,
                    reference,
                });
            }
        }
        lines
    }

    /// The totals of a lease; zeros where there is none.
    #[must_use]
    pub fn lease(&self, key: (AccountId, GatewayId)) -> LeaseTotals {
        self.leases.get(&key).copied().unwrap_or_default()
    }

    fn settle(&mut self, usage: &UsageFinished, applied: &mut Applied) -> Result<(), BooksError> {
        for used in &usage.accounts {
            let key = (used.account.id, usage.gateway_id);
            let totals = self.lease(key);
            if usage.cost.0.min(used.reserved) > totals.open() {
                return Err(BooksError::Overdrawn {
                    account: key.0,
                    gateway: key.1,
                });
            }
        }
        for used in &usage.accounts {
            self.open_account(&used.account);
            let key = (used.account.id, usage.gateway_id);
            let (id, cost) = (usage.usage_id.0, usage.cost.0);
            let from_lease = cost.min(used.reserved);
            if from_lease > 0 {
                self.change_lease(key, |lease| lease.settled += from_lease);
            }
            let hard = used.account.mode == BudgetMode::Hard;
            let excess = if hard { cost - from_lease } else { 0 };
            if let Some(account) = self.accounts.get_mut(&used.account.id) {
                account.settled += cost;
                account.breached += excess;
                self.changed_accounts.insert(used.account.id);
            }
            applied.lines.push(line(key, LineKind::Settle, cost, id));
            if excess > 0 {
                applied.lines.push(line(key, LineKind::Breach, excess, id));
                applied.breaches.push(BudgetBreached {
                    account: used.account.id,
                    usage_id: usage.usage_id,
                    excess,
                });
            }
        }
        Ok(())
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
