//! The other side of the follower: what the projector does to Postgres and Redis, each step by itself so that a test
//! can leave one out. And a gateway that is nothing but a follower.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use odock_events::{
    clock::{Clock, FixedClock, Timestamp},
    ids::{GatewayId, SealedSecretId},
    log::{
        generation::GenerationSeed,
        keys::Plane,
        messages::{Beat, GatewayPresence},
        redis::RedisLog,
    },
    seal::{KeyPair, PrivateKey},
    state::{
        EntityRow,
        config::{ConfigChange, ConfigDelta},
    },
    units::Sha256Digest,
};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::servers::{self, Redis};
use crate::snapshot::{
    Consequences, KeyCap, SnapshotCell,
    cell::StalePolicy,
    follow::{Follower, FollowerIdentity, FollowerParts, LoadedFrom},
    misses::Misses,
    vault::Vault,
};

pub(super) struct Backbone {
    pub(super) redis: Redis,
    pub(super) dsn: String,
    pub(super) log: RedisLog,
    pub(super) generation: u64,
    pub(super) version: u64,
    directory: tempfile::TempDir,
}

impl Backbone {
    /// Empty stores with an open generation.
    pub(super) async fn start() -> Self {
        let (dsn, redis) = (servers::database().await, Redis::start());
        let log = RedisLog::connect(&redis.url()).await.unwrap();
        eventually("redis", || async { log.ping().await.ok() }).await;
        let directory = tempfile::tempdir().unwrap();
        let mut backbone = Self {
            redis,
            dsn,
            log,
            generation: 1,
            version: 0,
            directory,
        };
        backbone.raise_generation().await;
        backbone
    }

    async fn database(&self) -> PgConnection {
        self.dsn
            .parse::<PgConnectOptions>()
            .unwrap()
            .connect()
            .await
            .unwrap()
    }

    /// Commits one version and sends it on.
    pub(super) async fn publish(&mut self, rows: Vec<EntityRow>) -> u64 {
        let delta = self.commit(rows).await;
        self.relay(&delta).await;
        self.version
    }

    /// One version in Postgres, not in the stream yet.
    pub(super) async fn commit(&mut self, rows: Vec<EntityRow>) -> ConfigDelta {
        let mut database = self.database().await;
        self.version += 1;
        for row in &rows {
            put_row(&mut database, row).await;
        }
        self.set_version(self.version).await;
        let changes = rows.into_iter().map(|row| ConfigChange::Put(Box::new(row)));
        ConfigDelta {
            version: self.version,
            position: self.version,
            command_id: None,
            committed_at: Timestamp(0),
            changes: changes.collect(),
        }
    }

    pub(super) async fn relay(&self, delta: &ConfigDelta) {
        let bytes = delta.to_bytes().unwrap();
        self.log
            .relay_config(self.generation, delta.version, &bytes)
            .await
            .unwrap();
    }

    pub(super) async fn set_version(&self, version: u64) {
        let update = sqlx::query("UPDATE config_head SET version = $1").bind(version as i64);
        update.execute(&mut self.database().await).await.unwrap();
    }

    pub(super) async fn delete_keys(&self) {
        let mut database = self.database().await;
        sqlx::query("DELETE FROM model_grant")
            .execute(&mut database)
            .await
            .unwrap();
        sqlx::query("DELETE FROM api_key")
            .execute(&mut database)
            .await
            .unwrap();
    }

    pub(super) async fn put_envelope(&self, id: SealedSecretId, json: &str) {
        sqlx::query(
            "INSERT INTO sealed_secret (id, organisation_id, provider_id, envelope, sha256, created_at)
             VALUES ($1, $1, $1, $2, $3, 'epoch')",
        )
        .bind(id.0)
        .bind(json)
        .bind(Sha256Digest::of(json.as_bytes()).0.as_slice())
        .execute(&mut self.database().await)
        .await
        .unwrap();
    }

    /// Postgres first, then the streams, as the projector does it.
    pub(super) async fn raise_generation(&mut self) {
        self.generation += 1;
        let update = sqlx::query("UPDATE generation SET generation = $1");
        let update = update.bind(self.generation as i64);
        update.execute(&mut self.database().await).await.unwrap();
        let seed = GenerationSeed {
            generation: self.generation,
            config_version: self.version,
            ..GenerationSeed::default()
        };
        self.log.raise_generation(&seed).await.unwrap();
    }

    pub(super) async fn beat(&self) {
        let (generation, config_version) = (self.generation, self.version);
        let beat = Beat {
            generation,
            config_version,
            at: Timestamp(0),
        };
        self.log.send_beat(&beat).await.unwrap();
    }

    pub(super) async fn redis_is_back(&self) {
        eventually("redis", || async {
            self.log.generation(Plane::Config).await.ok()
        })
        .await;
    }

    pub(super) async fn presence(&self) -> Option<GatewayPresence> {
        self.log
            .presences(self.generation)
            .await
            .ok()?
            .into_iter()
            .next()
    }

    /// Waits until the gateway reports `version` in this generation.
    pub(super) async fn reported(&self, version: u64) -> GatewayPresence {
        eventually("a presence", || async {
            self.presence()
                .await
                .filter(|presence| presence.applied_version >= version)
        })
        .await
    }

    pub(super) fn snapshot_file(&self) -> PathBuf {
        self.directory.path().join("snapshot.bin")
    }
}

