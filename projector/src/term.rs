//! One term of the active projector: all its tasks, from a look at the streams until the first of them fails or the
//! process is asked to stop. Called by `leadership`.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use odock_events::{
    clock::Clock,
    ids::{GatewayId, ReclaimId},
    log::redis::RedisLog,
};
use sqlx::{ConnectOptions as _, PgConnection};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    error::ProjectorError,
    generation::{self, Suspicion},
    heartbeat, lag,
    live::Live,
    ready::ReadyFile,
    relay::{self, CommittedDelta},
    tasks::{grants, management, usage},
    windows,
};

/// How long a blocking read of a stream waits: the longest time in which a stop goes unheard.
pub(crate) const BLOCK: Duration = Duration::from_millis(500);
/// Deltas that wait for the relay; beyond it the relay reads them from their table.
const RELAY_BACKLOG: usize = 1_024;
/// Notices that wait for the grant task; beyond it they are dropped, and asks are repeated.
const NOTICE_BACKLOG: usize = 4_096;

/// What every task of a term shares.
#[derive(Clone)]
pub(crate) struct Term {
    pub(crate) config: Arc<Config>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) log: RedisLog,
    pub(crate) generation: u64,
    pub(crate) stop: CancellationToken,
    pub(crate) signals: Arc<Signals>,
    live: Arc<Live>,
}

/// What the tasks of a term tell one another.
pub(crate) struct Signals {
    /// The last position committed by any task, and a bell for who writes it into Redis.
    position: AtomicI64,
    pub(crate) moved: Notify,
    /// The last configuration version that is in the stream.
    pub(crate) relayed: AtomicU64,
    pub(crate) deltas: mpsc::Sender<CommittedDelta>,
    pub(crate) notices: mpsc::Sender<Notice>,
    /// Rung when somebody waits for what a gateway is about to return.
    pub(crate) hurry: Notify,
}

/// From the usage task to the grant task, after a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The gateway has answered this call for idle parts.
    Returned {
        gateway: GatewayId,
        reclaim_id: ReclaimId,
    },
    /// The gateway has started and wants the totals of its leases.
    Opened { gateway: GatewayId },
}

impl Signals {
    /// A task has committed up to `position`.
    pub(crate) fn committed(&self, position: i64) {
        self.position.fetch_max(position, Ordering::SeqCst);
        self.moved.notify_one();
    }

    pub(crate) fn position(&self) -> i64 {
        self.position.load(Ordering::SeqCst)
    }
}

impl Term {
    /// A connection of a task's own.
    pub(crate) async fn connect(&self) -> Result<PgConnection, ProjectorError> {
        Ok(self.config.postgres.connect().await?)
    }

    /// Whether the generation was raised so lately that not every gateway has shown itself in it.
    pub(crate) fn is_new(&self) -> bool {
        self.live.is_new()
    }

    /// The gateways with a fresh heartbeat.
    pub(crate) async fn live(&self) -> Result<Arc<BTreeSet<GatewayId>>, ProjectorError> {
        self.live.now(&self.log, &*self.clock).await
    }

    /// The same as of a moment ago, for what needs only about how many there are.
    pub(crate) async fn live_lately(&self) -> Result<Arc<BTreeSet<GatewayId>>, ProjectorError> {
        self.live.lately(&self.log, &*self.clock).await
    }
}

/// Runs a term. `Ok` only when asked to stop.
pub(crate) async fn run(
    config: &Arc<Config>,
    clock: &Arc<dyn Clock>,
    stop: &CancellationToken,
    ready: &ReadyFile,
    suspicion: Option<Suspicion>,
) -> Result<(), ProjectorError> {
    let log = RedisLog::connect(&config.redis_url).await?;
    let established = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        established = generation::establish(config, clock, &log, suspicion) => established?,
    };
    let (deltas, delta_queue) = mpsc::channel(RELAY_BACKLOG);
    let (notices, notice_queue) = mpsc::channel(NOTICE_BACKLOG);
    let signals = Signals {
        position: AtomicI64::new(established.position),
        moved: Notify::new(),
        relayed: AtomicU64::new(0),
        deltas,
        notices,
        hurry: Notify::new(),
    };
    let term = Term {
        config: Arc::clone(config),
        clock: Arc::clone(clock),
        log,
        generation: established.generation,
        stop: stop.child_token(),
        signals: Arc::new(signals),
        live: Arc::new(Live::new(established.generation, established.raised_over)),
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(management::run(term.clone()));
    tasks.spawn(usage::run(term.clone()));
    tasks.spawn(grants::run(term.clone(), notice_queue));
    tasks.spawn(windows::run(term.clone()));
    tasks.spawn(lag::run(term.clone()));
    tasks.spawn(relay::run(term.clone(), delta_queue));
    tasks.spawn(heartbeat::run(term.clone()));
    tasks.spawn(generation::keep_checkpoint(term.clone()));
    ready.write(true).await?;
    let result = join(tasks, &term.stop).await;
    tracing::info!(generation = term.generation, "the projector's term is over");
    result
}

/// Waits for all tasks; the first that ends, ends the others. Its error is the term's.
async fn join(
    mut tasks: JoinSet<Result<(), ProjectorError>>,
    stop: &CancellationToken,
) -> Result<(), ProjectorError> {
    let mut result = Ok(());
    while let Some(joined) = tasks.join_next().await {
        stop.cancel();
        let ended = joined.map_err(ProjectorError::from).and_then(|ended| ended);
        if result.is_ok() {
            result = ended;
        }
    }
    result
}
