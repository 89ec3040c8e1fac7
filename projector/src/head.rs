//! The two counters: the newest configuration, and the log's head, which is locked last of all in every transaction,
//! so that positions are given in the order of commits and are held for microseconds only.

use sqlx::PgConnection;

use crate::error::ProjectorError;

/// Locks the configuration's counter and returns it. Only the management task does.
pub(crate) async fn lock_config(connection: &mut PgConnection) -> Result<u64, ProjectorError> {
    let version: i64 =
        sqlx::query_scalar("SELECT version FROM config_head WHERE id = 1 FOR UPDATE")
            .fetch_one(connection)
            .await?;
    Ok(version as u64)
}

/// Sets the locked counter.
pub(crate) async fn set_config(
    connection: &mut PgConnection,
    version: u64,
) -> Result<(), ProjectorError> {
    sqlx::query("UPDATE config_head SET version = $1 WHERE id = 1")
        .bind(version as i64)
        .execute(connection)
        .await?;
    Ok(())
}

/// The newest configuration as committed.
pub(crate) async fn config_version(connection: &mut PgConnection) -> Result<u64, ProjectorError> {
    let version: i64 = sqlx::query_scalar("SELECT version FROM config_head WHERE id = 1")
        .fetch_one(connection)
        .await?;
    Ok(version as u64)
}

/// Takes the next `count` positions and returns the one before the first. The last lock of a transaction.
pub(crate) async fn take_positions(
    connection: &mut PgConnection,
    count: usize,
) -> Result<i64, ProjectorError> {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let head: i64 = sqlx::query_scalar(
        "UPDATE log_head SET position = position + $1 WHERE id = 1 RETURNING position",
    )
    .bind(count)
    .fetch_one(connection)
    .await?;
    Ok(head - count)
}

/// The last position given.
pub(crate) async fn position(connection: &mut PgConnection) -> Result<i64, ProjectorError> {
    Ok(
        sqlx::query_scalar("SELECT position FROM log_head WHERE id = 1")
            .fetch_one(connection)
            .await?,
    )
}
