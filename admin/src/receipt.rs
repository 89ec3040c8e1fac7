//! `?wait=all`: waits until every gateway has applied a configuration version, and says which have.

use std::{collections::BTreeMap, time::Duration};

use odock_events::{
    clock::Timestamp,
    ids::GatewayId,
    log::{keys::Plane, messages::GatewayPresence},
};
use serde::Serialize;
use serde_json::Value;
use tokio::time::{Instant, sleep};
use utoipa::ToSchema;

use crate::{
    app::AppState,
    call::Call,
    error::ApiError,
    queries::gateway::{self, OpenGateway},
};

const SECONDS: u64 = 5;
const SECONDS_MAX: u64 = 30;
const LOOK: Duration = Duration::from_millis(5);
/// How much older than its own bound a gateway that closes must be to be left out.
const GRACE: Duration = Duration::from_secs(5);

/// How long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    limit: Duration,
}

/// Which gateways have applied a version.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Receipt {
    pub(crate) complete: bool,
    pub(crate) config_version: u64,
    pub(crate) gateways: Vec<ReceiptGateway>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ReceiptGateway {
    #[schema(value_type = String)]
    pub(crate) gateway_id: GatewayId,
    pub(crate) epoch: u64,
    /// Null: it has told nothing yet.
    pub(crate) applied_version: Option<u64>,
    #[schema(value_type = Option<String>)]
    pub(crate) applied_at: Option<Timestamp>,
}

impl Wait {
    pub(crate) fn read(call: &Call) -> Result<Option<Self>, ApiError> {
        let seconds = call.parameter("wait_seconds").map(|text| {
            let seconds = text.parse().ok().filter(|seconds| *seconds <= SECONDS_MAX);
            seconds.ok_or_else(|| {
                ApiError::invalid("?wait_seconds", format!("expected 0 to {SECONDS_MAX}"))
            })
        });
        let limit = Duration::from_secs(seconds.transpose()?.unwrap_or(SECONDS));
        match call.parameter("wait") {
            None => Ok(None),
            Some("all") => Ok(Some(Self { limit })),
            Some(_) => Err(ApiError::invalid("?wait", "expected all")),
        }
    }

    /// Waits until all have applied `version`, or the time is over. Redis being away is the same as nobody telling.
    pub(crate) async fn receipt(self, app: &AppState, version: u64) -> Result<Value, ApiError> {
        let deadline = Instant::now() + self.limit;
        loop {
            let receipt = look(app, version).await;
            let over = Instant::now() >= deadline;
            match receipt {
                Ok(receipt) if receipt.complete || over => {
                    return serde_json::to_value(receipt).map_err(ApiError::internal);
                }
                Err(error) if over => return Err(error),
                Ok(_) | Err(_) => sleep(LOOK).await,
            }
        }
    }
}

async fn look(app: &AppState, version: u64) -> Result<Receipt, ApiError> {
    let mut connection = app.pool.acquire().await?;
    let open = gateway::open(&mut connection).await?;
    drop(connection);
    let presences = match app.log.generation(Plane::Config).await {
        Ok(Some(generation)) => app.log.presences(generation).await.unwrap_or_default(),
        Ok(None) | Err(_) => Vec::new(),
    };
    Ok(receipt_of(version, &open, &presences, app.clock.now()))
}

/// Open gateways by their own events and those that tell of themselves, without those that serve nothing by now.
fn receipt_of(
    version: u64,
    open: &[OpenGateway],
    presences: &[GatewayPresence],
    now: Timestamp,
) -> Receipt {
    let mut gateways: BTreeMap<GatewayId, ReceiptGateway> = BTreeMap::new();
    for gateway in open {
        gateways.insert(
            gateway.id,
            ReceiptGateway {
                gateway_id: gateway.id,
                epoch: gateway.epoch,
                applied_version: None,
                applied_at: None,
            },
        );
    }
    for presence in presences {
        let age = now.since(presence.heartbeat_at);
        let bound = Duration::from_millis(presence.max_stale_ms) + GRACE;
        if presence.closes_when_stale && age > bound {
            gateways.remove(&presence.gateway_id);
            continue;
        }
        gateways.insert(
            presence.gateway_id,
            ReceiptGateway {
                gateway_id: presence.gateway_id,
                epoch: presence.epoch,
                applied_version: Some(presence.applied_version),
                applied_at: Some(presence.applied_at),
            },
        );
    }
    let gateways: Vec<ReceiptGateway> = gateways.into_values().collect();
    let complete = gateways
        .iter()
        .all(|g| g.applied_version.is_some_and(|v| v >= version));
    Receipt {
        complete,
        config_version: version,
        gateways,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presence(id: GatewayId, applied_version: u64, heartbeat_at: Timestamp) -> GatewayPresence {
        GatewayPresence {
            gateway_id: id,
            epoch: 3,
            applied_version,
            applied_at: heartbeat_at,
            heartbeat_at,
            closes_when_stale: true,
            max_stale_ms: 60_000,
        }
    }

    #[test]
    fn a_receipt_is_complete_when_every_open_gateway_has_told() {
        let now = Timestamp(1_000_000_000_000);
        let (one, two) = (GatewayId::generate(), GatewayId::generate());
        let open = [
            OpenGateway { id: one, epoch: 2 },
            OpenGateway { id: two, epoch: 1 },
        ];
        let silent = receipt_of(7, &open, &[presence(one, 7, now)], now);
        assert!(!silent.complete);
        assert_eq!(silent.gateways.len(), 2);
        assert!(
            !receipt_of(
                7,
                &open,
                &[presence(one, 7, now), presence(two, 6, now)],
                now
            )
            .complete
        );
        assert!(
            receipt_of(
                7,
                &open,
                &[presence(one, 8, now), presence(two, 7, now)],
                now
            )
            .complete
        );
        assert!(receipt_of(7, &[], &[], now).complete);
    }

    #[test]
    fn one_that_closes_by_itself_is_left_out_after_its_time() {
        let now = Timestamp(1_000_000_000_000);
        let id = GatewayId::generate();
        let open = [OpenGateway { id, epoch: 1 }];
        let after = |seconds: u64| now.saturating_add(Duration::from_secs(seconds));
        assert!(!receipt_of(7, &open, &[presence(id, 6, now)], after(65)).complete);
        assert!(receipt_of(7, &open, &[presence(id, 6, now)], after(66)).complete);
        let mut stays = presence(id, 6, now);
        stays.closes_when_stale = false;
        assert!(!receipt_of(7, &open, &[stays], after(10_000)).complete);
    }
}
