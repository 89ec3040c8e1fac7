//! Hearing the projector: its beats say that the configuration is current, and which generation is in force.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use odock_events::{
    clock::Timestamp,
    log::{LogError, keys::Plane, messages::Beat, reader::StreamReader},
};
use secrecy::ExposeSecret as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Shared, backoff::Backoff};
use crate::snapshot::SnapshotCell;

/// What was heard and what it is good for.
pub(super) struct Hearing {
    cell: Arc<SnapshotCell>,
    /// The first beat whose version is not in force yet: it counts, from its arrival, once it is.
    pending: Mutex<Option<(Beat, Timestamp)>>,
    newest_generation: watch::Sender<u64>,
}

impl Hearing {
    pub(super) fn new(cell: Arc<SnapshotCell>) -> Self {
        Self {
            cell,
            pending: Mutex::new(None),
            newest_generation: watch::Sender::new(0),
        }
    }

    /// The highest generation that anything has told of.
    pub(super) fn newest_generation(&self) -> watch::Receiver<u64> {
        self.newest_generation.subscribe()
    }

    pub(super) fn generation_seen(&self, generation: u64) {
        self.newest_generation.send_if_modified(|newest| {
            let is_newer = generation > *newest;
            *newest = generation.max(*newest);
            is_newer
        });
    }

    /// Takes a beat that arrived at `at`, by our own clock.
    pub(super) fn beat(&self, beat: Beat, at: Timestamp) {
        self.generation_seen(beat.generation);
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_current(&beat) {
            self.cell.heard(at);
            *pending = None;
        } else if pending.is_none_or(|(earlier, _)| earlier.generation < beat.generation) {
            *pending = Some((beat, at));
        }
    }

    /// Another snapshot is in force.
    pub(super) fn applied(&self) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, at)) = pending.take_if(|(beat, _)| self.is_current(beat)) {
            self.cell.heard(at);
        }
    }

    /// A version that the stream is known to hold or to have held.
    pub(super) fn expected_version(&self, generation: u64) -> Option<u64> {
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let beat = pending.map(|(beat, _)| beat);
        beat.filter(|beat| beat.generation == generation)
            .map(|beat| beat.config_version)
    }

    fn is_current(&self, beat: &Beat) -> bool {
        let snapshot = self.cell.load();
        beat.generation == snapshot.generation && beat.config_version <= snapshot.version
    }
}

/// Listens until `stop`.
pub(super) async fn run(shared: &Shared, stop: &CancellationToken) {
    let mut backoff = Backoff::new(Duration::from_secs(1));
    loop {
        let Some(Err(error)) = stop.run_until_cancelled(listen(shared, &mut backoff)).await else {
            return;
        };
        tracing::debug!(%error, "beats are not heard");
        if !backoff.pause(stop).await {
            return;
        }
    }
}

/// From the stream's present end: an old beat says nothing about now.
async fn listen(shared: &Shared, backoff: &mut Backoff) -> Result<(), LogError> {
    let mut reader = StreamReader::connect(shared.parts.redis_url.expose_secret()).await?;
    let mut place = reader.beats_end().await?;
    backoff.reset();
    loop {
        for (id, beat) in reader.beats(&place, BLOCK).await? {
            place = id;
            shared.hearing.beat(beat, shared.parts.clock.now());
        }
        if let Some(generation) = shared.parts.redis.generation(Plane::Config).await? {
            shared.hearing.generation_seen(generation);
        }
    }
}

const BLOCK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Snapshot, cell::StalePolicy};

    fn hearing() -> (Arc<SnapshotCell>, Hearing) {
        let cell = Arc::new(SnapshotCell::new(
            StalePolicy::Close,
            Duration::from_secs(60),
        ));
        (Arc::clone(&cell), Hearing::new(cell))
    }

    fn put_in_force(cell: &SnapshotCell, hearing: &Hearing, generation: u64, version: u64) {
        cell.store(Arc::new(Snapshot {
            version,
            generation,
            ..Snapshot::default()
        }));
        hearing.applied();
    }

    fn beat(generation: u64, config_version: u64) -> Beat {
        Beat {
            generation,
            config_version,
            at: Timestamp(0),
        }
    }

    fn age(cell: &SnapshotCell) -> u64 {
        cell.age(Timestamp(1_000_000_000)).as_secs()
    }

    fn second(second: i64) -> Timestamp {
        Timestamp(second * 1_000_000)
    }

    #[test]
    fn a_beat_counts_when_its_version_is_in_force() {
        let (cell, hearing) = hearing();
        put_in_force(&cell, &hearing, 5, 10);
        hearing.beat(beat(5, 9), second(100));
        assert_eq!((age(&cell), hearing.expected_version(5)), (900, None));
        hearing.beat(beat(5, 12), second(200));
        hearing.beat(beat(5, 13), second(300));
        assert_eq!((age(&cell), hearing.expected_version(5)), (900, Some(12)));
        put_in_force(&cell, &hearing, 5, 11);
        assert_eq!(age(&cell), 900);
        put_in_force(&cell, &hearing, 5, 12);
        assert_eq!((age(&cell), hearing.expected_version(5)), (800, None));
    }

    #[test]
    fn beats_of_another_generation_do_not_count_and_a_newer_one_is_told() {
        let (cell, hearing) = hearing();
        put_in_force(&cell, &hearing, 5, 10);
        let generations = hearing.newest_generation();
        hearing.beat(beat(4, 10), second(100));
        assert_eq!(*generations.borrow(), 4);
        hearing.beat(beat(6, 3), second(200));
        assert_eq!((age(&cell), *generations.borrow()), (1_000, 6));
        assert_eq!(
            (hearing.expected_version(5), hearing.expected_version(6)),
            (None, Some(3))
        );
        put_in_force(&cell, &hearing, 6, 3);
        assert_eq!(age(&cell), 800);
        hearing.generation_seen(2);
        assert_eq!(*generations.borrow(), 6);
    }
}
