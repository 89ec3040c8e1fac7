//! Table `account`: one window of one budget. Rows are locked in the order of (budget, window).

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use odock_events::{
    clock::Timestamp,
    ids::{BudgetId, KeyId, OrganisationId, TeamId, UserId},
    ledger::books::Account,
    payload::{
        account::{AccountId, AccountSpec, Unit},
        budget::{BudgetMode, BudgetOwner},
    },
};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::error::ProjectorError;

type Time = DateTime<Utc>;

/// The two columns of account ids, for `unnest`.
pub(crate) fn names_of(ids: &[AccountId]) -> (Vec<Uuid>, Vec<Time>) {
    ids.iter()
        .map(|id| (id.budget.0, id.window_start.to_datetime()))
        .unzip()
}

#[derive(FromRow)]
struct AccountRow {
    budget_id: Uuid,
    window_start: Time,
    window_end: Option<Time>,
    organisation_id: Uuid,
    owner_kind: String,
    owner_id: Uuid,
    unit: String,
    mode: String,
    limit_amount: i64,
    held: i64,
    settled: i64,
    breached: i64,
    closed: bool,
}

impl AccountRow {
    fn into_account(self) -> Result<(AccountId, Account), ProjectorError> {
        let id = AccountId {
            budget: BudgetId(self.budget_id),
            window_start: Timestamp::from_datetime(self.window_start),
        };
        let account = Account {
            organisation_id: OrganisationId(self.organisation_id),
            owner: owner(&self.owner_kind, self.owner_id)?,
            unit: match self.unit.as_str() {
                "nanos" => Unit::Nanos,
                _ => return Err(foreign(self.unit)),
            },
            mode: BudgetMode::from_name(&self.mode).ok_or_else(|| foreign(self.mode))?,
            limit: self.limit_amount,
            window_end: self.window_end.map(Timestamp::from_datetime),
            held: self.held,
            settled: self.settled,
            breached: self.breached,
            closed: self.closed,
        };
        Ok((id, account))
    }
}

fn foreign(value: String) -> ProjectorError {
    ProjectorError::Foreign {
        table: "account",
        value,
    }
}

fn owner(kind: &str, id: Uuid) -> Result<BudgetOwner, ProjectorError> {
    Ok(match kind {
        "organisation" => BudgetOwner::Organisation {
            id: OrganisationId(id),
        },
        "team" => BudgetOwner::Team { id: TeamId(id) },
        "user" => BudgetOwner::User { id: UserId(id) },
        "key" => BudgetOwner::Key { id: KeyId(id) },
        _ => return Err(foreign(kind.to_owned())),
    })
}

fn owner_id(owner: &BudgetOwner) -> Uuid {
    match owner {
        BudgetOwner::Organisation { id } => id.0,
        BudgetOwner::Team { id } => id.0,
        BudgetOwner::User { id } => id.0,
        BudgetOwner::Key { id } => id.0,
    }
}

fn unit_name(unit: Unit) -> &'static str {
    match unit {
        Unit::Nanos => "nanos",
    }
}

/// Inserts those that do not exist, in order, and says which. A second transaction that opens the same one waits here.
pub(super) async fn insert_missing(
    connection: &mut PgConnection,
    accounts: &BTreeMap<AccountId, Option<AccountSpec>>,
) -> Result<BTreeSet<AccountId>, ProjectorError> {
    let specs: Vec<&AccountSpec> = accounts.values().flatten().collect();
    let missing = missing(connection, &specs).await?;
    let specs: Vec<&AccountSpec> = specs
        .into_iter()
        .filter(|spec| missing.contains(&spec.id))
        .collect();
    if specs.is_empty() {
        return Ok(BTreeSet::new());
    }
    share_budgets(connection, &missing).await?;
    let (budgets, starts): (Vec<Uuid>, Vec<Time>) = specs
        .iter()
        .map(|spec| (spec.id.budget.0, spec.id.window_start.to_datetime()))
        .unzip();
    let ends: Vec<Option<Time>> = specs
        .iter()
        .map(|spec| spec.window_end.map(Timestamp::to_datetime))
        .collect();
    let organisations: Vec<Uuid> = specs.iter().map(|spec| spec.organisation_id.0).collect();
    let kinds: Vec<&str> = specs.iter().map(|spec| spec.owner.kind()).collect();
    let owners: Vec<Uuid> = specs.iter().map(|spec| owner_id(&spec.owner)).collect();
    let units: Vec<&str> = specs.iter().map(|spec| unit_name(spec.unit)).collect();
    let modes: Vec<&str> = specs.iter().map(|spec| spec.mode.name()).collect();
    let limits: Vec<i64> = specs.iter().map(|spec| spec.limit.0).collect();
    let inserted: Vec<(Uuid, Time)> = sqlx::query_as(
        "INSERT INTO account (budget_id, window_start, window_end, organisation_id, owner_kind,
             owner_id, unit, mode, limit_amount, held, settled, breached, closed, position)
         SELECT budget_id, window_start, window_end, organisation_id, owner_kind, owner_id, unit,
             mode, limit_amount, 0, 0, 0, false, 0
         FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::uuid[], $5::text[],
             $6::uuid[], $7::text[], $8::text[], $9::bigint[])
             AS new (budget_id, window_start, window_end, organisation_id, owner_kind, owner_id,
                 unit, mode, limit_amount)
         ORDER BY budget_id, window_start
         ON CONFLICT (budget_id, window_start) DO NOTHING
         RETURNING budget_id, window_start",
    )
    .bind(budgets)
    .bind(starts)
    .bind(ends)
    .bind(organisations)
    .bind(kinds)
    .bind(owners)
    .bind(units)
    .bind(modes)
    .bind(limits)
    .fetch_all(connection)
    .await?;
    Ok(inserted.into_iter().map(id_of).collect())
}

