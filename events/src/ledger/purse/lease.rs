//! One lease in a gateway's purse: its totals, what calls have taken of it, and how fast it is spent.

use super::Protocol;
use crate::{
    clock::Timestamp,
    log::messages::Denial,
    payload::{
        account::AccountSpec,
        lease::{LeaseTotals, ReturnedLease},
    },
};

#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) account: AccountSpec,
    pub(super) totals: LeaseTotals,
    /// Taken by calls under way.
    pub(super) reserved: i64,
    pub(super) denied: Option<(Timestamp, Denial)>,
    pub(super) asked_at: Option<Timestamp>,
    pub(super) used_at: Timestamp,
    /// Calls in line for this account.
    pub(super) waiting: usize,
    pub(super) pace: Pace,
}

/// How fast an account is spent, renewed each second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    pub(super) since: Timestamp,
    pub(super) settled_before: i64,
    pub(super) per_second: i64,
    pub(super) peak_reserved: i64,
    /// The largest reservation of a single call.
    pub(super) largest: i64,
}

impl Lease {
    pub(super) fn spendable(&self) -> i64 {
        self.totals.open() - self.reserved
    }

    /// The granted total with which nothing more could be reserved.
    pub(super) fn base(&self) -> i64 {
        self.totals.settled + self.totals.returned + self.reserved
    }

    /// What is idle counts as returned from now on.
    pub(super) fn give_back(&mut self) -> ReturnedLease {
        self.totals.returned += self.spendable().max(0);
        ReturnedLease {
            account: self.account.id,
            returned: self.totals.returned,
        }
    }

    /// What a lease should hold: ten seconds of spend at the pace of the last whole second or of this one, whichever is
    /// faster, and never less than a few calls. Asking for one call only would make the next one wait as well.
    pub(super) fn target(&self, protocol: &Protocol, now: Timestamp) -> i64 {
        let elapsed = (now.0 - self.pace.since.0).max(SHORTEST_PACE_MICROS);
        let settled = self.totals.settled - self.pace.settled_before;
        let per_second = (settled.saturating_mul(1_000_000) / elapsed).max(self.pace.per_second);
        let by_pace = per_second.saturating_mul(protocol.want_seconds);
        let few_calls = self.pace.largest.saturating_mul(protocol.least_calls);
        by_pace
            .max(few_calls)
            .saturating_add(self.pace.peak_reserved)
    }
}

/// A pace over less than this is chance.
const SHORTEST_PACE_MICROS: i64 = 100_000;
