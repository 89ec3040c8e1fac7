//! From settings to a running admin. Connections are made when they are needed, so that the admin starts, and answers 503,
//! while Postgres or Redis is away.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use odock_events::{clock::SystemClock, log::redis::RedisLog};
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    app::{App, AppState},
    auth::Credentials,
    command::{
        queue::Queues,
        waiting::{self, Waiting},
    },
    config::Config,
    idempotency, router, server,
};

/// How long a request waits for a connection to Postgres.
const ACQUIRE: Duration = Duration::from_millis(1_500);
const SWEEP: Duration = Duration::from_secs(600);

/// Serves the management API until `stop`.
pub async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    let listener = TcpListener::bind(config.address)
        .await
        .with_context(|| format!("cannot listen on {}", config.address))?;
    let address = listener.local_addr()?;
    let ready_file = config.ready_file.clone();
    let app = build(config).await?;
    let tasks = TaskTracker::new();
    tasks.spawn(waiting::listen(
        app.pool.clone(),
        Arc::clone(&app),
        stop.clone(),
    ));
    tasks.spawn(sweep(Arc::clone(&app), stop.clone()));
    tasks.close();
    if let Some(path) = &ready_file {
        write_ready(path, address)
            .await
            .context("the ready file cannot be written")?;
    }
    tracing::info!(%address, "the admin listens");
    server::serve(listener, router::router(Arc::clone(&app)), stop.clone()).await;
    tasks.wait().await;
    app.pool.close().await;
    Ok(())
}

async fn build(config: Config) -> anyhow::Result<App> {
    let options = config.postgres.options([
        ("statement_timeout", "10s"),
        ("lock_timeout", "2s"),
        ("idle_in_transaction_session_timeout", "10s"),
    ]);
    let pool: PgPool = PgPoolOptions::new()
        .max_connections(config.postgres_max_open)
        .acquire_timeout(ACQUIRE)
        .connect_lazy_with(options);
    Ok(Arc::new(AppState {
        pool,
        log: RedisLog::connect(&config.redis_url).await?,
        redis_url: config.redis_url,
        credentials: Credentials::new(&config.bootstrap_token),
        subject_keys: config.subject_keys,
        sealing_key: config.sealing_key,
        allow_private_addresses: config.allow_private_addresses,
        clock: Arc::new(SystemClock),
        queues: Queues::default(),
        waiting: Waiting::default(),
        reclaims: Semaphore::new(1),
    }))
}

/// Forgets old idempotency keys now and then.
async fn sweep(app: App, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(SWEEP);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if let Err(error) = idempotency::sweep(&app.pool, app.clock.now()).await {
            tracing::debug!(%error, "old idempotency keys could not be forgotten");
        }
    }
}

/// Replaces the file, so that a reader sees nothing or all of it.
async fn write_ready(path: &Path, address: SocketAddr) -> std::io::Result<()> {
    let state = serde_json::json!({ "pid": std::process::id(), "addr": address.to_string() });
    let mut temporary = path.to_owned().into_os_string();
    temporary.push(".new");
    tokio::fs::write(&temporary, state.to_string()).await?;
    tokio::fs::rename(&temporary, path).await
}
