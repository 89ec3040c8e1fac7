//! What the journal knows by heart: the next seq, lease totals and open calls. Kept by the writer as it writes and by
//! replay as it reads; written at the head of each segment.

use std::collections::HashMap;

use odock_events::{
    clock::Timestamp,
    codec,
    ids::UsageId,
    kind::Event,
    payload::{
        account::{AccountId, AccountSpec},
        lease::{LeaseTotals, ReturnedLease, StatedLease},
        usage::UsageFinished,
    },
};
use serde_bytes::ByteBuf;

use super::{
    LeaseMap, Progress, Started,
    record::{GrantedRecord, Record, StateRecord, unpack},
};

/// A call that has started and not finished.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenCall {
    pub started: Started,
    pub progress: Option<Progress>,
}

#[derive(Clone, Debug)]
pub(crate) struct JournalState {
    pub(crate) next_seq: u64,
    pub(crate) leases: LeaseMap,
    pub(crate) open: HashMap<UsageId, (Vec<u8>, Option<Vec<u8>>)>,
}

impl Default for JournalState {
    fn default() -> Self {
        Self {
            next_seq: 1,
            leases: LeaseMap::new(),
            open: HashMap::new(),
        }
    }
}

impl JournalState {
    pub(crate) fn open_call(&mut self, usage: UsageId, started: Vec<u8>) {
        self.open.insert(usage, (started, None));
    }

    pub(crate) fn progressed(&mut self, usage: UsageId, progress: Vec<u8>) {
        if let Some((_, last)) = self.open.get_mut(&usage) {
            *last = Some(progress);
        }
    }

    pub(crate) fn granted(&mut self, account: &AccountSpec, granted: i64) {
        let lease = self
            .leases
            .entry(account.id)
            .or_insert_with(|| StatedLease {
                account: account.clone(),
                totals: LeaseTotals::default(),
            });
        lease.account.clone_from(account);
        lease.totals.granted = lease.totals.granted.max(granted);
    }

    pub(crate) fn finished(&mut self, usage: UsageId, settled: &[(AccountId, i64)]) {
        self.open.remove(&usage);
        for (account, amount) in settled {
            if let Some(lease) = self.leases.get_mut(account) {
                lease.totals.settled += amount;
            }
        }
    }

    pub(crate) fn returned(&mut self, leases: &[ReturnedLease]) {
        for returned in leases {
            if let Some(lease) = self.leases.get_mut(&returned.account) {
                lease.totals.returned = lease.totals.returned.max(returned.returned);
            }
        }
    }

    /// Forgets leases of which nothing is open and whose window ended before `moment`.
    pub(crate) fn forget_ended(&mut self, moment: Timestamp) {
        self.leases.retain(|_, lease| {
            lease.totals.open() != 0 || lease.account.window_end.is_none_or(|end| end >= moment)
        });
    }

    pub(crate) fn stated(&self) -> Vec<StatedLease> {
        self.leases.values().cloned().collect()
    }

    pub(crate) fn open_calls(&self) -> Result<Vec<OpenCall>, String> {
        let mut calls = Vec::with_capacity(self.open.len());
        for (started, progress) in self.open.values() {
            let progress = progress.as_ref().map(|bytes| unpack(bytes)).transpose()?;
            calls.push(OpenCall {
                started: unpack(started)?,
                progress,
            });
        }
        calls.sort_by_key(|call| call.started.usage.usage_id);
        Ok(calls)
    }

    pub(crate) fn to_record(&self) -> StateRecord {
        let open = self.open.iter().map(|(usage, (started, progress))| {
            (
                *usage,
                ByteBuf::from(started.clone()),
                progress.clone().map(ByteBuf::from),
            )
        });
        StateRecord {
            next_seq: self.next_seq,
            leases: self.leases.clone(),
            open: open.collect(),
        }
    }

    /// Applies a record that was read back.
    pub(crate) fn replay(&mut self, record: Record<'_>) -> Result<(), String> {
        match record {
            Record::State(bytes) => {
                let state: StateRecord = unpack(bytes)?;
                let open = state.open.into_iter().map(|(usage, started, progress)| {
                    (usage, (started.into_vec(), progress.map(ByteBuf::into_vec)))
                });
                *self = Self {
                    next_seq: state.next_seq,
                    leases: state.leases,
                    open: open.collect(),
                };
            }
            Record::Started(bytes) => {
                let started: Started = unpack(bytes)?;
                self.open_call(started.usage.usage_id, bytes.to_vec());
            }
            Record::Progress(bytes) => {
                let progress: Progress = unpack(bytes)?;
                self.progressed(progress.usage_id, bytes.to_vec());
            }
            Record::Granted(bytes) => {
                let granted: GrantedRecord = unpack(bytes)?;
                self.granted(&granted.account, granted.granted);
            }
            Record::Event { seq, bytes } => {
                if seq != self.next_seq {
                    return Err(format!("seq {seq} where {} should be", self.next_seq));
                }
                self.next_seq += 1;
                self.replay_event(bytes)?;
            }
        }
        Ok(())
    }

    fn replay_event(&mut self, bytes: &[u8]) -> Result<(), String> {
        let envelope = codec::decode(bytes).map_err(|error| error.to_string())?;
        if let Event::UsageFinished(usage) = &envelope.event {
            self.finished(usage.usage_id, &settled_by(usage));
        } else if let Event::LeaseReturned(returned) = &envelope.event {
            self.returned(&returned.leases);
        }
        Ok(())
    }
}

/// What each lease settles for a finished call: what it took, at most what was reserved.
#[must_use]
pub fn settled_by(usage: &UsageFinished) -> Vec<(AccountId, i64)> {
    let accounts = usage.accounts.iter().filter(|used| used.reserved > 0);
    accounts
        .map(|used| (used.account.id, used.from_lease(usage)))
        .collect()
}
