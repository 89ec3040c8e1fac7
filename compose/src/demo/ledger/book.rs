//! The ledger's memory and its pen: recent rows, open rows, recent bodies, and the file that is written. Used under the ledger's lock.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    io::{self, Write as _},
};

use bytes::Bytes;

use super::{
    Change, LedgerError, Outcome, Row,
    archive::{Archive, ArchiveContext, Line},
};

/// Rows `first_recent..next_seq`, without a gap.
pub(super) struct Book {
    archive: Archive,
    recent: VecDeque<Row>,
    first_recent: u64,
    next_seq: u64,
    /// The first row of this start: what ran before it was cut.
    first_of_life: u64,
    /// Rows still running that are no longer recent.
    stragglers: BTreeMap<u64, Row>,
    /// The bodies of the last rows of this start, the newest last.
    bodies: VecDeque<Bytes>,
    /// Open files by segment.
    files: BTreeMap<u64, File>,
    line: Vec<u8>,
}

/// Where rows are to be had.
pub(super) enum Found {
    Recent(Vec<Row>),
    Archived(ArchiveContext),
}

impl Book {
    pub(super) fn open(archive: Archive) -> Result<Self, LedgerError> {
        let recent = archive.open_recent()?;
        let next_seq = recent.last().map_or(1, |row| row.seq + 1);
        let first_recent = recent.first().map_or(next_seq, |row| row.seq);
        Ok(Self {
            archive,
            recent: recent.into(),
            first_recent,
            next_seq,
            first_of_life: next_seq,
            stragglers: BTreeMap::new(),
            bodies: VecDeque::with_capacity(BODIES + 1),
            files: BTreeMap::new(),
            line: Vec::new(),
        })
    }

    /// Gives the row its number and id, and writes it.
    pub(super) fn append(
        &mut self,
        mut row: Row,
        body: Bytes,
        make_id: impl FnOnce(u64) -> String,
    ) -> io::Result<(u64, String)> {
        let seq = self.next_seq;
        row.seq = seq;
        row.id = make_id(seq);
        let id = row.id.clone();
        let line = Line::Call(row);
        self.write(seq, &line)?;
        let Line::Call(row) = line else {
            return Err(io::Error::other("not a call"));
        };
        self.next_seq += 1;
        self.recent.push_back(row);
        self.bodies.push_back(body);
        if self.bodies.len() > BODIES {
            self.bodies.pop_front();
        }
        self.forget_old();
        Ok((seq, id))
    }

    /// Changes a row in memory even when the file cannot be written.
    pub(super) fn change(&mut self, change: &Change) -> io::Result<()> {
        if change.seq < self.first_recent {
            if change.outcome == Outcome::Running {
                if let Some(row) = self.stragglers.get_mut(&change.seq) {
                    row.apply(change);
                }
            } else {
                // The file is written below, before the lock is given back: nobody sees neither.
                self.stragglers.remove(&change.seq);
            }
        } else if let Some(row) = self.recent_mut(change.seq) {
            row.apply(change);
        }
        self.write(change.seq, &Line::Change(change.clone()))
    }

    pub(super) fn find(&self, next: u64, limit: usize) -> Found {
        if next < self.first_recent {
            return Found::Archived(ArchiveContext {
                first_recent: self.first_recent,
                first_of_life: self.first_of_life,
                stragglers: self.stragglers.clone(),
            });
        }
        let skip = usize::try_from(next - self.first_recent).unwrap_or(usize::MAX);
        Found::Recent(self.recent.iter().skip(skip).take(limit).cloned().collect())
    }

    pub(super) fn body(&self, seq: u64) -> Option<Bytes> {
        let from_end = usize::try_from(self.next_seq.checked_sub(seq)?).ok()?;
        self.bodies
            .get(self.bodies.len().checked_sub(from_end)?)
            .cloned()
    }

    fn recent_mut(&mut self, seq: u64) -> Option<&mut Row> {
        let index = usize::try_from(seq.checked_sub(self.first_recent)?).ok()?;
        self.recent.get_mut(index)
    }

    fn forget_old(&mut self) {
        while self.recent.len() as u64 > RECENT_SEGMENTS * self.archive.segment_rows() {
            let Some(row) = self.recent.pop_front() else {
                return;
            };
            self.first_recent = row.seq + 1;
            if row.outcome == Outcome::Running {
                self.stragglers.insert(row.seq, row);
            }
        }
    }

    /// One `write` of one whole line: a process that is killed leaves no half lines.
    fn write(&mut self, seq: u64, line: &Line) -> io::Result<()> {
        let segment = self.archive.segment(seq);
        if !self.files.contains_key(&segment) {
            while self.files.len() >= OPEN_FILES {
                self.files.pop_first();
            }
            self.files.insert(segment, self.archive.append_to(segment)?);
        }
        self.line.clear();
        serde_json::to_writer(&mut self.line, line)?;
        self.line.push(b'\n');
        match self.files.get_mut(&segment) {
            Some(file) => file.write_all(&self.line),
            None => Err(io::Error::other("the segment's file was just closed")),
        }
    }
}

/// The contract's number of bodies.
const BODIES: usize = 1_000;
const RECENT_SEGMENTS: u64 = 2;
const OPEN_FILES: usize = 4;
