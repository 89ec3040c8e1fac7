//! Table `command`: what became of a command.

use odock_events::{ids::CommandId, units::Sha256Digest};
use sqlx::PgConnection;

pub(crate) struct CommandRow {
    pub(crate) outcome: String,
    pub(crate) position: i64,
    pub(crate) config_version: Option<i64>,
    pub(crate) code: Option<String>,
    pub(crate) detail: Option<String>,
    /// Of the entry in the log.
    pub(crate) sha256: Option<Sha256Digest>,
}

type Columns = (
    String,
    i64,
    Option<i64>,
    Option<String>,
    Option<String>,
    Option<Vec<u8>>,
);

pub(crate) async fn find(
    connection: &mut PgConnection,
    id: CommandId,
) -> Result<Option<CommandRow>, sqlx::Error> {
    let row: Option<Columns> = sqlx::query_as(
        "SELECT c.outcome, c.position, c.config_version, c.code, c.detail, e.sha256
         FROM command c LEFT JOIN event_log e ON e.position = c.position
         WHERE c.id = $1",
    )
    .bind(id.0)
    .fetch_optional(connection)
    .await?;
    Ok(row.map(
        |(outcome, position, config_version, code, detail, sha256)| CommandRow {
            outcome,
            position,
            config_version,
            code,
            detail,
            sha256: sha256
                .and_then(|bytes| bytes.try_into().ok())
                .map(Sha256Digest),
        },
    ))
}
