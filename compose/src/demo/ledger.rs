//! The demo upstream's ledger: one row for each chat call that was received whole, with what was written back.
//! The routes open a row, the body counts and closes it, tests read it over HTTP; it outlives restarts and kill -9.

mod archive;
mod book;

use std::{
    fs::{File, TryLockError},
    io,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use odock_events::clock::{Clock, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use uuid::Uuid;

use archive::Archive;
use book::{Book, Found};

/// One call, as `GET /_ledger` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) seq: u64,
    pub(super) id: String,
    /// The `X-Client-Request-Id` header; null when the call had none.
    pub(super) client_request_id: Option<String>,
    pub(super) model: String,
    pub(super) stream: bool,
    pub(super) received_at: Timestamp,
    pub(super) finished_at: Option<Timestamp>,
    pub(super) outcome: Outcome,
    /// Null while (and if) no byte was answered.
    pub(super) status: Option<u16>,
    /// 0 for a call that was refused.
    pub(super) prompt_tokens: u64,
    /// Written to the socket.
    pub(super) completion_tokens: u64,
    pub(super) usage_sent: bool,
    pub(super) body_sha256: String,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    Running,
    Completed,
    ClientClosed,
    /// Answered with an error status.
    Error,
    /// Cut by `demo-cut-stream`, by the end of the demo upstream, or by its death.
    Cut,
    /// `demo-hang`, after its caller closed.
    Hung,
}

/// What is known of a call when its row is opened.
#[derive(Debug, Clone)]
pub(super) struct NewRow {
    pub(super) client_request_id: Option<String>,
    pub(super) model: String,
    pub(super) stream: bool,
    pub(super) prompt_tokens: u64,
}

/// What changes on a row between its opening and its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Change {
    seq: u64,
    finished_at: Option<Timestamp>,
    outcome: Outcome,
    status: Option<u16>,
    completion_tokens: u64,
    usage_sent: bool,
}

impl Row {
    fn apply(&mut self, change: &Change) {
        self.finished_at = change.finished_at;
        self.outcome = change.outcome;
        self.status = change.status;
        self.completion_tokens = change.completion_tokens;
        self.usage_sent = change.usage_sent;
    }
}

/// One answer of `GET /_ledger`.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    pub(super) data: Vec<Row>,
    pub(super) next_after: u64,
}

#[derive(Debug, Error)]
pub(super) enum LedgerError {
    #[error("the ledger is in use by another process")]
    InUse,
    #[error("{file} is damaged at line {line}")]
    Damaged { file: String, line: usize },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// All rows: the recent ones in memory, every one in files.
pub(super) struct Ledger {
    book: Mutex<Book>,
    archive: Archive,
    clock: Box<dyn Clock>,
    /// Makes the ids of this start differ from those of every other.
    nonce: u128,
    stopping: AtomicBool,
    /// Held for as long as the process lives.
    _lock: File,
}

impl Ledger {
    pub(super) fn open(directory: &Path, clock: Box<dyn Clock>) -> Result<Arc<Self>, LedgerError> {
        Self::open_with(directory, clock, SEGMENT_ROWS)
    }

