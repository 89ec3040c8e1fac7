//! What a start finds in the journal: the last segment is read, its torn tail is cut, open calls become records.

use std::{
    fs,
    fs::{File, OpenOptions},
};

use odock_events::{
    clock::Timestamp,
    envelope::Envelope,
    ids::EventId,
    kind::Event,
    payload::{
        account::Unit,
        budget::BudgetMode,
        lease::StatedLease,
        usage::{AccountUse, AttemptOutcome, UsageStatus},
    },
};

use super::{
    JournalError, OpenCall,
    frame::{self, Frame},
    record::Record,
    segment::{Segment, Segments},
    state::JournalState,
};

/// What was under way when the process before this one ended.
#[derive(Debug, Default)]
pub struct Recovered {
    pub next_seq: u64,
    pub leases: Vec<StatedLease>,
    /// Calls to settle as estimated.
    pub open: Vec<OpenCall>,
    /// Open calls that no longer read; their money stays held until an operator looks.
    pub unreadable: Option<String>,
    pub tail_unproven: bool,
}

impl Recovered {
    pub(crate) fn from_state(state: &JournalState, tail_unproven: bool) -> Self {
        let (open, unreadable) = match state.open_calls() {
            Ok(open) => (open, None),
            Err(reason) => (Vec::new(), Some(reason)),
        };
        Self {
            next_seq: state.next_seq,
            leases: state.stated(),
            open,
            unreadable,
            tail_unproven,
        }
    }
}

/// Folds the last segment that has a whole state record. A segment whose very head is torn was being begun when the
/// process ended: the one before it is complete, and it is removed.
pub(crate) fn read_last(segments: &Segments) -> Result<JournalState, JournalError> {
    let mut list = segments.list();
    while let Some(segment) = list.pop() {
        if let Some(state) = read_segment(&segment, segments)? {
            return Ok(state);
        }
        segments.remove(&segment.path)?;
    }
    Ok(JournalState::default())
}

fn read_segment(
    segment: &Segment,
    segments: &Segments,
) -> Result<Option<JournalState>, JournalError> {
    let path = &segment.path;
    let bytes = fs::read(path).map_err(JournalError::io(path))?;
    let mut state: Option<JournalState> = None;
    let (mut offset, mut first_seq) = (0, 0);
    loop {
        match frame::read(&bytes, offset) {
            Frame::Whole(range) => {
                let damaged = |reason: String| JournalError::Damaged {
                    path: path.clone(),
                    offset: offset as u64,
                    reason,
                };
                let payload = bytes.get(range.clone()).unwrap_or_default();
                let record = Record::parse(payload).map_err(damaged)?;
                if state.is_none() && !matches!(record, Record::State { .. }) {
                    return Err(damaged("a segment begins with its state".into()));
                }
                let current = state.get_or_insert_default();
                current.replay(record).map_err(damaged)?;
                if first_seq == 0 {
                    first_seq = current.next_seq;
                }
                offset = range.end;
            }
            Frame::End => break,
            Frame::Torn(reason) => {
                if frame::has_whole_after(&bytes, offset) {
                    return Err(JournalError::Damaged {
                        path: path.clone(),
                        offset: offset as u64,
                        reason: reason.into(),
                    });
                }
                tracing::warn!(path = %path.display(), offset, reason, "cut a torn journal tail");
                let cut = || {
                    let file = OpenOptions::new().write(true).open(path)?;
                    file.set_len(offset as u64)?;
                    file.sync_all()
                };
                cut().map_err(JournalError::io(path))?;
                break;
            }
        }
    }
    // What a killed process left is in the page cache only, and nothing is shipped before it is on disk.
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(JournalError::io(path))?;
    if let Some(state) = &state {
        segments.set_range(path, first_seq, state.next_seq - 1);
    }
    Ok(state)
}

/// The record that an interrupted call becomes: under a hard budget the whole reservation, else its last progress. A
/// mark of a call that has reserved more since it began says how much.
#[must_use]
pub fn settle_orphan(call: OpenCall, now: Timestamp) -> Envelope {
    let OpenCall { started, progress } = call;
    let (mut meta, mut usage) = (started.meta, started.usage);
    let hard = |used: &AccountUse| {
        let account = &used.account;
        account.unit == Unit::Nanos && account.mode == BudgetMode::Hard && used.reserved > 0
    };
    if let Some(progress) = progress {
        for used in &mut usage.accounts {
            let now = progress
                .reserved
                .iter()
                .find(|(account, _)| *account == used.account.id);
            used.reserved = now.map_or(used.reserved, |(_, reserved)| *reserved);
        }
        if !usage.accounts.iter().any(hard) {
            usage.tokens = progress.tokens;
            usage.cost = progress.cost;
            usage.breakdown = progress.breakdown;
        }
    }
    usage.status = UsageStatus::Interrupted;
    usage.finished_at = now;
    usage.latency_ms = u64::try_from(now.since(usage.started_at).as_millis()).unwrap_or(u64::MAX);
    if let Some(attempt) = usage.attempts.last_mut() {
        attempt.outcome = AttemptOutcome::Interrupted;
        attempt.cost_nanos = usage.cost;
    }
    meta.id = EventId::generate();
    meta.occurred_at = now;
    meta.estimated = true;
    Envelope {
        meta,
        event: Event::UsageFinished(usage),
    }
}
