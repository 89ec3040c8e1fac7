//! Puts the gateway together, serves until it is told to stop, and takes it apart in the order that loses nothing.
//! Called by `odock gateway`.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use futures_util::future::BoxFuture;
use odock_events::{
    clock::{Clock, SystemClock},
    ledger::purse::Protocol,
    log::{limits::LimitStore, redis::RedisLog},
    payload::{account::AccountId, budget::Owner},
    seal::PrivateKey,
};
use secrecy::ExposeSecret as _;
use sqlx::postgres::PgPoolOptions;
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::{Config, ProviderKeySettings},
    http::{health::Dependencies, router, server, tls},
    journal::{Journal, JournalOptions},
    limits::{self, Limits, metrics::LimitMetrics},
    money::{Asks, Money, MoneyLinks},
    pipeline::{
        accounts::Accounts,
        closer,
        live::LiveCalls,
        open_call::{Books, Unfinished},
    },
    provider::{client::UpstreamClient, targets::Targets},
    shutdown::Shutdown,
    snapshot::{
        Consequences, SnapshotCell,
        follow::{Follower, FollowerIdentity, FollowerParts, OnApplied},
        misses::Misses,
        vault::Vault,
    },
    state::{Gateway, RequestSettings},
    telemetry::metrics::Metrics,
    usage::{self, Closed, Closing, Shipper, Standing, UsageError},
};

mod process;

/// Serves until `stop` is cancelled, then drains.
pub async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    process::limit_process();
    let shutdown = Shutdown::new(stop);
    let built = build(&config, &shutdown).await?;
    let Built {
        gateway,
        queue,
        asks,
        follower,
        shipper,
        links,
        counting,
    } = built;
    let background = Background::default();
    let closer = tokio::spawn(closer::run(
        queue,
        Arc::clone(&gateway.books),
        background.closing.clone(),
    ));
    gateway
        .books
        .money
        .spawn(asks, links, &background.money, &background.closing);
    // Ends with the process: calls need it to their last.
    let counting = tokio::spawn(counting);
    let (shipped, standing) = (shipper.shipped(), shipper.standing());
    let shipping = background.ship(shipper, &shutdown);
    let from = follower.load_first().await;
    tracing::info!(from = ?from, version = gateway.snapshot.version(), "configuration loaded");
    let following = tokio::spawn(follower.run(background.closing.clone()));

    let settled = Standing::settle(standing, STANDING_PATIENCE);
    let may_serve = shutdown.stop.run_until_cancelled(settled).await;
    let served = if may_serve.unwrap_or(false) {
        serve(&config, &gateway).await
    } else {
        Ok(())
    };
    shutdown.drain(config.shutdown_grace).await;
    background.closing.cancel();
    counting.abort();
    if tokio::time::timeout(LAST_RECORDS, closer).await.is_err() {
        tracing::error!("some finished calls could not be written; the next start settles them");
    }
    background.money.close();
    background.money.wait().await;
    following.await.context("the follower failed")?;
    let closing = Closing {
        journal: &gateway.books.journal,
        money: &gateway.books.money,
        clock: &*gateway.books.clock,
        shipped,
    };
    let fatal = background.end(closing, shipping).await?;
    served?;
    fatal.map_or(Ok(()), |error| Err(error.into()))
}

/// The tasks beside the calls, in the order in which they end: closer, money and follower, shipper.
#[derive(Default)]
struct Background {
    closing: CancellationToken,
    money: TaskTracker,
    shipping: CancellationToken,
}

impl Background {
    /// Starts the shipper. When it cannot go on for good, the gateway ends.
    fn ship(&self, shipper: Shipper, shutdown: &Shutdown) -> JoinHandle<Option<UsageError>> {
        let (shipping, stop) = (self.shipping.clone(), shutdown.stop.clone());
        tokio::spawn(async move {
            let error = shipper.run(shipping, stop).await.err();
            if let Some(error) = &error {
                tracing::error!(%error, "usage can no longer be shipped; the gateway ends");
            }
            error
        })
    }

