//! Keys that the snapshot has no room for, looked up in Postgres when they are used: once for all who wait, never older than
//! what is in force, again when a change came meanwhile. Keys that do not exist are remembered for a second. Asked by
//! `pipeline::authenticate`, and only while the snapshot is partial; told of every change by the follower.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use odock_events::{ids::KeyId, units::Sha256Digest};
use sqlx::PgPool;
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, timeout},
};
use tokio_util::task::TaskTracker;

use super::{
    KeyEntry, Snapshot, SnapshotCell, Touched,
    load::{
        LoadError,
        missing::{LoadedKey, load_key},
    },
};

mod absent;
mod journal;

use self::{absent::Absent, journal::Changes};

/// What is known of a key that is not in the snapshot.
#[derive(Clone, Debug)]
pub enum Found {
    Key(Arc<KeyEntry>),
    /// There is none with this secret.
    Nothing,
    /// Postgres did not say in time.
    Unknown,
}

pub struct Misses {
    pool: PgPool,
    cell: Arc<SnapshotCell>,
    queries: Semaphore,
    tasks: TaskTracker,
    state: Mutex<State>,
    /// Asked of Postgres so far.
    #[cfg(test)]
    asked: std::sync::atomic::AtomicU64,
}

#[derive(Default)]
struct State {
    under_way: HashMap<Sha256Digest, UnderWay>,
    absent: Absent,
    changes: Changes,
}

/// One look-up and what was changed since it was registered.
struct UnderWay {
    found: watch::Receiver<Option<Found>>,
    touched: Vec<(u64, Touched)>,
}

/// Why a look-up is made once more.
enum Again {
    /// Postgres is behind what is in force, or in another generation: a replica, or one that was set back.
    Old,
    /// Something about this key changed meanwhile.
    Changed,
    Failed(LoadError),
}

impl Misses {
    #[must_use]
    pub fn new(pool: PgPool, cell: Arc<SnapshotCell>, tasks: TaskTracker) -> Self {
        Self {
            pool,
            cell,
            queries: Semaphore::new(QUERIES),
            tasks,
            state: Mutex::default(),
            #[cfg(test)]
            asked: std::sync::atomic::AtomicU64::default(),
        }
    }

    #[cfg(test)]
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// The key with this secret, looked up unless that is known or under way.
    pub async fn find(self: &Arc<Self>, secret: Sha256Digest) -> Found {
        let mut found = {
            let mut state = self.lock();
            if state.absent.has(&secret, Instant::now()) {
                return Found::Nothing;
            }
            if let Some(under_way) = state.under_way.get(&secret) {
                under_way.found.clone()
            } else if state.under_way.len() >= UNDER_WAY {
                return Found::Unknown;
            } else {
                let (sender, found) = watch::channel(None);
                let under_way = UnderWay {
                    found: found.clone(),
                    touched: Vec::new(),
                };
                state.under_way.insert(secret, under_way);
                let misses = Arc::clone(self);
                // Others may wait for it: it does not end with the first who asked.
                self.tasks.spawn(async move {
                    let found = misses.look_up(secret).await;
                    misses.lock().under_way.remove(&secret);
                    sender.send_replace(Some(found));
                });
                found
            }
        };
        let answered = timeout(PATIENCE, found.wait_for(Option::is_some)).await;
        match answered {
            Ok(Ok(found)) => found.clone().unwrap_or(Found::Unknown),
            Ok(Err(_)) | Err(_) => Found::Unknown,
        }
    }

    /// Whether a key that is not in the snapshot now has stayed as it was since this version.
    #[must_use]
    pub fn is_unchanged_since(&self, version: u64, key: KeyId) -> bool {
        self.lock().changes.none_since(version, key)
    }

