//! How far each stream has been folded. Moved by compare-and-set, first in every transaction: of two projectors that
//! fold the same entries one finds the checkpoint moved and gives up before it has written anything.

use odock_events::ids::GatewayId;
use sqlx::PgConnection;

use crate::error::ProjectorError;

pub(crate) const MANAGEMENT: &str = "management";

pub(crate) fn usage_stream(gateway: GatewayId) -> String {
    format!("usage:{gateway}")
}

/// One stream's step from the last seq folded to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) stream: String,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// The last seq folded of a stream, which is written down as known if it was not.
pub(crate) async fn open(
    connection: &mut PgConnection,
    stream: &str,
    generation: u64,
) -> Result<u64, ProjectorError> {
    sqlx::query(
        "INSERT INTO checkpoint (stream, generation, seq) VALUES ($1, $2, 0)
         ON CONFLICT (stream) DO NOTHING",
    )
    .bind(stream)
    .bind(generation as i64)
    .execute(&mut *connection)
    .await?;
    let (at, seq): (i64, i64) =
        sqlx::query_as("SELECT generation, seq FROM checkpoint WHERE stream = $1")
            .bind(stream)
            .fetch_one(&mut *connection)
            .await?;
    if at as u64 != generation {
        return Err(ProjectorError::Fenced {
            what: format!("`{stream}` is at generation {at}"),
        });
    }
    Ok(seq as u64)
}

/// Every known usage stream with its last seq folded.
pub(crate) async fn usage_streams(
    connection: &mut PgConnection,
) -> Result<Vec<(GatewayId, u64)>, ProjectorError> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "SELECT stream, seq FROM checkpoint WHERE starts_with(stream, 'usage:') ORDER BY stream",
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|(stream, seq)| {
            let gateway = stream.strip_prefix("usage:").and_then(|id| id.parse().ok());
            let gateway = gateway.ok_or_else(|| ProjectorError::Foreign {
                table: "checkpoint",
                value: stream.clone(),
            })?;
            Ok((gateway, seq as u64))
        })
        .collect()
}

/// Moves checkpoints, all or none, locking them in the order of their names.
pub(crate) async fn advance(
    connection: &mut PgConnection,
    generation: u64,
    moves: &mut [Move],
) -> Result<(), ProjectorError> {
    moves.sort_by(|one, other| one.stream.cmp(&other.stream));
    let streams: Vec<&str> = moves.iter().map(|step| step.stream.as_str()).collect();
    let found: Vec<(String, i64, i64)> = sqlx::query_as(
        "SELECT stream, generation, seq FROM checkpoint WHERE stream = ANY($1)
         ORDER BY stream COLLATE \"C\" FOR UPDATE",
    )
    .bind(&streams)
    .fetch_all(&mut *connection)
    .await?;
    let as_expected = found.len() == moves.len()
        && found
            .iter()
            .zip(moves.iter())
            .all(|((stream, at, seq), step)| {
                *stream == step.stream && *at as u64 == generation && *seq as u64 == step.from
            });
    if !as_expected {
        return Err(ProjectorError::Fenced {
            what: "a checkpoint is not where it was left".into(),
        });
    }
    let to: Vec<i64> = moves.iter().map(|step| step.to as i64).collect();
    sqlx::query(
        "UPDATE checkpoint SET seq = step.seq
         FROM unnest($1::text[], $2::bigint[]) AS step (stream, seq)
         WHERE checkpoint.stream = step.stream",
    )
    .bind(&streams)
    .bind(&to)
    .execute(connection)
    .await?;
    Ok(())
}
