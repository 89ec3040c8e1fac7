//! Steady load at a modest pace, with a log of every answer.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use odock_tests::{client::Gateway, client::say, tenant::Key};
use tokio::time::{MissedTickBehavior, interval};

/// One answer.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) kind: Kind,
    pub(super) gateway: usize,
    pub(super) began: Instant,
    pub(super) took: Duration,
    /// `200`, or the status with the code; `broken` when the connection or the stream was.
    pub(super) outcome: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A soft budget, whole answers.
    Soft,
    /// A soft budget, streams.
    Stream,
    /// A hard budget, at a fee for each call.
    Hard,
}

impl Kind {
    fn period(self) -> Duration {
        Duration::from_millis(match self {
            Self::Soft | Self::Hard => 200,
            Self::Stream => 500,
        })
    }
}

/// Runs until it is told to stop; callers of a hard budget stop between calls while they are paused.
#[derive(Default)]
pub(super) struct Load {
    over: AtomicBool,
    hard_paused: AtomicBool,
    calls: Mutex<Vec<Call>>,
}

impl Load {
    pub(super) fn stop(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    pub(super) fn pause_hard(&self, paused: bool) {
        self.hard_paused.store(paused, Ordering::Relaxed);
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.clone()
    }

    pub(super) fn answered(&self, kind: Kind) -> usize {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let answered = |call: &&Call| call.kind == kind && call.outcome == "200";
        calls.iter().filter(answered).count()
    }

    /// One caller: a call each period, at the gateways in turn. A call that takes longer delays the next.
    pub(super) async fn call(&self, gateways: &[Gateway], kind: Kind, key: &Key) {
        let mut pace = interval(kind.period());
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for number in 0_usize.. {
            pace.tick().await;
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            if kind == Kind::Hard && self.hard_paused.load(Ordering::Relaxed) {
                continue;
            }
            let index = number % gateways.len().max(1);
            let Some(gateway) = gateways.get(index) else {
                return;
            };
            let began = Instant::now();
            let outcome = match kind {
                Kind::Soft => whole(gateway, key, "demo-fast").await,
                Kind::Hard => whole(gateway, key, "demo-fee").await,
                Kind::Stream => stream(gateway, key).await,
            };
            let call = Call {
                kind,
                gateway: index,
                began,
                took: began.elapsed(),
                outcome: outcome.unwrap_or_else(|error| format!("broken: {error:#}")),
            };
            let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
            calls.push(call);
        }
    }
}

async fn whole(gateway: &Gateway, key: &Key, model: &str) -> anyhow::Result<String> {
    let answer = gateway.chat(&key.secret, &say(model, "steady")).await?;
    if answer.status == 200 {
        return Ok("200".to_owned());
    }
    let body = answer.json()?;
    let code = body["error"]["code"].as_str().unwrap_or_default();
    Ok(format!("{} {code}", answer.status))
}

async fn stream(gateway: &Gateway, key: &Key) -> anyhow::Result<String> {
    let stream = gateway
        .stream(&key.secret, &say("demo-fast", "steady"))
        .await?;
    if stream.status != 200 {
        return Ok(stream.status.to_string());
    }
    let answer = stream.rest().await;
    anyhow::ensure!(answer.done && !answer.broken, "it ended too early");
    Ok("200".to_owned())
}
