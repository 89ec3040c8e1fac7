//! Puts the gateway together, serves until it is told to stop, and takes it apart in the order that loses nothing.
//! Called by `odock gateway`.

use std::{io::Write as _, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use odock_events::clock::{Clock, SystemClock};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use sqlx::postgres::PgPoolOptions;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::sync::CancellationToken;

use crate::{
    budget::Money,
    config::Config,
    http::{health::Dependencies, router, server, tls},
    journal::{Journal, JournalOptions},
    pipeline::{
        accounts::Accounts,
        closer,
        live::LiveStreams,
        open_call::{Books, Unfinished},
    },
    provider::{client::UpstreamClient, targets::Targets},
    shutdown::Shutdown,
    snapshot::{SnapshotCell, vault::Vault},
    state::{Gateway, RequestSettings},
    telemetry::metrics::Metrics,
};

/// Serves until `stop` is cancelled, then drains.
pub async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    limit_process();
    let shutdown = Shutdown::new(stop);
    let (gateway, queue) = build(&config, &shutdown)?;
    let gateway = Arc::new(gateway);
    let closing = CancellationToken::new();
    let closer = tokio::spawn(closer::run(
        queue,
        Arc::clone(&gateway.books),
        closing.clone(),
    ));
    let served = serve(&config, &gateway).await;
    shutdown.drain(config.shutdown_grace).await;
    closing.cancel();
    if tokio::time::timeout(LAST_RECORDS, closer).await.is_err() {
        tracing::error!("some finished calls could not be written; the next start settles them");
    }
    served
}

async fn serve(config: &Config, gateway: &Arc<Gateway>) -> anyhow::Result<()> {
    let tls = config
        .tls
        .as_ref()
        .map(|files| tls::acceptor(&files.certificate, &files.key));
    let tls = tls.transpose()?;
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.listen))?;
    let address = listener.local_addr()?;
    if let Some(path) = &config.ready_file {
        write_ready_file(path, address)
            .with_context(|| format!("READY_FILE {} cannot be written", path.display()))?;
    }
    tracing::info!(%address, gateway_id = %gateway.id, "gateway listens");
    let shared = Arc::clone(gateway);
    let handler =
        move |request, connection| router::answer(Arc::clone(&shared), request, connection);
    server::serve(
        listener,
        config.transport,
        tls,
        handler,
        gateway.shutdown.clone(),
    )
    .await;
    Ok(())
}

fn build(
    config: &Config,
    shutdown: &Shutdown,
) -> anyhow::Result<(Gateway, mpsc::Receiver<Unfinished>)> {
    let (journal, _recovered) = Journal::open(JournalOptions::new(config.journal_dir.clone()))?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let metrics = Arc::new(Metrics::new()?);
    let gateway_id = journal.identity().gateway_id;
    let books = Arc::new(Books {
        journal,
        money: Arc::new(Money),
        metrics,
        clock,
    });
    let upstream = &config.upstream;
    let client = UpstreamClient::new(
        upstream.limits,
        upstream.address_rule,
        upstream.extra_roots.as_deref(),
        shutdown.tracker.clone(),
    )?;
    let (closer, queue) = mpsc::channel(queue_length(config));
    let gateway = Gateway {
        id: gateway_id,
        settings: RequestSettings {
            body: config.body,
            journal_strict: config.journal_strict,
            prometheus: config.observability.prometheus,
        },
        snapshot: Arc::new(SnapshotCell::new(
            config.snapshot.stale_policy,
            config.snapshot.max_stale,
        )),
        vault: Arc::new(Vault),
        books,
        accounts: Accounts::default(),
        client,
        targets: Targets::default(),
        live: Arc::new(LiveStreams::default()),
        closer,
        dependencies: Dependencies {
            postgres: PgPoolOptions::new()
                .max_connections(config.postgres.max_open)
                .connect_lazy(config.postgres.dsn.expose_secret())?,
            redis: redis::Client::open(config.redis_url.expose_secret())?,
        },
        shutdown: shutdown.clone(),
    };
    Ok((gateway, queue))
}

/// As many calls as there may be at a time: each holds a place for its end.
fn queue_length(config: &Config) -> usize {
    match config.max_concurrent_requests {
        0 => config.transport.caps.total,
        most => most,
    }
}

#[derive(Serialize)]
struct Ready {
    pid: u32,
    addr: SocketAddr,
}

/// By rename, so that whoever waits for it never reads half.
fn write_ready_file(path: &Path, addr: SocketAddr) -> std::io::Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let mut file = std::fs::File::create(&partial)?;
    serde_json::to_writer(
        &mut file,
        &Ready {
            pid: std::process::id(),
            addr,
        },
    )?;
    file.flush()?;
    std::fs::rename(partial, path)
}

/// As many descriptors as the system lets us have; no core dumps, which would hold keys.
fn limit_process() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised.and_then(|()| setrlimit(Resource::RLIMIT_CORE, 0, 0)) {
        tracing::warn!(%error, "cannot set the limits of the process");
    }
}

/// How long the journal may take for the last calls.
const LAST_RECORDS: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_file_says_who_listens_where() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ready.json");
        write_ready_file(&path, "127.0.0.1:8080".parse().unwrap()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let expected = format!(
            "{{\"pid\":{},\"addr\":\"127.0.0.1:8080\"}}",
            std::process::id()
        );
        assert_eq!(text, expected);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
