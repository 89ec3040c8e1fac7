//! A slice of a fixed window: so many of this second's or this minute's.

use odock_events::log::limits::CounterAnswer;

#[derive(Debug, Default)]
pub(super) struct Window {
    start: i64,
    /// Of the window that began at `start`.
    granted: u64,
    /// May be above `granted`: tokens are known only afterwards.
    used: u64,
    /// `used` is not what Redis was told last.
    untold: bool,
}

impl Window {
    pub(super) fn start(&self) -> i64 {
        self.start
    }

    fn is_over(&self, span: u64, now: i64) -> bool {
        now >= self.start.saturating_add(span.cast_signed())
    }

    pub(super) fn free(&self, span: u64, now: i64) -> u64 {
        if self.is_over(span, now) {
            return 0;
        }
        self.granted.saturating_sub(self.used)
    }

    pub(super) fn take(&mut self, amount: u64) -> i64 {
        self.used = self.used.saturating_add(amount);
        self.start
    }

    /// Replaces what a call had reserved by what it used. Of a window that is over nothing comes back; what went above
    /// the reservation counts in the window of now.
    pub(super) fn settle(&mut self, start: i64, reserved: u64, actual: u64) {
        let excess = actual.saturating_sub(reserved);
        self.used = self.used.saturating_add(excess);
        if self.start == start {
            self.used = self.used.saturating_sub(reserved.saturating_sub(actual));
        }
        self.untold |= excess > 0;
    }

    /// What is held of the window that is now: 0 when it is over.
    pub(super) fn held(&self, span: u64, now: i64) -> u64 {
        if self.is_over(span, now) {
            return 0;
        }
        self.granted.max(self.used)
    }

    /// Gives up what is idle beyond `keep`; true when Redis is to be told.
    pub(super) fn shrink(&mut self, span: u64, keep: u64, idle: bool, now: i64) -> bool {
        if self.is_over(span, now) {
            self.untold = false;
            return false;
        }
        let free = self.granted.saturating_sub(self.used);
        let gives = idle && free > keep;
        if gives {
            self.granted = self.used.saturating_add(keep);
        }
        gives || std::mem::take(&mut self.untold)
    }

    pub(super) fn apply(&mut self, held: u64, answer: &CounterAnswer) {
        if answer.start == self.start {
            self.granted = self.granted.max(held).saturating_add(answer.granted);
            return;
        }
        self.start = answer.start;
        self.granted = answer.granted;
        self.used = 0;
    }

    pub(super) fn is_watched(&self, span: u64, now: i64) -> bool {
        !self.is_over(span, now) && (self.untold || self.granted > self.used)
    }

    pub(super) fn end(&self, span: u64, now: i64) -> i64 {
        let span = span.max(1).cast_signed();
        if self.is_over(span.cast_unsigned(), now) {
            return now - now.rem_euclid(span) + span;
        }
        self.start + span
    }
}