async fn put_row(database: &mut PgConnection, row: &EntityRow) {
    let table = match row {
        EntityRow::Organisation(_) => "organisation",
        EntityRow::Provider(_) => "provider",
        EntityRow::ProviderKey(_) => "provider_key",
        EntityRow::Model(_) => "model",
        EntityRow::Key(_) => "api_key",
        EntityRow::Grant(_) => "model_grant",
        EntityRow::Budget(_) => "budget",
        EntityRow::Quota(_) => "quota",
        EntityRow::Overlay(_) => "overlay",
        EntityRow::Team(_) | EntityRow::User(_) | EntityRow::Membership(_) => {
            panic!("no test has these")
        }
    };
    let insert = AssertSqlSafe(format!(
        "INSERT INTO {table} (id, organisation_id, version, position, created_at, updated_at, body)
         VALUES ($1, $2, $3, 0, $4, $5, $6)
         ON CONFLICT (id) DO UPDATE SET version = excluded.version, body = excluded.body"
    ));
    sqlx::query(insert)
        .bind(row.entity().id)
        .bind(row.organisation_id().0)
        .bind(row.version() as i64)
        .bind(row.created_at().to_datetime())
        .bind(row.updated_at().to_datetime())
        .bind(row.body_json().unwrap())
        .execute(database)
        .await
        .unwrap();
}

/// A follower and what it fills.
pub(super) struct Gateway {
    pub(super) cell: Arc<SnapshotCell>,
    pub(super) misses: Arc<Misses>,
    pub(super) vault: Arc<Vault>,
    pub(super) loaded_from: LoadedFrom,
    pub(super) first_load_took: Duration,
    consequences: Arc<Mutex<Consequences>>,
    versions: Arc<Mutex<Vec<u64>>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Gateway {
    pub(super) async fn start(backbone: &Backbone) -> Self {
        Self::start_at(backbone, Arc::new(FixedClock::default()), None).await
    }

    pub(super) async fn start_at(
        backbone: &Backbone,
        clock: Arc<dyn Clock>,
        key_pair: Option<&KeyPair>,
    ) -> Self {
        Self::start_with(backbone, clock, key_pair, KeyCap::default()).await
    }

    /// One that has room for so many keys.
    pub(super) async fn start_small(backbone: &Backbone, keys: usize) -> Self {
        Self::start_with(
            backbone,
            Arc::new(FixedClock::default()),
            None,
            KeyCap(keys),
        )
        .await
    }

    async fn start_with(
        backbone: &Backbone,
        clock: Arc<dyn Clock>,
        key_pair: Option<&KeyPair>,
        key_cap: KeyCap,
    ) -> Self {
        // Shown with a failing test.
        let _ = tracing_subscriber::fmt().with_test_writer().try_init();
        let cell = Arc::new(SnapshotCell::new(
            StalePolicy::Close,
            Duration::from_secs(60),
        ));
        let private_key = key_pair.map(|pair| PrivateKey::from_pem(&pair.private_pem).unwrap());
        let ttl = Duration::from_secs(300);
        let vault = Arc::new(Vault::new(private_key, ttl, Arc::clone(&clock)));
        let consequences = Arc::new(Mutex::new(Consequences::default()));
        let collected = Arc::clone(&consequences);
        let versions = Arc::new(Mutex::new(Vec::new()));
        let (seen, in_force) = (Arc::clone(&versions), Arc::clone(&cell));
        let misses = Arc::new(Misses::new(
            pool(&backbone.dsn),
            Arc::clone(&cell),
            TaskTracker::new(),
        ));
        let follower = Follower::new(FollowerParts {
            misses: Arc::clone(&misses),
            key_cap,
            cell: Arc::clone(&cell),
            vault: Arc::clone(&vault),
            pool: pool(&backbone.dsn),
            redis_url: backbone.redis.url().into(),
            redis: RedisLog::connect(&backbone.redis.url()).await.unwrap(),
            identity: FollowerIdentity {
                gateway_id: GatewayId::generate(),
                epoch: 3,
            },
            snapshot_file: backbone.snapshot_file(),
            clock,
            on_applied: Arc::new(move |consequences: &Consequences| {
                seen.lock().unwrap().push(in_force.version());
                let mut collected = collected.lock().unwrap();
                collected.dead_keys.extend(&consequences.dead_keys);
                collected.changed_rules.extend(&consequences.changed_rules);
            }),
        });
        let begun = Instant::now();
        let loaded_from = follower.load_first().await;
        let first_load_took = begun.elapsed();
        let stop = CancellationToken::new();
        let task = tokio::spawn(follower.run(stop.clone()));
        Self {
            cell,
            misses,
            vault,
            loaded_from,
            first_load_took,
            consequences,
            versions,
            stop,
            task,
        }
    }

    pub(super) async fn reached(&self, version: u64) {
        assert!(
            self.cell.reached(version, DEADLINE).await,
            "{version} was not reached"
        );
    }

    pub(super) fn consequences(&self) -> Consequences {
        self.consequences.lock().unwrap().clone()
    }

    /// Every version that was put in force, in order.
    pub(super) fn versions(&self) -> Vec<u64> {
        self.versions.lock().unwrap().clone()
    }

    /// A graceful end.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(DEADLINE, self.task)
            .await
            .unwrap()
            .unwrap();
    }

    /// An end without a farewell.
    pub(super) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

fn pool(dsn: &str) -> PgPool {
    PgPoolOptions::new()
        .max_connections(2)
        .connect_lazy(dsn)
        .unwrap()
}

/// Waits until `look` finds something.
pub(super) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

const DEADLINE: Duration = Duration::from_secs(15);
