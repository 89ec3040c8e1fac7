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
    /// Seq to boundary and bytes.
    management: BTreeMap<u64, (String, Vec<u8>)>,
    versions: HashMap<String, u64>,
    owners: HashMap<GatewayId, (u64, String)>,
    usage: HashMap<GatewayId, UsageStream>,
}

#[derive(Debug, Default)]
struct UsageStream {
    top: u64,
    entries: Vec<Kept>,
}

/// An entry, and who owned the stream before it: when it is lost, so is the change of owner.
#[derive(Debug)]
struct Kept {
    entry: UsageEntry,
    owner_before: Option<(u64, String)>,
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

    /// The last entries of a gateway's stream are gone, as after a crash between two fsyncs; ids and owner go back
    /// with them.
    pub fn lose_tail(&self, gateway: GatewayId, entries: usize) {
        let mut inner = self.lock();
        for _ in 0..entries {
            let Some(stream) = inner.usage.get_mut(&gateway) else {
                return;
            };
            let Some(lost) = stream.entries.pop() else {
                return;
            };
            stream.top = lost.entry.first.saturating_sub(1);
            match lost.owner_before {
                Some(owner) => inner.owners.insert(gateway, owner),
                None => inner.owners.remove(&gateway),
            };
        }
    }

    /// The last commands are gone; versions and seqs go back with them.
    pub fn lose_management_tail(&self, entries: usize) {
        let mut inner = self.lock();
        for _ in 0..entries {
            let Some((seq, (boundary, _))) = inner.management.pop_last() else {
                return;
            };
            inner.management_seq = seq - 1;
            if let Some(version) = inner.versions.get_mut(&boundary) {
                *version -= 1;
            }
        }
    }

    /// Epoch and nonce of the process that appended last, or that was seeded.
    #[must_use]
    pub fn usage_owner(&self, gateway: GatewayId) -> Option<(u64, String)> {
        self.lock().owners.get(&gateway).cloned()
    }

    /// Drops entries up to a seq; the top stays, as in Redis, whose last id outlives its entries.
    pub fn trim_usage(&self, gateway: GatewayId, up_to_seq: u64) {
        if let Some(stream) = self.lock().usage.get_mut(&gateway) {
            stream.entries.retain(|kept| kept.entry.last > up_to_seq);
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
        inner.versions.insert(field.clone(), version + 1);
        inner.management_seq += 1;
        let seq = inner.management_seq;
        inner.management.insert(seq, (field, append.bytes.to_vec()));
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
        let owner = (append.epoch, append.nonce.to_owned());
        let owner_before = inner.owners.insert(append.gateway_id, owner);
        let stream = inner.usage.entry(append.gateway_id).or_default();
        stream.top = append.last;
        stream.entries.push(Kept {
            entry: UsageEntry {
                gateway_id: append.gateway_id,
                first: append.first,
                last: append.last,
                bytes: append.bytes.to_vec(),
            },
            owner_before,
        });
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
            .map(|(seq, (_, bytes))| ManagementEntry {
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
            .map(|kept| &kept.entry)
            .filter(|entry| entry.last > after_seq)
            .take(count)
            .cloned()
            .collect())
    }
}
