//! Tables `parked_ask` and `scarce_account`, under the lock of their account: who waits for money that is not there,
//! and serving them, oldest first, in the transaction in which money came free. Neither table is part of the log.

use std::collections::{BTreeMap, BTreeSet};

use odock_events::{
    clock::Timestamp,
    envelope::{EntityRef, Envelope},
    ids::GatewayId,
    kind::Event,
    ledger::grant::{self, Decision, Situation},
    log::messages::{ControlLease, ControlMessage},
    payload::{account::AccountId, lease::LeaseGranted},
};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::{
    error::ProjectorError,
    projections::money::{IdColumns, LeaseKey, Money, id_of, names_of},
    tasks::derived::{decided, spec_of},
};

/// How long an ask stays parked.
pub(crate) const PARKED_SECONDS: f64 = 5.0;

/// An ask that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parked {
    pub(crate) account: AccountId,
    pub(crate) gateway: GatewayId,
    pub(crate) must: i64,
    pub(crate) want: i64,
}

/// What a transaction that frees money serves with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Serving<'a> {
    /// The place of the decided entry in the transaction.
    pub(crate) entry: usize,
    pub(crate) live: &'a BTreeSet<GatewayId>,
    /// See [`is_stating`].
    pub(crate) is_new: bool,
    pub(crate) now: Timestamp,
}

/// What was granted, and whom to tell after the commit.
#[derive(Debug, Default)]
pub(crate) struct Served {
    pub(crate) grants: Vec<Envelope>,
    pub(crate) messages: Vec<(GatewayId, ControlMessage)>,
}

/// Serves the asks parked at accounts that the transaction has changed, and lifts scarcity where it is over.
pub(crate) async fn serve(
    connection: &mut PgConnection,
    money: &mut Money,
    serving: Serving<'_>,
) -> Result<Served, ProjectorError> {
    let changed: Vec<AccountId> = money.changed().collect();
    let scarce = scarce_among(connection, &changed).await?;
    let mut served = Served::default();
    if scarce.is_empty() || is_stating(connection, serving.live, serving.is_new).await? {
        return Ok(served);
    }
    let scarce: Vec<AccountId> = scarce.into_iter().collect();
    money.load_all_leases(connection, &scarce).await?;
    let mut answered = Vec::new();
    for parked in parked_at(connection, &scarce, serving.now).await? {
        if let Some(envelope) = grant_parked(money, parked, serving) {
            served
                .messages
                .push((parked.gateway, lease_message(money, parked, true)));
            served.grants.push(envelope);
            answered.push(parked);
        }
    }
    unpark(connection, &answered).await?;
    let over: Vec<AccountId> = scarce
        .into_iter()
        .filter(|id| {
            let account = money.books.accounts.get(id);
            account.is_none_or(|account| grant::is_plentiful(account.free(), account.allowance()))
        })
        .collect();
    clear_scarce(connection, &over).await?;
    served.messages.extend(plenty_messages(money, &over));
    Ok(served)
}

/// Grants a parked ask, as far as it must be, if that is free now.
fn grant_parked(money: &mut Money, parked: Parked, serving: Serving<'_>) -> Option<Envelope> {
    let account = money
        .books
        .accounts
        .get(&parked.account)
        .filter(|account| !account.closed)?;
    let key = (parked.account, parked.gateway);
    let situation = Situation {
        free: account.free(),
        granted: money.books.lease(key).granted,
        live_gateways: u32::try_from(serving.live.len()).unwrap_or(u32::MAX).max(1),
    };
    let Decision::Granted(total) = grant::decide(situation, parked.must, parked.must) else {
        return None;
    };
    let event = Event::LeaseGranted(LeaseGranted {
        gateway_id: parked.gateway,
        account: spec_of(parked.account, account),
        granted: total,
    });
    let organisation = Some(account.organisation_id);
    let budget = EntityRef::from(parked.account.rule);
    let envelope = decided(budget, organisation, None, serving.now, event);
    money.apply(serving.entry, &envelope).ok()?;
    Some(envelope)
}

fn lease_message(money: &Money, parked: Parked, scarce: bool) -> ControlMessage {
    let granted = money.books.lease((parked.account, parked.gateway)).granted;
    let lease = ControlLease {
        account: parked.account,
        granted,
        scarce,
        denial: None,
    };
    ControlMessage::Leases {
        leases: vec![lease],
    }
}

/// Tells every holder that it may keep idle parts again.
fn plenty_messages(money: &Money, over: &[AccountId]) -> Vec<(GatewayId, ControlMessage)> {
    let over: BTreeSet<AccountId> = over.iter().copied().collect();
    let mut told: BTreeMap<GatewayId, Vec<ControlLease>> = BTreeMap::new();
    for ((account, gateway), totals) in &money.books.leases {
        if over.contains(account) {
            told.entry(*gateway).or_default().push(ControlLease {
                account: *account,
                granted: totals.granted,
                scarce: false,
                denial: None,
            });
        }
    }
    told.into_iter()
        .map(|(gateway, leases)| (gateway, ControlMessage::Leases { leases }))
        .collect()
}