async fn missing(
    connection: &mut PgConnection,
    specs: &[&AccountSpec],
) -> Result<BTreeSet<AccountId>, ProjectorError> {
    if specs.is_empty() {
        return Ok(BTreeSet::new());
    }
    let ids: Vec<AccountId> = specs.iter().map(|spec| spec.id).collect();
    let (budgets, starts) = names_of(&ids);
    let rows: Vec<(Uuid, Time)> = sqlx::query_as(
        "SELECT wanted.budget_id, wanted.window_start
         FROM unnest($1::uuid[], $2::timestamptz[]) AS wanted (budget_id, window_start)
         WHERE NOT EXISTS (SELECT 1 FROM account a WHERE a.budget_id = wanted.budget_id
             AND a.window_start = wanted.window_start)",
    )
    .bind(budgets)
    .bind(starts)
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(id_of).collect())
}

/// Keeps budgets as they are while accounts of theirs are opened: a change that is folded at the same time would not
/// see the new account, and a replay, which has one order, would.
async fn share_budgets(
    connection: &mut PgConnection,
    accounts: &BTreeSet<AccountId>,
) -> Result<(), ProjectorError> {
    let ids: Vec<Uuid> = accounts.iter().map(|id| id.budget.0).collect();
    sqlx::query("SELECT id FROM budget WHERE id = ANY($1) ORDER BY id FOR SHARE")
        .bind(ids)
        .execute(connection)
        .await?;
    Ok(())
}

fn id_of((budget, start): (Uuid, Time)) -> AccountId {
    AccountId {
        budget: BudgetId(budget),
        window_start: Timestamp::from_datetime(start),
    }
}

/// Locks and loads those that exist.
pub(super) async fn lock(
    connection: &mut PgConnection,
    ids: &[AccountId],
) -> Result<BTreeMap<AccountId, Account>, ProjectorError> {
    let (budgets, starts) = names_of(ids);
    let rows: Vec<AccountRow> = sqlx::query_as(
        "SELECT a.budget_id, a.window_start, a.window_end, a.organisation_id, a.owner_kind,
             a.owner_id, a.unit, a.mode, a.limit_amount, a.held, a.settled, a.breached, a.closed
         FROM account a JOIN unnest($1::uuid[], $2::timestamptz[]) AS wanted (budget_id, window_start)
             ON a.budget_id = wanted.budget_id AND a.window_start = wanted.window_start
         ORDER BY a.budget_id, a.window_start FOR UPDATE OF a",
    )
    .bind(budgets)
    .bind(starts)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(AccountRow::into_account).collect()
}

/// Locks and loads every account of these budgets that is not closed.
pub(crate) async fn lock_open_accounts(
    connection: &mut PgConnection,
    budgets: &[Uuid],
) -> Result<BTreeMap<AccountId, Account>, ProjectorError> {
    let rows: Vec<AccountRow> = sqlx::query_as(
        "SELECT budget_id, window_start, window_end, organisation_id, owner_kind, owner_id, unit,
             mode, limit_amount, held, settled, breached, closed
         FROM account WHERE budget_id = ANY($1) AND NOT closed
         ORDER BY budget_id, window_start FOR UPDATE",
    )
    .bind(budgets)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(AccountRow::into_account).collect()
}

/// Writes locked accounts with the positions that changed them.
pub(super) async fn update(
    connection: &mut PgConnection,
    accounts: &[(AccountId, &Account, i64)],
) -> Result<(), ProjectorError> {
    if accounts.is_empty() {
        return Ok(());
    }
    let ids: Vec<AccountId> = accounts.iter().map(|(id, ..)| *id).collect();
    let (budgets, starts) = names_of(&ids);
    let column = |value: fn(&Account) -> i64| -> Vec<i64> {
        accounts
            .iter()
            .map(|(_, account, _)| value(account))
            .collect()
    };
    let modes: Vec<&str> = accounts
        .iter()
        .map(|(_, account, _)| account.mode.name())
        .collect();
    let closed: Vec<bool> = accounts
        .iter()
        .map(|(_, account, _)| account.closed)
        .collect();
    let positions: Vec<i64> = accounts.iter().map(|(.., position)| *position).collect();
    sqlx::query(
        "UPDATE account SET mode = new.mode, limit_amount = new.limit_amount, held = new.held,
             settled = new.settled, breached = new.breached, closed = new.closed,
             position = new.position
         FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::bigint[], $5::bigint[],
             $6::bigint[], $7::bigint[], $8::boolean[], $9::bigint[])
             AS new (budget_id, window_start, mode, limit_amount, held, settled, breached, closed,
                 position)
         WHERE account.budget_id = new.budget_id AND account.window_start = new.window_start",
    )
    .bind(budgets)
    .bind(starts)
    .bind(modes)
    .bind(column(|account| account.limit))
    .bind(column(|account| account.held))
    .bind(column(|account| account.settled))
    .bind(column(|account| account.breached))
    .bind(closed)
    .bind(positions)
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes out rows that were inserted to be locked and that no event opened.
pub(super) async fn delete(
    connection: &mut PgConnection,
    ids: &[AccountId],
) -> Result<(), ProjectorError> {
    if ids.is_empty() {
        return Ok(());
    }
    let (budgets, starts) = names_of(ids);
    sqlx::query(
        "DELETE FROM account USING unnest($1::uuid[], $2::timestamptz[])
             AS unused (budget_id, window_start)
         WHERE account.budget_id = unused.budget_id AND account.window_start = unused.window_start",
    )
    .bind(budgets)
    .bind(starts)
    .execute(connection)
    .await?;
    Ok(())
}
