//! One key that the snapshot has no room for, read with its grants from one snapshot of Postgres; and which of some keys are
//! no longer valid. Called by `misses` and by the follower's reload.

use std::time::Duration;

use odock_events::{
    ids::{GrantId, KeyId, ModelId},
    state::Key,
    units::Sha256Digest,
};
use sqlx::{PgConnection, PgPool, Row as _};
use uuid::Uuid;

use super::{CONNECT_PATIENCE, LoadError, number, parse};

/// What Postgres says of a secret, and as of which version.
#[derive(Debug)]
pub struct LoadedKey {
    pub version: u64,
    pub generation: u64,
    /// With its grants.
    pub found: Option<(Key, Vec<(GrantId, ModelId)>)>,
}

/// The key with this secret.
pub async fn load_key(pool: &PgPool, secret: &Sha256Digest) -> Result<LoadedKey, LoadError> {
    let loading = async {
        let mut transaction = pool
            .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .await?;
        let loaded = read_key(&mut transaction, secret).await?;
        transaction.rollback().await?;
        Ok(loaded)
    };
    tokio::time::timeout(PATIENCE, loading)
        .await
        .map_err(|_| LoadError::Timeout)?
}

async fn read_key(
    connection: &mut PgConnection,
    secret: &Sha256Digest,
) -> Result<LoadedKey, LoadError> {
    let head = sqlx::query(
        "SELECT config_head.version, generation.generation FROM config_head, generation
         WHERE config_head.id = 1 AND generation.id = 1",
    )
    .persistent(false)
    .fetch_one(&mut *connection)
    .await?;
    let row = sqlx::query(
        "SELECT id, organisation_id, version, created_at, updated_at, body FROM api_key
         WHERE secret_sha256 = $1",
    )
    .persistent(false)
    .bind(secret.to_string())
    .fetch_optional(&mut *connection)
    .await?;
    let found = match row {
        None => None,
        Some(row) => {
            let key: Key = parse(&row)?;
            let grants = sqlx::query("SELECT id, model_id FROM model_grant WHERE key_id = $1")
                .persistent(false)
                .bind(key.id.0)
                .fetch_all(&mut *connection)
                .await?;
            let grants = grants
                .iter()
                .map(|row| Ok((GrantId(row.try_get(0)?), ModelId(row.try_get(1)?))));
            Some((key, grants.collect::<Result<_, sqlx::Error>>()?))
        }
    };
    Ok(LoadedKey {
        version: number(&head, 0)?,
        generation: number(&head, 1)?,
        found,
    })
}

/// Those of these keys that are revoked or not there.
pub async fn dead_among(pool: &PgPool, ids: &[KeyId]) -> Result<Vec<KeyId>, LoadError> {
    let mut dead = Vec::new();
    for page in ids.chunks(IDS_A_PAGE) {
        let asked: Vec<Uuid> = page.iter().map(|id| id.0).collect();
        let query = sqlx::query_scalar(
            "SELECT asked FROM unnest($1::uuid[]) AS asked
             LEFT JOIN api_key ON api_key.id = asked
             WHERE api_key.id IS NULL OR (api_key.body ->> 'revoked')::boolean",
        )
        .persistent(false)
        .bind(asked);
        let found: Vec<Uuid> = tokio::time::timeout(CONNECT_PATIENCE, query.fetch_all(pool))
            .await
            .map_err(|_| LoadError::Timeout)??;
        dead.extend(found.into_iter().map(KeyId));
    }
    Ok(dead)
}

/// A caller waits for it.
const PATIENCE: Duration = Duration::from_secs(2);
pub(super) const IDS_A_PAGE: usize = 10_000;
