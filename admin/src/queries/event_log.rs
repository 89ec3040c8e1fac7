//! Table `event_log`: the entry of a command, to tell its answer again.

use sqlx::PgConnection;

pub(crate) async fn body(
    connection: &mut PgConnection,
    position: i64,
) -> Result<Option<Vec<u8>>, sqlx::Error> {
    sqlx::query_scalar("SELECT body FROM event_log WHERE position = $1")
        .bind(position)
        .fetch_optional(connection)
        .await
}
