//! What a call holds of limits, from its gates to its end, whatever end that is. Carried by the pipeline's types; the
//! last one of them that is dropped without a word posts a note, and the slots and tokens come back.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use http::HeaderMap;

use super::{
    Limits,
    book::{Holdings, Quota},
    denial,
};

/// What both gates gave out; nothing when no limit applies.
#[derive(Clone, Debug, Default)]
pub struct Receipts {
    early: Option<Arc<Held>>,
    last: Option<Arc<Held>>,
}

impl Receipts {
    pub(super) fn add(&mut self, held: Held) {
        let place = if self.early.is_none() {
            &mut self.early
        } else {
            &mut self.last
        };
        *place = Some(Arc::new(held));
    }

    fn both(&self) -> impl Iterator<Item = &Arc<Held>> {
        self.early.iter().chain(&self.last)
    }

    /// The call has ended and used so many tokens.
    pub(crate) fn settle(&self, tokens: u64) {
        for held in self.both() {
            held.settle(tokens);
        }
    }

    /// Whether the call may still begin: a gateway that was paused may have lost its slots.
    pub(crate) fn still_hold(&self) -> bool {
        self.both()
            .all(|held| held.holdings.is_empty() || held.limits.still_holds(&held.holdings))
    }

    /// The standard fields about the limit that is nearest to its end.
    pub(crate) fn write_headers(&self, headers: &mut HeaderMap) {
        let quotas = self.both().filter_map(|held| held.quota);
        if let Some(quota) = quotas.reduce(Quota::nearer) {
            denial::write_quota(&quota, headers);
        }
    }
}

/// What one gate gave out.
pub struct Held {
    limits: Arc<Limits>,
    holdings: Holdings,
    quota: Option<Quota>,
    settled: AtomicBool,
}

impl Held {
    pub(super) fn new(limits: Arc<Limits>, holdings: Holdings, quota: Option<Quota>) -> Self {
        Self {
            limits,
            holdings,
            quota,
            settled: AtomicBool::new(false),
        }
    }

    fn settle(&self, tokens: u64) {
        if !self.settled.swap(true, Ordering::AcqRel) {
            self.limits.give_back(&self.holdings, Some(tokens));
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.settled.load(Ordering::Acquire) && !self.holdings.is_empty() {
            self.limits.leave(std::mem::take(&mut self.holdings));
        }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("holdings", &self.holdings)
            .finish_non_exhaustive()
    }
}
