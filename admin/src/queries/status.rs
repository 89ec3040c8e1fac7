//! What the status page shows of Postgres: heads, checkpoints, projectors.

use odock_events::ids::GatewayId;
use sqlx::PgConnection;

/// The lock that the active projector holds in its session, and the name of its connections.
const PROJECTOR_LOCK: i64 = 0x6f64_6f63_6b00_0001;
const PROJECTOR_NAME: &str = "odock-projector ";

pub(crate) struct Heads {
    pub(crate) generation: u64,
    pub(crate) position: u64,
    pub(crate) config_version: u64,
}

pub(crate) async fn heads(connection: &mut PgConnection) -> Result<Heads, sqlx::Error> {
    let (generation, position, config_version): (i64, i64, i64) = sqlx::query_as(
        "SELECT g.generation, l.position, c.version
         FROM generation g, log_head l, config_head c WHERE g.id = 1 AND l.id = 1 AND c.id = 1",
    )
    .fetch_one(connection)
    .await?;
    Ok(Heads {
        generation: generation as u64,
        position: position as u64,
        config_version: config_version as u64,
    })
}

/// How far the management stream has been folded.
pub(crate) async fn management_checkpoint(
    connection: &mut PgConnection,
) -> Result<u64, sqlx::Error> {
    let seq: Option<i64> =
        sqlx::query_scalar("SELECT seq FROM checkpoint WHERE stream = 'management'")
            .fetch_optional(connection)
            .await?;
    Ok(seq.unwrap_or(0) as u64)
}

/// How far each gateway's stream has been folded.
pub(crate) async fn usage_checkpoints(
    connection: &mut PgConnection,
) -> Result<Vec<(GatewayId, u64)>, sqlx::Error> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("SELECT stream, seq FROM checkpoint WHERE stream LIKE 'usage:%'")
            .fetch_all(connection)
            .await?;
    Ok(rows
        .into_iter()
        .filter_map(|(stream, seq)| {
            let gateway = stream.strip_prefix("usage:")?.parse().ok()?;
            Some((gateway, seq as u64))
        })
        .collect())
}

/// The projectors that are connected, and whether each is the active one.
pub(crate) async fn projectors(
    connection: &mut PgConnection,
) -> Result<Vec<(String, bool)>, sqlx::Error> {
    sqlx::query_as(
        "SELECT substr(a.application_name, length($1) + 1), coalesce(bool_or(l.pid IS NOT NULL), false)
         FROM pg_stat_activity a
         LEFT JOIN pg_locks l ON l.pid = a.pid AND l.locktype = 'advisory' AND l.granted
             AND l.objsubid = 1 AND (l.classid::bigint << 32) | l.objid::bigint = $2
         WHERE starts_with(a.application_name, $1) AND a.datname = current_database()
         GROUP BY 1 ORDER BY 1",
    )
    .bind(PROJECTOR_NAME)
    .bind(PROJECTOR_LOCK)
    .fetch_all(connection)
    .await
}
