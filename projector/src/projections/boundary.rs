//! Table `boundary`: the version of each organisation's commands, and of the platform's under the nil id.

use std::collections::BTreeMap;

use odock_events::ids::OrganisationId;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::ProjectorError;

/// The id of a boundary's row.
pub(crate) fn id_of(boundary: Option<OrganisationId>) -> Uuid {
    boundary.map_or_else(Uuid::nil, |organisation| organisation.0)
}

/// The versions of those boundaries that exist. The platform's always does, from version 0.
pub(crate) async fn load(
    connection: &mut PgConnection,
    ids: &[Uuid],
) -> Result<BTreeMap<Uuid, u64>, ProjectorError> {
    let rows: Vec<(Uuid, i64)> =
        sqlx::query_as("SELECT id, version FROM boundary WHERE id = ANY($1)")
            .bind(ids)
            .fetch_all(connection)
            .await?;
    let mut versions: BTreeMap<Uuid, u64> = rows
        .into_iter()
        .map(|(id, version)| (id, version as u64))
        .collect();
    versions.entry(Uuid::nil()).or_insert(0);
    Ok(versions)
}

pub(crate) async fn set(
    connection: &mut PgConnection,
    id: Uuid,
    version: u64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO boundary (id, version) VALUES ($1, $2)
         ON CONFLICT (id) DO UPDATE SET version = EXCLUDED.version",
    )
    .bind(id)
    .bind(version as i64)
    .execute(connection)
    .await?;
    Ok(())
}
