//! The graceful end: every call is settled, idle money goes back, the last event says that this gateway is closed, and
//! Postgres has all of it. What is missing at the deadline stays in the journal for the next start.

use std::time::Duration;

use odock_events::{
    clock::Clock,
    codec,
    envelope::{Envelope, Meta},
    kind::Event,
    payload::gateway::GatewayClosed,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};

use super::{Shipped, UsageError};
use crate::{journal::Journal, money::Money};

/// What an end needs. Connections are drained, and the tasks of `money` have ended.
pub struct Closing<'a> {
    pub journal: &'a Journal,
    pub money: &'a Money,
    pub clock: &'a dyn Clock,
    pub shipped: watch::Receiver<Shipped>,
}

/// How an end went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Postgres has every event.
    Drained,
    /// All is on disk; so many events were not confirmed in time.
    Unconfirmed(u64),
    /// So many calls were still under way: the next start settles them, and the gateway is not closed.
    OpenCalls(usize),
}

const LOOK: Duration = Duration::from_millis(5);

impl Closing<'_> {
    pub async fn run(mut self, deadline: Duration) -> Result<Closed, UsageError> {
        let deadline = Instant::now() + deadline;
        while self.journal.open_calls() > 0 {
            if Instant::now() >= deadline {
                return Ok(Closed::OpenCalls(self.journal.open_calls()));
            }
            sleep(LOOK).await;
        }
        self.money.return_all();
        let last = self.write_closed()?;
        let reached = self.shipped.wait_for(|shipped| shipped.watermark >= last);
        let drained = matches!(timeout_at(deadline, reached).await, Ok(Ok(_)));
        self.wait_for_disk(last).await?;
        self.journal.identity().mark_clean()?;
        if drained {
            return Ok(Closed::Drained);
        }
        let watermark = self.shipped.borrow().watermark;
        Ok(Closed::Unconfirmed(last.saturating_sub(watermark)))
    }

    fn write_closed(&self) -> Result<u64, UsageError> {
        let identity = self.journal.identity();
        let closed = GatewayClosed {
            gateway_id: identity.gateway_id,
            epoch: identity.epoch,
        };
        let meta = Meta::new(identity.gateway_id.into(), 0, self.clock.now());
        let envelope = Envelope {
            meta,
            event: Event::GatewayClosed(closed),
        };
        Ok(self.journal.event(&codec::encode(&envelope)?)?)
    }

    async fn wait_for_disk(&self, last: u64) -> Result<(), UsageError> {
        let mut progressed = self.journal.progressed();
        let synced = progressed
            .wait_for(|at| at.failed || at.synced_seq >= last)
            .await;
        match synced.map(|at| at.failed) {
            Ok(false) => Ok(()),
            Ok(true) | Err(_) => Err(crate::journal::JournalError::SyncFailed.into()),
        }
    }
}