/// Whether hard money waits for gateways that have not stated their leases since Postgres went back: those that the
/// tables know as open, and those with a heartbeat, which the tables may not know any more. In a generation so new
/// that not every gateway has shown itself, they are waited for.
pub(crate) async fn is_stating(
    connection: &mut PgConnection,
    live: &BTreeSet<GatewayId>,
    is_new: bool,
) -> Result<bool, ProjectorError> {
    let (stating, over): (i64, bool) =
        sqlx::query_as("SELECT stating, stating_over FROM generation WHERE id = 1")
            .fetch_one(&mut *connection)
            .await?;
    if over || is_new {
        return Ok(!over);
    }
    let live: Vec<Uuid> = live.iter().map(|gateway| gateway.0).collect();
    Ok(sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM gateway WHERE state = 'open' AND stated_generation < $1)
             OR (SELECT count(*) FROM gateway WHERE id = ANY($2) AND stated_generation >= $1)
                 < cardinality($2)",
    )
    .bind(stating)
    .bind(live)
    .fetch_one(connection)
    .await?)
}

/// Ends the wait once everybody has stated its leases.
pub(crate) async fn end_stating(
    connection: &mut PgConnection,
    live: &BTreeSet<GatewayId>,
    is_new: bool,
) -> Result<(), ProjectorError> {
    if !is_stating(connection, live, is_new).await? {
        sqlx::query("UPDATE generation SET stating_over = true WHERE id = 1 AND NOT stating_over")
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// The open gateways that have still to state their leases, and for which generation.
pub(crate) async fn still_to_state(
    connection: &mut PgConnection,
) -> Result<Vec<(GatewayId, u64)>, ProjectorError> {
    let rows: Vec<(Uuid, i64)> = sqlx::query_as(
        "SELECT gateway.id, generation.stating FROM gateway, generation
         WHERE gateway.state = 'open' AND gateway.stated_generation < generation.stating",
    )
    .fetch_all(connection)
    .await?;
    let rows = rows
        .into_iter()
        .map(|(id, stating)| (GatewayId(id), stating as u64));
    Ok(rows.collect())
}

/// Drops what has been parked for too long, at accounts that nobody touches any more.
pub(crate) async fn drop_old(
    connection: &mut PgConnection,
    now: Timestamp,
) -> Result<(), ProjectorError> {
    sqlx::query(
        "DELETE FROM parked_ask p USING (
             SELECT rule_id, subject, window_start, gateway_id FROM parked_ask
             WHERE asked_at < $1 - make_interval(secs => $2)
             FOR UPDATE SKIP LOCKED) AS old
         WHERE p.rule_id = old.rule_id AND p.subject = old.subject
             AND p.window_start = old.window_start AND p.gateway_id = old.gateway_id",
    )
    .bind(now.to_datetime())
    .bind(PARKED_SECONDS * 2.0)
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) async fn scarce_among(
    connection: &mut PgConnection,
    accounts: &[AccountId],
) -> Result<BTreeSet<AccountId>, ProjectorError> {
    if accounts.is_empty() {
        return Ok(BTreeSet::new());
    }
    let names = names_of(accounts);
    let rows: Vec<IdColumns> = sqlx::query_as(
        "SELECT s.rule_kind, s.rule_id, s.subject, s.window_start FROM scarce_account s
         JOIN unnest($1::uuid[], $2::uuid[], $3::timestamptz[])
             AS wanted (rule_id, subject, window_start) USING (rule_id, subject, window_start)",
    )
    .bind(names.rules)
    .bind(names.subjects)
    .bind(names.starts)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(id_of).collect()
}

/// The asks parked at these accounts, oldest first; those that are too old are dropped.
async fn parked_at(
    connection: &mut PgConnection,
    accounts: &[AccountId],
    now: Timestamp,
) -> Result<Vec<Parked>, ProjectorError> {
    let names = names_of(accounts);
    sqlx::query(
        "DELETE FROM parked_ask p USING unnest($1::uuid[], $2::uuid[], $3::timestamptz[])
             AS wanted (rule_id, subject, window_start)
         WHERE p.rule_id = wanted.rule_id AND p.subject = wanted.subject
             AND p.window_start = wanted.window_start
             AND p.asked_at < $4 - make_interval(secs => $5)",
    )
    .bind(&names.rules)
    .bind(&names.subjects)
    .bind(&names.starts)
    .bind(now.to_datetime())
    .bind(PARKED_SECONDS)
    .execute(&mut *connection)
    .await?;
    let rows: Vec<(i64, Uuid, i64, i64)> = sqlx::query_as(
        "SELECT wanted.place, p.gateway_id, p.must, p.want FROM parked_ask p
         JOIN unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) WITH ORDINALITY
             AS wanted (rule_id, subject, window_start, place) USING (rule_id, subject, window_start)
         ORDER BY p.asked_at, p.gateway_id",
    )
    .bind(names.rules)
    .bind(names.subjects)
    .bind(names.starts)
    .fetch_all(connection)
    .await?;
    let parked = rows.into_iter().filter_map(|(place, gateway, must, want)| {
        Some(Parked {
            account: *accounts.get(usize::try_from(place - 1).ok()?)?,
            gateway: GatewayId(gateway),
            must,
            want,
        })
    });
    Ok(parked.collect())
}

