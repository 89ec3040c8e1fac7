//! One counter as this gateway sees it: the slice it has of it, and what of that is used. Pure; times are microseconds
//! of Redis' clock as far as this process knows it, never less than it really is.

use odock_events::log::limits::{CounterAnswer, CounterAsk, Rule};

use super::scope::{LimitKind, Need};

mod bucket;
mod slots;
mod window;

use self::{bucket::Bucket, slots::Slots, window::Window};

/// Whether a need can be met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peek {
    /// From the slice at hand.
    Free,
    /// Nobody knows before Redis is asked.
    Unknown,
    /// Not now. `retry_at`: when it may; `None`: never, it is more than the limit.
    Exhausted { retry_at: Option<i64> },
}

/// What was taken, to give it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Nothing of it comes back.
    Spent,
    Tokens {
        start: i64,
        amount: u64,
    },
    Slot(SlotId),
}

/// When a slot ends at the latest, and its number.
pub(super) type SlotId = (i64, u64);

#[derive(Debug)]
pub(super) struct Counter {
    pub(super) key: String,
    kind: LimitKind,
    state: State,
    /// As the policy had it last.
    limit: u64,
    span: u64,
    /// Redis had less than was wanted; until then it is not asked again.
    exhausted_until: i64,
    retry_at: i64,
    /// What Redis had left when it answered last.
    left: u64,
    /// Taken since it was asked last, when that was, and how much was asked for ahead of need.
    taken: u64,
    asked_at: i64,
    ahead: u64,
    used_at: i64,
}

#[derive(Debug)]
enum State {
    Window(Window),
    Bucket(Bucket),
    Slots(Slots),
}

/// What time it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    pub(super) at: i64,
    /// When what is taken from a bucket counts: for calls that waited, when Redis granted it.
    pub(super) granted: i64,
}

impl Now {
    pub(super) fn of(at: i64) -> Self {
        Self { at, granted: at }
    }
}

impl Counter {
    pub(super) fn new(need: &Need, now: i64) -> Self {
        let kind = need.counter.limit;
        let state = match kind {
            LimitKind::Concurrency => State::Slots(Slots::default()),
            LimitKind::Burst => State::Bucket(Bucket::default()),
            LimitKind::PerSecond
            | LimitKind::PerMinute
            | LimitKind::TokensPerMinute
            | LimitKind::Ip
            | LimitKind::RequestBytes
            | LimitKind::MaxTokens => State::Window(Window::default()),
        };
        Self {
            key: need.counter.key(),
            kind,
            state,
            limit: need.limit,
            span: need.span.max(1),
            exhausted_until: 0,
            retry_at: 0,
            left: 0,
            taken: 0,
            asked_at: 0,
            ahead: 0,
            used_at: now,
        }
    }

    /// Looks at it before anything is taken.
    pub(super) fn peek(&mut self, need: &Need, now: Now) -> Peek {
        if need.amount > need.limit {
            return Peek::Exhausted { retry_at: None };
        }
        // A changed limit is asked about at once.
        if (self.limit, self.span) != (need.limit, need.span) {
            (self.limit, self.span) = (need.limit, need.span.max(1));
            self.exhausted_until = 0;
        }
        if self.free(now) >= need.amount {
            Peek::Free
        } else if now.at < self.exhausted_until {
            let retry_at = Some(self.retry_at);
            Peek::Exhausted { retry_at }
        } else {
            Peek::Unknown
        }
    }

    /// What of the slice is not used.
    pub(super) fn free(&mut self, now: Now) -> u64 {
        match &mut self.state {
            State::Window(window) => window.free(self.span, now.at),
            State::Bucket(bucket) => bucket.free(self.span, now.granted),
            State::Slots(slots) => slots.free(now.at),
        }
    }

