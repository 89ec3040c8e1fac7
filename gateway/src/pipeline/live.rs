//! The streams that run now, by key: when a key is revoked or deleted, those that run on it end. `response::stream`
//! enters and leaves; `startup` looks through them after every configuration change.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use odock_events::ids::KeyId;
use tokio_util::sync::CancellationToken;

#[derive(Default)]
pub struct LiveStreams {
    by_key: Mutex<HashMap<KeyId, HashMap<u64, CancellationToken>>>,
    next: std::sync::atomic::AtomicU64,
}

impl LiveStreams {
    /// Enters a stream; `cut` is cancelled when its key stops being valid.
    pub(crate) fn enter(self: &Arc<Self>, key_id: KeyId, cut: CancellationToken) -> LiveStream {
        let number = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.lock().entry(key_id).or_default().insert(number, cut);
        LiveStream {
            streams: Arc::clone(self),
            key_id,
            number,
        }
    }

    /// Cuts the streams of these keys; returns how many there were.
    pub fn cut(&self, keys: &[KeyId]) -> usize {
        if keys.is_empty() {
            return 0;
        }
        let by_key = self.lock();
        let streams = keys
            .iter()
            .filter_map(|key| by_key.get(key))
            .flat_map(HashMap::values);
        streams.map(CancellationToken::cancel).count()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<KeyId, HashMap<u64, CancellationToken>>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leaves when it is dropped.
pub(crate) struct LiveStream {
    streams: Arc<LiveStreams>,
    key_id: KeyId,
    number: u64,
}

impl Drop for LiveStream {
    fn drop(&mut self) {
        let mut by_key = self.streams.lock();
        if let Some(streams) = by_key.get_mut(&self.key_id) {
            streams.remove(&self.number);
            if streams.is_empty() {
                by_key.remove(&self.key_id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_streams_of_dead_keys_are_cut_and_nothing_is_left_behind() {
        let live = Arc::new(LiveStreams::default());
        let (kept, revoked) = (KeyId::generate(), KeyId::generate());
        let tokens = [(); 3].map(|()| CancellationToken::new());
        let streams = [(kept, 0), (revoked, 1), (revoked, 2)]
            .map(|(key, index)| live.enter(key, tokens[index].clone()));
        assert_eq!(live.cut(&[revoked]), 2);
        assert_eq!(
            tokens.map(|token| token.is_cancelled()),
            [false, true, true]
        );
        drop(streams);
        assert!(live.lock().is_empty());
    }
}
