//! `POST /api/v1/status/reclaim`: calls back what gateways hold and do not use, and waits until every live one has given
//! it back.

use std::time::Duration;

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
    app::AppState, call::Call, error::ApiError, queries::gateway, reply::Reply, shape::key::NoBody,
};

const PATIENCE: Duration = Duration::from_secs(5);
/// The message may be lost, so it is sent again; a gateway answers each id once or more, which does no harm.
const SEND_AGAIN: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(20);
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
    let live = live(
        &status::presences(app)
            .await
            .map_err(ApiError::log_unavailable)?,
        app.clock.now(),
    );
    let silent = if live.is_empty() {
        Vec::new()
    } else {
        call_back(app, live).await?
    };
    Reply::ok(&ReclaimView {
        complete: silent.is_empty(),
        silent,
    })
}

/// Those of `live` that have not answered when the time is over.
async fn call_back(app: &AppState, live: Vec<GatewayId>) -> Result<Vec<GatewayId>, ApiError> {
    let reclaim_id = ReclaimId::generate();
    let ask = AskMessage::Reclaim { reclaim_id };
    let deadline = Instant::now() + PATIENCE;
    let mut send_at = Instant::now();
    let mut silent = live;
    loop {
        if Instant::now() >= send_at {
            app.log
                .send_ask(&ask)
                .await
                .map_err(ApiError::log_unavailable)?;
            send_at = Instant::now() + SEND_AGAIN;
        }
        let mut connection = app.pool.acquire().await?;
        let answered = gateway::answered(&mut connection, &silent, reclaim_id).await?;
        drop(connection);
        silent.retain(|id| !answered.contains(id));
        if silent.is_empty() || Instant::now() >= deadline {
            return Ok(silent);
        }
        sleep(LOOK).await;
    }
}

fn live(presences: &[GatewayPresence], now: Timestamp) -> Vec<GatewayId> {
    presences
        .iter()
        .filter(|presence| now.since(presence.heartbeat_at) <= LIVE)
        .map(|presence| presence.gateway_id)
        .collect()
}
