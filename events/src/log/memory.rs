//! The same append rules in memory, for property tests: what the scripts promise, without a server.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use super::{
    EventLog, LogError, ManagementAppend, ManagementAppended, ManagementEntry, UsageAppend,
    UsageAppended, UsageEntry, boundary_field, generation::GenerationSeed,
};
use crate::ids::GatewayId;

/// A Redis of one process. `wipe` and `lose_tail` do to it what happens to real ones.
#[derive(Debug, Default)]
pub struct MemoryLog {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    generation: Option<u64>,
    management_seq: u64,
    management: BTreeMap<u64, Vec<u8>>,
    versions: HashMap<String, u64>,
    owners: HashMap<GatewayId, (u64, String)>,
    usage: HashMap<GatewayId, UsageStream>,
}

#[derive(Debug, Default)]
struct UsageStream {
    top: u64,
    entries: Vec<UsageEntry>,
}

impl MemoryLog {
    #[must_use]
    pub fn generation(&self) -> Option<u64> {
        self.lock().generation
    }

    /// Opens a generation with what Postgres knows.
    pub fn raise_generation(&self, seed: &GenerationSeed) {
        let mut inner = self.lock();
        *inner = Inner {
            generation: Some(seed.generation),
            management_seq: seed.management_seq,
            ..Inner::default()
        };
        for (boundary, version) in &seed.versions {
            inner.versions.insert(boundary_field(*boundary), *version);
        }
        for (gateway, epoch, nonce) in &seed.owners {
            inner.owners.insert(*gateway, (*epoch, nonce.clone()));
        }
    }

    /// FLUSHALL.
    pub fn wipe(&self) {
        *self.lock() = Inner::default();
    }

    /// The last entries of a gateway's stream are gone, as after a crash between two fsyncs; ids go back with them.
    pub fn lose_tail(&self, gateway: GatewayId, entries: usize) {
        if let Some(stream) = self.lock().usage.get_mut(&gateway) {
            let keep = stream.entries.len().saturating_sub(entries);
            stream.entries.truncate(keep);
            stream.top = stream.entries.last().map_or(0, |entry| entry.last);
        }
    }

    /// Drops entries up to a seq; the top stays, as in Redis, whose last id outlives its entries.
    pub fn trim_usage(&self, gateway: GatewayId, up_to_seq: u64) {
        if let Some(stream) = self.lock().usage.get_mut(&gateway) {
            stream.entries.retain(|entry| entry.last > up_to_seq);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl EventLog for MemoryLog {
    async fn append_management(
        &self,
        append: &ManagementAppend<'_>,
    ) -> Result<ManagementAppended, LogError> {
        let mut inner = self.lock();
        match inner.generation {
            None => return Ok(ManagementAppended::Closed),
            Some(generation) if generation != append.generation => {
                return Ok(ManagementAppended::Stale { generation });
            }
            Some(_) => {}
        }
        let field = boundary_field(append.boundary);
        let version = inner.versions.get(&field).copied().unwrap_or(0);
        if version != append.expected_version {
            return Ok(ManagementAppended::Conflict { version });
        }
        inner.versions.insert(field, version + 1);
        inner.management_seq += 1;
        let seq = inner.management_seq;
        inner.management.insert(seq, append.bytes.to_vec());
        Ok(ManagementAppended::Ok { seq })
    }

    async fn append_usage(&self, append: &UsageAppend<'_>) -> Result<UsageAppended, LogError> {
        let mut inner = self.lock();
        match inner.generation {
            None => return Ok(UsageAppended::Closed),
            Some(generation) if generation != append.generation => {
                return Ok(UsageAppended::Stale { generation });
            }
            Some(_) => {}
        }
        if let Some((epoch, nonce)) = inner.owners.get(&append.gateway_id) {
            let other = *epoch == append.epoch && !nonce.is_empty() && nonce != append.nonce;
            if append.epoch < *epoch || other {
                return Ok(UsageAppended::Fenced {
                    owner: format!("{epoch}:{nonce}"),
                });
            }
        }
        let stream = inner.usage.entry(append.gateway_id).or_default();
        let top = stream.top.max(append.base);
        if append.last <= top {
            return Ok(UsageAppended::Duplicate { top });
        }
        if append.first != top + 1 {
            return Ok(UsageAppended::Gap { top });
        }
        stream.top = append.last;
        stream.entries.push(UsageEntry {
            gateway_id: append.gateway_id,
            first: append.first,
            last: append.last,
            bytes: append.bytes.to_vec(),
        });
        inner
            .owners
            .insert(append.gateway_id, (append.epoch, append.nonce.to_owned()));
        Ok(UsageAppended::Ok { last: append.last })
    }

    async fn read_management(
        &self,
        generation: u64,
        after_seq: u64,
        count: usize,
    ) -> Result<Vec<ManagementEntry>, LogError> {
        let inner = self.lock();
        if inner.generation != Some(generation) {
            return Ok(Vec::new());
        }
        let entries = inner.management.range(after_seq + 1..).take(count);
        Ok(entries
            .map(|(seq, bytes)| ManagementEntry {
                seq: *seq,
                bytes: bytes.clone(),
            })
            .collect())
    }

    async fn read_usage(
        &self,
        generation: u64,
        gateway: GatewayId,
        after_seq: u64,
        count: usize,
    ) -> Result<Vec<UsageEntry>, LogError> {
        let inner = self.lock();
        if inner.generation != Some(generation) {
            return Ok(Vec::new());
        }
        let entries = inner
            .usage
            .get(&gateway)
            .map_or(&[][..], |stream| &stream.entries);
        Ok(entries
            .iter()
            .filter(|entry| entry.last > after_seq)
            .take(count)
            .cloned()
            .collect())
    }
}
