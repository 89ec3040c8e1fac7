//! `/api/v1/status`: how far everybody is.

use std::{collections::BTreeMap, time::Duration};

use odock_events::{
    clock::Timestamp,
    codec::Entry,
    ids::GatewayId,
    log::{LogError, keys::Plane, messages::GatewayPresence, reader::StreamReader},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{app::AppState, call::Call, error::ApiError, queries::status, reply::Reply};

#[derive(Serialize, ToSchema)]
pub(crate) struct StatusView {
    r#gen: u64,
    head_position: u64,
    config_version: u64,
    lag: LagView,
    gateways: Vec<StatusGateway>,
    projectors: Vec<StatusProjector>,
}

/// Null: Redis does not tell.
#[derive(Serialize, ToSchema)]
pub(crate) struct LagView {
    /// The age of the oldest command that is not folded.
    management_ms: Option<u64>,
    /// Events in the usage streams that are not folded.
    usage_events: Option<u64>,
}

#[derive(Serialize, ToSchema)]
struct StatusGateway {
    #[schema(value_type = String)]
    gateway_id: GatewayId,
    epoch: u64,
    applied_version: u64,
    #[schema(value_type = String)]
    heartbeat_at: Timestamp,
}

#[derive(Serialize, ToSchema)]
struct StatusProjector {
    id: String,
    active: bool,
}

pub(crate) async fn get(call: Call) -> Result<Reply, ApiError> {
    let app = &call.app;
    let mut connection = app.pool.acquire().await?;
    let heads = status::heads(&mut connection).await?;
    let management = status::management_checkpoint(&mut connection).await?;
    let usage = status::usage_checkpoints(&mut connection).await?;
    let projectors = status::projectors(&mut connection).await?;
    drop(connection);
    let management_ms = management_lag(app, management, call.now).await.ok();
    let usage_events = usage_lag(app, usage.into_iter().collect()).await.ok();
    let mut gateways: Vec<StatusGateway> = presences(app)
        .await
        .unwrap_or_default()
        .into_iter()
        .map(|presence| StatusGateway {
            gateway_id: presence.gateway_id,
            epoch: presence.epoch,
            applied_version: presence.applied_version,
            heartbeat_at: presence.heartbeat_at,
        })
        .collect();
    gateways.sort_by_key(|gateway| gateway.gateway_id);
    Reply::ok(&StatusView {
        r#gen: heads.generation,
        head_position: heads.position,
        config_version: heads.config_version,
        lag: LagView {
            management_ms,
            usage_events,
        },
        gateways,
        projectors: projectors
            .into_iter()
            .map(|(id, active)| StatusProjector { id, active })
            .collect(),
    })
}

/// What gateways tell of themselves.
pub(crate) async fn presences(app: &AppState) -> Result<Vec<GatewayPresence>, LogError> {
    match app.log.generation(Plane::Config).await? {
        Some(generation) => app.log.presences(generation).await,
        None => Ok(Vec::new()),
    }
}

/// Ids of commands hold the time at which they were made.
async fn management_lag(app: &AppState, folded: u64, now: Timestamp) -> Result<u64, LogError> {
    let Some(generation) = app.log.generation(Plane::Management).await? else {
        return Ok(0);
    };
    if app
        .log
        .management_top(generation)
        .await?
        .is_none_or(|top| top <= folded)
    {
        return Ok(0);
    }
    let mut reader = StreamReader::connect(&app.redis_url).await?;
    let oldest = reader
        .management(generation, folded, 1, Duration::from_millis(1))
        .await?;
    let made_at = oldest.first().and_then(|entry| {
        let id = Entry::from_bytes(&entry.bytes).ok()?.command_id?;
        let (seconds, nanos) = id.0.get_timestamp()?.to_unix();
        Some(Timestamp(
            i64::try_from(seconds).ok()? * 1_000_000 + i64::from(nanos / 1_000),
        ))
    });
    Ok(made_at.map_or(0, |at| now.since(at).as_millis() as u64))
}

async fn usage_lag(app: &AppState, folded: BTreeMap<GatewayId, u64>) -> Result<u64, LogError> {
    let Some(generation) = app.log.generation(Plane::Usage).await? else {
        return Ok(0);
    };
    let mut events = 0;
    for gateway in app.log.usage_owners(generation).await? {
        let top = app.log.usage_top(generation, gateway).await?.unwrap_or(0);
        events += top.saturating_sub(folded.get(&gateway).copied().unwrap_or(0));
    }
    Ok(events)
}
