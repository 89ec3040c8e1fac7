//! Configuration from Postgres: all rows as of one version, read in one REPEATABLE READ transaction, and the sealed
//! secrets that provider keys point to. Called by the follower at the start and whenever the stream does not do.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use odock_events::{
    clock::Timestamp,
    ids::{GrantId, KeyId, ModelId, OrganisationId, SealedSecretId},
    state::{EntityRow, Row},
};
use serde::de::DeserializeOwned;
use sqlx::{
    PgConnection, PgPool, Postgres, Row as _,
    postgres::{PgArguments, PgRow},
    query::Query,
    types::{
        Json,
        chrono::{DateTime, Utc},
    },
};
use uuid::Uuid;

use super::{Consequences, KeyCap, Snapshot};

pub mod missing;

/// Why there is no configuration from Postgres.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("postgres: {0}")]
    Postgres(#[from] sqlx::Error),
    #[error("postgres did not answer in time")]
    Timeout,
    #[error("the load was given up")]
    Stopped,
}

/// A sealed secret as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEnvelope {
    pub id: SealedSecretId,
    pub json: String,
}

/// Which keys are wanted.
#[derive(Clone, Debug, Default)]
pub struct WantedKeys {
    /// All, while they are not more than this.
    pub cap: KeyCap,
    /// Else only these, and others are looked up when they are used.
    pub else_only: Vec<KeyId>,
}

/// The configuration as of the version that Postgres has now.
pub async fn load(pool: &PgPool, wanted: &WantedKeys) -> Result<Snapshot, LoadError> {
    let mut transaction = tokio::time::timeout(
        CONNECT_PATIENCE,
        pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"),
    )
    .await
    .map_err(|_| LoadError::Timeout)??;
    let loaded = tokio::time::timeout(LOAD_PATIENCE, read_all(&mut transaction, wanted));
    let snapshot = loaded.await.map_err(|_| LoadError::Timeout)??;
    transaction.rollback().await?;
    Ok(snapshot)
}

/// The envelopes of these ids that Postgres has.
pub async fn load_envelopes(
    pool: &PgPool,
    ids: &[SealedSecretId],
) -> Result<Vec<StoredEnvelope>, LoadError> {
    let mut envelopes = Vec::with_capacity(ids.len());
    for page in ids.chunks(ENVELOPES_A_PAGE) {
        let page: Vec<Uuid> = page.iter().map(|id| id.0).collect();
        let query = sqlx::query("SELECT id, envelope FROM sealed_secret WHERE id = ANY($1)")
            .persistent(false)
            .bind(page);
        for row in query.fetch_all(pool).await? {
            envelopes.push(StoredEnvelope {
                id: SealedSecretId(row.try_get(0)?),
                json: row.try_get(1)?,
            });
        }
    }
    Ok(envelopes)
}

async fn read_all(
    connection: &mut PgConnection,
    wanted: &WantedKeys,
) -> Result<Snapshot, sqlx::Error> {
    let head = sqlx::query(
        "SELECT config_head.version, generation.generation FROM config_head, generation
         WHERE config_head.id = 1 AND generation.id = 1",
    )
    .persistent(false)
    .fetch_one(&mut *connection)
    .await?;
    let mut snapshot = Snapshot {
        version: number(&head, 0)?,
        generation: number(&head, 1)?,
        key_cap: wanted.cap,
        ..Snapshot::default()
    };
    let all_fit = count_keys(connection, wanted.cap).await? <= wanted.cap.0;
    for (kind, select) in TABLES {
        if all_fit || !matches!(kind, Table::Key | Table::Grant) {
            let query = sqlx::query(*select);
            read_table(connection, *kind, query, &mut snapshot).await?;
        }
    }
    if !all_fit {
        read_some_keys(connection, wanted, &mut snapshot).await?;
    }
    Ok(snapshot)
}

/// How many keys there are; not counted further than one above the cap.
async fn count_keys(connection: &mut PgConnection, cap: KeyCap) -> Result<usize, sqlx::Error> {
    let bound = i64::try_from(cap.0)
        .unwrap_or(i64::MAX - 1)
        .saturating_add(1);
    let counted: i64 =
        sqlx::query_scalar("SELECT count(*) FROM (SELECT 1 FROM api_key LIMIT $1) AS counted")
            .persistent(false)
            .bind(bound)
            .fetch_one(connection)
            .await?;
    Ok(usize::try_from(counted).unwrap_or(usize::MAX))
}

