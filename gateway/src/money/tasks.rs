//! What runs beside the calls: asks go out, the grant task's messages come in, who waited too long is refused, idle
//! leases go back, the next windows are fetched early.

use std::{sync::Arc, time::Duration};

use odock_events::{
    clock::Timestamp,
    log::{
        messages::{Ask, AskMessage},
        redis::RedisLog,
    },
    payload::{
        account::{AccountId, AccountSpec},
        budget::Owner,
    },
};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Asks, Money, control};

/// The account of the same rule and subject in the window that a moment lies in, as the configuration is now.
pub type NextWindow =
    dyn Fn(AccountId, Option<&Owner>, Timestamp) -> Option<AccountSpec> + Send + Sync;

/// What the purse is connected to.
#[derive(Clone)]
pub struct MoneyLinks {
    pub log: RedisLog,
    pub redis_url: String,
    pub next_window: Arc<NextWindow>,
}

/// While somebody waits, the purse looks at the time this often.
const TICK: Duration = Duration::from_millis(5);
const SWEEP: Duration = Duration::from_secs(1);
/// After asks, all totals are asked for this often: an answer may have been lost, and nobody may wait for it any more.
const TOTALS_EACH_SECONDS: u32 = 5;
/// For this long after an ask its answer may be missing.
pub(super) const ANSWERS_MATTER: Duration = Duration::from_secs(15);
/// The next window is asked for this long before it begins.
pub(super) const PREFETCH: Duration = Duration::from_secs(10);

impl Money {
    /// Starts the tasks. They end when `stop` is cancelled: after the last call, before `gateway.closed`.
    pub fn spawn(
        self: &Arc<Self>,
        asks: Asks,
        links: MoneyLinks,
        tracker: &TaskTracker,
        stop: &CancellationToken,
    ) {
        let spawn = |task: Box<dyn Future<Output = ()> + Send>| {
            let (task, stop) = (Box::into_pin(task), stop.clone());
            tracker.spawn(async move { stop.run_until_cancelled(task).await });
        };
        spawn(Box::new(send_asks(
            Arc::clone(self),
            asks,
            links.log.clone(),
        )));
        spawn(Box::new(tick(Arc::clone(self))));
        spawn(Box::new(sweep(Arc::clone(self), links.clone())));
        spawn(Box::new(take_left(Arc::clone(self))));
        spawn(Box::new(control::follow(Arc::clone(self), links)));
    }
}

async fn send_asks(money: Arc<Money>, mut asks: Asks, log: RedisLog) {
    while let Some(accounts) = asks.0.recv().await {
        let ask = Ask {
            gateway_id: money.gateway_id,
            accounts,
        };
        // Whoever still waits asks again in 30 ms.
        if let Err(error) = log.send_ask(&AskMessage::Ask(ask)).await {
            tracing::debug!(%error, "ask not sent");
        }
    }
}

async fn tick(money: Arc<Money>) {
    loop {
        money.waiting.notified().await;
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if !money.tick() {
                break;
            }
        }
    }
}

async fn sweep(money: Arc<Money>, links: MoneyLinks) {
    let mut seconds = interval(SWEEP);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seconds_since_totals = 0;
    loop {
        seconds.tick().await;
        money.sweep(&*links.next_window);
        seconds_since_totals += 1;
        if seconds_since_totals >= TOTALS_EACH_SECONDS && money.has_asked_lately() {
            seconds_since_totals = 0;
            let gateway_id = money.gateway_id;
            // Lost as well: the next ones come in a few seconds.
            let ask = AskMessage::Totals { gateway_id };
            if let Err(error) = links.log.send_ask(&ask).await {
                tracing::debug!(%error, "totals not asked for");
            }
        }
    }
}

async fn take_left(money: Arc<Money>) {
    loop {
        money.mailbox.posted().await;
        money.take_left(money.mailbox.take());
    }
}
