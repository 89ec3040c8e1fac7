//! Closes windows a minute after their end: no grant from them any more. What gateways still hold of them comes back
//! by itself; what is in flight settles as ever.

use std::time::Duration;

use chrono::{DateTime, Utc};
use odock_events::{
    clock::Timestamp,
    envelope::{EntityRef, Envelope},
    ids::BudgetId,
    kind::Event,
    ledger::grant::CLOSE_AFTER_WINDOW_SECONDS,
    payload::{account::AccountId, lease::WindowClosed},
};
use sqlx::{Connection as _, PgConnection};
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

use crate::{
    error::ProjectorError,
    head,
    projections::money::{Money, Touched},
    tasks::{
        derived::{self, decided},
        parked,
    },
    term::Term,
};

const PERIOD: Duration = Duration::from_secs(1);
const PAGE: i64 = 500;

pub(crate) async fn run(term: Term) -> Result<(), ProjectorError> {
    let mut database = term.connect().await?;
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = term.stop.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let now = term.clock.now();
        while let Some(position) = close_some(&mut database, term.generation, now).await? {
            term.signals.committed(position);
        }
        parked::drop_old(&mut database, now).await?;
    }
}

/// Closes a page of windows; `None` when there was nothing to close.
async fn close_some(
    database: &mut PgConnection,
    generation: u64,
    now: Timestamp,
) -> Result<Option<i64>, ProjectorError> {
    let over = find(database, now).await?;
    if over.is_empty() {
        return Ok(None);
    }
    let mut transaction = database.begin().await?;
    let connection = &mut *transaction;
    let held: i64 = sqlx::query_scalar("SELECT generation FROM generation WHERE id = 1 FOR SHARE")
        .fetch_one(&mut *connection)
        .await?;
    if held as u64 != generation {
        return Err(ProjectorError::Fenced {
            what: format!("generation {held} is in force"),
        });
    }
    let mut touched = Touched::default();
    for id in &over {
        touched.account(*id, None);
    }
    let mut money = Money::lock(connection, &touched).await?;
    let closed: Vec<Envelope> = over
        .into_iter()
        .filter_map(|id| close(&mut money, id, now))
        .collect();
    if closed.is_empty() {
        return Ok(None);
    }
    let before = head::take_positions(connection, 1).await?;
    derived::write(connection, &closed, before + 1, now).await?;
    money.write(connection, before).await?;
    transaction.commit().await?;
    Ok(Some(before + 1))
}

fn close(money: &mut Money, id: AccountId, now: Timestamp) -> Option<Envelope> {
    let account = money
        .books
        .accounts
        .get(&id)
        .filter(|account| !account.closed)?;
    let organisation = Some(account.organisation_id);
    let event = Event::WindowClosed(WindowClosed { account: id });
    let envelope = decided(EntityRef::from(id.budget), organisation, None, now, event);
    money.apply(0, &envelope).ok()?;
    Some(envelope)
}

async fn find(
    database: &mut PgConnection,
    now: Timestamp,
) -> Result<Vec<AccountId>, ProjectorError> {
    let ended_before = Timestamp(now.0 - CLOSE_AFTER_WINDOW_SECONDS * 1_000_000);
    let rows: Vec<(Uuid, DateTime<Utc>)> = sqlx::query_as(
        "SELECT budget_id, window_start FROM account
         WHERE NOT closed AND window_end <= $1 ORDER BY window_end LIMIT $2",
    )
    .bind(ended_before.to_datetime())
    .bind(PAGE)
    .fetch_all(database)
    .await?;
    let ids = rows.into_iter().map(|(budget, start)| AccountId {
        budget: BudgetId(budget),
        window_start: Timestamp::from_datetime(start),
    });
    Ok(ids.collect())
}
