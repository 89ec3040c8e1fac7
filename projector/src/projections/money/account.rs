//! Table `account`: one window of one rule, of one subject where there are many. Rows are locked in the order of (rule,
//! subject, window).

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use odock_events::{
    clock::Timestamp,
    ids::OrganisationId,
    ledger::books::Account,
    payload::{
        account::{AccountId, AccountSpec, RuleId, Unit},
        budget::{BudgetMode, Owner},
        threshold::Thresholds,
    },
};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::{error::ProjectorError, projections::entity};

type Time = DateTime<Utc>;

/// The columns of account ids, for `unnest`.
pub(crate) struct Names {
    pub(crate) rules: Vec<Uuid>,
    pub(crate) subjects: Vec<Uuid>,
    pub(crate) starts: Vec<Time>,
}

pub(crate) fn names_of(ids: &[AccountId]) -> Names {
    Names {
        rules: ids.iter().map(|id| id.rule.uuid()).collect(),
        subjects: ids.iter().map(|id| id.subject).collect(),
        starts: ids.iter().map(|id| id.window_start.to_datetime()).collect(),
    }
}

/// An account's id as columns that say what kind of rule it is.
pub(crate) type IdColumns = (String, Uuid, Uuid, Time);

pub(crate) fn id_of((kind, rule, subject, start): IdColumns) -> Result<AccountId, ProjectorError> {
    Ok(AccountId {
        rule: RuleId::of(&kind, rule).ok_or_else(|| foreign(kind))?,
        subject,
        window_start: Timestamp::from_datetime(start),
    })
}

#[derive(FromRow)]
struct AccountRow {
    rule_kind: String,
    rule_id: Uuid,
    subject: Uuid,
    window_start: Time,
    window_end: Option<Time>,
    organisation_id: Uuid,
    owner_kind: String,
    owner_id: String,
    unit: String,
    mode: String,
    limit_amount: i64,
    held: i64,
    settled: i64,
    breached: i64,
    carried_in: i64,
    carried_out: i64,
    closed: bool,
    rollover: bool,
    thresholds: Vec<i16>,
    crossed: i16,
}

