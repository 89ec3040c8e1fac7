//! The versions that commands are appended with, and the heads of log and configuration.

use odock_events::ids::OrganisationId;
use sqlx::PgConnection;
use uuid::Uuid;

pub(crate) struct Head {
    /// `None`: there is no such organisation.
    pub(crate) version: Option<u64>,
    pub(crate) config_version: u64,
}

/// The version of a boundary as the read model has it.
pub(crate) async fn head(
    connection: &mut PgConnection,
    boundary: Option<OrganisationId>,
) -> Result<Head, sqlx::Error> {
    let (version, config_version): (Option<i64>, i64) = match boundary {
        Some(organisation) => {
            sqlx::query_as(
                "SELECT (SELECT b.version FROM boundary b JOIN organisation o ON o.id = b.id WHERE b.id = $1),
                     c.version
                 FROM config_head c WHERE c.id = 1",
            )
            .bind(organisation.0)
            .fetch_one(connection)
            .await?
        }
        None => {
            sqlx::query_as(
                "SELECT coalesce((SELECT version FROM boundary WHERE id = $1), 0), c.version
                 FROM config_head c WHERE c.id = 1",
            )
            .bind(Uuid::nil())
            .fetch_one(connection)
            .await?
        }
    };
    Ok(Head {
        version: version.map(|v| v as u64),
        config_version: config_version as u64,
    })
}

/// Position of the log and version of the configuration.
pub(crate) async fn heads(connection: &mut PgConnection) -> Result<(u64, u64), sqlx::Error> {
    let (position, version): (i64, i64) = sqlx::query_as(
        "SELECT l.position, c.version FROM log_head l, config_head c WHERE l.id = 1 AND c.id = 1",
    )
    .fetch_one(connection)
    .await?;
    Ok((position as u64, version as u64))
}
