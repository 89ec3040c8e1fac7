//! The counters of rate limits in Redis: what a gateway asks of them and what they answer, by one script on Redis' own
//! clock. Nothing here is a stream, and nothing of it is lost that matters beyond a window.

use std::time::Duration;

use redis::Script;

use super::{LogError, connection::Connection};

/// The counters' client. Cloned handles share one connection, which comes back by itself.
#[derive(Clone)]
pub struct LimitStore {
    connection: Connection,
    script: Script,
    beat: Script,
}

/// How a counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// So much in each window; `start` is the window that what is held belongs to.
    Window { limit: u64, span: u64, start: i64 },
    /// So much at once, one more each `span`.
    Bucket { limit: u64, span: u64 },
    /// So many at a time; what is not renewed within `span` is given to others.
    Slots { limit: u64, span: u64 },
}

/// One counter of a question. Spans are microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterAsk {
    pub key: String,
    pub rule: Rule,
    /// All that this process holds or has used, not what it wants beside it.
    pub held: u64,
    pub want: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterAnswer {
    /// The window's start, or where the granted stretch of a bucket begins, in microseconds of Redis' clock.
    pub start: i64,
    pub granted: u64,
    /// What anybody could still take.
    pub left: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    /// Redis' clock in microseconds.
    pub clock: i64,
    pub counters: Vec<CounterAnswer>,
}

impl LimitStore {
    /// Connects when it is first used. Needs a runtime.
    pub fn new(url: &str, deadline: Duration) -> Result<Self, LogError> {
        Ok(Self {
            connection: Connection::new(url, deadline)?,
            script: Script::new(include_str!("limits.lua")),
            beat: Script::new(include_str!("limits_beat.lua")),
        })
    }

    /// Asks counters whose keys share a hash tag. `seq` rises with each question of a process.
    pub async fn ask(
        &self,
        process: &str,
        seq: u64,
        asks: &[CounterAsk],
    ) -> Result<Answers, LogError> {
        let mut call = self.script.prepare_invoke();
        for ask in asks {
            call.key(&ask.key);
        }
        call.arg(process).arg(seq);
        for ask in asks {
            let (kind, limit, span, start) = match ask.rule {
                Rule::Window { limit, span, start } => ("window", limit, span, start),
                Rule::Bucket { limit, span } => ("bucket", limit, span, 0),
                Rule::Slots { limit, span } => ("slots", limit, span, 0),
            };
            call.arg(kind).arg(limit).arg(span);
            call.arg(ask.held).arg(ask.want).arg(start);
        }
        let reply: Vec<i64> = call.invoke_async(&mut self.connection.clone()).await?;
        answers(&reply, asks.len())
            .ok_or_else(|| LogError::Answer(format!("{} numbers", reply.len())))
    }

    /// Says that a process is alive; answers how many are. A beat counts for `lasts`.
    pub async fn beat(&self, process: &str, lasts: Duration) -> Result<u64, LogError> {
        let lasts = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX);
        let mut call = self.beat.key(LIVING);
        let alive = call.arg(process).arg(lasts);
        Ok(alive.invoke_async(&mut self.connection.clone()).await?)
    }
}

fn answers(reply: &[i64], asked: usize) -> Option<Answers> {
    let (clock, rest) = reply.split_first()?;
    let counters: Vec<CounterAnswer> = rest
        .chunks_exact(3)
        .filter_map(|counter| match counter {
            [start, granted, left] => Some(CounterAnswer {
                start: *start,
                granted: u64::try_from(*granted).ok()?,
                left: u64::try_from(*left).ok()?,
            }),
            _ => None,
        })
        .collect();
    (counters.len() == asked).then_some(Answers {
        clock: *clock,
        counters,
    })
}

/// The processes that count.
const LIVING: &str = "{l}:living";
