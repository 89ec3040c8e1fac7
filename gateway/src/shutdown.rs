//! How the gateway stops: no new calls, running ones drain, at the deadline streams are cut with a last frame, then
//! what is left is dropped. Every task the gateway spawns is tracked here.

use std::time::Duration;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// No new connections and calls.
    pub stop: CancellationToken,
    /// Streams end with an error frame.
    pub cut: CancellationToken,
    /// Connections are dropped as they are.
    pub kill: CancellationToken,
    /// Connections and the tasks behind them.
    pub tracker: TaskTracker,
}

impl Shutdown {
    /// A shutdown that begins when `stop` is cancelled.
    #[must_use]
    pub fn new(stop: CancellationToken) -> Self {
        Self {
            stop,
            ..Self::default()
        }
    }

    /// Waits until every tracked task has ended, at most `grace` and the little that cutting takes.
    pub async fn drain(&self, grace: Duration) {
        self.stop.cancel();
        self.tracker.close();
        for (token, patience) in [(&self.cut, grace), (&self.kill, LAST_FRAME)] {
            if tokio::time::timeout(patience, self.tracker.wait())
                .await
                .is_ok()
            {
                return;
            }
            tracing::warn!(
                tasks = self.tracker.len(),
                "calls still run at the shutdown deadline"
            );
            token.cancel();
        }
        let _ = tokio::time::timeout(LAST_FRAME, self.tracker.wait()).await;
    }
}

/// How long a last frame may take to reach a client.
const LAST_FRAME: Duration = Duration::from_secs(1);

/// Spawns what HTTP/2 connections and the upstream pool need, tracked.
#[derive(Clone, Debug)]
pub(crate) struct TrackedExecutor(pub(crate) TaskTracker);

impl<F> hyper::rt::Executor<F> for TrackedExecutor
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_does_not_end_by_itself_is_cut_and_then_dropped() {
        let shutdown = Shutdown::default();
        let (cut, kill) = (shutdown.cut.clone(), shutdown.kill.clone());
        shutdown.tracker.spawn(async move {
            cut.cancelled().await;
            kill.cancelled().await;
        });
        shutdown.drain(Duration::from_millis(20)).await;
        assert!(shutdown.kill.is_cancelled());
        assert!(shutdown.tracker.is_empty());
    }

    #[tokio::test]
    async fn what_ends_in_time_is_not_cut() {
        let shutdown = Shutdown::default();
        let stop = shutdown.stop.clone();
        shutdown
            .tracker
            .spawn(async move { stop.cancelled().await });
        shutdown.drain(Duration::from_secs(30)).await;
        assert!(!shutdown.cut.is_cancelled());
    }
}
