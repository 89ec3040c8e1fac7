//! `POST /api/v1/status/reclaim`: calls back what gateways hold and do not use, and waits until every live one has given
//! it back.

use std::{collections::BTreeSet, time::Duration};

use odock_events::{
    clock::Timestamp,
    ids::{GatewayId, ReclaimId},
    log::messages::{AskMessage, GatewayPresence},
};
use serde::Serialize;
use tokio::time::{Instant, sleep};
use utoipa::ToSchema;

use super::status;
use crate::{
    app::AppState,
    call::Call,
    error::ApiError,
    queries::gateway::{self, OpenGateway},
    reply::Reply,
    shape::key::NoBody,
};

const PATIENCE: Duration = Duration::from_secs(5);
/// The message may be lost, so it is sent again; a gateway answers each id once or more, which does no harm.
const SEND_AGAIN: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(20);
/// How long a gateway that is open but silent may take to show that it lives; heartbeats come each second.
const GRACE: Duration = Duration::from_secs(2);
/// A gateway without a heartbeat for longer is not live.
const LIVE: Duration = Duration::from_secs(3);

#[derive(Serialize, ToSchema)]
pub(crate) struct ReclaimView {
    complete: bool,
    #[schema(value_type = Vec<String>)]
    silent: Vec<GatewayId>,
}

pub(crate) async fn reclaim(call: Call) -> Result<Reply, ApiError> {
    call.json::<NoBody>()?;
    let app = &call.app;
    let _one = app.reclaims.acquire().await.map_err(ApiError::internal)?;
    let silent = call_back(app).await?;
    Reply::ok(&ReclaimView {
        complete: silent.is_empty(),
        silent,
    })
}

/// Those that have not answered when the time is over.
async fn call_back(app: &AppState) -> Result<Vec<GatewayId>, ApiError> {
    let reclaim_id = ReclaimId::generate();
    let ask = AskMessage::Reclaim { reclaim_id };
    let began = Instant::now();
    let mut send_at = began;
    loop {
        if Instant::now() >= send_at {
            let sent = app.log.send_ask(&ask).await;
            sent.map_err(ApiError::log_unavailable)?;
            send_at = Instant::now() + SEND_AGAIN;
        }
        let presences = status::presences(app).await;
        let presences = presences.map_err(ApiError::log_unavailable)?;
        let mut connection = app.pool.acquire().await?;
        let open = gateway::open(&mut connection).await?;
        let in_grace = began.elapsed() < GRACE;
        let mut silent = expected(&open, &presences, app.clock.now(), in_grace);
        let answered = gateway::answered(&mut connection, &silent, reclaim_id).await?;
        drop(connection);
        silent.retain(|id| !answered.contains(id));
        if silent.is_empty() || began.elapsed() >= PATIENCE {
            return Ok(silent);
        }
        sleep(LOOK).await;
    }
}

/// Whose answer is waited for: the live ones, and in the beginning also open ones that are silent, as a Redis that has
/// just come back knows nobody yet.
fn expected(
    open: &[OpenGateway],
    presences: &[GatewayPresence],
    now: Timestamp,
    in_grace: bool,
) -> Vec<GatewayId> {
    let live = presences
        .iter()
        .filter(|presence| now.since(presence.heartbeat_at) <= LIVE)
        .map(|presence| presence.gateway_id);
    let silent = open.iter().filter(|_| in_grace).map(|gateway| gateway.id);
    live.chain(silent)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_gateway_is_waited_for_only_at_first() {
        let now = Timestamp(1_000_000_000_000);
        let (live, dead) = (GatewayId::generate(), GatewayId::generate());
        let presence = |id, age: u64| GatewayPresence {
            gateway_id: id,
            epoch: 1,
            applied_version: 1,
            applied_at: now,
            heartbeat_at: Timestamp(now.0 - age as i64 * 1_000_000),
            closes_when_stale: false,
            max_stale_ms: 60_000,
        };
        let open = [
            OpenGateway { id: live, epoch: 1 },
            OpenGateway { id: dead, epoch: 1 },
        ];
        let told = [presence(live, 1), presence(dead, 4)];
        assert_eq!(expected(&open, &told, now, false), [live]);
        assert_eq!(expected(&open, &told, now, true), [live, dead]);
        assert_eq!(expected(&open, &[], now, true).len(), 2);
        assert_eq!(expected(&[], &told, now, false), [live]);
    }
}