impl AccountRow {
    fn into_account(self) -> Result<(AccountId, Account), ProjectorError> {
        let id = id_of((
            self.rule_kind,
            self.rule_id,
            self.subject,
            self.window_start,
        ))?;
        let owner = Owner::from_text(&self.owner_kind, &self.owner_id);
        let percents: Result<Vec<u8>, _> =
            self.thresholds.iter().copied().map(u8::try_from).collect();
        let thresholds = percents.ok().and_then(|percents| Thresholds::of(&percents));
        let account = Account {
            organisation_id: OrganisationId(self.organisation_id),
            owner: owner.ok_or_else(|| foreign(self.owner_kind))?,
            unit: Unit::from_name(&self.unit).ok_or_else(|| foreign(self.unit))?,
            mode: BudgetMode::from_name(&self.mode).ok_or_else(|| foreign(self.mode))?,
            limit: self.limit_amount,
            window_end: self.window_end.map(Timestamp::from_datetime),
            held: self.held,
            settled: self.settled,
            breached: self.breached,
            carried_in: self.carried_in,
            carried_out: self.carried_out,
            closed: self.closed,
            rollover: self.rollover,
            thresholds: thresholds.ok_or_else(|| foreign(format!("{:?}", self.thresholds)))?,
            crossed: u8::try_from(self.crossed).map_err(|_| foreign(self.crossed.to_string()))?,
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

/// As the text of an array: arrays of arrays do not unnest by rows.
fn array_text(thresholds: Thresholds) -> String {
    let percents: Vec<String> = thresholds
        .percents()
        .map(|percent| percent.to_string())
        .collect();
    format!("{{{}}}", percents.join(","))
}

/// Inserts those that do not exist and whose spec is known, and says which. Whoever speaks of an account that is being opened
/// waits here until it is there, also who could not open it: else a return that a faulty gateway makes of what it was never
/// told of would be judged without the grant, which comes before it in the log.
pub(super) async fn insert_missing(
    connection: &mut PgConnection,
    accounts: &BTreeMap<AccountId, Option<AccountSpec>>,
) -> Result<BTreeSet<AccountId>, ProjectorError> {
    let ids: Vec<AccountId> = accounts.keys().copied().collect();
    let missing = missing(connection, &ids).await?;
    if missing.is_empty() {
        return Ok(missing);
    }
    wait_for_openers(connection, &missing).await?;
    let specs: Vec<&AccountSpec> = accounts
        .values()
        .flatten()
        .filter(|spec| missing.contains(&spec.id))
        .collect();
    if specs.is_empty() {
        return Ok(BTreeSet::new());
    }
    // A change of the rule that is folded at the same time would not see the new account, and a replay, which has one
    // order, would.
    let rules: BTreeSet<RuleId> = missing.iter().map(|id| id.rule).collect();
    entity::share_rules(connection, &rules).await?;
    let ids: Vec<AccountId> = specs.iter().map(|spec| spec.id).collect();
    let Names {
        rules,
        subjects,
        starts,
    } = names_of(&ids);
    let texts = |of: fn(&AccountSpec) -> &'static str| -> Vec<&'static str> {
        specs.iter().map(|spec| of(spec)).collect()
    };
    let ends: Vec<Option<Time>> = specs
        .iter()
        .map(|spec| spec.window_end.map(Timestamp::to_datetime))
        .collect();
    let organisations: Vec<Uuid> = specs.iter().map(|spec| spec.organisation_id.0).collect();
    let owners: Vec<String> = specs.iter().map(|spec| spec.owner.id_text()).collect();
    let limits: Vec<i64> = specs.iter().map(|spec| spec.limit).collect();
    let rollovers: Vec<bool> = specs.iter().map(|spec| spec.rollover).collect();
    let thresholds: Vec<String> = specs
        .iter()
        .map(|spec| array_text(spec.thresholds))
        .collect();
    let inserted: Vec<IdColumns> = sqlx::query_as(
        "INSERT INTO account (rule_kind, rule_id, subject, window_start, window_end, organisation_id,
             owner_kind, owner_id, unit, mode, limit_amount, held, settled, breached, carried_in,
             carried_out, closed, rollover, thresholds, crossed, position)
         SELECT rule_kind, rule_id, subject, window_start, window_end, organisation_id, owner_kind,
             owner_id, unit, mode, limit_amount, 0, 0, 0, 0, 0, false, rollover,
             thresholds::smallint[], 0, 0
         FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::timestamptz[],
             $6::uuid[], $7::text[], $8::text[], $9::text[], $10::text[], $11::bigint[],
             $12::boolean[], $13::text[])
             AS new (rule_kind, rule_id, subject, window_start, window_end, organisation_id,
                 owner_kind, owner_id, unit, mode, limit_amount, rollover, thresholds)
         ORDER BY rule_id, subject, window_start
         ON CONFLICT (rule_id, subject, window_start) DO NOTHING
         RETURNING rule_kind, rule_id, subject, window_start",
    )
    .bind(texts(|spec| spec.id.rule.kind()))
    .bind(rules)
    .bind(subjects)
    .bind(starts)
    .bind(ends)
    .bind(organisations)
    .bind(texts(|spec| spec.owner.kind()))
    .bind(owners)
    .bind(texts(|spec| spec.unit.name()))
    .bind(texts(|spec| spec.mode.name()))
    .bind(limits)
    .bind(rollovers)
    .bind(thresholds)
    .fetch_all(connection)
    .await?;
    inserted.into_iter().map(id_of).collect()
}

/// Locks names of accounts until the transaction ends, before any row of theirs. Two names may share a lock: then one waits
/// without need.
async fn wait_for_openers(
    connection: &mut PgConnection,
    missing: &BTreeSet<AccountId>,
) -> Result<(), ProjectorError> {
    let lock_of = |id: &AccountId| {
        let start = u128::from(id.window_start.0.unsigned_abs());
        let mixed = id.rule.uuid().as_u128() ^ id.subject.as_u128() ^ start;
        let halves = (mixed >> 64) as u64 ^ mixed as u64;
        ((halves >> 32) as u32 ^ halves as u32).cast_signed()
    };
    let locks: BTreeSet<i32> = missing.iter().map(lock_of).collect();
    let locks: Vec<i32> = locks.into_iter().collect();
    sqlx::query(
        "SELECT pg_advisory_xact_lock($1, lock) FROM (
             SELECT lock FROM unnest($2::integer[]) AS lock ORDER BY lock) AS ordered",
    )
    .bind(OPENING)
    .bind(locks)
    .execute(connection)
    .await?;
    Ok(())
}

/// What sets these locks apart from others with two numbers.
const OPENING: i32 = 1;

async fn missing(
    connection: &mut PgConnection,
    ids: &[AccountId],
) -> Result<BTreeSet<AccountId>, ProjectorError> {
    if ids.is_empty() {
        return Ok(BTreeSet::new());
    }
    let names = names_of(ids);
    let places: Vec<i64> = sqlx::query_scalar(
        "SELECT wanted.place
         FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) WITH ORDINALITY
             AS wanted (rule_id, subject, window_start, place)
         WHERE NOT EXISTS (SELECT 1 FROM account a WHERE a.rule_id = wanted.rule_id
             AND a.subject = wanted.subject AND a.window_start = wanted.window_start)",
    )
    .bind(names.rules)
    .bind(names.subjects)
    .bind(names.starts)
    .fetch_all(connection)
    .await?;
    let of = |place: i64| ids.get(usize::try_from(place - 1).ok()?).copied();
    Ok(places.into_iter().filter_map(of).collect())
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT a.rule_kind, a.rule_id, a.subject, a.window_start, a.window_end, a.organisation_id,
                 a.owner_kind, a.owner_id, a.unit, a.mode, a.limit_amount, a.held, a.settled,
                 a.breached, a.carried_in, a.carried_out, a.closed, a.rollover, a.thresholds, a.crossed
             FROM account a ",
            $rest
        )
    };
}

