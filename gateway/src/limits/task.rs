//! The task that asks Redis for the calls that wait, tells it what came back, renews what is held, and says once a second
//! that this process is alive. Started by `startup`.

use std::{sync::Arc, time::Instant};

use futures_util::future::join_all;
use odock_events::log::{
    LogError,
    limits::{Answers, LimitStore},
};
use tokio::time::{Duration, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{
    Limits,
    book::{Question, Wakes},
    counter::Now,
};

/// Asks and beats until `stop`.
pub async fn run(limits: Arc<Limits>, store: LimitStore, process: String, stop: CancellationToken) {
    let asking = ask(&limits, &store, &process);
    let beating = beat(&limits, &store, &process);
    let both = async { tokio::join!(asking, beating) };
    stop.run_until_cancelled(both).await;
}

async fn ask(limits: &Arc<Limits>, store: &LimitStore, process: &str) {
    let mut sweeps = interval(SWEEP);
    sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut swept = 0_u32;
    loop {
        let questions = tokio::select! {
            () = limits.changed.notified() => Vec::new(),
            _ = sweeps.tick() => {
                swept = swept.wrapping_add(1);
                limits.sweep(swept.is_multiple_of(SWEEPS_A_FORGETTING))
            }
        };
        limits.put(store, process, questions).await;
        loop {
            let questions = limits.questions();
            if questions.is_empty() && !limits.wake_some() {
                break;
            }
            limits.put(store, process, questions).await;
        }
    }
}

async fn beat(limits: &Limits, store: &LimitStore, process: &str) {
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        match store.beat(process, ALIVE).await {
            Ok(live) => limits.heard(Some(live)),
            Err(error) => {
                tracing::debug!(%error, "the counters of rate limits do not answer");
                limits.heard(None);
            }
        }
    }
}

impl Limits {
    fn questions(&self) -> Vec<Question> {
        let mut book = self.open();
        let now = book.clock(Instant::now());
        book.questions(now)
    }

    fn sweep(&self, forget: bool) -> Vec<Question> {
        let mut book = self.open();
        let now = book.clock(Instant::now());
        if forget {
            book.forget(now);
        }
        if let Some(addresses) = self.addresses.as_ref().filter(|_| forget) {
            addresses.forget();
        }
        book.sweep(now)
    }

    /// Calls whose slices came by another way meanwhile. True while somebody still waits.
    fn wake_some(self: &Arc<Self>) -> bool {
        let mut book = self.open();
        let now = Now::of(book.clock(Instant::now()));
        let wakes = book.wake(now);
        let waiting = book.has_questions();
        drop(book);
        self.send(wakes);
        waiting
    }

    async fn put(self: &Arc<Self>, store: &LimitStore, process: &str, questions: Vec<Question>) {
        if questions.is_empty() {
            return;
        }
        if self.is_alone() {
            for question in &questions {
                self.answered(question, None);
            }
            return;
        }
        let all = questions.into_iter().map(|question| async move {
            let sent_at = Instant::now();
            let answer = store.ask(process, question.seq, &question.asks).await;
            (question, sent_at, answer)
        });
        for (question, sent_at, answer) in join_all(all).await {
            self.metrics.asked();
            match answer {
                Ok(answers) => self.answered(&question, Some((answers, sent_at))),
                Err(error) => self.lost(&question, &error),
            }
        }
    }

    fn answered(self: &Arc<Self>, question: &Question, answers: Option<(Answers, Instant)>) {
        let mut book = self.open();
        book.apply(
            question,
            answers
                .as_ref()
                .map(|(answers, sent_at)| (answers, *sent_at)),
        );
        let at = book.clock(Instant::now());
        // What a bucket granted counts from then, unless this process slept meanwhile.
        let granted = match answers {
            Some((answers, _)) if at - answers.clock < PATIENCE => answers.clock.min(at),
            Some(_) | None => at,
        };
        let wakes = book.wake(Now { at, granted });
        drop(book);
        self.send(wakes);
    }

    fn lost(self: &Arc<Self>, question: &Question, error: &LogError) {
        let mut book = self.open();
        if !std::mem::replace(&mut book.alone, true) {
            tracing::warn!(%error, live = book.live, "rate limits are counted alone: redis does not answer");
        }
        drop(book);
        self.metrics.counts_alone(true);
        self.answered(question, None);
    }

    fn heard(&self, live: Option<u64>) {
        let mut book = self.open();
        let alone = live.is_none();
        let changed = std::mem::replace(&mut book.alone, alone) != alone;
        book.live = live.unwrap_or(book.live).max(1);
        let live = book.live;
        drop(book);
        self.metrics.counts_alone(alone);
        if changed && alone {
            tracing::warn!(live, "rate limits are counted alone: redis does not answer");
        } else if changed {
            tracing::info!(live, "rate limits are counted together again");
        }
    }

    fn is_alone(&self) -> bool {
        self.open().alone
    }

    /// Whoever went away in this moment drops what it got, and it comes back.
    fn send(self: &Arc<Self>, wakes: Wakes) {
        for (answer, outcome) in wakes {
            drop(answer.send(self.answer(outcome)));
        }
    }
}

const SWEEP: Duration = Duration::from_millis(100);
const SWEEPS_A_FORGETTING: u32 = 100;
const BEAT: Duration = Duration::from_secs(1);
/// How long a beat counts.
const ALIVE: Duration = Duration::from_secs(3);
/// Microseconds.
const PATIENCE: i64 = 250_000;