    /// Takes what `peek` found free.
    pub(super) fn take(&mut self, amount: u64, now: Now) -> Taken {
        self.taken = self.taken.saturating_add(amount);
        self.used_at = now.at;
        match &mut self.state {
            State::Window(window) => {
                let start = window.take(amount);
                if self.kind == LimitKind::TokensPerMinute {
                    Taken::Tokens { start, amount }
                } else {
                    Taken::Spent
                }
            }
            State::Bucket(bucket) => {
                bucket.take(self.span, amount, now.granted);
                Taken::Spent
            }
            State::Slots(slots) => Taken::Slot(slots.take(self.span, now.at)),
        }
    }

    /// The other end of `take`. Tokens are `actual` in the end; `None`: the call used nothing.
    pub(super) fn give_back(&mut self, taken: Taken, actual: Option<u64>) {
        match (&mut self.state, taken) {
            (State::Window(window), Taken::Tokens { start, amount }) => {
                window.settle(start, amount, actual.unwrap_or(0));
                // What came back may be enough for the next one.
                self.exhausted_until = 0;
            }
            (State::Slots(slots), Taken::Slot(slot)) => slots.give_back(slot),
            (State::Window(_) | State::Bucket(_) | State::Slots(_), _) => {}
        }
    }

    /// Whether a slot is still this gateway's.
    pub(super) fn holds(&self, slot: SlotId, now: i64) -> bool {
        match &self.state {
            State::Slots(slots) => slots.holds(slot, now),
            State::Window(_) | State::Bucket(_) => true,
        }
    }

    /// What anybody could still take, as far as is known.
    pub(super) fn remaining(&mut self, now: Now) -> u64 {
        self.left.saturating_add(self.free(now)).min(self.limit)
    }

    /// When its window ends.
    pub(super) fn resets_at(&self, now: i64) -> i64 {
        match &self.state {
            State::Window(window) => window.end(self.span, now),
            State::Bucket(_) | State::Slots(_) => now,
        }
    }

    /// How much may lie idle here: nothing of a small limit, so that none of it is idle while another gateway refuses.
    fn allowance(&self, live: u64) -> u64 {
        self.limit / SHARE_OF_A_SLICE.saturating_mul(live.max(1))
    }

    /// A busy counter is asked again before its slice is used up.
    pub(super) fn wants_refill(&mut self, live: u64, now: Now) -> bool {
        let allowance = self.allowance(live);
        allowance > 0
            && self.taken > 0
            && now.at >= self.exhausted_until
            && self.free(now) < allowance / 2
    }

    /// The question: what is held, and what is wanted for those who wait and for the next moment.
    pub(super) fn ask(&mut self, waiting: u64, live: u64, now: Now) -> CounterAsk {
        let free = self.free(now);
        // Twice as much each time, as long as it is used up at once.
        let busy = now.at - self.asked_at < IDLE;
        let ahead = self
            .ahead
            .max(self.taken)
            .saturating_mul(1 + u64::from(busy));
        self.ahead = ahead.min(self.allowance(live));
        let want = waiting.saturating_add(self.ahead).saturating_sub(free);
        (self.taken, self.asked_at) = (0, now.at);
        self.statement(want, now.at)
    }

    /// What is held, and no more is wanted: what lay idle goes back. `None`: there is nothing to say.
    pub(super) fn sweep(&mut self, live: u64, now: i64) -> Option<CounterAsk> {
        let idle = now - self.used_at > IDLE;
        let keep = if idle { 0 } else { self.allowance(live) };
        let due = match &mut self.state {
            State::Window(window) => window.shrink(self.span, keep, idle, now),
            State::Bucket(_) => false,
            State::Slots(slots) => slots.shrink(keep, self.span.min(LEASE), now),
        };
        due.then(|| self.statement(0, now))
    }

