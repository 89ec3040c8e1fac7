//! The snapshot in force, how old it is, and what happens when it is too old.

use std::{
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use odock_events::clock::Timestamp;
use tokio::sync::watch;

use super::Snapshot;

/// What a gateway does when it has heard nothing for longer than `max_stale`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StalePolicy {
    /// Known keys go on; an unknown one may be new and is told to come back.
    KnownKeysOnly,
    Continue,
    Close,
}

impl FromStr for StalePolicy {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "known_keys_only" => Ok(Self::KnownKeysOnly),
            "continue" => Ok(Self::Continue),
            "close" => Ok(Self::Close),
            _ => Err("expected known_keys_only, continue or close"),
        }
    }
}

/// Shared by the follower, which writes, and every request, which reads.
#[derive(Debug)]
pub struct SnapshotCell {
    current: ArcSwap<Snapshot>,
    /// When the projector was last heard, in microseconds since 1970.
    heard_at: AtomicI64,
    loaded: AtomicBool,
    /// The version in force, for those who wait for one.
    versions: watch::Sender<u64>,
    pub policy: StalePolicy,
    pub max_stale: Duration,
}

impl SnapshotCell {
    #[must_use]
    pub fn new(policy: StalePolicy, max_stale: Duration) -> Self {
        Self {
            current: ArcSwap::default(),
            heard_at: AtomicI64::new(0),
            loaded: AtomicBool::new(false),
            versions: watch::Sender::new(0),
            policy,
            max_stale,
        }
    }

    /// The snapshot of a request, for as long as it lasts.
    #[must_use]
    pub fn load(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    #[must_use]
    pub fn version(&self) -> u64 {
        self.current.load().version
    }

    pub fn store(&self, snapshot: Arc<Snapshot>) {
        let version = snapshot.version;
        self.current.store(snapshot);
        self.loaded.store(true, Ordering::Release);
        self.versions.send_replace(version);
    }

    /// Puts the same version in force with something more in it, unless there is nothing to add.
    pub(super) fn change(
        &self,
        change: impl Fn(&Snapshot) -> Option<Snapshot>,
    ) -> Option<Arc<Snapshot>> {
        loop {
            let before = self.current.load_full();
            let next = Arc::new(change(&before)?);
            let found = self.current.compare_and_swap(&before, Arc::clone(&next));
            if Arc::ptr_eq(&before, &found) {
                return Some(next);
            }
        }
    }

    /// Waits until `version` or a later one is in force; false when `patience` ends first.
    pub async fn reached(&self, version: u64, patience: Duration) -> bool {
        let mut versions = self.versions.subscribe();
        let reached = versions.wait_for(|current| *current >= version);
        tokio::time::timeout(patience, reached)
            .await
            .is_ok_and(|waited| waited.is_ok())
    }

    /// Whether any configuration is there: from the file, from Postgres, or both.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    pub fn heard(&self, at: Timestamp) {
        self.heard_at.fetch_max(at.0, Ordering::AcqRel);
    }

    /// When the configuration was last known to be current.
    #[must_use]
    pub fn heard_at(&self) -> Timestamp {
        Timestamp(self.heard_at.load(Ordering::Acquire))
    }

    #[must_use]
    pub fn age(&self, now: Timestamp) -> Duration {
        now.since(self.heard_at())
    }

    #[must_use]
    pub fn is_stale(&self, now: Timestamp) -> bool {
        self.age(now) > self.max_stale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_waiter_sees_the_version_or_runs_out_of_patience() {
        let cell = SnapshotCell::new(StalePolicy::Continue, Duration::from_secs(60));
        assert!(!cell.is_loaded());
        let store = async { cell.store(Arc::new(Snapshot::of_rows(4, []))) };
        let (early, (), late) = tokio::join!(
            cell.reached(4, Duration::from_secs(5)),
            store,
            cell.reached(5, Duration::from_millis(10))
        );
        assert_eq!(
            (early, late, cell.version(), cell.is_loaded()),
            (true, false, 4, true)
        );
    }

    #[test]
    fn age_counts_from_the_last_time_heard() {
        let cell = SnapshotCell::new(StalePolicy::Close, Duration::from_secs(60));
        let second = |second: i64| Timestamp(second * 1_000_000);
        assert!(cell.is_stale(second(100)));
        cell.heard(second(100));
        cell.heard(second(90));
        assert_eq!(cell.age(second(101)), Duration::from_secs(1));
        assert!(!cell.is_stale(second(160)));
        assert!(cell.is_stale(second(161)));
    }
}