/// Parks an ask, or renews the one that is there without its losing its place, and marks the account scarce.
pub(crate) async fn park(
    connection: &mut PgConnection,
    parked: Parked,
    now: Timestamp,
) -> Result<(), ProjectorError> {
    sqlx::query(
        "INSERT INTO parked_ask AS kept (rule_kind, rule_id, subject, window_start, gateway_id, must,
             want, asked_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (rule_id, subject, window_start, gateway_id) DO UPDATE SET
             must = EXCLUDED.must, want = EXCLUDED.want,
             asked_at = CASE WHEN kept.asked_at < $8 - make_interval(secs => $9)
                 THEN $8 ELSE kept.asked_at END",
    )
    .bind(parked.account.rule.kind())
    .bind(parked.account.rule.uuid())
    .bind(parked.account.subject)
    .bind(parked.account.window_start.to_datetime())
    .bind(parked.gateway.0)
    .bind(parked.must)
    .bind(parked.want)
    .bind(now.to_datetime())
    .bind(PARKED_SECONDS)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "INSERT INTO scarce_account (rule_kind, rule_id, subject, window_start, since)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (rule_id, subject, window_start) DO NOTHING",
    )
    .bind(parked.account.rule.kind())
    .bind(parked.account.rule.uuid())
    .bind(parked.account.subject)
    .bind(parked.account.window_start.to_datetime())
    .bind(now.to_datetime())
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes out asks that were answered.
pub(crate) async fn unpark(
    connection: &mut PgConnection,
    answered: &[Parked],
) -> Result<(), ProjectorError> {
    let keys: Vec<LeaseKey> = answered
        .iter()
        .map(|ask| (ask.account, ask.gateway))
        .collect();
    if keys.is_empty() {
        return Ok(());
    }
    let accounts: Vec<AccountId> = keys.iter().map(|(account, _)| *account).collect();
    let names = names_of(&accounts);
    let gateways: Vec<Uuid> = keys.iter().map(|(_, gateway)| gateway.0).collect();
    sqlx::query(
        "DELETE FROM parked_ask p USING unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::uuid[])
             AS answered (rule_id, subject, window_start, gateway_id)
         WHERE p.rule_id = answered.rule_id AND p.subject = answered.subject
             AND p.window_start = answered.window_start AND p.gateway_id = answered.gateway_id",
    )
    .bind(names.rules)
    .bind(names.subjects)
    .bind(names.starts)
    .bind(gateways)
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes out all asks, one account after the other, in the order in which all tasks lock.
pub(crate) async fn forget_all(connection: &mut PgConnection) -> Result<(), ProjectorError> {
    let parked: Vec<IdColumns> = sqlx::query_as(
        "SELECT DISTINCT rule_kind, rule_id, subject, window_start FROM parked_ask
         ORDER BY rule_id, subject, window_start",
    )
    .fetch_all(&mut *connection)
    .await?;
    for (_, rule, subject, start) in parked {
        let mut transaction = connection.begin().await?;
        sqlx::query(
            "SELECT 1 FROM account WHERE rule_id = $1 AND subject = $2 AND window_start = $3
             FOR UPDATE",
        )
        .bind(rule)
        .bind(subject)
        .bind(start)
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            "DELETE FROM parked_ask WHERE rule_id = $1 AND subject = $2 AND window_start = $3",
        )
        .bind(rule)
        .bind(subject)
        .bind(start)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
    }
    Ok(())
}

async fn clear_scarce(
    connection: &mut PgConnection,
    over: &[AccountId],
) -> Result<(), ProjectorError> {
    if over.is_empty() {
        return Ok(());
    }
    let names = names_of(over);
    sqlx::query(
        "DELETE FROM scarce_account s USING unnest($1::uuid[], $2::uuid[], $3::timestamptz[])
             AS past (rule_id, subject, window_start)
         WHERE s.rule_id = past.rule_id AND s.subject = past.subject
             AND s.window_start = past.window_start",
    )
    .bind(names.rules)
    .bind(names.subjects)
    .bind(names.starts)
    .execute(connection)
    .await?;
    Ok(())
}
