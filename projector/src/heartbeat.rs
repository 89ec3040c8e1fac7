//! Once a second: is Redis still the one that this term began with, and if so a beat for gateways and admins, from
//! which they count the age of their configuration.

use std::{sync::atomic::Ordering, time::Duration};

use odock_events::log::messages::{Beat, ControlMessage};
use tokio::time::{MissedTickBehavior, interval};

use crate::{error::ProjectorError, generation, tasks::parked, term::Term};

const PERIOD: Duration = Duration::from_secs(1);

pub(crate) async fn run(term: Term) -> Result<(), ProjectorError> {
    let mut database = term.connect().await?;
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = term.stop.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        generation::confirm(&mut database, &term).await?;
        for (gateway, generation) in parked::still_to_state(&mut database).await? {
            let message = ControlMessage::StateLeases { generation };
            term.log.send_control(gateway, &message).await?;
        }
        let live = term.live().await?;
        parked::end_stating(&mut database, &live, term.is_new()).await?;
        let beat = Beat {
            generation: term.generation,
            config_version: term.signals.relayed.load(Ordering::SeqCst),
            at: term.clock.now(),
        };
        term.log.send_beat(&beat).await?;
    }
}
