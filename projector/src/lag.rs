//! How far the tables are behind the streams, said in the log every ten seconds while it is worth saying.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::{
    checkpoint::{self, MANAGEMENT},
    error::ProjectorError,
    term::Term,
};

const PERIOD: Duration = Duration::from_secs(10);
/// About a second of work: less is the normal state under load.
const WORTH_SAYING: u64 = 20_000;

pub(crate) async fn run(term: Term) -> Result<(), ProjectorError> {
    let mut database = term.connect().await?;
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = term.stop.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let mut usage_events = 0;
        for (gateway, folded) in checkpoint::usage_streams(&mut database).await? {
            let top = term
                .log
                .usage_top(term.generation, gateway)
                .await?
                .unwrap_or(folded);
            usage_events += top.saturating_sub(folded);
        }
        let folded = checkpoint::open(&mut database, MANAGEMENT, term.generation).await?;
        let top = term
            .log
            .management_top(term.generation)
            .await?
            .unwrap_or(folded);
        let commands = top.saturating_sub(folded);
        if usage_events >= WORTH_SAYING || commands >= WORTH_SAYING {
            tracing::warn!(
                lag.usage_events = usage_events,
                lag.commands = commands,
                "the tables are behind"
            );
        } else {
            tracing::debug!(
                lag.usage_events = usage_events,
                lag.commands = commands,
                "lag"
            );
        }
    }
}
