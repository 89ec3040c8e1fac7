//! The gateway's journal: every call is on disk before it reaches an upstream and again when it ended, so that a
//! killed gateway loses nothing. Also the gateway's identity: the id, the epoch and the one seq of its life.
//! Written by the request path (one `write(2)` a record), read by the shipper (`usage.rs`) and at start (`replay`).

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use odock_events::{
    clock::Timestamp,
    ids::UsageId,
    payload::{
        account::{AccountId, AccountSpec},
        lease::{ReturnedLease, StatedLease},
    },
};
use tokio::sync::watch;

mod frame;
mod identity;
mod reader;
mod record;
mod replay;
mod segment;
mod state;
mod sync;
mod tail;
#[cfg(test)]
mod tests;

use self::{
    identity::DirectoryLock,
    record::{GrantedRecord, Tag, pack},
    segment::{Segments, Writer},
    state::JournalState,
    sync::Syncer,
    tail::Tail,
};
pub use self::{
    identity::{Abandoned, Identity},
    reader::{JournalEvent, JournalReader},
    record::{Progress, Started},
    replay::{Recovered, settle_orphan},
    state::{OpenCall, settled_by},
    tail::BatchLimit,
};

/// Why the journal does not take a record. Traffic under hard budgets stops until it does again.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("journal {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("journal {path} is in use by process {pid}: one gateway, one directory")]
    Locked { path: PathBuf, pid: String },
    #[error(
        "journal {path} is damaged at byte {offset}, before its tail: {reason}; the file is kept"
    )]
    Damaged {
        path: PathBuf,
        offset: u64,
        reason: String,
    },
    #[error("record cannot be encoded: {0}")]
    Encode(#[from] rmp_serde::encode::Error),
    #[error("the journal could not be synced to disk")]
    SyncFailed,
}

impl JournalError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

#[derive(Debug, Clone)]
pub struct JournalOptions {
    pub directory: PathBuf,
    /// A segment is followed by a new one from this size on.
    pub segment_bytes: u64,
    /// Shipped segments are kept for this long, or until they are more than `keep_bytes` together.
    pub keep_for: Duration,
    pub keep_bytes: u64,
}

impl JournalOptions {
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            segment_bytes: 64 << 20,
            keep_for: Duration::from_hours(24),
            keep_bytes: 10 << 30,
        }
    }
}

/// How far the journal is: written by the request path, synced by its own thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progressed {
    /// Last seq that is safe against power loss; only these are shipped.
    pub synced_seq: u64,
    /// Records of any kind that are synced, counted since the start: what `strict` waits for.
    pub synced_records: u64,
    pub failed: bool,
}

/// The open journal. Cloned handles share it.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
}

struct Shared {
    identity: Identity,
    options: JournalOptions,
    inner: Mutex<Inner>,
    segments: Arc<Segments>,
    syncer: Syncer,
}

struct Inner {
    writer: Writer,
    state: JournalState,
    tail: Tail,
    /// Records of any kind since the start.
    records: u64,
}

impl Journal {
    /// Opens the directory (made when it is not there), takes its lock, raises the epoch, reads the last segment and
    /// begins a new one. What was open when the process ended is in `Recovered`.
    pub fn open(options: JournalOptions) -> Result<(Self, Recovered), JournalError> {
        let lock = DirectoryLock::take(&options.directory)?;
        let segments = Arc::new(Segments::scan(&options.directory)?);
        let state = replay::read_last(&segments)?;
        segments.learn_ranges();
        let identity = Identity::begin(lock, state.next_seq)?;
        let recovered = Recovered::from_state(&state, identity.tail_unproven);
        let writer = Writer::begin(&segments, &state)?;
        let syncer = Syncer::start(writer.file(), state.next_seq - 1)?;
        let inner = Mutex::new(Inner {
            writer,
            state,
            tail: Tail::default(),
            records: 0,
        });
        let shared = Shared {
            identity,
            options,
            inner,
            segments,
            syncer,
        };
        Ok((
            Self {
                shared: Arc::new(shared),
            },
            recovered,
        ))
    }

    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    /// A call is about to reach for an upstream. Returns the record's number for `synced`.
    pub fn started(&self, started: &Started) -> Result<u64, JournalError> {
        let bytes = pack(started)?;
        let mut inner = self.lock();
        inner.writer.write(Tag::Started, &[&bytes])?;
        inner.state.open_call(started.usage.usage_id, bytes);
        Ok(self.after_write(&mut inner))
    }

    /// How far a call has come; only what a soft budget settles by when the gateway dies.
    pub fn progress(&self, progress: &Progress) -> Result<u64, JournalError> {
        let bytes = pack(progress)?;
        let mut inner = self.lock();
        inner.writer.write(Tag::Progress, &[&bytes])?;
        inner.state.progressed(progress.usage_id, bytes);
        Ok(self.after_write(&mut inner))
    }

    /// A lease grew. Written before anything is spent of what it grew by.
    pub fn granted(&self, account: &AccountSpec, granted: i64) -> Result<u64, JournalError> {
        let bytes = pack(&GrantedRecord {
            account: account.clone(),
            granted,
        })?;
        let mut inner = self.lock();
        inner.writer.write(Tag::Granted, &[&bytes])?;
        inner.state.granted(account, granted);
        Ok(self.after_write(&mut inner))
    }

