//! Table `api_key_rotation`: one row for each `key.rotated`.

use odock_events::{
    clock::Timestamp, envelope::Meta, ids::OrganisationId, payload::key::KeyRotated,
};
use sqlx::PgConnection;

pub(crate) async fn insert(
    connection: &mut PgConnection,
    meta: &Meta,
    organisation_id: OrganisationId,
    rotated: &KeyRotated,
    position: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO api_key_rotation (key_id, version, organisation_id, position, rotated_at,
             previous_key_preview, previous_expires_at, expires_at, actor)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(meta.entity.id)
    .bind(meta.entity_version as i64)
    .bind(organisation_id.0)
    .bind(position)
    .bind(meta.occurred_at.to_datetime())
    .bind(&rotated.previous_key_preview)
    .bind(rotated.previous_expires_at.map(Timestamp::to_datetime))
    .bind(rotated.expires_at.map(Timestamp::to_datetime))
    .bind(meta.actor.to_string())
    .execute(connection)
    .await?;
    Ok(())
}