/// Locks and loads those that exist.
pub(super) async fn lock(
    connection: &mut PgConnection,
    ids: &[AccountId],
) -> Result<BTreeMap<AccountId, Account>, ProjectorError> {
    let names = names_of(ids);
    let rows: Vec<AccountRow> = sqlx::query_as(select!(
        "JOIN unnest($1::uuid[], $2::uuid[], $3::timestamptz[])
             AS wanted (rule_id, subject, window_start) USING (rule_id, subject, window_start)
         ORDER BY a.rule_id, a.subject, a.window_start FOR UPDATE OF a"
    ))
    .bind(names.rules)
    .bind(names.subjects)
    .bind(names.starts)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(AccountRow::into_account).collect()
}

/// Locks and loads every account of these rules that is not closed.
pub(crate) async fn lock_open_accounts(
    connection: &mut PgConnection,
    rules: &[Uuid],
) -> Result<BTreeMap<AccountId, Account>, ProjectorError> {
    let rows: Vec<AccountRow> = sqlx::query_as(select!(
        "WHERE a.rule_id = ANY($1) AND NOT a.closed
         ORDER BY a.rule_id, a.subject, a.window_start FOR UPDATE"
    ))
    .bind(rules)
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
    let names = names_of(&ids);
    let column = |value: fn(&Account) -> i64| -> Vec<i64> {
        accounts
            .iter()
            .map(|(_, account, _)| value(account))
            .collect()
    };
    let flags = |value: fn(&Account) -> bool| -> Vec<bool> {
        accounts
            .iter()
            .map(|(_, account, _)| value(account))
            .collect()
    };
    let modes: Vec<&str> = accounts
        .iter()
        .map(|(_, account, _)| account.mode.name())
        .collect();
    let thresholds: Vec<String> = accounts
        .iter()
        .map(|(_, account, _)| array_text(account.thresholds))
        .collect();
    let positions: Vec<i64> = accounts.iter().map(|(.., position)| *position).collect();
    sqlx::query(
        "UPDATE account SET mode = new.mode, limit_amount = new.limit_amount, held = new.held,
             settled = new.settled, breached = new.breached, carried_in = new.carried_in,
             carried_out = new.carried_out, closed = new.closed, rollover = new.rollover,
             thresholds = new.thresholds::smallint[], crossed = new.crossed::smallint,
             position = new.position
         FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::text[], $5::bigint[],
             $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::boolean[],
             $12::boolean[], $13::text[], $14::bigint[], $15::bigint[])
             AS new (rule_id, subject, window_start, mode, limit_amount, held, settled, breached,
                 carried_in, carried_out, closed, rollover, thresholds, crossed, position)
         WHERE account.rule_id = new.rule_id AND account.subject = new.subject
             AND account.window_start = new.window_start",
    )
    .bind(names.rules)
    .bind(names.subjects)
    .bind(names.starts)
    .bind(modes)
    .bind(column(|account| account.limit))
    .bind(column(|account| account.held))
    .bind(column(|account| account.settled))
    .bind(column(|account| account.breached))
    .bind(column(|account| account.carried_in))
    .bind(column(|account| account.carried_out))
    .bind(flags(|account| account.closed))
    .bind(flags(|account| account.rollover))
    .bind(thresholds)
    .bind(column(|account| account.crossed.into()))
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
    let names = names_of(ids);
    sqlx::query(
        "DELETE FROM account USING unnest($1::uuid[], $2::uuid[], $3::timestamptz[])
             AS unused (rule_id, subject, window_start)
         WHERE account.rule_id = unused.rule_id AND account.subject = unused.subject
             AND account.window_start = unused.window_start",
    )
    .bind(names.rules)
    .bind(names.subjects)
    .bind(names.starts)
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether so many accounts of one rule are open that no further subject is taken in.
pub(crate) async fn is_crowded(
    connection: &mut PgConnection,
    rule: RuleId,
) -> Result<bool, ProjectorError> {
    let open: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM (SELECT 1 FROM account WHERE rule_id = $1 AND NOT closed LIMIT $2) AS counted",
    )
    .bind(rule.uuid())
    .bind(MOST_SUBJECTS)
    .fetch_one(connection)
    .await?;
    Ok(open >= MOST_SUBJECTS)
}

/// Open accounts of one rule that counts each tag value or end user by itself.
const MOST_SUBJECTS: i64 = 100_000;