    /// A call ended: its encoded `usage.finished` gets the next seq. `settled` is what each lease settles.
    pub fn finished(
        &self,
        usage_id: UsageId,
        event: &[u8],
        settled: &[(AccountId, i64)],
    ) -> Result<u64, JournalError> {
        self.append_event(event, |state| state.finished(usage_id, settled))
    }

    /// Idle lease parts go back: an encoded `lease.returned`.
    pub fn returned(&self, event: &[u8], leases: &[ReturnedLease]) -> Result<u64, JournalError> {
        self.append_event(event, |state| state.returned(leases))
    }

    /// Any other event of the gateway's stream: `gateway.opened`, `lease.stated`, `gateway.closed`.
    pub fn event(&self, event: &[u8]) -> Result<u64, JournalError> {
        self.append_event(event, |_| {})
    }

    /// The next seq: one more than the last event written.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.lock().state.next_seq
    }

    /// Totals of all leases as the journal has them.
    #[must_use]
    pub fn leases(&self) -> Vec<StatedLease> {
        self.lock().state.stated()
    }

    /// Forgets leases of windows that ended before `moment` and of which nothing is open.
    pub fn forget_ended(&self, moment: Timestamp) {
        self.lock().state.forget_ended(moment);
    }

    /// Calls that have started and not finished.
    #[must_use]
    pub fn open_calls(&self) -> usize {
        self.lock().state.open.len()
    }

    #[must_use]
    pub fn progressed(&self) -> watch::Receiver<Progressed> {
        self.shared.syncer.progressed()
    }

    /// Whether records are taken: false after a failed write until one succeeds again, and for good after a failed sync.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        !self.shared.syncer.progressed().borrow().failed && !self.lock().writer.failed()
    }

    /// Waits until record number `record` is synced (`strict`).
    pub async fn synced(&self, record: u64) -> Result<(), JournalError> {
        let mut progressed = self.shared.syncer.progressed();
        let reached = progressed
            .wait_for(|progressed| progressed.failed || progressed.synced_records >= record)
            .await;
        match reached {
            Ok(progressed) if !progressed.failed => Ok(()),
            _ => Err(JournalError::SyncFailed),
        }
    }

    /// The newest events from memory, `from ..= up_to`. `None`: `from` is older than what is kept there, or there is
    /// nothing in that range; the reader knows.
    #[must_use]
    pub fn newest(&self, from: u64, up_to: u64, limit: BatchLimit) -> Option<Vec<JournalEvent>> {
        self.lock().tail.read(from, up_to, limit)
    }

    /// Sent on: the copies in memory may go.
    pub fn forget_newest(&self, up_to: u64) {
        self.lock().tail.forget(up_to);
    }

    /// Reads events back for shipping.
    #[must_use]
    pub fn reader(&self) -> JournalReader {
        JournalReader::new(Arc::clone(&self.shared.segments))
    }

    /// Postgres has everything up to `watermark`: segments that end below it may go, by age and size.
    pub fn release(&self, watermark: u64) -> Result<(), JournalError> {
        let options = &self.shared.options;
        self.shared
            .segments
            .release(watermark, options.keep_for, options.keep_bytes)
    }

    fn append_event(
        &self,
        event: &[u8],
        effect: impl FnOnce(&mut JournalState),
    ) -> Result<u64, JournalError> {
        let mut inner = self.lock();
        let seq = inner.state.next_seq;
        inner
            .writer
            .write(Tag::Event, &[&seq.to_le_bytes(), event])?;
        inner.state.next_seq += 1;
        effect(&mut inner.state);
        inner.tail.push(seq, event);
        self.shared.segments.note_last_seq(seq);
        self.after_write(&mut inner);
        Ok(seq)
    }

    /// Counts the record, begins a new segment when this one is full, tells the syncer. Nothing in here fails the
    /// record: it is written.
    fn after_write(&self, inner: &mut Inner) -> u64 {
        inner.records += 1;
        if inner.writer.length() >= self.shared.options.segment_bytes
            && let Err(error) = self.rotate(inner)
        {
            tracing::error!(%error, "no new journal segment; the full one is written on");
        }
        self.shared
            .syncer
            .written(inner.state.next_seq - 1, inner.records);
        inner.records
    }

    /// The old file is synced first: a seq may be shipped only when every record before it is safe.
    fn rotate(&self, inner: &mut Inner) -> Result<(), JournalError> {
        inner
            .writer
            .file()
            .sync_data()
            .map_err(JournalError::io(inner.writer.path()))?;
        inner.writer = Writer::begin(&self.shared.segments, &inner.state)?;
        self.shared.syncer.replace_file(inner.writer.file());
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.shared
            .inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lease totals by account, as `state` records and replay keep them.
pub(crate) type LeaseMap = BTreeMap<AccountId, StatedLease>;

#[cfg(test)]
impl Journal {
    /// From now on no record is taken. Gives the segment's file back for `free_disk`.
    pub(crate) fn fill_disk(&self) -> Arc<std::fs::File> {
        let full = std::fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap();
        self.lock().writer.replace_file(Arc::new(full))
    }

    pub(crate) fn free_disk(&self, file: Arc<std::fs::File>) {
        self.lock().writer.replace_file(file);
    }
}
