//! Table `account`: what a budget's windows have settled and held.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use odock_events::clock::Timestamp;
use sqlx::PgConnection;
use uuid::Uuid;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AccountRow {
    pub(crate) held: i64,
    pub(crate) settled: i64,
}

/// The accounts of these windows, by budget. A window without an account has spent nothing.
pub(crate) async fn of_windows(
    connection: &mut PgConnection,
    windows: &[(Uuid, Timestamp)],
) -> Result<HashMap<Uuid, AccountRow>, sqlx::Error> {
    let budgets: Vec<Uuid> = windows.iter().map(|(budget, _)| *budget).collect();
    let starts: Vec<DateTime<Utc>> = windows
        .iter()
        .map(|(_, start)| start.to_datetime())
        .collect();
    let rows: Vec<(Uuid, i64, i64)> = sqlx::query_as(
        "SELECT a.budget_id, a.held, a.settled
         FROM unnest($1::uuid[], $2::timestamptz[]) AS wanted (budget_id, window_start)
         JOIN account a ON a.budget_id = wanted.budget_id AND a.window_start = wanted.window_start",
    )
    .bind(budgets)
    .bind(starts)
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(budget, held, settled)| (budget, AccountRow { held, settled }))
        .collect())
}