async fn read_some_keys(
    connection: &mut PgConnection,
    wanted: &WantedKeys,
    snapshot: &mut Snapshot,
) -> Result<(), sqlx::Error> {
    let ids: Vec<Uuid> = wanted
        .else_only
        .iter()
        .map(|id| id.0)
        .take(wanted.cap.0)
        .collect();
    for page in ids.chunks(missing::IDS_A_PAGE) {
        let query = sqlx::query(
            "SELECT id, organisation_id, version, created_at, updated_at, body FROM api_key
             WHERE id = ANY($1)",
        );
        read_table(connection, Table::Key, query.bind(page.to_vec()), snapshot).await?;
    }
    snapshot.become_partial();
    for page in ids.chunks(missing::IDS_A_PAGE) {
        let query =
            sqlx::query("SELECT id, key_id, model_id FROM model_grant WHERE key_id = ANY($1)");
        read_table(
            connection,
            Table::Grant,
            query.bind(page.to_vec()),
            snapshot,
        )
        .await?;
    }
    Ok(())
}

async fn read_table(
    connection: &mut PgConnection,
    kind: Table,
    query: Query<'_, Postgres, PgArguments>,
    snapshot: &mut Snapshot,
) -> Result<(), sqlx::Error> {
    let mut consequences = Consequences::default();
    let mut rows = query.persistent(false).fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let row = match kind {
            Table::Organisation => EntityRow::Organisation(parse(&row)?),
            Table::Provider => EntityRow::Provider(parse(&row)?),
            Table::ProviderKey => EntityRow::ProviderKey(parse(&row)?),
            Table::Model => EntityRow::Model(parse(&row)?),
            Table::Key => EntityRow::Key(parse(&row)?),
            Table::Budget => EntityRow::Budget(parse(&row)?),
            Table::Quota => EntityRow::Quota(parse(&row)?),
            Table::Team => EntityRow::Team(parse(&row)?),
            Table::Overlay => EntityRow::Overlay(parse(&row)?),
            Table::Grant => {
                let (key, model) = (KeyId(row.try_get(1)?), ModelId(row.try_get(2)?));
                snapshot.put_grant(GrantId(row.try_get(0)?), key, model);
                continue;
            }
        };
        snapshot.put(row, &mut consequences);
    }
    Ok(())
}

/// Reads the body straight into its type: with 100,000 keys the way over a JSON tree would take twice as long.
fn parse<I: From<Uuid>, B: DeserializeOwned + 'static>(
    row: &PgRow,
) -> Result<Row<I, B>, sqlx::Error> {
    let time = |index: usize| -> Result<Timestamp, sqlx::Error> {
        Ok(Timestamp::from_datetime(
            row.try_get::<DateTime<Utc>, _>(index)?,
        ))
    };
    let Json(body) = row.try_get::<Json<B>, _>(5)?;
    Ok(Row {
        id: row.try_get::<Uuid, _>(0)?.into(),
        organisation_id: OrganisationId(row.try_get(1)?),
        version: number(row, 2)?,
        created_at: time(3)?,
        updated_at: time(4)?,
        body,
    })
}

fn number(row: &PgRow, index: usize) -> Result<u64, sqlx::Error> {
    let number: i64 = row.try_get(index)?;
    u64::try_from(number).map_err(|error| sqlx::Error::Decode(error.into()))
}

#[derive(Clone, Copy)]
enum Table {
    Organisation,
    Provider,
    ProviderKey,
    Model,
    Key,
    Grant,
    Budget,
    Quota,
    Team,
    Overlay,
}

const TABLES: &[(Table, &str)] = &[
    (
        Table::Organisation,
        "SELECT id, organisation_id, version, created_at, updated_at, body FROM organisation",
    ),
    (
        Table::Provider,
        "SELECT id, organisation_id, version, created_at, updated_at, body FROM provider",
    ),
    (
        Table::ProviderKey,
        "SELECT id, organisation_id, version, created_at, updated_at, body FROM provider_key",
    ),
    (
        Table::Model,
        "SELECT id, organisation_id, version, created_at, updated_at, body FROM model",
    ),
    (
        Table::Key,
        "SELECT id, organisation_id, version, created_at, updated_at, body FROM api_key",
    ),
    (
        Table::Grant,
        // What a grant says is in these columns too, and there are as many grants as keys.
        "SELECT id, key_id, model_id FROM model_grant",
    ),
    (
        Table::Budget,
        "SELECT id, organisation_id, version, created_at, updated_at, body FROM budget",
    ),
    (
        Table::Quota,
        "SELECT id, organisation_id, version, created_at, updated_at, body FROM quota",
    ),
    (
        Table::Team,
        // The others decide nothing here.
        "SELECT id, organisation_id, version, created_at, updated_at, body FROM team
         WHERE body -> 'policies' <> '{}'::jsonb",
    ),
    (
        Table::Overlay,
        "SELECT id, organisation_id, version, created_at, updated_at, body FROM overlay",
    ),
];

const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
const LOAD_PATIENCE: Duration = Duration::from_secs(120);
const ENVELOPES_A_PAGE: usize = 1_000;
