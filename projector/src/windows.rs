//! What time does to accounts, each second: windows are closed a minute after their end, what they leave is carried on,
//! raises end, and gateways hear again which windows are full.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use odock_events::{
    clock::Timestamp,
    envelope::{EntityRef, Envelope},
    kind::Event,
    ledger::rule::Rule,
    payload::account::{AccountId, RuleId},
};
use sqlx::{Connection as _, PgConnection};
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    error::ProjectorError,
    head,
    projections::{
        entity,
        money::{Money, Touched},
    },
    tasks::{
        derived::{self, decided},
        full, parked,
    },
    term::Term,
};

mod carrying;
mod closing;
mod raises;

const PERIOD: Duration = Duration::from_secs(1);
/// Ticks between two tellings of what is full.
const TELL_EACH: u32 = 2;
/// Accounts of one transaction.
const PAGE: i64 = 500;

pub(crate) async fn run(term: Term) -> Result<(), ProjectorError> {
    let mut database = term.connect().await?;
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut until_told = 0;
    loop {
        tokio::select! {
            () = term.stop.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let mut task = WindowTask {
            database: &mut database,
            generation: term.generation,
            now: term.clock.now(),
        };
        while let Some(position) = closing::close_some(&mut task).await? {
            term.signals.committed(position);
        }
        if let Some(position) = carrying::carry_some(&mut task).await? {
            term.signals.committed(position);
        }
        while let Some(position) = raises::end_some(&mut task).await? {
            term.signals.committed(position);
        }
        parked::drop_old(&mut database, term.clock.now()).await?;
        if until_told == 0 {
            until_told = TELL_EACH;
            let live = term.live_lately().await?;
            for (gateway, message) in full::all(&mut database, &live).await? {
                term.log.send_control(gateway, &message).await?;
            }
        }
        until_told -= 1;
    }
}

/// One look at the accounts.
struct WindowTask<'a> {
    database: &'a mut PgConnection,
    generation: u64,
    now: Timestamp,
}

impl WindowTask<'_> {
    /// Decides about accounts under their locks, writes what follows as one entry and returns its position; `None` when
    /// nothing does. With `rules` their rules are locked against change before.
    async fn decide(
        &mut self,
        touched: Touched,
        rules: Option<BTreeSet<RuleId>>,
        decide: impl FnOnce(&mut Deciding),
    ) -> Result<Option<i64>, ProjectorError> {
        if touched.accounts.is_empty() {
            return Ok(None);
        }
        let mut transaction = self.database.begin().await?;
        let connection = &mut *transaction;
        let held: i64 =
            sqlx::query_scalar("SELECT generation FROM generation WHERE id = 1 FOR SHARE")
                .fetch_one(&mut *connection)
                .await?;
        if held as u64 != self.generation {
            return Err(ProjectorError::Fenced {
                what: format!("generation {held} is in force"),
            });
        }
        let rules = match rules {
            Some(rules) => entity::share_rules(connection, &rules).await?,
            None => BTreeMap::new(),
        };
        let mut deciding = Deciding {
            money: Money::lock(connection, &touched).await?,
            rules,
            now: self.now,
            events: Vec::new(),
        };
        decide(&mut deciding);
        let Deciding { money, events, .. } = deciding;
        if events.is_empty() {
            return Ok(None);
        }
        let before = head::take_positions(connection, 1).await?;
        derived::write(connection, &events, before + 1, self.now).await?;
        money.write(connection, before).await?;
        transaction.commit().await?;
        Ok(Some(before + 1))
    }
}

/// Locked accounts while it is decided about them.
struct Deciding {
    money: Money,
    rules: BTreeMap<RuleId, Rule>,
    now: Timestamp,
    events: Vec<Envelope>,
}

impl Deciding {
    /// Applies what was decided about an account and keeps it for the entry.
    fn decided(&mut self, account: AccountId, event: Event) {
        let organisation = self
            .money
            .books
            .accounts
            .get(&account)
            .map(|account| account.organisation_id);
        let rule = EntityRef::from(account.rule);
        let envelope = decided(rule, organisation, None, self.now, event);
        match self.money.apply(0, &envelope) {
            Ok(_) => self.events.push(envelope),
            Err(error) => tracing::error!(%error, %account, "what was decided does not apply"),
        }
    }
}
