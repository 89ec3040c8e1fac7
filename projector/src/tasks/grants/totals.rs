//! The totals of one gateway's leases, for when it has started: a lost answer of the grant task is made good by them.

use odock_events::{ids::GatewayId, log::messages::ControlLease};
use sqlx::PgConnection;

use crate::{
    error::ProjectorError,
    projections::money::{IdColumns, id_of},
};

pub(super) async fn of(
    connection: &mut PgConnection,
    gateway: GatewayId,
) -> Result<Vec<ControlLease>, ProjectorError> {
    type Columns = (
        String,
        uuid::Uuid,
        uuid::Uuid,
        chrono::DateTime<chrono::Utc>,
        i64,
        bool,
    );
    let rows: Vec<Columns> = sqlx::query_as(
        "SELECT a.rule_kind, l.rule_id, l.subject, l.window_start, l.granted, s.rule_id IS NOT NULL
         FROM lease l
         JOIN account a USING (rule_id, subject, window_start)
         LEFT JOIN scarce_account s USING (rule_id, subject, window_start)
         WHERE l.gateway_id = $1
             AND (NOT a.closed OR l.granted > l.settled + l.returned)
         ORDER BY l.rule_id, l.subject, l.window_start",
    )
    .bind(gateway.0)
    .fetch_all(connection)
    .await?;
    let lease = |(kind, rule, subject, start, granted, scarce)| {
        let columns: IdColumns = (kind, rule, subject, start);
        Ok(ControlLease {
            account: id_of(columns)?,
            granted,
            scarce,
            denial: None,
        })
    };
    rows.into_iter().map(lease).collect()
}