    fn statement(&self, want: u64, now: i64) -> CounterAsk {
        let (limit, span) = (self.limit, self.span);
        let (rule, held) = match &self.state {
            State::Window(window) => {
                let start = window.start();
                (Rule::Window { limit, span, start }, window.held(span, now))
            }
            State::Bucket(_) => (Rule::Bucket { limit, span }, 0),
            State::Slots(slots) => {
                let span = span.min(LEASE);
                (Rule::Slots { limit, span }, slots.held(now))
            }
        };
        CounterAsk {
            key: self.key.clone(),
            rule,
            held,
            want,
        }
    }

    /// Takes Redis' answer in. `clock` is Redis' time when it answered.
    pub(super) fn apply(&mut self, ask: &CounterAsk, answer: &CounterAnswer, clock: i64) {
        self.left = answer.left;
        let (soon, retry_at) = match (&mut self.state, ask.rule) {
            (State::Window(window), Rule::Window { span, .. }) => {
                window.apply(ask.held, answer);
                let end = answer.start.saturating_add(span.cast_signed());
                (end.min(clock + ASK_AGAIN), end)
            }
            (State::Bucket(bucket), Rule::Bucket { limit, span }) => {
                let next = bucket.apply(limit, span, answer);
                (next.min(clock + ASK_AGAIN), next)
            }
            (State::Slots(slots), Rule::Slots { span, .. }) => {
                slots.apply(ask.held, answer.granted, clock, span);
                (clock + ASK_FOR_A_SLOT, clock + SECOND)
            }
            (State::Window(_) | State::Bucket(_) | State::Slots(_), _) => return,
        };
        if answer.granted < ask.want {
            (self.exhausted_until, self.retry_at) = (soon, retry_at);
        }
    }

    /// What Redis would say to this gateway if it were alone with its share of the limit.
    pub(super) fn answer_alone(&mut self, ask: &CounterAsk, live: u64, now: i64) -> CounterAnswer {
        let share = |limit: u64| (limit / live.max(1)).max(limit.min(1));
        let (start, limit, held) = match (&mut self.state, ask.rule) {
            (_, Rule::Window { limit, span, start }) => {
                let current = now - now.rem_euclid(span.max(1).cast_signed());
                let held = if start == current { ask.held } else { 0 };
                (current, share(limit), held)
            }
            (State::Bucket(bucket), Rule::Bucket { limit, span }) => {
                let span = span.saturating_mul(live.max(1));
                return bucket.answer_alone(ask.want, share(limit), span, now);
            }
            (_, Rule::Bucket { limit, .. }) => (now, share(limit), 0),
            (_, Rule::Slots { limit, .. }) => (0, share(limit), ask.held),
        };
        let granted = ask.want.min(limit.saturating_sub(held));
        CounterAnswer {
            start,
            granted,
            left: limit.saturating_sub(held.saturating_add(granted)),
        }
    }

    /// Nothing of it is held and nobody asked for long: it can be forgotten.
    pub(super) fn is_over(&self, now: i64) -> bool {
        let held = match &self.state {
            State::Window(_) | State::Bucket(_) => false,
            State::Slots(slots) => slots.in_use(now) > 0,
        };
        !held && now - self.used_at > FORGOTTEN_AFTER
    }

    /// Whether it has to be looked at again soon: something idle may go back, slots are renewed.
    pub(super) fn is_watched(&mut self, now: i64) -> bool {
        match &self.state {
            State::Window(window) => window.is_watched(self.span, now),
            State::Bucket(_) => false,
            State::Slots(slots) => slots.held(now) > 0,
        }
    }
}

const SECOND: i64 = 1_000_000;
/// How long a gateway's slots last without a renewal, in microseconds.
pub(super) const LEASE: u64 = 3_000_000;
/// A gateway keeps at most a fiftieth of its share idle.
const SHARE_OF_A_SLICE: u64 = 50;
const ASK_AGAIN: i64 = 50_000;
const ASK_FOR_A_SLOT: i64 = 10_000;
const IDLE: i64 = 100_000;
const FORGOTTEN_AFTER: i64 = 120 * SECOND;
