//! One transaction of the usage task, step by step in the order of locks.

use std::collections::{BTreeMap, BTreeSet};

use odock_events::{
    clock::Timestamp,
    envelope::{EntityRef, Envelope},
    ids::GatewayId,
    kind::Event,
    log::messages::ControlMessage,
    payload::gateway::GatewayLost,
};
use sqlx::{Connection as _, PgConnection};

use super::{batch::Batch, fold, restore};
use crate::{
    checkpoint::{self, Move},
    error::ProjectorError,
    head,
    projections::{
        gateway::Gateways,
        money::{Money, Touched},
        usage_batch::{self, BatchRow},
    },
    tasks::{
        derived::{self, decided},
        full, parked,
    },
};

pub(super) struct Transaction<'a> {
    pub(super) generation: u64,
    pub(super) recorded_at: Timestamp,
    pub(super) live: &'a BTreeSet<GatewayId>,
    pub(super) is_new: bool,
    /// The cursors as they were.
    pub(super) before: &'a BTreeMap<GatewayId, u64>,
    pub(super) batches: &'a [Batch],
}

/// What is left to do once it is committed.
pub(super) struct Committed {
    pub(super) position: i64,
    pub(super) messages: Vec<(GatewayId, ControlMessage)>,
}

impl Transaction<'_> {
    pub(super) async fn run(
        &self,
        database: &mut PgConnection,
    ) -> Result<Committed, ProjectorError> {
        let compressed = self
            .batches
            .iter()
            .map(|batch| usage_batch::compress(&batch.packed))
            .collect::<Result<Vec<_>, _>>()?;
        let mut transaction = database.begin().await?;
        let connection = &mut *transaction;
        checkpoint::advance(connection, self.generation, &mut self.moves()).await?;
        fold::write_calls(connection, self.batches, fold::day_of(self.recorded_at)).await?;
        let mut touched = Touched::default();
        fold::touch(self.batches, &mut touched);
        let mut money = Money::lock(connection, &touched).await?;
        let mut gateways = Gateways::load(connection, &fold::gateways(self.batches)).await?;

        // The entries of this transaction: what a restored Postgres has to be told first, the batches, what follows.
        let restored = restore::missing_grants(connection, self, &money, &gateways).await?;
        for envelope in &restored {
            restore::apply(&mut money, envelope);
        }
        let first_batch = usize::from(!restored.is_empty());
        let mut follows = self.lost(&gateways);
        let folded = fold::apply(self.batches, first_batch, &mut money, &mut gateways);
        let decided_at = first_batch + self.batches.len();
        for envelope in &follows {
            gateways.apply(envelope);
        }
        follows.extend(folded.facts.iter().map(|(cause, id, fact)| {
            let account = money.books.accounts.get(id);
            let organisation = account.map(|account| account.organisation_id);
            let (rule, fact) = (EntityRef::from(id.rule), fact.clone());
            decided(rule, organisation, Some(*cause), self.recorded_at, fact)
        }));
        let full = full::messages(&money, self.live);
        let served = parked::serve(connection, &mut money, self.serving(decided_at)).await?;
        follows.extend(served.grants);

        let count = decided_at + usize::from(!follows.is_empty());
        let before = head::take_positions(connection, count).await?;
        if !restored.is_empty() {
            derived::write(connection, &restored, before + 1, self.recorded_at).await?;
        }
        let before_batches = before + first_batch as i64;
        self.write_batches(connection, &compressed, before_batches)
            .await?;
        folded
            .write(connection, self.batches, before_batches)
            .await?;
        if !follows.is_empty() {
            let position = before + 1 + decided_at as i64;
            derived::write(connection, &follows, position, self.recorded_at).await?;
        }
        gateways.write(connection).await?;
        money.write(connection, before).await?;
        transaction.commit().await?;
        folded.report(self.batches);
        Ok(Committed {
            position: before + count as i64,
            messages: [served.messages, full].concat(),
        })
    }

    fn serving(&self, entry: usize) -> parked::Serving<'_> {
        parked::Serving {
            entry,
            live: self.live,
            is_new: self.is_new,
            now: self.recorded_at,
        }
    }

    fn moves(&self) -> Vec<Move> {
        let mut to: BTreeMap<GatewayId, u64> = BTreeMap::new();
        for batch in self.batches {
            to.insert(batch.gateway_id, batch.last);
        }
        to.into_iter()
            .map(|(gateway, to)| Move {
                stream: checkpoint::usage_stream(gateway),
                from: self.before.get(&gateway).copied().unwrap_or(0),
                to,
            })
            .collect()
    }

    /// Gateways whose successor has begun and names them.
    fn lost(&self, gateways: &Gateways) -> Vec<Envelope> {
        let mut seen = BTreeSet::new();
        let mut lost = Vec::new();
        for (_, envelope) in self.batches.iter().flat_map(Batch::envelopes) {
            if let Event::GatewayOpened(opened) = &envelope.event
                && let Some(predecessor) = opened.predecessor
                && gateways.is_open(predecessor)
                && seen.insert(predecessor)
            {
                let event = Event::GatewayLost(GatewayLost {
                    gateway_id: predecessor,
                    successor: Some(opened.gateway_id),
                });
                let cause = Some(envelope.meta.id);
                lost.push(decided(
                    predecessor.into(),
                    None,
                    cause,
                    self.recorded_at,
                    event,
                ));
            }
        }
        lost
    }

    async fn write_batches(
        &self,
        connection: &mut PgConnection,
        compressed: &[Vec<u8>],
        before: i64,
    ) -> Result<(), ProjectorError> {
        let rows: Vec<BatchRow<'_>> = (before + 1..)
            .zip(self.batches.iter().zip(compressed))
            .map(|(position, (batch, compressed))| BatchRow {
                position,
                gateway_id: batch.gateway_id,
                first: batch.first,
                last: batch.last,
                compressed,
            })
            .collect();
        usage_batch::write(connection, &rows, self.recorded_at).await?;
        Ok(())
    }
}
