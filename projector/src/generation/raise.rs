//! Raising the generation: first in Postgres, which fences every other projector, then the seeds in Redis, and last
//! the generation keys, by which the scripts open.

use std::sync::Arc;

use odock_events::{
    clock::Clock,
    ids::{GatewayId, OrganisationId},
    log::{
        generation::GenerationSeed,
        redis::{RedisIdentity, RedisLog},
    },
};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use super::{Known, Suspicion, planes};
use crate::{
    checkpoint,
    error::{ProjectorError, WentBack},
    head,
};

/// Raises the generation above `known` and returns the new number.
pub(super) async fn raise(
    database: &mut PgConnection,
    clock: &Arc<dyn Clock>,
    log: &RedisLog,
    known: &Known,
    identity: &RedisIdentity,
    suspicion: &Suspicion,
) -> Result<u64, ProjectorError> {
    let highest = planes(log)
        .await?
        .into_iter()
        .flatten()
        .chain([known.generation])
        .max();
    let unix_ms = u64::try_from(clock.now().0 / 1_000).unwrap_or(0);
    let generation = (highest.unwrap_or(0) + 1).max(unix_ms);
    let seed = write(database, known, generation, identity, suspicion).await?;
    log.raise_generation(&seed).await?;
    tracing::info!(generation, "the new generation is open");
    Ok(generation)
}

async fn write(
    database: &mut PgConnection,
    known: &Known,
    generation: u64,
    identity: &RedisIdentity,
    suspicion: &Suspicion,
) -> Result<GenerationSeed, ProjectorError> {
    let mut transaction = database.begin().await?;
    let raised = sqlx::query(
        "UPDATE generation SET generation = $1, redis_run_id = $2,
             stating = CASE WHEN $3 THEN $1 ELSE stating END,
             stating_over = stating_over AND NOT $3
         WHERE id = 1 AND generation = $4",
    )
    .bind(generation as i64)
    .bind(&identity.run_id)
    .bind(suspicion.went_back == WentBack::Postgres)
    .bind(known.generation as i64)
    .execute(&mut *transaction)
    .await?;
    if raised.rows_affected() != 1 {
        return Err(ProjectorError::Fenced {
            what: "it raised the generation".into(),
        });
    }
    sqlx::query("SELECT stream FROM checkpoint ORDER BY stream COLLATE \"C\" FOR UPDATE")
        .execute(&mut *transaction)
        .await?;
    sqlx::query("UPDATE checkpoint SET generation = $1")
        .bind(generation as i64)
        .execute(&mut *transaction)
        .await?;
    let seed = seed(&mut transaction, generation).await?;
    transaction.commit().await?;
    Ok(seed)
}

/// What the new keys begin with: Postgres' own state.
async fn seed(
    database: &mut PgConnection,
    generation: u64,
) -> Result<GenerationSeed, ProjectorError> {
    let versions: Vec<(Uuid, i64)> = sqlx::query_as("SELECT id, version FROM boundary")
        .fetch_all(&mut *database)
        .await?;
    let owners: Vec<(Uuid, i64, String)> = sqlx::query_as("SELECT id, epoch, nonce FROM gateway")
        .fetch_all(&mut *database)
        .await?;
    Ok(GenerationSeed {
        generation,
        management_seq: checkpoint::open(database, checkpoint::MANAGEMENT, generation).await?,
        versions: versions
            .into_iter()
            .map(|(id, version)| ((!id.is_nil()).then_some(OrganisationId(id)), version as u64))
            .collect(),
        owners: owners
            .into_iter()
            .map(|(id, epoch, nonce)| (GatewayId(id), epoch as u64, nonce))
            .collect(),
        watermarks: checkpoint::usage_streams(database).await?,
        config_version: head::config_version(database).await?,
    })
}
