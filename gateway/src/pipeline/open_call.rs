//! A call between its `started` and its `finished`: whoever holds it must finish it, and a holder that is dropped hands
//! it to the closer. Held by `pipeline` while a call waits for its upstream, by `response::stream` while it streams.

use std::sync::Arc;

use odock_events::{
    clock::{Clock, Timestamp},
    codec,
    envelope::Envelope,
    kind::Event,
    payload::usage::{AttemptOutcome, UsageStatus},
    units::NanoUsd,
};
use tokio::sync::mpsc::OwnedPermit;

use super::record::{CallRecord, Ending, Produced, settlements, taken};
use crate::{
    journal::{Journal, JournalError, Started},
    limits::{Limits, receipt::Receipts},
    money::{Money, Reservation},
    telemetry::{metrics::Metrics, traces::record_span},
};

/// Where calls are written down and money is settled.
pub struct Books {
    pub journal: Journal,
    pub money: Arc<Money>,
    pub limits: Arc<Limits>,
    pub metrics: Arc<Metrics>,
    pub clock: Arc<dyn Clock>,
}

/// What the closer still has to do.
pub(crate) enum Unfinished {
    /// The caller went away.
    Abandoned(Box<CallRecord>),
    /// It ended, and the journal did not take it.
    Unwritten(Box<Started>),
}

pub(crate) struct OpenCall {
    /// `None` once it is finished.
    record: Option<Box<CallRecord>>,
    books: Arc<Books>,
    /// A place in the closer's queue, taken before the call began: dropping never waits and never fails.
    place: Option<OwnedPermit<Unfinished>>,
    /// Of the whole request: open until the call has its record.
    span: tracing::Span,
}

impl OpenCall {
    /// A call whose `started` is in the journal.
    pub(crate) fn new(
        record: Box<CallRecord>,
        books: Arc<Books>,
        place: OwnedPermit<Unfinished>,
    ) -> Self {
        Self {
            record: Some(record),
            books,
            place: Some(place),
            span: tracing::Span::none(),
        }
    }

    /// Its record is made within this span.
    pub(crate) fn trace_in(&mut self, request: tracing::Span) {
        self.span = request;
    }

    /// The first byte of the upstream's answer is here.
    pub(crate) fn answered(&mut self) {
        let now = self.books.clock.now();
        if let Some(record) = &mut self.record {
            record.first_byte_at = Some(now);
        }
    }

    /// What there is so far.
    pub(crate) fn produced(&mut self, produced: Produced) {
        if let Some(record) = &mut self.record {
            record.so_far = produced;
        }
    }

    /// Writes what there is so far to the journal, for the case that the gateway dies.
    pub(crate) fn mark(&self) {
        let Some(record) = &self.record else { return };
        if let Err(error) = self.books.journal.progress(&record.progress()) {
            tracing::warn!(%error, "progress mark not written");
        }
    }

    /// What it holds of limits.
    pub(crate) fn limits(&self) -> Option<&Receipts> {
        self.record.as_ref().map(|record| &record.limits)
    }

    /// The call has reserved more. It counts once it is in the journal; what the journal does not take is released.
    pub(crate) fn top_up(&mut self, more: Reservation) -> Result<(), JournalError> {
        let Some(record) = &mut self.record else {
            return Ok(());
        };
        record.reserve_more(more.uses());
        if let Err(error) = self.books.journal.progress(&record.progress()) {
            record.reserve_less(more.uses());
            return Err(error);
        }
        more.keep();
        Ok(())
    }

    /// The time by the clock of its records.
    pub(crate) fn now(&self) -> Timestamp {
        self.books.clock.now()
    }

    /// Where its money comes from.
    pub(crate) fn money(&self) -> &Arc<Money> {
        &self.books.money
    }

    /// What it costs with this outcome, before it is finished.
    pub(crate) fn cost(&self, produced: Produced) -> NanoUsd {
        self.record
            .as_ref()
            .map_or(NanoUsd::ZERO, |record| record.price(produced).1.total)
    }

    /// Ends the call: journal, money, metrics.
    pub(crate) fn finish(mut self, ending: Ending) {
        let (Some(record), Some(place)) = (self.record.take(), self.place.take()) else {
            return;
        };
        let _recording = record_span(&self.span).entered();
        let limits = record.limits.clone();
        let done = record.conclude(ending, self.books.clock.now());
        settle(&limits, &done);
        if let Err(done) = self.books.write(done) {
            place.send(Unfinished::Unwritten(done));
        }
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        if let (Some(record), Some(place)) = (self.record.take(), self.place.take()) {
            place.send(Unfinished::Abandoned(record));
        }
    }
}

impl Books {
    /// Writes a finished call and settles it. Gives the call back when the journal does not take it: its money stays
    /// reserved until it does.
    pub(crate) fn write(&self, done: Started) -> Result<(), Box<Started>> {
        let Started { meta, usage } = done;
        let settled = settlements(&usage);
        let usage_id = usage.usage_id;
        let envelope = Envelope {
            meta,
            event: Event::UsageFinished(usage),
        };
        let written = codec::encode(&envelope)
            .map_err(|error| error.to_string())
            .and_then(|bytes| {
                let written = self.journal.finished(usage_id, &bytes, &settled);
                written.map_err(|error| error.to_string())
            });
        let Event::UsageFinished(usage) = envelope.event else {
            return Ok(());
        };
        if let Err(error) = written {
            tracing::error!(error, %usage_id, "finished call not written to the journal");
            return Err(Box::new(Started {
                meta: envelope.meta,
                usage,
            }));
        }
        self.money.settle(&taken(&usage));
        self.metrics.used_tokens(&usage.tokens);
        Ok(())
    }

    /// Ends a call whose caller went away.
    pub(crate) fn close(&self, record: CallRecord) -> Result<(), Box<Started>> {
        let ending = Ending {
            status: UsageStatus::ClientClosed,
            outcome: AttemptOutcome::ClientClosed,
            upstream_status: None,
            http_status: CLIENT_CLOSED,
            produced: record.so_far,
            provider_request_id: None,
        };
        let limits = record.limits.clone();
        let done = record.conclude(ending, self.clock.now());
        settle(&limits, &done);
        self.write(done)
    }
}

/// Its slots are free and its tokens are what they were, whether or not the journal takes its record.
fn settle(limits: &Receipts, done: &Started) {
    limits.settle(done.usage.tokens.total());
}

/// As others log it: the caller closed before there was an answer.
const CLIENT_CLOSED: u16 = 499;
