//! Answers over HTTP/2 that their client does not take. A client may read one and leave another, and nothing on the
//! socket shows it: the library asks an answer for more only when its client has opened a window. Fed by
//! `http::body`, looked at by the timer of `guarded_io`.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// The answers under way on one connection.
pub(crate) struct Unread {
    began: Instant,
    answers: Mutex<Vec<Weak<Handed>>>,
}

/// When a piece of one answer was handed over that has not been taken yet; by the connection's own clock.
pub(crate) struct Handed {
    began: Instant,
    /// Milliseconds and one; 0 while the client is not what is waited for.
    at: AtomicU64,
}

impl Unread {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            answers: Mutex::default(),
        }
    }

    /// One more answer, whose head is handed over now.
    pub(crate) fn watch(&self) -> Arc<Handed> {
        let handed = Arc::new(Handed {
            began: self.began,
            at: AtomicU64::new(0),
        });
        handed.over();
        let mut answers = self.lock();
        answers.retain(|answer| answer.strong_count() > 0);
        answers.push(Arc::downgrade(&handed));
        handed
    }

    /// Since when the client has left the oldest piece that it was handed.
    pub(crate) fn since(&self) -> Option<Instant> {
        let answers = self.lock();
        let handed = answers.iter().filter_map(Weak::upgrade);
        let oldest = handed
            .map(|handed| handed.at.load(Ordering::Relaxed))
            .filter(|at| *at > 0)
            .min()?;
        Some(self.began + Duration::from_millis(oldest - 1))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Handed>>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handed {
    /// A piece was handed over.
    pub(crate) fn over(&self) {
        let at = self.began.elapsed().as_millis() as u64 + 1;
        self.at.store(at, Ordering::Relaxed);
    }

    /// The client has taken all there was, and waits for more.
    pub(crate) fn waits_for_more(&self) {
        self.at.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_piece_that_is_left_counts() {
        let unread = Unread::new();
        assert_eq!(unread.since(), None);
        let (first, second) = (unread.watch(), unread.watch());
        assert!(unread.since().is_some(), "the head counts as a piece");
        let after = |ms| Some(unread.began + Duration::from_millis(ms));
        first.at.store(2_001, Ordering::Relaxed);
        second.at.store(1_001, Ordering::Relaxed);
        assert_eq!(unread.since(), after(1_000));
        second.waits_for_more();
        assert_eq!(unread.since(), after(2_000));
        second.over();
        drop((first, second));
        assert_eq!(unread.since(), None);
    }
}
