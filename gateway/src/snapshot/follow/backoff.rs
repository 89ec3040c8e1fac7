//! Bounded waiting between attempts, cut short when the gateway stops.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    pub(super) fn new(longest: Duration) -> Self {
        Self {
            next: FIRST,
            longest,
        }
    }

    pub(super) fn reset(&mut self) {
        self.next = FIRST;
    }

    /// Waits a little longer than the last time; false when the gateway stops.
    pub(super) async fn pause(&mut self, stop: &CancellationToken) -> bool {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        stop.run_until_cancelled(tokio::time::sleep(pause))
            .await
            .is_some()
    }
}

const FIRST: Duration = Duration::from_millis(50);
