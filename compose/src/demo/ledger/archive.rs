//! The ledger's files: NDJSON, `segment_rows` calls a file, a call's later lines in the file of its first. The last line of a call
//! is its state. Written by the book, read for rows of long ago and at start.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use super::{Change, LedgerError, Outcome, Row};

/// One line of a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    Call(Row),
    Change(Change),
}

/// What the book knew when it said that rows are only on file.
pub(super) struct ArchiveContext {
    pub(super) first_recent: u64,
    pub(super) first_of_life: u64,
    pub(super) stragglers: BTreeMap<u64, Row>,
}

/// A file's rows, all of them closed.
struct Segment {
    number: u64,
    rows: Arc<Vec<Row>>,
}

/// The directory of the files, and the file that was read last.
#[derive(Clone)]
pub(super) struct Archive {
    directory: PathBuf,
    segment_rows: u64,
    last_read: Arc<Mutex<Option<Segment>>>,
}

impl Archive {
    pub(super) fn new(directory: PathBuf, segment_rows: u64) -> Self {
        Self {
            directory,
            segment_rows,
            last_read: Arc::default(),
        }
    }

    pub(super) fn segment_rows(&self) -> u64 {
        self.segment_rows
    }

    pub(super) fn segment(&self, seq: u64) -> u64 {
        seq.saturating_sub(1) / self.segment_rows
    }

    /// The first row of the segment after the one that holds `seq`.
    pub(super) fn next_segment(&self, seq: u64) -> u64 {
        (self.segment(seq) + 1) * self.segment_rows + 1
    }

    pub(super) fn append_to(&self, segment: u64) -> io::Result<File> {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path(segment))
    }

    /// The rows of the last two files at start: what was running then was cut.
    pub(super) fn open_recent(&self) -> Result<Vec<Row>, LedgerError> {
        let mut last = 0;
        while self.path(last).exists() {
            last += 1;
        }
        let mut rows: Vec<Row> = Vec::new();
        for segment in last.saturating_sub(2)..last {
            self.drop_torn_tail(segment)?;
            rows.extend(self.fold(segment)?);
        }
        for pair in rows.windows(2) {
            if let [before, row] = pair
                && row.seq != before.seq + 1
            {
                return Err(damaged(self.segment(row.seq), 0));
            }
        }
        for row in &mut rows {
            cut_if_running(row);
        }
        Ok(rows)
    }

    /// The rows from `next` to the end of its file, as far as they are not recent.
    pub(super) fn read(
        &self,
        next: u64,
        context: &ArchiveContext,
    ) -> Result<Vec<Row>, LedgerError> {
        let segment = self.segment(next);
        let rows = match self.cached(segment) {
            Some(rows) => rows,
            None => self.read_anew(segment, context)?,
        };
        let wanted = next..context.first_recent;
        Ok(rows
            .iter()
            .filter(|row| wanted.contains(&row.seq))
            .map(|row| overlay(row, context))
            .collect())
    }

    fn read_anew(
        &self,
        segment: u64,
        context: &ArchiveContext,
    ) -> Result<Arc<Vec<Row>>, LedgerError> {
        let mut rows = self.fold(segment)?;
        for row in rows
            .iter_mut()
            .filter(|row| row.seq < context.first_of_life)
        {
            cut_if_running(row);
        }
        let is_final = rows.iter().all(|row| row.outcome != Outcome::Running)
            && (segment + 1) * self.segment_rows < context.first_recent;
        let rows = Arc::new(rows);
        if is_final {
            let kept = Some(Segment {
                number: segment,
                rows: rows.clone(),
            });
            *self
                .last_read
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = kept;
        }
        Ok(rows)
    }

    fn cached(&self, segment: u64) -> Option<Arc<Vec<Row>>> {
        let last_read = self
            .last_read
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        last_read
            .as_ref()
            .filter(|read| read.number == segment)
            .map(|read| read.rows.clone())
    }

    fn fold(&self, segment: u64) -> Result<Vec<Row>, LedgerError> {
        let bytes = fs::read(self.path(segment))?;
        // A line being written while we read has no end yet.
        let whole = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        let mut rows: Vec<Row> = Vec::new();
        let text = String::from_utf8_lossy(bytes.get(..whole).unwrap_or_default());
        for (index, line) in text.lines().enumerate() {
            let line = serde_json::from_str(line).map_err(|_| damaged(segment, index + 1))?;
            match line {
                Line::Call(row) => rows.push(row),
                Line::Change(change) => {
                    let row = rows.binary_search_by_key(&change.seq, |row| row.seq);
                    match row.ok().and_then(|index| rows.get_mut(index)) {
                        Some(row) => row.apply(&change),
                        None => return Err(damaged(segment, index + 1)),
                    }
                }
            }
        }
        Ok(rows)
    }

    /// A power cut may have left half a line, which must not become the beginning of the next one.
    fn drop_torn_tail(&self, segment: u64) -> io::Result<()> {
        let path = self.path(segment);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            read => read?,
        };
        let whole = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        if whole < bytes.len() {
            OpenOptions::new()
                .write(true)
                .open(path)?
                .set_len(whole as u64)?;
        }
        Ok(())
    }

    fn path(&self, segment: u64) -> PathBuf {
        self.directory.join(file_name(segment))
    }
}

fn file_name(segment: u64) -> String {
    format!("ledger-{segment:06}.ndjson")
}

fn damaged(segment: u64, line: usize) -> LedgerError {
    LedgerError::Damaged {
        file: file_name(segment),
        line,
    }
}

fn cut_if_running(row: &mut Row) {
    if row.outcome == Outcome::Running {
        row.outcome = Outcome::Cut;
    }
}

/// A row that the file calls running is as the book had it when the read began.
fn overlay(row: &Row, context: &ArchiveContext) -> Row {
    let newer = context
        .stragglers
        .get(&row.seq)
        .filter(|_| row.outcome == Outcome::Running);
    newer.unwrap_or(row).clone()
}
