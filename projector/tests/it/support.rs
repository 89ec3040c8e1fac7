//! What the tests stand on: servers, a migrated database, a running projector, an admin and gateways that only speak
//! the streams' language.

pub(crate) mod admin;
pub(crate) mod gateway;
pub(crate) mod postgres;
pub(crate) mod redis;

use std::{future::Future, time::Duration};

use odock_events::{log::redis::RedisLog, settings::Settings};
use odock_projector::{Config, SETTINGS};
use sqlx::{ConnectOptions as _, PgConnection};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

/// One test's own world.
pub(crate) struct World {
    pub(crate) redis: redis::Redis,
    pub(crate) dsn: String,
    pub(crate) log: RedisLog,
    pub(crate) database: PgConnection,
}

/// A projector that runs in the test's process.
pub(crate) struct Running {
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl World {
    pub(crate) async fn new() -> Self {
        // Shown with a failing test.
        let _ = tracing_subscriber::fmt().with_test_writer().try_init();
        let dsn = postgres::database().await;
        let redis = redis::Redis::start();
        let log = RedisLog::connect(&redis.url()).await.unwrap();
        eventually("redis", || async { log.ping().await.ok() }).await;
        let options: sqlx::postgres::PgConnectOptions = dsn.parse().unwrap();
        Self {
            redis,
            log,
            database: options.connect().await.unwrap(),
            dsn,
        }
    }

    /// Goes on with another database.
    pub(crate) async fn connect_to(&mut self, dsn: String) {
        let options: sqlx::postgres::PgConnectOptions = dsn.parse().unwrap();
        self.database = options.connect().await.unwrap();
        self.dsn = dsn;
    }

    pub(crate) fn config(&self) -> Config {
        let pairs = [
            ("POSTGRES_DSN", self.dsn.clone()),
            ("REDIS_URL", self.redis.url()),
        ];
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value));
        Config::from_settings(&Settings::from_pairs(pairs, SETTINGS).unwrap()).unwrap()
    }

    pub(crate) fn start(&self) -> Running {
        Running::of(self.config())
    }

    /// A projector that tells its state in a file.
    pub(crate) fn start_with_file(&self, file: &std::path::Path) -> Running {
        Running::of(Config {
            ready_file: Some(file.to_owned()),
            ..self.config()
        })
    }

    /// The generation in force, once Redis has it.
    pub(crate) async fn generation(&self) -> u64 {
        let log = &self.log;
        eventually("an open generation", || async move {
            log.generation(odock_events::log::keys::Plane::Management)
                .await
                .ok()
                .flatten()
        })
        .await
    }

    /// One number out of the database.
    pub(crate) async fn number(&mut self, query: &'static str) -> i64 {
        sqlx::query_scalar(query)
            .fetch_one(&mut self.database)
            .await
            .unwrap()
    }

    /// Waits until `query`, which gives one number, gives `wanted`.
    pub(crate) async fn reaches(&mut self, query: &'static str, wanted: i64) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let found = self.number(query).await;
            if found == wanted {
                return;
            }
            assert!(Instant::now() < deadline, "{query}: {found}, not {wanted}");
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Running {
    fn of(config: Config) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(odock_projector::run(config, stop.clone()));
        Self { stop, task }
    }

    /// A graceful end.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// An end in the middle of whatever it does.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// The error by which it ends.
    pub(crate) async fn error(self) -> anyhow::Error {
        tokio::time::timeout(DEADLINE, self.task)
            .await
            .unwrap()
            .unwrap()
            .unwrap_err()
    }
}

pub(crate) const DEADLINE: Duration = Duration::from_secs(15);
pub(crate) const POLL: Duration = Duration::from_millis(5);

/// Waits until `look` finds something.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(POLL).await;
    }
}
