//! Rate limits and gates: who may call from where, how often, how much, at every scope, exact across gateways. The
//! steps `pipeline::{pre_auth_gate, early_gate, final_gate}` ask here; `pipeline::open_call` settles.
//!
//! A gateway takes slices of the counters in Redis by one script and spends them in memory. A slice of a small limit is
//! what the calls that wait need and no more, so none of it lies idle while another gateway refuses; a busy limit's is
//! taken ahead, so that calls do not wait. When Redis does not answer, a gateway counts alone, with its share.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use odock_events::clock::Clock;
use tokio::sync::Notify;

pub mod address;
mod book;
mod counter;
pub(crate) mod denial;
pub(crate) mod gates;
pub mod metrics;
pub(crate) mod pre_auth;
pub mod receipt;
pub mod scope;
pub mod settings;
pub mod task;

pub use self::settings::LimitSettings;
use self::{
    book::{Admission, Answer, Book, Holdings, Outcome, Passed},
    counter::Now,
    metrics::LimitMetrics,
    pre_auth::AddressMeter,
    receipt::Held,
    scope::Need,
};

/// The limits of one gateway process.
pub struct Limits {
    pub(crate) settings: LimitSettings,
    pub(crate) metrics: LimitMetrics,
    pub(crate) addresses: Option<AddressMeter>,
    /// Never held across an await.
    book: Mutex<Book>,
    /// Somebody waits, or something came back.
    changed: Notify,
    mailbox: Mailbox,
}

/// What calls that were dropped leave behind.
#[derive(Default)]
struct Mailbox {
    posted: AtomicBool,
    notes: Mutex<Vec<Holdings>>,
}

impl Limits {
    #[must_use]
    pub fn new(settings: LimitSettings, metrics: LimitMetrics, clock: &dyn Clock) -> Self {
        let addresses = settings.global.as_deref().and_then(AddressMeter::of);
        let book = Book::new(Instant::now(), clock.now().0);
        Self {
            settings,
            metrics,
            addresses,
            book: Mutex::new(book),
            changed: Notify::new(),
            mailbox: Mailbox::default(),
        }
    }

    /// Takes all needs or none. Ready at once when the slices at hand have them, or are known to have nothing; else
    /// waits for one answer of Redis.
    async fn acquire(self: &Arc<Self>, needs: Vec<Need>) -> Answer {
        let waiting = {
            let mut book = self.open();
            let now = Now::of(book.clock(Instant::now()));
            match book.take(&needs, now) {
                Some(outcome) => {
                    let notify = book.has_questions();
                    drop(book);
                    if notify {
                        self.changed.notify_one();
                    }
                    return self.answer(outcome);
                }
                None => book.wait(needs),
            }
        };
        self.changed.notify_one();
        // Without an answer the task has ended, and so will the gateway: no caller is refused for that.
        let answer = waiting.await;
        answer.unwrap_or_else(|_| self.answer(Outcome::Admitted(Admission::default())))
    }

    fn answer(self: &Arc<Self>, outcome: Outcome) -> Answer {
        match outcome {
            Outcome::Denied(denial) => Err(Box::new(denial)),
            Outcome::Admitted(admission) => Ok(Passed {
                held: Held::new(Arc::clone(self), admission.holdings, admission.quota),
                shadowed: admission.shadowed,
            }),
        }
    }

    /// What a call held, once it has ended. `actual`: the tokens it used; `None`: it never reached an upstream.
    fn give_back(&self, holdings: &Holdings, actual: Option<u64>) {
        if holdings.is_empty() {
            return;
        }
        let mut book = self.open();
        book.give_back(holdings, actual);
        let notify = book.has_questions();
        drop(book);
        if notify {
            self.changed.notify_one();
        }
    }

    /// Whether every slot among them is still ours: after a pause they may be others'.
    fn still_holds(&self, holdings: &Holdings) -> bool {
        let book = self.open();
        book.holds(holdings, book.clock(Instant::now()))
    }

    /// The book, with what dropped calls left behind already in it.
    fn open(&self) -> MutexGuard<'_, Book> {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        if self.mailbox.posted.swap(false, Ordering::AcqRel) {
            for holdings in self.mailbox.take() {
                book.give_back(&holdings, None);
            }
        }
        book
    }

    /// Only posts a note: the next one who opens the book acts on it.
    fn leave(&self, holdings: Holdings) {
        self.mailbox.post(holdings);
        self.changed.notify_one();
    }
}

impl Mailbox {
    fn post(&self, holdings: Holdings) {
        self.notes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(holdings);
        self.posted.store(true, Ordering::Release);
    }

    fn take(&self) -> Vec<Holdings> {
        std::mem::take(&mut *self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests;
