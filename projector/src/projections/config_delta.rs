//! Table `config_delta`: the full new rows of each configuration version, which the relay sends in order.

use odock_events::state::config::ConfigDelta;
use sqlx::PgConnection;

use crate::error::ProjectorError;

pub(crate) async fn insert(
    connection: &mut PgConnection,
    delta: &ConfigDelta,
    body: &[u8],
) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO config_delta (version, position, body) VALUES ($1, $2, $3)")
        .bind(delta.version as i64)
        .bind(delta.position as i64)
        .bind(body)
        .execute(connection)
        .await?;
    Ok(())
}

/// The next versions above `version`, in order.
pub(crate) async fn after(
    connection: &mut PgConnection,
    version: u64,
    limit: i64,
) -> Result<Vec<(u64, Vec<u8>)>, ProjectorError> {
    let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(
        "SELECT version, body FROM config_delta WHERE version > $1 ORDER BY version LIMIT $2",
    )
    .bind(version as i64)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(version, body)| (version as u64, body))
        .collect())
}
