//! What follows from batches of usage events: calls, money, gateways, dead letters. The usage task and the rebuild do
//! the same thing here; what is decided on top of it is the task's.

use std::collections::BTreeSet;

use chrono::NaiveDate;
use odock_events::{
    clock::Timestamp,
    envelope::Envelope,
    ids::{EventId, GatewayId},
    kind::Event,
    ledger::books,
    payload::account::AccountId,
};
use sqlx::PgConnection;

use super::batch::Batch;
use crate::{
    error::ProjectorError,
    projections::{
        dead_letter::{self, DeadLetter},
        event::EventRows,
        gateway::Gateways,
        money::{Money, Touched},
        rollup::Rollups,
        usage::{Call, UsageRows},
    },
};

/// The day whose partition a transaction writes to.
pub(crate) fn day_of(recorded_at: Timestamp) -> NaiveDate {
    recorded_at.to_datetime().date_naive()
}

/// Writes the calls and their sums: the bulk of it, before anything that others wait for is locked.
pub(crate) async fn write_calls(
    connection: &mut PgConnection,
    batches: &[Batch],
    recorded_on: NaiveDate,
) -> Result<(), ProjectorError> {
    let mut rows = UsageRows::default();
    let mut rollups = Rollups::default();
    for batch in batches {
        for (ordinal, envelope) in batch.envelopes() {
            let Event::UsageFinished(usage) = &envelope.event else {
                continue;
            };
            let Some(organisation_id) = envelope.meta.organisation_id else {
                continue;
            };
            let seq = batch.first + ordinal as u64;
            rows.push(Call {
                recorded_on,
                seq,
                organisation_id,
                meta: &envelope.meta,
                usage,
            })?;
            rollups.add(organisation_id, usage);
        }
    }
    rows.write(connection).await?;
    rollups.write(connection).await?;
    Ok(())
}

/// Adds the accounts and leases that the batches move.
pub(crate) fn touch(batches: &[Batch], touched: &mut Touched) {
    for (_, envelope) in batches.iter().flat_map(Batch::envelopes) {
        touch_event(envelope, touched);
    }
}

/// Adds the accounts and leases that one event moves.
pub(crate) fn touch_event(envelope: &Envelope, touched: &mut Touched) {
    for (account, gateway) in books::touched(envelope) {
        touched.account(account, None);
        if let Some(gateway) = gateway {
            touched.leases.insert((account, gateway));
        }
    }
    if let Event::UsageFinished(usage) = &envelope.event {
        for used in &usage.accounts {
            touched.lease(&used.account, usage.gateway_id);
        }
    }
    if let Event::LeaseStated(stated) = &envelope.event {
        for lease in &stated.leases {
            touched.lease(&lease.account, stated.gateway_id);
        }
    }
    if let Event::WindowCarried(carried) = &envelope.event {
        touched.account(carried.to.id, Some(&carried.to));
    }
    if let Event::LeaseGranted(granted) = &envelope.event {
        touched.lease(&granted.account, granted.gateway_id);
    }
}

/// The gateways that the batches are from or speak of.
pub(crate) fn gateways(batches: &[Batch]) -> BTreeSet<GatewayId> {
    let mut gateways: BTreeSet<GatewayId> = batches.iter().map(|batch| batch.gateway_id).collect();
    for (_, envelope) in batches.iter().flat_map(Batch::envelopes) {
        if let Event::GatewayOpened(opened) = &envelope.event {
            gateways.extend(opened.predecessor);
        }
    }
    gateways
}

/// What applying batches asks to be recorded beside them.
#[derive(Debug, Default)]
pub(crate) struct Folded {
    /// Breaches and crossed thresholds, with the account and the event that caused each.
    pub(crate) facts: Vec<(EventId, AccountId, Event)>,
    letters: Vec<Letter>,
}

/// A dead letter whose position is not known yet.
#[derive(Debug)]
struct Letter {
    batch: usize,
    ordinal: usize,
    reason: String,
}

/// Applies the batches in order; the first is the transaction's `entry`th entry.
pub(crate) fn apply(
    batches: &[Batch],
    entry: usize,
    money: &mut Money,
    gateways: &mut Gateways,
) -> Folded {
    let mut folded = Folded::default();
    for (index, batch) in batches.iter().enumerate() {
        for (ordinal, event) in batch.events.iter().enumerate() {
            let reason = match &event.read {
                Ok(envelope) => {
                    gateways.apply(envelope);
                    match money.apply(entry + index, envelope) {
                        Ok(applied) => {
                            let id = envelope.meta.id;
                            folded
                                .facts
                                .extend(applied.facts.into_iter().map(|(of, fact)| (id, of, fact)));
                            continue;
                        }
                        Err(error) => error.to_string(),
                    }
                }
                Err(reason) => reason.clone(),
            };
            folded.letters.push(Letter {
                batch: index,
                ordinal,
                reason,
            });
        }
        gateways.reached(batch.gateway_id, batch.last);
    }
    folded
}

impl Folded {
    /// Says what was set aside; not in a replay.
    pub(crate) fn report(&self, batches: &[Batch]) {
        for letter in &self.letters {
            let Some(batch) = batches.get(letter.batch) else {
                continue;
            };
            tracing::error!(
                gateway.id = %batch.gateway_id,
                seq = batch.first + letter.ordinal as u64,
                reason = %letter.reason,
                "a usage event was set aside"
            );
        }
    }

    /// Writes events for people and dead letters; `before` is the position before the first batch's.
    pub(crate) async fn write(
        &self,
        connection: &mut PgConnection,
        batches: &[Batch],
        before: i64,
    ) -> Result<(), ProjectorError> {
        let mut events = EventRows::default();
        for (position, batch) in (before + 1..).zip(batches) {
            for (ordinal, envelope) in batch.envelopes() {
                if !matches!(envelope.event, Event::UsageFinished(_))
                    && let Some(event) = batch.events.get(ordinal)
                {
                    events.push(position, ordinal, envelope, &event.bytes);
                }
            }
        }
        events.write(connection).await?;
        let letters: Vec<DeadLetter> = self
            .letters
            .iter()
            .filter_map(|letter| {
                let batch = batches.get(letter.batch)?;
                let event = batch.events.get(letter.ordinal)?;
                Some(DeadLetter {
                    position: before + 1 + letter.batch as i64,
                    ordinal: letter.ordinal,
                    gateway_id: batch.gateway_id,
                    seq: event.seq,
                    reason: letter.reason.clone(),
                    body: event.bytes.to_vec(),
                })
            })
            .collect();
        dead_letter::write(connection, &letters).await?;
        Ok(())
    }
}