    /// Closes the gateway's books. With a shipper that has failed for good there is nothing to close.
    async fn end(
        &self,
        closing: Closing<'_>,
        shipper: JoinHandle<Option<UsageError>>,
    ) -> anyhow::Result<Option<UsageError>> {
        if !shipper.is_finished() {
            match closing.run(LAST_SHIPMENT).await? {
                Closed::Drained => tracing::info!("gateway closed, everything is in Postgres"),
                Closed::Unconfirmed(events) => {
                    tracing::warn!(
                        events,
                        "gateway closed; the journal ships the rest at the next start"
                    );
                }
                Closed::OpenCalls(calls) => {
                    tracing::warn!(calls, "calls were still open; the next start settles them");
                }
            }
        }
        self.shipping.cancel();
        shipper.await.context("the shipper failed")
    }
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
        process::write_ready_file(path, address)
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

/// The gateway and what will run beside it.
struct Built {
    gateway: Arc<Gateway>,
    queue: mpsc::Receiver<Unfinished>,
    asks: Asks,
    follower: Follower,
    shipper: Shipper,
    links: MoneyLinks,
    counting: BoxFuture<'static, ()>,
}

async fn build(config: &Config, shutdown: &Shutdown) -> anyhow::Result<Built> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let redis_url = config.redis_url.expose_secret();
    let log = RedisLog::connect(redis_url).await?;
    let (journal, recovered) = Journal::open(JournalOptions::new(config.journal_dir.clone()))?;
    let shipper = Shipper::new(journal.clone(), log.clone(), &recovered);
    usage::open(&journal, recovered, &*clock)?;
    let (money, asks) = Money::new(journal.clone(), Arc::clone(&clock), Protocol::default());
    let money = Arc::new(money);
    let identity = FollowerIdentity {
        gateway_id: journal.identity().gateway_id,
        epoch: journal.identity().epoch,
    };
    let snapshot = Arc::new(SnapshotCell::new(
        config.snapshot.stale_policy,
        config.snapshot.max_stale,
    ));
    let vault = Arc::new(vault(&config.provider_keys, Arc::clone(&clock))?);
    let live = Arc::new(LiveCalls::default());
    let pool = PgPoolOptions::new()
        .max_connections(config.postgres.max_open)
        .acquire_timeout(POSTGRES_PATIENCE)
        .connect_lazy(config.postgres.dsn.expose_secret())?;
    let misses = Arc::new(Misses::new(
        pool.clone(),
        Arc::clone(&snapshot),
        shutdown.tracker.clone(),
    ));
    let follower = Follower::new(FollowerParts {
        cell: Arc::clone(&snapshot),
        vault: Arc::clone(&vault),
        pool: pool.clone(),
        redis_url: config.redis_url.clone(),
        redis: log.clone(),
        identity,
        snapshot_file: config.snapshot.file.clone(),
        clock: Arc::clone(&clock),
        on_applied: on_applied(&live, &money),
        misses: Arc::clone(&misses),
        key_cap: config.snapshot.key_cap,
    });
    let links = MoneyLinks {
        log,
        redis_url: redis_url.to_owned(),
        next_window: next_window(&snapshot),
    };
    let upstream = &config.upstream;
    let client = UpstreamClient::new(
        upstream.limits,
        upstream.address_rule,
        upstream.extra_roots.as_deref(),
        // Its idle connections end with the client: a shutdown that waited for them would take the whole grace.
        TaskTracker::new(),
    )?;
    let metrics = Arc::new(Metrics::new()?);
    let (limits, counting) = limits(config, &metrics, &*clock, identity)?;
    let (closer, queue) = mpsc::channel(queue_length(config));
    let gateway = Arc::new(Gateway {
        id: identity.gateway_id,
        settings: RequestSettings {
            body: config.body,
            journal_strict: config.journal_strict,
            prometheus: config.observability.prometheus,
        },
        snapshot,
        misses,
        vault,
        books: Arc::new(Books {
            journal,
            money,
            limits,
            metrics,
            clock,
        }),
        accounts: Accounts::default(),
        client,
        targets: Targets::default(),
        live,
        closer,
        dependencies: Dependencies {
            postgres: pool,
            redis: redis::Client::open(redis_url)?,
        },
        shutdown: shutdown.clone(),
    });
    Ok(Built {
        gateway,
        queue,
        asks,
        follower,
        shipper,
        links,
        counting,
    })
}

