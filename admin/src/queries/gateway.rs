//! Table `gateway`: which gateways there are by their own events.

use odock_events::ids::{GatewayId, ReclaimId};
use sqlx::PgConnection;
use uuid::Uuid;

#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenGateway {
    pub(crate) id: GatewayId,
    pub(crate) epoch: u64,
}

/// Those that have opened and neither closed nor been lost.
pub(crate) async fn open(connection: &mut PgConnection) -> Result<Vec<OpenGateway>, sqlx::Error> {
    let rows: Vec<(Uuid, i64)> =
        sqlx::query_as("SELECT id, epoch FROM gateway WHERE state = 'open' ORDER BY id")
            .fetch_all(connection)
            .await?;
    Ok(rows
        .into_iter()
        .map(|(id, epoch)| OpenGateway {
            id: GatewayId(id),
            epoch: epoch as u64,
        })
        .collect())
}

/// Those of `ids` that have answered this reclaim or a later one.
pub(crate) async fn answered(
    connection: &mut PgConnection,
    ids: &[GatewayId],
    reclaim: ReclaimId,
) -> Result<Vec<GatewayId>, sqlx::Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows: Vec<Uuid> =
        sqlx::query_scalar("SELECT id FROM gateway WHERE id = ANY($1) AND last_reclaim_id >= $2")
            .bind(ids)
            .bind(reclaim.0)
            .fetch_all(connection)
            .await?;
    Ok(rows.into_iter().map(GatewayId).collect())
}
