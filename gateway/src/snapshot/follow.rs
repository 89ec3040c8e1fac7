//! The follower keeps the snapshot current: first the file, then Postgres, then the config stream, delta by delta. A
//! gap, a refusal or a new generation keeps the last good state and loads anew. `startup` makes one for each gateway.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use odock_events::{
    clock::{Clock, Timestamp},
    ids::GatewayId,
    log::redis::RedisLog,
};
use secrecy::SecretString;
use sqlx::PgPool;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use self::hearing::Hearing;
use super::{Consequences, KeyCap, Snapshot, SnapshotCell, file, misses::Misses, vault::Vault};

mod advance;
mod backoff;
mod hearing;
mod keeper;
mod presence;
mod reload;
mod secrets;
mod stream;

/// How long a start with a file waits for what is newer.
const CATCH_UP: Duration = Duration::from_millis(400);

/// Called with what a new snapshot asks of others, when it is in force and before anybody is told so.
pub type OnApplied = Arc<dyn Fn(&Consequences) + Send + Sync>;

/// What a follower works with.
pub struct FollowerParts {
    pub cell: Arc<SnapshotCell>,
    pub vault: Arc<Vault>,
    /// Connects when it is first used.
    pub pool: PgPool,
    /// For the blocking reads, which have connections of their own.
    pub redis_url: SecretString,
    pub redis: RedisLog,
    pub identity: FollowerIdentity,
    pub snapshot_file: PathBuf,
    pub clock: Arc<dyn Clock>,
    pub on_applied: OnApplied,
    /// Told of every change.
    pub misses: Arc<Misses>,
    pub key_cap: KeyCap,
}

/// Whose presence is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerIdentity {
    pub gateway_id: GatewayId,
    pub epoch: u64,
}

/// Where the first configuration came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadedFrom {
    File,
    Postgres,
    /// Neither was there; `run` goes on trying.
    Nothing,
}

pub struct Follower {
    shared: Arc<Shared>,
}

impl Follower {
    #[must_use]
    pub fn new(parts: FollowerParts) -> Self {
        let shared = Shared {
            hearing: Hearing::new(Arc::clone(&parts.cell)),
            parts,
            loaded_from: OnceLock::new(),
            applied: watch::Sender::new(None),
            unsaved: Notify::new(),
            secrets_missing: Notify::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Loads what is nearest: the file in milliseconds, else Postgres in at most a few seconds.
    pub async fn load_first(&self) -> LoadedFrom {
        let loaded_from = self.shared.load_first().await;
        *self.shared.loaded_from.get_or_init(|| loaded_from)
    }

    /// Follows until `stop`; then saves the file and takes the presence back.
    pub async fn run(self, stop: CancellationToken) {
        let shared = &*self.shared;
        tokio::join!(
            Box::pin(stream::run(&self.shared, &stop)),
            Box::pin(hearing::run(shared, &stop)),
            Box::pin(presence::run(shared, &stop)),
            Box::pin(secrets::run(shared, &stop)),
            Box::pin(keeper::run(&self.shared, &stop)),
        );
    }
}

/// What is in force, as it is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Applied {
    generation: u64,
    version: u64,
    at: Timestamp,
}

struct Shared {
    parts: FollowerParts,
    hearing: Hearing,
    loaded_from: OnceLock<LoadedFrom>,
    applied: watch::Sender<Option<Applied>>,
    /// The file is behind.
    unsaved: Notify,
    secrets_missing: Notify,
}

impl Shared {
    /// Puts a snapshot in force: others act on it first, and only then is it reported.
    fn install(&self, snapshot: Arc<Snapshot>, consequences: &Consequences) {
        self.parts
            .misses
            .changing(snapshot.version, &consequences.touched);
        self.put_in_force(snapshot, consequences);
    }

    fn put_in_force(&self, snapshot: Arc<Snapshot>, consequences: &Consequences) {
        let (generation, version) = (snapshot.generation, snapshot.version);
        self.parts.cell.store(snapshot);
        (self.parts.on_applied)(consequences);
        self.hearing.applied();
        let at = self.parts.clock.now();
        self.applied.send_replace(Some(Applied {
            generation,
            version,
            at,
        }));
    }

    async fn load_first(self: &Arc<Self>) -> LoadedFrom {
        if self.load_file().await {
            self.catch_up().await;
            return LoadedFrom::File;
        }
        match self.reload(&CancellationToken::new()).await {
            Ok(()) => LoadedFrom::Postgres,
            Err(error) => {
                tracing::warn!(%error, "no configuration could be loaded yet");
                LoadedFrom::Nothing
            }
        }
    }

    /// What changed since the file was written, if Postgres says so soon: a key made just before a crash is known at the
    /// first call after it.
    async fn catch_up(self: &Arc<Self>) {
        let stop = CancellationToken::new();
        let _cut_off = stop.clone().drop_guard();
        let loaded = tokio::time::timeout(CATCH_UP, self.reload(&stop)).await;
        if !matches!(loaded, Ok(Ok(()))) {
            tracing::warn!("Postgres did not answer at once; going on from the file");
        }
    }

    async fn load_file(self: &Arc<Self>) -> bool {
        let shared = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || shared.read_file());
        read.await.unwrap_or(false)
    }

    fn read_file(&self) -> bool {
        let path = &self.parts.snapshot_file;
        match file::read(path) {
            Ok(Some(saved)) => {
                self.parts.vault.put_envelopes(saved.envelopes);
                self.parts.cell.heard(saved.heard_at);
                let (version, keys) = (saved.snapshot.version, saved.snapshot.key_count());
                let mut snapshot = Arc::unwrap_or_clone(saved.snapshot);
                snapshot.key_cap = self.parts.key_cap;
                self.install(Arc::new(snapshot), &Consequences::default());
                self.secrets_missing.notify_one();
                tracing::info!(version, keys, saved_at = %saved.saved_at, "configuration loaded from file");
                true
            }
            Ok(None) => false,
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "snapshot file is not used");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests;