/// The limits and the task that counts for them.
fn limits(
    config: &Config,
    metrics: &Metrics,
    clock: &dyn Clock,
    identity: FollowerIdentity,
) -> anyhow::Result<(Arc<Limits>, BoxFuture<'static, ()>)> {
    let limits = Limits::new(
        config.limits.clone(),
        LimitMetrics::new(metrics.registry())?,
        clock,
    );
    let limits = Arc::new(limits);
    let store = LimitStore::new(config.redis_url.expose_secret(), COUNTERS_PATIENCE)?;
    let process = format!("{}.{}", identity.gateway_id, identity.epoch);
    let never = CancellationToken::new();
    let counting = limits::task::run(Arc::clone(&limits), store, process, never);
    Ok((limits, Box::pin(counting)))
}

fn vault(settings: &ProviderKeySettings, clock: Arc<dyn Clock>) -> anyhow::Result<Vault> {
    let private_key = settings.key_pair.as_ref().map(|pair| {
        let key = PrivateKey::from_pem(pair.private_key_pem.expose_secret())
            .context("PROVIDER_KEY_ENCRYPTION_PRIVATE_KEY does not read")?;
        anyhow::ensure!(
            key.key_id() == pair.key_id,
            "PROVIDER_KEY_ENCRYPTION_KEY_ID is {}, the private key's is {}",
            pair.key_id,
            key.key_id(),
        );
        Ok(key)
    });
    Ok(Vault::new(
        private_key.transpose()?,
        settings.decrypt_cache_ttl,
        clock,
    ))
}

/// What a change of configuration asks of calls and money, before anybody is told that it is in force.
fn on_applied(live: &Arc<LiveCalls>, money: &Arc<Money>) -> OnApplied {
    let (live, money) = (Arc::clone(live), Arc::clone(money));
    Arc::new(move |consequences: &Consequences| {
        live.cut(&consequences.dead_keys);
        for rule in &consequences.changed_rules {
            money.rule_changed(*rule);
        }
    })
}

/// The account of a rule at a moment, as the configuration is then. Where each of many is counted by itself and nobody says
/// which one this is, its owner is the rule's: enough to give back what is idle.
fn next_window(snapshot: &Arc<SnapshotCell>) -> Arc<crate::money::NextWindow> {
    let cell = Arc::clone(snapshot);
    Arc::new(move |account: AccountId, owner: Option<&Owner>, at| {
        let snapshot = cell.load();
        let rule = snapshot
            .rule(account.rule)
            .filter(|rule| rule.is_active())?;
        let owner = owner.unwrap_or_else(|| rule.owner()).clone();
        let window = rule.window_at(at)?;
        Some(rule.account_of(owner, account.subject, window, at))
    })
}

/// As many calls as there may be at a time: each holds a place for its end.
fn queue_length(config: &Config) -> usize {
    most_calls(config.max_concurrent_requests, config.transport.caps.total)
}

/// Without a cap on calls, the cap on connections is one.
fn most_calls(cap: usize, connections: usize) -> usize {
    if cap == 0 { connections } else { cap }
}

/// How long the journal may take for the last calls.
const LAST_RECORDS: Duration = Duration::from_secs(5);
/// How long Postgres may take to have the last of it.
const LAST_SHIPMENT: Duration = Duration::from_secs(10);
/// How long a start waits for Redis to say whose stream it is.
const STANDING_PATIENCE: Duration = Duration::from_millis(300);
/// How long the counters of limits may take before this gateway counts alone.
const COUNTERS_PATIENCE: Duration = Duration::from_secs(2);
/// How long a query waits for a connection.
const POSTGRES_PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_052_zero_takes_as_many_calls_as_there_may_be_connections() {
        assert_eq!(most_calls(0, 32_768), 32_768);
        assert_eq!(most_calls(5, 32_768), 5);
    }
}
