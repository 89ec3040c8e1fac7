//! The totals of one gateway's leases, for when it has started: a lost answer of the grant task is made good by them.

use chrono::{DateTime, Utc};
use odock_events::{
    clock::Timestamp,
    ids::{BudgetId, GatewayId},
    log::messages::ControlLease,
    payload::account::AccountId,
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::ProjectorError;

pub(super) async fn of(
    connection: &mut PgConnection,
    gateway: GatewayId,
) -> Result<Vec<ControlLease>, ProjectorError> {
    let rows: Vec<(Uuid, DateTime<Utc>, i64, bool)> = sqlx::query_as(
        "SELECT l.budget_id, l.window_start, l.granted, s.budget_id IS NOT NULL
         FROM lease l
         JOIN account a ON a.budget_id = l.budget_id AND a.window_start = l.window_start
         LEFT JOIN scarce_account s
             ON s.budget_id = l.budget_id AND s.window_start = l.window_start
         WHERE l.gateway_id = $1
             AND (NOT a.closed OR l.granted > l.settled + l.returned)
         ORDER BY l.budget_id, l.window_start",
    )
    .bind(gateway.0)
    .fetch_all(connection)
    .await?;
    let leases = rows
        .into_iter()
        .map(|(budget, start, granted, scarce)| ControlLease {
            account: AccountId {
                budget: BudgetId(budget),
                window_start: Timestamp::from_datetime(start),
            },
            granted,
            scarce,
            denial: None,
        });
    Ok(leases.collect())
}