    /// As `open`, with so many rows a file.
    fn open_with(
        directory: &Path,
        clock: Box<dyn Clock>,
        segment_rows: u64,
    ) -> Result<Arc<Self>, LedgerError> {
        std::fs::create_dir_all(directory)?;
        let lock = File::create(directory.join("ledger.lock"))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => LedgerError::InUse,
            TryLockError::Error(error) => LedgerError::Io(error),
        })?;
        let archive = Archive::new(directory.to_owned(), segment_rows);
        let book = Mutex::new(Book::open(archive.clone())?);
        let nonce = Uuid::now_v7().as_u128() & NONCE_BITS;
        let stopping = AtomicBool::new(false);
        Ok(Arc::new(Self {
            book,
            archive,
            clock,
            nonce,
            stopping,
            _lock: lock,
        }))
    }

    /// Opens the row of a call that was received whole; it is on file when this returns.
    pub(super) fn begin(self: &Arc<Self>, new: NewRow, body: &Bytes) -> io::Result<Entry> {
        // Copied, since the bytes may be a small part of a large read buffer.
        let kept = Bytes::copy_from_slice(body);
        let body_sha256 = to_hex(&Sha256::digest(body));
        let received_at = self.clock.now();
        let row = Row {
            seq: 0,
            id: String::new(),
            client_request_id: new.client_request_id,
            model: new.model,
            stream: new.stream,
            received_at,
            finished_at: None,
            outcome: Outcome::Running,
            status: None,
            prompt_tokens: new.prompt_tokens,
            completion_tokens: 0,
            usage_sent: false,
            body_sha256,
        };
        let (seq, id) = self
            .book()
            .append(row, kept, |seq| make_id(self.nonce, seq))?;
        Ok(Entry {
            ledger: Arc::clone(self),
            id,
            received_at,
            change: Change {
                seq,
                finished_at: None,
                outcome: Outcome::Running,
                status: None,
                completion_tokens: 0,
                usage_sent: false,
            },
            noted_tokens: 0,
            if_dropped: Outcome::ClientClosed,
        })
    }

    /// At most `limit` rows after `after`, in order. Reads files for rows of long ago: not for an async worker.
    pub(super) fn page(&self, after: u64, limit: usize) -> Result<Page, LedgerError> {
        let mut data = Vec::new();
        let mut next = after.saturating_add(1);
        while data.len() < limit {
            let found = self.book().find(next, limit - data.len());
            match found {
                Found::Recent(rows) => {
                    data.extend(rows);
                    break;
                }
                Found::Archived(context) => {
                    let rows = self.archive.read(next, &context)?;
                    let end = self.archive.next_segment(next).min(context.first_recent);
                    data.extend(rows.into_iter().take(limit - data.len()));
                    next = end;
                }
            }
        }
        let next_after = data.last().map_or(after, |row| row.seq);
        Ok(Page { data, next_after })
    }

    /// The exact bytes of a recent call.
    pub(super) fn body(&self, seq: u64) -> Option<Bytes> {
        self.book().body(seq)
    }

    /// From now on, a call that is dropped was cut by us.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    fn change(&self, change: &Change) {
        if let Err(error) = self.book().change(change) {
            tracing::error!(%error, ledger.seq = change.seq, "the ledger cannot be written");
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open row. Dropped before its end, it says that the caller closed.
pub(super) struct Entry {
    ledger: Arc<Ledger>,
    id: String,
    received_at: Timestamp,
    /// The row as it will be at the next write.
    change: Change,
    noted_tokens: u64,
    if_dropped: Outcome,
}

impl Entry {
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn received_at(&self) -> Timestamp {
        self.received_at
    }

    pub(super) fn set_status(&mut self, status: u16) {
        self.change.status = Some(status);
    }

    pub(super) fn close_as_hung(&mut self) {
        self.if_dropped = Outcome::Hung;
    }

    /// Tokens, and whether the usage, that are being written to the socket.
    pub(super) fn count(&mut self, tokens: u64, tells_usage: bool) {
        self.change.completion_tokens += tokens;
        self.change.usage_sent |= tells_usage;
    }

    /// Makes the count visible, and safe from our own death.
    pub(super) fn note_progress(&mut self) {
        if self.noted_tokens != self.change.completion_tokens {
            self.noted_tokens = self.change.completion_tokens;
            self.ledger.change(&self.change);
        }
    }

    /// Closes the row, once.
    pub(super) fn finish(&mut self, outcome: Outcome) {
        if self.change.finished_at.is_none() {
            self.change.finished_at = Some(self.ledger.clock.now());
            self.change.outcome = outcome;
            self.ledger.change(&self.change);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let stopping = self.ledger.stopping.load(Ordering::SeqCst);
        self.finish(if stopping {
            Outcome::Cut
        } else {
            self.if_dropped
        });
    }
}

fn make_id(nonce: u128, seq: u64) -> String {
    format!("chatcmpl-{nonce:016x}{seq:016x}")
}

fn to_hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or_default();
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

/// Rows in one file. Two files' worth of rows is kept in memory.
const SEGMENT_ROWS: u64 = 50_000;
/// The random half of a version 7 UUID.
const NONCE_BITS: u128 = u64::MAX as u128;

#[cfg(test)]
mod tests;
