//! The script in Redis as a model, line by line as `events/src/log/limits.lua` has it. That the two agree is shown by
//! `events/tests/it/redis_scripts/limits.rs`.

use std::collections::HashMap;

use odock_events::log::limits::{Answers, CounterAnswer, CounterAsk, Rule};

/// By process: how much, and its last seq.
type Held = HashMap<usize, (u64, u64)>;

pub(super) struct Server {
    pub(super) now: i64,
    windows: HashMap<String, (i64, Held)>,
    buckets: HashMap<String, i64>,
    slots: HashMap<String, HashMap<usize, (u64, u64, i64)>>,
}

impl Server {
    pub(super) fn new(now: i64) -> Self {
        Self {
            now,
            windows: HashMap::new(),
            buckets: HashMap::new(),
            slots: HashMap::new(),
        }
    }

    pub(super) fn ask(&mut self, process: usize, seq: u64, asks: &[CounterAsk]) -> Answers {
        let counters = asks.iter().map(|ask| self.one(process, seq, ask)).collect();
        Answers {
            clock: self.now,
            counters,
        }
    }

    fn one(&mut self, process: usize, seq: u64, ask: &CounterAsk) -> CounterAnswer {
        match ask.rule {
            Rule::Window { limit, span, start } => {
                let current = self.now - self.now % span.cast_signed();
                let window = self.windows.entry(ask.key.clone()).or_default();
                if window.0 != current {
                    *window = (current, HashMap::new());
                }
                let held = if start == current { ask.held } else { 0 };
                let others = window.1.iter().filter(|(other, _)| **other != process);
                let others: u64 = others.map(|(_, (count, _))| count).sum();
                if window.1.get(&process).is_some_and(|(_, last)| *last >= seq) {
                    return answer(current, 0, 0);
                }
                let granted = ask.want.min(limit.saturating_sub(others + held));
                window.1.insert(process, (held + granted, seq));
                answer(
                    current,
                    granted,
                    limit.saturating_sub(others + held + granted),
                )
            }
            Rule::Bucket { limit, span } => {
                let (limit, span) = (limit.cast_signed(), span.cast_signed());
                let empty = self.buckets.entry(ask.key.clone()).or_default();
                *empty = (*empty).max(self.now);
                let room = u64::try_from((self.now + limit * span - *empty) / span).unwrap_or(0);
                let granted = ask.want.min(room);
                let start = *empty;
                *empty += granted.cast_signed() * span;
                answer(start, granted, room - granted)
            }
            Rule::Slots { limit, span } => {
                let now = self.now;
                let all = self.slots.entry(ask.key.clone()).or_default();
                all.retain(|_, (_, _, until)| *until > now);
                let others = all.iter().filter(|(other, _)| **other != process);
                let others: u64 = others.map(|(_, (count, ..))| count).sum();
                let granted = ask.want.min(limit.saturating_sub(others + ask.held));
                let until = now + span.cast_signed();
                all.insert(process, (ask.held + granted, seq, until));
                answer(
                    0,
                    granted,
                    limit.saturating_sub(others + ask.held + granted),
                )
            }
        }
    }
}

fn answer(start: i64, granted: u64, left: u64) -> CounterAnswer {
    CounterAnswer {
        start,
        granted,
        left,
    }
}
