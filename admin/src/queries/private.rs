//! Private tables that are written before an append: sealed provider keys and the keys of persons.

use std::collections::HashMap;

use odock_events::{
    clock::Timestamp,
    ids::{OrganisationId, ProviderId, SealedSecretId},
    personal::WrappedKey,
    units::Sha256Digest,
};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

/// A row that an event refers to.
#[derive(Clone, Debug)]
pub(crate) enum PrivateRow {
    SealedSecret {
        id: SealedSecretId,
        organisation_id: OrganisationId,
        provider_id: ProviderId,
        envelope: String,
        sha256: Sha256Digest,
    },
    SubjectKey {
        subject: Uuid,
        wrapped: WrappedKey,
    },
}

/// Writes all of them, or none.
pub(crate) async fn write(
    pool: &PgPool,
    rows: &[PrivateRow],
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut transaction = pool.begin().await?;
    for row in rows {
        insert(&mut transaction, row, now).await?;
    }
    transaction.commit().await
}

async fn insert(
    connection: &mut PgConnection,
    row: &PrivateRow,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    let query = match row {
        PrivateRow::SealedSecret { id, organisation_id, provider_id, envelope, sha256 } => {
            sqlx::query(
                "INSERT INTO sealed_secret (id, organisation_id, provider_id, envelope, sha256, created_at)
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING",
            )
            .bind(id.0)
            .bind(organisation_id.0)
            .bind(provider_id.0)
            .bind(envelope)
            .bind(sha256.0.as_slice())
        }
        PrivateRow::SubjectKey { subject, wrapped } => sqlx::query(
            "INSERT INTO subject_key (subject_id, wrapped_key, created_at)
             VALUES ($1, $2, $3) ON CONFLICT (subject_id) DO NOTHING",
        )
        .bind(subject)
        .bind(&wrapped.0),
    };
    query.bind(now.to_datetime()).execute(connection).await?;
    Ok(())
}

/// The keys of those persons that still have one.
pub(crate) async fn subject_keys(
    connection: &mut PgConnection,
    subjects: &[Uuid],
) -> Result<HashMap<Uuid, WrappedKey>, sqlx::Error> {
    let rows: Vec<(Uuid, Vec<u8>)> = sqlx::query_as(
        "SELECT subject_id, wrapped_key FROM subject_key
         WHERE subject_id = ANY($1) AND wrapped_key IS NOT NULL AND destroyed_at IS NULL",
    )
    .bind(subjects)
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(subject, key)| (subject, WrappedKey(key)))
        .collect())
}
