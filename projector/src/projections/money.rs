//! Tables `account`, `lease` and `ledger_entry`: the rows that a transaction touches are locked and loaded into
//! [`Books`], changed there, and written back with the position of the entry that changed them last.

use std::collections::{BTreeMap, BTreeSet};

use odock_events::{
    clock::Timestamp,
    envelope::Envelope,
    ids::GatewayId,
    ledger::{
        books::{Applied, Books, BooksError, Line},
        rule::Rule,
    },
    payload::account::{AccountId, AccountSpec},
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::ProjectorError;

mod account;
mod lease;
mod ledger_entry;

pub(crate) use self::account::{IdColumns, id_of, is_crowded, lock_open_accounts, names_of};

/// One lease's key.
pub(crate) type LeaseKey = (AccountId, GatewayId);

/// What a transaction is about to touch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Touched {
    /// With what is needed to open an account that does not exist yet.
    pub(crate) accounts: BTreeMap<AccountId, Option<AccountSpec>>,
    pub(crate) leases: BTreeSet<LeaseKey>,
}

impl Touched {
    pub(crate) fn account(&mut self, id: AccountId, spec: Option<&AccountSpec>) {
        let known = self.accounts.entry(id).or_default();
        if known.is_none() {
            *known = spec.cloned();
        }
    }

    pub(crate) fn lease(&mut self, spec: &AccountSpec, gateway: GatewayId) {
        self.account(spec.id, Some(spec));
        self.leases.insert((spec.id, gateway));
    }
}

/// Locked books, with a note on which entry of the transaction changed what.
#[derive(Debug, Default)]
pub(crate) struct Money {
    pub(crate) books: Books,
    /// Rows that were inserted to be locked; those that no event opens are taken out again.
    placeholders: BTreeSet<AccountId>,
    changed_accounts: BTreeMap<AccountId, usize>,
    changed_leases: BTreeMap<LeaseKey, usize>,
    lines: Vec<(usize, Line)>,
}

impl Money {
    /// Locks the accounts in the order of their ids, those that are new included, and loads them and the leases.
    pub(crate) async fn lock(
        connection: &mut PgConnection,
        touched: &Touched,
    ) -> Result<Self, ProjectorError> {
        let mut money = Self::default();
        if touched.accounts.is_empty() {
            return Ok(money);
        }
        money.placeholders = account::insert_missing(connection, &touched.accounts).await?;
        let ids: Vec<AccountId> = touched.accounts.keys().copied().collect();
        money.books.accounts = account::lock(connection, &ids).await?;
        money
            .books
            .accounts
            .retain(|id, _| !money.placeholders.contains(id));
        money.load_leases(connection, &touched.leases).await?;
        Ok(money)
    }

    /// Books of accounts that the caller has locked and loaded.
    pub(crate) fn of(books: Books) -> Self {
        Self {
            books,
            ..Self::default()
        }
    }

    /// Loads more leases of locked accounts.
    pub(crate) async fn load_leases(
        &mut self,
        connection: &mut PgConnection,
        keys: &BTreeSet<LeaseKey>,
    ) -> Result<(), ProjectorError> {
        let missing: Vec<LeaseKey> = keys
            .iter()
            .copied()
            .filter(|key| !self.books.leases.contains_key(key))
            .collect();
        for (key, totals) in lease::load(connection, &missing).await? {
            self.books.leases.insert(key, totals);
        }
        Ok(())
    }

    /// Loads all leases of locked accounts.
    pub(crate) async fn load_all_leases(
        &mut self,
        connection: &mut PgConnection,
        accounts: &[AccountId],
    ) -> Result<(), ProjectorError> {
        for (key, totals) in lease::load_of_accounts(connection, accounts).await? {
            self.books.leases.entry(key).or_insert(totals);
        }
        Ok(())
    }

    /// Applies one event of the transaction's `entry`th entry.
    pub(crate) fn apply(
        &mut self,
        entry: usize,
        envelope: &Envelope,
    ) -> Result<Applied, BooksError> {
        let applied = self.books.apply(envelope)?;
        self.lines
            .extend(applied.lines.iter().map(|line| (entry, *line)));
        self.note(entry);
        Ok(applied)
    }

    /// Takes over a rule's new limit and manner, as of `at`.
    pub(crate) fn change_rule(
        &mut self,
        entry: usize,
        rule: &Rule,
        at: Timestamp,
        reference: Uuid,
    ) {
        let lines = self.books.change_rule(rule, at, reference);
        self.lines
            .extend(lines.into_iter().map(|line| (entry, line)));
        self.note(entry);
    }

    /// The accounts that have changed so far.
    pub(crate) fn changed(&self) -> impl Iterator<Item = AccountId> {
        self.changed_accounts.keys().copied()
    }

    fn note(&mut self, entry: usize) {
        for account in std::mem::take(&mut self.books.changed_accounts) {
            self.changed_accounts.insert(account, entry);
        }
        for lease in std::mem::take(&mut self.books.changed_leases) {
            self.changed_leases.insert(lease, entry);
        }
    }

    /// Writes what changed; `before` is the position before the transaction's first entry.
    pub(crate) async fn write(
        self,
        connection: &mut PgConnection,
        before: i64,
    ) -> Result<(), ProjectorError> {
        let position = |entry: usize| before + 1 + entry as i64;
        let unused: Vec<AccountId> = self
            .placeholders
            .iter()
            .copied()
            .filter(|id| !self.changed_accounts.contains_key(id))
            .collect();
        account::delete(connection, &unused).await?;
        let accounts: Vec<_> = self
            .changed_accounts
            .iter()
            .filter_map(|(id, entry)| {
                self.books
                    .accounts
                    .get(id)
                    .map(|account| (*id, account, position(*entry)))
            })
            .collect();
        account::update(connection, &accounts).await?;
        let leases: Vec<_> = self
            .changed_leases
            .iter()
            .map(|(key, entry)| (*key, self.books.lease(*key), position(*entry)))
            .collect();
        lease::write(connection, &leases).await?;
        let lines = self
            .lines
            .iter()
            .map(|(entry, line)| (position(*entry), line));
        ledger_entry::write(connection, lines).await?;
        Ok(())
    }
}
