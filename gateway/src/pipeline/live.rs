//! The calls under way, by key: when a key is revoked or deleted, those that run on it end. `pipeline::start` enters a
//! call before it looks at the key for the last time, so that every change is seen by that look or finds the call here;
//! `startup` looks through them after every change of configuration.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;
use odock_events::ids::{KeyId, UsageId};

/// Entering and leaving take a lock of one shard for some nanoseconds; only a cut looks at all of them.
pub struct LiveCalls {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    places: Vec<Option<(KeyId, Arc<Signal>)>>,
    free: Vec<usize>,
}

/// What a call waits on beside its upstream.
#[derive(Default)]
struct Signal {
    is_cut: AtomicBool,
    /// A call is driven by one task at a time.
    waker: AtomicWaker,
}

/// The key of the call is no longer valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CutOff;

impl Default for LiveCalls {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }
}

impl LiveCalls {
    pub(crate) fn enter(self: &Arc<Self>, key_id: KeyId, usage_id: UsageId) -> LiveCall {
        // The last bits of an id are random.
        let shard = usage_id.0.as_u128() as usize % SHARDS;
        let signal = Arc::new(Signal::default());
        let entry = Some((key_id, Arc::clone(&signal)));
        let mut entries = self.shard(shard);
        let free = entries.free.pop();
        let place = if let Some(place) = free
            && let Some(empty) = entries.places.get_mut(place)
        {
            *empty = entry;
            place
        } else {
            entries.places.push(entry);
            entries.places.len() - 1
        };
        drop(entries);
        LiveCall {
            calls: Arc::clone(self),
            shard,
            place,
            signal,
        }
    }

    /// Cuts the calls of these keys; returns how many there were.
    pub fn cut(&self, keys: &[KeyId]) -> usize {
        if keys.is_empty() {
            return 0;
        }
        let mut cut = 0;
        for shard in 0..SHARDS {
            let signals: Vec<Arc<Signal>> = self
                .shard(shard)
                .places
                .iter()
                .flatten()
                .filter(|(key, _)| keys.contains(key))
                .map(|(_, signal)| Arc::clone(signal))
                .collect();
            cut += signals.len();
            for signal in signals {
                signal.is_cut.store(true, Ordering::Release);
                signal.waker.wake();
            }
        }
        cut
    }

    fn shard(&self, index: usize) -> MutexGuard<'_, Shard> {
        let [first, ..] = &self.shards;
        let shard = self.shards.get(index).unwrap_or(first);
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call's entry; leaves when it is dropped.
pub(crate) struct LiveCall {
    calls: Arc<LiveCalls>,
    shard: usize,
    place: usize,
    signal: Arc<Signal>,
}

impl LiveCall {
    /// Ready once the call is cut.
    pub(crate) fn poll_cut(&self, context: &Context<'_>) -> Poll<()> {
        if !self.is_cut() {
            self.signal.waker.register(context.waker());
            if !self.is_cut() {
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.signal.is_cut.load(Ordering::Acquire)
    }

    /// Drives `work` until the call is cut. Work that has not begun by then does not begin.
    pub(crate) async fn unless_cut<F: Future>(&self, work: F) -> Result<F::Output, CutOff> {
        let mut work = pin!(work);
        poll_fn(|context| match self.poll_cut(context) {
            Poll::Ready(()) => Poll::Ready(Err(CutOff)),
            Poll::Pending => work.as_mut().poll(context).map(Ok),
        })
        .await
    }
}

impl Drop for LiveCall {
    fn drop(&mut self) {
        let mut entries = self.calls.shard(self.shard);
        if let Some(entry) = entries.places.get_mut(self.place) {
            *entry = None;
        }
        entries.free.push(self.place);
    }
}

const SHARDS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn running(calls: &LiveCalls) -> usize {
        (0..SHARDS)
            .map(|shard| calls.shard(shard).places.iter().flatten().count())
            .sum()
    }

    #[tokio::test]
    async fn only_the_calls_of_dead_keys_are_cut_and_nothing_is_left_behind() {
        let calls = Arc::new(LiveCalls::default());
        let (kept, revoked) = (KeyId::generate(), KeyId::generate());
        let enter = |key: KeyId| calls.enter(key, UsageId::generate());
        let entered: Vec<LiveCall> = (0..100)
            .map(|number| enter(if number % 4 == 0 { kept } else { revoked }))
            .collect();
        assert_eq!(calls.cut(&[revoked]), 75);
        for (number, call) in entered.iter().enumerate() {
            assert_eq!(call.is_cut(), number % 4 != 0);
        }
        let mut began = false;
        let refused = entered[1].unless_cut(async { began = true }).await;
        assert_eq!((refused, began), (Err(CutOff), false));
        assert_eq!(entered[0].unless_cut(async { 7 }).await, Ok(7));
        drop(entered);
        assert_eq!(running(&calls), 0);
        let again: Vec<LiveCall> = (0..100).map(|_| enter(revoked)).collect();
        assert!(
            again.iter().all(|call| !call.is_cut()),
            "a place has a past"
        );
        assert_eq!(running(&calls), 100);
    }

    #[tokio::test]
    async fn a_call_that_waits_is_woken_by_the_cut() {
        let calls = Arc::new(LiveCalls::default());
        let key = KeyId::generate();
        let call = calls.enter(key, UsageId::generate());
        let (waiting, cut) = tokio::join!(
            biased;
            call.unless_cut(std::future::pending::<()>()),
            async { calls.cut(&[key]) }
        );
        assert_eq!((waiting, cut), (Err(CutOff), 1));
    }
}
