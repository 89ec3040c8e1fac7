//! Table `idempotency`: which request a key stood for, the command it became, and the answer that is told again.

use odock_events::{clock::Timestamp, ids::CommandId, units::Sha256Digest};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

pub(crate) struct IdempotencyRow {
    pub(crate) request_sha256: Vec<u8>,
    pub(crate) command_id: CommandId,
    pub(crate) status: Option<i16>,
    pub(crate) headers: Option<serde_json::Value>,
    pub(crate) body: Option<String>,
}

type Columns = (
    Vec<u8>,
    Uuid,
    Option<i16>,
    Option<serde_json::Value>,
    Option<String>,
);

pub(crate) struct Slot<'a> {
    pub(crate) token: Sha256Digest,
    pub(crate) key: &'a str,
}

/// Takes the key for this request unless it is taken. True: it is ours.
pub(crate) async fn insert(
    connection: &mut PgConnection,
    slot: &Slot<'_>,
    request: Sha256Digest,
    command_id: CommandId,
    now: Timestamp,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "INSERT INTO idempotency (token_sha256, key, request_sha256, command_id, created_at)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (token_sha256, key) DO NOTHING",
    )
    .bind(slot.token.0.as_slice())
    .bind(slot.key)
    .bind(request.0.as_slice())
    .bind(command_id.0)
    .bind(now.to_datetime())
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(crate) async fn find(
    connection: &mut PgConnection,
    slot: &Slot<'_>,
) -> Result<Option<IdempotencyRow>, sqlx::Error> {
    let row: Option<Columns> = sqlx::query_as(
        "SELECT request_sha256, command_id, status, headers, body
         FROM idempotency WHERE token_sha256 = $1 AND key = $2",
    )
    .bind(slot.token.0.as_slice())
    .bind(slot.key)
    .fetch_optional(connection)
    .await?;
    Ok(row.map(
        |(request_sha256, command_id, status, headers, body)| IdempotencyRow {
            request_sha256,
            command_id: CommandId(command_id),
            status,
            headers,
            body,
        },
    ))
}

/// Forgets a key that is older than `before`.
pub(crate) async fn delete_old(
    connection: &mut PgConnection,
    slot: &Slot<'_>,
    before: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM idempotency WHERE token_sha256 = $1 AND key = $2 AND created_at <= $3",
    )
    .bind(slot.token.0.as_slice())
    .bind(slot.key)
    .bind(before.to_datetime())
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets all keys older than `before`.
pub(crate) async fn sweep(pool: &PgPool, before: Timestamp) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM idempotency WHERE created_at <= $1")
        .bind(before.to_datetime())
        .execute(pool)
        .await?;
    Ok(())
}

/// Keeps the answer. A `body` of `None` is told again from the log instead.
pub(crate) async fn keep(
    pool: &PgPool,
    slot: &Slot<'_>,
    status: i16,
    headers: serde_json::Value,
    body: Option<String>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE idempotency SET status = $3, headers = $4, body = $5
         WHERE token_sha256 = $1 AND key = $2",
    )
    .bind(slot.token.0.as_slice())
    .bind(slot.key)
    .bind(status)
    .bind(headers)
    .bind(body)
    .execute(pool)
    .await?;
    Ok(())
}
