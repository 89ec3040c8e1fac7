//! A slice of a bucket (GCRA): a stretch of the time at which the bucket is empty again. A call takes one step of it; a
//! step that lies behind now has drained, so that slices which lie idle never add up to more than the bucket.

use std::collections::VecDeque;

use odock_events::log::limits::CounterAnswer;

#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// Stretches as (next, end), the earliest first.
    stretches: VecDeque<(i64, i64)>,
    /// When it would be empty if this gateway were alone.
    empty_alone: i64,
}

impl Bucket {
    pub(super) fn free(&mut self, span: u64, now: i64) -> u64 {
        self.drain(span, now);
        let steps = |(next, end): &(i64, i64)| (end - next) / span.max(1).cast_signed();
        let steps: i64 = self.stretches.iter().map(steps).sum();
        u64::try_from(steps).unwrap_or(0)
    }

    fn drain(&mut self, span: u64, now: i64) {
        let span = span.max(1).cast_signed();
        while let Some((next, end)) = self.stretches.front_mut() {
            if *next < now {
                // Whole steps only: a step that has begun to drain is not a whole call any more.
                let gone = (now - *next + span - 1) / span;
                *next = next.saturating_add(gone.saturating_mul(span));
            }
            if *next + span <= *end {
                return;
            }
            self.stretches.pop_front();
        }
    }

    pub(super) fn take(&mut self, span: u64, amount: u64, now: i64) {
        for _ in 0..amount {
            self.drain(span, now);
            if let Some((next, _)) = self.stretches.front_mut() {
                *next += span.max(1).cast_signed();
            }
        }
    }

    /// Takes a stretch in; tells when there is room for the next call.
    pub(super) fn apply(&mut self, limit: u64, span: u64, answer: &CounterAnswer) -> i64 {
        let span = span.max(1).cast_signed();
        let end = answer
            .start
            .saturating_add(answer.granted.cast_signed().saturating_mul(span));
        if answer.granted > 0 {
            self.stretches.push_back((answer.start, end));
        }
        let size = limit.cast_signed().saturating_mul(span);
        end.saturating_add(span).saturating_sub(size)
    }

    pub(super) fn answer_alone(
        &mut self,
        want: u64,
        limit: u64,
        span: u64,
        now: i64,
    ) -> CounterAnswer {
        let span = span.max(1).cast_signed();
        let empty = self.empty_alone.max(now);
        let size = limit.cast_signed().saturating_mul(span);
        let room = u64::try_from((now.saturating_add(size) - empty) / span).unwrap_or(0);
        let granted = want.min(room);
        self.empty_alone = empty + granted.cast_signed() * span;
        CounterAnswer {
            start: empty,
            granted,
            left: room - granted,
        }
    }
}
