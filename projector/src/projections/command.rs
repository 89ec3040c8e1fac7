//! Table `command`: what became of each command, the only deduplication. Admin waits for its row, woken by a
//! notification `odock_command` with the command's id.

use odock_events::{clock::Timestamp, ids::CommandId};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::ProjectorError;

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done { config_version: u64 },
    Rejected { code: &'static str, detail: String },
}

/// Those of `ids` whose outcome is known.
pub(crate) async fn known(
    connection: &mut PgConnection,
    ids: &[Uuid],
) -> Result<Vec<Uuid>, ProjectorError> {
    Ok(
        sqlx::query_scalar("SELECT id FROM command WHERE id = ANY($1)")
            .bind(ids)
            .fetch_all(connection)
            .await?,
    )
}

pub(crate) async fn insert(
    connection: &mut PgConnection,
    id: CommandId,
    outcome: &Outcome,
    position: i64,
    recorded_at: Timestamp,
) -> Result<(), sqlx::Error> {
    let (name, config_version, code, detail) = match outcome {
        Outcome::Done { config_version } => ("done", Some(*config_version as i64), None, None),
        Outcome::Rejected { code, detail } => {
            ("rejected", None, Some(*code), Some(detail.as_str()))
        }
    };
    sqlx::query(
        "WITH told AS (SELECT pg_notify('odock_command', $8))
         INSERT INTO command (id, outcome, position, config_version, code, detail, recorded_at)
         SELECT $1, $2, $3, $4, $5, $6, $7 FROM told",
    )
    .bind(id.0)
    .bind(name)
    .bind(position)
    .bind(config_version)
    .bind(code)
    .bind(detail)
    .bind(recorded_at.to_datetime())
    .bind(id.to_string())
    .execute(connection)
    .await?;
    Ok(())
}
