//! What CONTRACT.md 5 and DESIGN.md 15 promise when processes are killed and stores go away. Each test ends with the
//! ledger of the demo provider held against the usage records, call by call.

mod gateways;
mod hangups;
mod offline;
mod shutdown;
mod stores;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use odock_tests::{Stack, client::say, tenant::Key};

/// Steady mixed load, until it is told to stop. Refusals and broken connections are part of it; what counts is what the
/// two ledgers say.
pub(crate) struct Load {
    over: AtomicBool,
    answered: AtomicU32,
}

impl Load {
    pub(crate) fn new() -> Self {
        Self {
            over: AtomicBool::new(false),
            answered: AtomicU32::new(0),
        }
    }

    pub(crate) fn stop(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Calls answered with 200 so far.
    pub(crate) fn answered(&self) -> u32 {
        self.answered.load(Ordering::Relaxed)
    }

    /// One caller: two whole answers, then a stream. The keys take turns: one whose budget cannot be asked for more
    /// is refused while another goes on.
    pub(crate) async fn call_on(
        &self,
        stack: &Stack,
        keys: &[&Key],
        caller: usize,
    ) -> anyhow::Result<()> {
        let gateways = stack.gateways();
        let mut round = caller;
        while !self.over.load(Ordering::Relaxed) {
            let gateway = stack.gateway(round % gateways.len())?;
            let Some(key) = keys.get(round / 3 % keys.len()) else {
                return Ok(());
            };
            let answered = if round.is_multiple_of(3) {
                match gateway
                    .stream(&key.secret, &say("demo-fast", "under load"))
                    .await
                {
                    Ok(stream) if stream.status == 200 => stream.rest().await.done,
                    Ok(_) | Err(_) => false,
                }
            } else {
                let answer = gateway
                    .chat(&key.secret, &say("demo-fast", "under load"))
                    .await;
                answer.is_ok_and(|answer| answer.status == 200)
            };
            if answered {
                self.answered.fetch_add(1, Ordering::Relaxed);
            } else {
                tokio::task::yield_now().await;
            }
            round += 1;
        }
        Ok(())
    }
}
