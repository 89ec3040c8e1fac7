//! The gateway's field among the presences: at once after each apply, and every second as a heartbeat. While a write is
//! under way further applies wait and go out together.

use std::time::Duration;

use odock_events::log::messages::GatewayPresence;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{Applied, Shared};
use crate::snapshot::cell::StalePolicy;

pub(super) async fn run(shared: &Shared, stop: &CancellationToken) {
    let mut applied = shared.applied.subscribe();
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut written_in = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = applied.changed() => {}
            _ = ticks.tick() => {}
        }
        shared.parts.vault.forget_expired();
        let Some(applied) = *applied.borrow_and_update() else {
            continue;
        };
        let presence = presence(shared, applied);
        match shared
            .parts
            .redis
            .put_presence(applied.generation, &presence)
            .await
        {
            Ok(()) => written_in = Some(applied.generation),
            Err(error) => tracing::debug!(%error, "presence was not written"),
        }
    }
    let Some(generation) = written_in else { return };
    let gateway_id = shared.parts.identity.gateway_id;
    if let Err(error) = shared
        .parts
        .redis
        .remove_presence(generation, gateway_id)
        .await
    {
        tracing::debug!(%error, "presence was not removed");
    }
}

fn presence(shared: &Shared, applied: Applied) -> GatewayPresence {
    let (cell, identity) = (&shared.parts.cell, &shared.parts.identity);
    GatewayPresence {
        gateway_id: identity.gateway_id,
        epoch: identity.epoch,
        applied_version: applied.version,
        applied_at: applied.at,
        heartbeat_at: shared.parts.clock.now(),
        closes_when_stale: cell.policy == StalePolicy::Close,
        max_stale_ms: u64::try_from(cell.max_stale.as_millis()).unwrap_or(u64::MAX),
    }
}

const PERIOD: Duration = Duration::from_secs(1);
