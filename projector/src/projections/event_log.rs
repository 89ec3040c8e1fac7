//! Table `event_log`: management entries as they came, and what the projector decided. Append-only.

use odock_events::{
    clock::Timestamp,
    ids::{CommandId, OrganisationId},
    units::Sha256Digest,
};
use sqlx::PgConnection;

/// Who wrote an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Management,
    Projector,
}

impl Source {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Management => "management",
            Self::Projector => "projector",
        }
    }
}

/// One row beside its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogRow<'a> {
    pub(crate) position: i64,
    pub(crate) source: Source,
    pub(crate) boundary: Option<OrganisationId>,
    pub(crate) boundary_version: Option<u64>,
    pub(crate) config_version: Option<u64>,
    pub(crate) command_id: Option<CommandId>,
    pub(crate) recorded_at: Timestamp,
    pub(crate) body: &'a [u8],
}

pub(crate) async fn insert(
    connection: &mut PgConnection,
    row: LogRow<'_>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO event_log (position, source, boundary, boundary_version, config_version,
             command_id, recorded_at, body, sha256)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(row.position)
    .bind(row.source.name())
    .bind(row.boundary.map(|organisation| organisation.0))
    .bind(row.boundary_version.map(|version| version as i64))
    .bind(row.config_version.map(|version| version as i64))
    .bind(row.command_id.map(|id| id.0))
    .bind(row.recorded_at.to_datetime())
    .bind(row.body)
    .bind(Sha256Digest::of(row.body).0.as_slice())
    .execute(connection)
    .await?;
    Ok(())
}