    /// Changes up to this version come into force: told before they are.
    pub fn changing(&self, version: u64, touched: &[Touched]) {
        if touched.is_empty() {
            return;
        }
        let mut state = self.lock();
        let State {
            under_way,
            absent,
            changes,
        } = &mut *state;
        for touched in touched {
            if let Touched::Key {
                secret: Some(secret),
                ..
            } = touched
            {
                absent.forget(secret);
            }
            for look_up in under_way.values_mut() {
                look_up.touched.push((version, *touched));
            }
            changes.add(version, *touched);
        }
    }

    /// Puts a whole new snapshot in force with `install`, unless keys came in that `is_known` does not know: those are
    /// returned, and the caller finds out about them first.
    pub fn replace(
        &self,
        version: u64,
        is_known: impl Fn(&KeyId) -> bool,
        install: impl FnOnce(),
    ) -> Vec<KeyId> {
        let mut state = self.lock();
        let unknown: Vec<KeyId> = self
            .cell
            .load()
            .key_ids()
            .filter(|id| !is_known(id))
            .collect();
        if unknown.is_empty() {
            state.changes.restart(version);
            state.absent = Absent::default();
            for look_up in state.under_way.values_mut() {
                look_up.touched.push((u64::MAX, Touched::AnyKey));
            }
            install();
        }
        unknown
    }

    async fn look_up(&self, secret: Sha256Digest) -> Found {
        for _ in 0..TRIES {
            match self.look_up_once(secret).await {
                Ok(found) => return found,
                Err(Again::Changed) => {}
                Err(Again::Old) => tokio::time::sleep(PAUSE).await,
                Err(Again::Failed(error)) => {
                    tracing::warn!(%error, "a key could not be looked up");
                    return Found::Unknown;
                }
            }
        }
        Found::Unknown
    }

    async fn look_up_once(&self, secret: Sha256Digest) -> Result<Found, Again> {
        if let Some(under_way) = self.lock().under_way.get_mut(&secret) {
            under_way.touched.clear();
        }
        let begun = self.cell.load();
        let loaded = {
            let _place = self.queries.acquire().await;
            #[cfg(test)]
            self.asked
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            load_key(&self.pool, &secret).await.map_err(Again::Failed)?
        };
        if loaded.generation != begun.generation || loaded.version < begun.version {
            return Err(Again::Old);
        }
        // What the key may use is in force when it is.
        if !self.cell.reached(loaded.version, CATCH_UP).await {
            return Err(Again::Old);
        }
        self.take_in(secret, &loaded)
    }

    /// Under the lock no change comes into force unseen: it is told first.
    fn take_in(&self, secret: Sha256Digest, loaded: &LoadedKey) -> Result<Found, Again> {
        let mut state = self.lock();
        let id = loaded.found.as_ref().map(|(key, _)| key.id);
        let touched = state.under_way.get(&secret).map(|look_up| &look_up.touched);
        let changed = touched.into_iter().flatten().any(|(version, touched)| {
            *version > loaded.version
                && match touched {
                    Touched::AnyKey => true,
                    Touched::Key {
                        id: other,
                        secret: of,
                    } => Some(*other) == id || *of == Some(secret),
                }
        });
        if changed {
            return Err(Again::Changed);
        }
        let Some((key, grants)) = &loaded.found else {
            state.absent.add(secret, Instant::now());
            return Ok(Found::Nothing);
        };
        let generation = loaded.generation;
        let with_key = |snapshot: &Snapshot| {
            (snapshot.generation == generation).then(|| snapshot.with_key(key, grants))
        };
        let now = self.cell.change(with_key).ok_or(Again::Old)?;
        let entry = now.key(&secret).cloned();
        drop(state);
        entry.map(Found::Key).ok_or(Again::Changed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Queries at a time: others wait their turn within their patience.
const QUERIES: usize = 8;
/// Look-ups at a time.
const UNDER_WAY: usize = 10_000;
const TRIES: usize = 5;
const PAUSE: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(3);
/// How long the follower may take to what Postgres has already.
const CATCH_UP: Duration = Duration::from_secs(1);
