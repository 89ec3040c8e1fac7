//! What is committed, with a compare-and-set on each checkpoint. It stands for Postgres.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

use odock_events::{ids::GatewayId, log::generation::GenerationSeed};

#[derive(Default)]
pub(super) struct Database(Mutex<Tables>);

#[derive(Default)]
struct Tables {
    generation: u64,
    redis_run_id: String,
    commits: u64,
    streams: HashMap<GatewayId, Vec<u64>>,
}

/// What a reader must find in Redis to trust it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) generation: u64,
    pub(super) redis_run_id: String,
    pub(super) checkpoint: String,
}

impl Database {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap()
    }

    pub(super) fn known(&self) -> Known {
        let tables = self.tables();
        Known {
            generation: tables.generation,
            redis_run_id: tables.redis_run_id.clone(),
            checkpoint: tables.commits.to_string(),
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.tables().generation
    }

    /// As after an operator's word: the next look at Redis raises the generation.
    pub(super) fn distrust_redis(&self) {
        self.tables().redis_run_id.clear();
    }

    /// A generation above this one and above `highest`; `None` when another reader was faster.
    pub(super) fn raise(
        &self,
        known: &Known,
        highest: u64,
        run_id: &str,
    ) -> Option<GenerationSeed> {
        let mut tables = self.tables();
        if tables.generation != known.generation {
            return None;
        }
        tables.generation = highest.max(known.generation) + 1;
        run_id.clone_into(&mut tables.redis_run_id);
        let watermarks = tables.streams.iter();
        Some(GenerationSeed {
            generation: tables.generation,
            watermarks: watermarks
                .map(|(gateway, records)| (*gateway, records.len() as u64))
                .collect(),
            ..GenerationSeed::default()
        })
    }

    /// Commits if nobody else did since the cursor was read: the number of all commits.
    pub(super) fn commit(
        &self,
        generation: u64,
        gateway: GatewayId,
        cursor: u64,
        records: &[u64],
    ) -> Option<u64> {
        let mut tables = self.tables();
        if tables.generation != generation {
            return None;
        }
        let stream = tables.streams.entry(gateway).or_default();
        if stream.len() as u64 != cursor {
            return None;
        }
        stream.extend(records);
        tables.commits += 1;
        Some(tables.commits)
    }

    pub(super) fn cursor(&self, gateway: GatewayId) -> u64 {
        let tables = self.tables();
        tables.streams.get(&gateway).map_or(0, Vec::len) as u64
    }

    pub(super) fn records(&self, gateway: GatewayId) -> Vec<u64> {
        let tables = self.tables();
        tables.streams.get(&gateway).cloned().unwrap_or_default()
    }

    pub(super) fn arrived(&self) -> u64 {
        let tables = self.tables();
        tables.streams.values().map(|it| it.len() as u64).sum()
    }
}
