//! A gateway's side of its leases: it spends from what it holds, asks for more, waits in line, gives back what is
//! idle. A machine without clock or I/O: calls and messages go in with the time, outputs come out. The gateway's
//! `money` module and the simulator drive the same machine.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

mod asks;
mod lease;
mod line;
#[cfg(test)]
mod tests;

use self::lease::{Lease, Pace};
use crate::{
    clock::Timestamp,
    ids::ReclaimId,
    log::messages::{AskAccount, ControlLease, Denial},
    payload::{
        account::{AccountId, AccountSpec, RuleId},
        lease::{LeaseTotals, ReturnedLease, StatedLease},
    },
};

/// A call that reserves, numbered by the gateway for as long as it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallNumber(pub u64);

/// An upper bound that a call wants to reserve on one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    pub account: AccountSpec,
    pub amount: i64,
}

/// What a call that ended had reserved on one account, and what it took of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    pub account: AccountId,
    pub reserved: i64,
    pub settled: i64,
}

/// What becomes of a call at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    Reserved,
    /// An output will say later; at the latest `expire` does.
    Waiting,
    Refused(Refusal),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no money: the account and the figures at that moment.
    Denied {
        account: Box<AccountSpec>,
        denial: Box<Denial>,
    },
    /// Nobody answered in time.
    Unanswered { account: Box<AccountSpec> },
    /// The line is full.
    Crowded,
}

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Admit(CallNumber),
    Refuse(CallNumber, Refusal),
    Ask(Vec<AskAccount>),
    /// To be journaled as `lease.returned`.
    Return {
        reclaim_id: Option<ReclaimId>,
        leases: Vec<ReturnedLease>,
    },
}

/// Times and bounds of the protocol.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    /// How long a call waits for money.
    pub wait_micros: i64,
    /// An ask without an answer is repeated after this.
    pub repeat_micros: i64,
    /// For this long a denied gateway refuses without asking.
    pub denied_micros: i64,
    /// A lease nobody used for this long goes back.
    pub idle_micros: i64,
    /// Seconds of spend that an ask aims at.
    pub want_seconds: i64,
    /// Calls as dear as the dearest of late that an ask aims at, at the least: the pace of a new account is not known.
    pub least_calls: i64,
    pub longest_line: usize,
}

impl Default for Protocol {
    fn default() -> Self {
        Self {
            wait_micros: 250_000,
            repeat_micros: 30_000,
            denied_micros: 1_000_000,
            idle_micros: 60_000_000,
            want_seconds: 10,
            least_calls: 16,
            longest_line: 10_000,
        }
    }
}

#[derive(Clone, Debug)]
struct Waiter {
    call: CallNumber,
    wants: Vec<Want>,
    since: Timestamp,
}

/// All leases of one gateway and the calls that wait for them.
#[derive(Clone, Debug, Default)]
pub struct Purse {
    protocol: Protocol,
    leases: BTreeMap<AccountId, Lease>,
    /// Those whose idle parts go back at once; few, so that the hot path looks at few.
    scarce: BTreeSet<AccountId>,
    line: VecDeque<Waiter>,
    /// Leases of windows that ended up to here are forgotten. Nothing is reserved there again, should the clock go back:
    /// their totals are not known any more.
    forgotten: Option<Timestamp>,
    asked_at: Option<Timestamp>,
}

impl Purse {
    /// Leases of which nothing is open are forgotten this long after their window.
    pub const FORGOTTEN_AFTER_MICROS: i64 = 120_000_000;

    #[must_use]
    pub fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            ..Self::default()
        }
    }

    /// A lease as the journal left it.
    pub fn restore(&mut self, account: &AccountSpec, totals: LeaseTotals, now: Timestamp) {
        let lease = self.lease(account, now);
        lease.totals = totals;
    }

    /// Makes room for a lease that this gateway was granted and never heard of: the answer was lost, and nothing of it
    /// was spent.
    pub fn learn(&mut self, account: &AccountSpec, now: Timestamp) {
        if !self.is_forgotten(account) {
            self.lease(account, now);
        }
    }

    #[must_use]
    pub fn knows(&self, account: AccountId) -> bool {
        self.leases.contains_key(&account)
    }

    /// Reserves on all accounts or on none. With money at hand and nobody in line this is one subtraction each.
    pub fn reserve(
        &mut self,
        call: CallNumber,
        wants: &[Want],
        now: Timestamp,
        outputs: &mut Vec<Output>,
    ) -> Admission {
        if let Some(want) = wants.iter().find(|want| self.is_forgotten(&want.account)) {
            let account = Box::new(want.account.clone());
            return Admission::Refused(Refusal::Unanswered { account });
        }
        for want in wants {
            let lease = self.lease(&want.account, now);
            lease.pace.largest = lease.pace.largest.max(want.amount);
        }
        if self.fits(wants) {
            self.take(wants, now);
            self.refill(wants, now, outputs);
            return Admission::Reserved;
        }
        if let Some(refusal) = self.known_denial(wants, now) {
            return Admission::Refused(refusal);
        }
        if self.line.len() >= self.protocol.longest_line {
            return Admission::Refused(Refusal::Crowded);
        }
        for want in wants {
            self.lease(&want.account, now).waiting += 1;
        }
        self.line.push_back(Waiter {
            call,
            wants: wants.to_vec(),
            since: now,
        });
        self.ask(now, outputs);
        Admission::Waiting
    }

    /// A call ended: what it took settles, at most what was reserved from the lease, the rest is spendable again.
    pub fn settle(&mut self, uses: &[Used], now: Timestamp, outputs: &mut Vec<Output>) {
        for used in uses {
            if let Some(lease) = self.leases.get_mut(&used.account) {
                lease.reserved -= used.reserved;
                lease.totals.settled += used.settled.min(used.reserved);
                if lease.spendable() > 0 {
                    lease.denied = None;
                }
            }
        }
        self.serve(now, outputs);
        self.return_scarce(outputs);
    }

    /// A call ended before it reached for an upstream.
    pub fn release(
        &mut self,
        uses: &[(AccountId, i64)],
        now: Timestamp,
        outputs: &mut Vec<Output>,
    ) {
        let of = |(account, reserved): &(AccountId, i64)| Used {
            account: *account,
            reserved: *reserved,
            settled: 0,
        };
        let uses: Vec<Used> = uses.iter().map(of).collect();
        self.settle(&uses, now, outputs);
    }

    /// The caller of a waiting call is gone. False when the call was admitted or refused before.
    pub fn abandon(&mut self, call: CallNumber, now: Timestamp, outputs: &mut Vec<Output>) -> bool {
        let Some(index) = self.line.iter().position(|waiter| waiter.call == call) else {
            return false;
        };
        self.leave(index);
        self.serve(now, outputs);
        self.return_scarce(outputs);
        true
    }

    /// The account whose lease grows by this answer: to be journaled before `apply`, so that a restart knows what was
    /// spent of it.
    #[must_use]
    pub fn grows(&self, answer: &ControlLease) -> Option<AccountSpec> {
        let lease = self.leases.get(&answer.account)?;
        (answer.granted > lease.totals.granted).then(|| lease.account.clone())
    }

    /// An answer of the grant task.
    pub fn apply(&mut self, answer: &ControlLease, now: Timestamp, outputs: &mut Vec<Output>) {
        let Some(lease) = self.leases.get_mut(&answer.account) else {
            return;
        };
        if answer.scarce {
            self.scarce.insert(answer.account);
        } else {
            self.scarce.remove(&answer.account);
        }
        if answer.granted > lease.totals.granted {
            lease.totals.granted = answer.granted;
            (lease.denied, lease.asked_at) = (None, None);
        }
        // A total that was reached since cannot be denied any more: the message is late.
        let denial = answer.denial.as_ref();
        let denial = denial.filter(|denial| denial.must > lease.totals.granted);
        if let Some(denial) = denial {
            lease.asked_at = None;
            lease.denied = Some((now, denial.clone()));
        }
        self.serve(now, outputs);
        if denial.is_some() {
            self.refuse_denied(answer.account, now, outputs);
            // Who waited behind those may have all it wants.
            self.serve(now, outputs);
        }
        self.ask(now, outputs);
        self.return_scarce(outputs);
    }

    /// Told to give back what is idle, of one account (which is scarce then) or of all. Always answers. Who waits for
    /// such an account asks anew at once: the totals of the ask before it count on what is given back now.
    pub fn reclaim(
        &mut self,
        reclaim_id: ReclaimId,
        account: Option<AccountId>,
        now: Timestamp,
        outputs: &mut Vec<Output>,
    ) {
        self.scarce.extend(account);
        let chosen = |lease: &Lease| match account {
            Some(account) => lease.account.id == account,
            None => lease.spendable() > 0,
        };
        let mut leases = Vec::new();
        for lease in self.leases.values_mut().filter(|lease| chosen(lease)) {
            if lease.spendable() > 0 {
                lease.asked_at = None;
            }
            leases.push(lease.give_back());
        }
        outputs.push(Output::Return {
            reclaim_id: Some(reclaim_id),
            leases,
        });
        self.ask(now, outputs);
    }

    /// A rule was changed or deleted: its idle parts go back and its accounts take the new limit and mode on the next
    /// reservation, whose spec carries them.
    pub fn rule_changed(&mut self, rule: RuleId, outputs: &mut Vec<Output>) {
        self.return_where(|lease| lease.account.id.rule == rule, outputs);
    }

    /// Every few milliseconds while somebody waits: who waited too long is refused, asks are repeated.
    pub fn tick(&mut self, now: Timestamp, outputs: &mut Vec<Output>) {
        self.expire(now, outputs);
        self.serve(now, outputs);
        self.ask(now, outputs);
        self.return_scarce(outputs);
    }

    /// Every second: the pace is taken, idle leases go back, finished windows are forgotten.
    pub fn sweep(&mut self, now: Timestamp, outputs: &mut Vec<Output>) {
        for lease in self.leases.values_mut() {
            let elapsed = (now.0 - lease.pace.since.0).abs();
            if elapsed >= 1_000_000 {
                let spent = lease.totals.settled - lease.pace.settled_before;
                let per_second = spent.saturating_mul(1_000_000) / elapsed;
                lease.pace = Pace {
                    since: now,
                    settled_before: lease.totals.settled,
                    per_second: per_second.max(lease.pace.per_second / 2),
                    peak_reserved: lease.reserved.max(lease.pace.peak_reserved / 2),
                    largest: lease.pace.largest / 2,
                };
            }
        }
        let idle = self.protocol.idle_micros;
        self.return_where(
            |lease| {
                let over = lease
                    .account
                    .window_end
                    .is_some_and(|end| now.0 >= end.0 + 60_000_000);
                lease.waiting == 0 && (over || is_over(lease.used_at, idle, now))
            },
            outputs,
        );
        let over = now.0.saturating_sub(Self::FORGOTTEN_AFTER_MICROS);
        let forgotten = &mut self.forgotten;
        self.leases.retain(|_, lease| {
            let end = lease.account.window_end.filter(|end| end.0 <= over);
            let unused = lease.totals.open() == 0 && lease.reserved == 0 && lease.waiting == 0;
            if end.is_some() && unused {
                *forgotten = end.max(*forgotten);
            }
            end.is_none() || !unused
        });
        self.scarce
            .retain(|account| self.leases.contains_key(account));
    }

    /// Everything idle goes back: a graceful end.
    pub fn return_all(&mut self, outputs: &mut Vec<Output>) {
        self.return_where(|_| true, outputs);
    }

    /// Every lease with its totals, for the journal's `state` record and for `lease.stated`.
    #[must_use]
    pub fn stated(&self) -> Vec<StatedLease> {
        let leases = self.leases.values();
        leases
            .map(|lease| StatedLease {
                account: lease.account.clone(),
                totals: lease.totals,
            })
            .collect()
    }

    /// Accounts in use whose window ends at or before `moment`.
    #[must_use]
    pub fn ending_before(&self, moment: Timestamp, now: Timestamp) -> Vec<AccountSpec> {
        let ending = self.leases.values().filter(|lease| {
            lease.account.window_end.is_some_and(|end| end <= moment)
                && (lease.reserved > 0 || lease.target(&self.protocol, now) > 0)
        });
        ending.map(|lease| lease.account.clone()).collect()
    }

    /// Sum of reservations of calls under way, for metrics and checks.
    #[must_use]
    pub fn reserved(&self, account: AccountId) -> i64 {
        self.leases.get(&account).map_or(0, |lease| lease.reserved)
    }

    #[must_use]
    pub fn spendable(&self, account: AccountId) -> i64 {
        self.leases.get(&account).map_or(0, Lease::spendable)
    }

    /// When it asked last. Answers may be lost: for a while after, its totals are worth asking for, because a grant that
    /// nobody hears of is idle money that no reclaim finds.
    #[must_use]
    pub fn asked_at(&self) -> Option<Timestamp> {
        self.asked_at
    }

    /// How many calls wait.
    #[must_use]
    pub fn line_length(&self) -> usize {
        self.line.len()
    }

    fn is_forgotten(&self, account: &AccountSpec) -> bool {
        let ended = account
            .window_end
            .is_some_and(|end| Some(end) <= self.forgotten);
        ended && !self.leases.contains_key(&account.id)
    }

    fn lease(&mut self, account: &AccountSpec, now: Timestamp) -> &mut Lease {
        let lease = self.leases.entry(account.id).or_insert_with(|| Lease {
            account: account.clone(),
            totals: LeaseTotals::default(),
            reserved: 0,
            denied: None,
            asked_at: None,
            used_at: now,
            waiting: 0,
            pace: Pace {
                since: now,
                ..Pace::default()
            },
        });
        if lease.account.limit != account.limit || lease.account.mode != account.mode {
            lease.account = account.clone();
            lease.denied = None;
        }
        lease
    }

    /// Whether all of it is at hand. Nobody overtakes: an account that somebody waits for counts as empty.
    fn fits(&self, wants: &[Want]) -> bool {
        wants.iter().all(|want| {
            let lease = self.leases.get(&want.account.id);
            lease.is_some_and(|lease| lease.waiting == 0 && lease.spendable() >= want.amount)
        })
    }

    fn take(&mut self, wants: &[Want], now: Timestamp) {
        for want in wants {
            if let Some(lease) = self.leases.get_mut(&want.account.id) {
                lease.reserved += want.amount;
                lease.used_at = now;
                lease.pace.peak_reserved = lease.pace.peak_reserved.max(lease.reserved);
            }
        }
    }

    fn return_scarce(&mut self, outputs: &mut Vec<Output>) {
        let mut returned = Vec::new();
        for account in &self.scarce {
            if let Some(lease) = self.leases.get_mut(account)
                && lease.waiting == 0
                && lease.spendable() > 0
            {
                returned.push(lease.give_back());
            }
        }
        if !returned.is_empty() {
            outputs.push(Output::Return {
                reclaim_id: None,
                leases: returned,
            });
        }
    }

    fn return_where(&mut self, choose: impl Fn(&Lease) -> bool, outputs: &mut Vec<Output>) {
        let idle = self
            .leases
            .values_mut()
            .filter(|lease| lease.spendable() > 0 && choose(lease));
        let leases: Vec<_> = idle.map(Lease::give_back).collect();
        if !leases.is_empty() {
            outputs.push(Output::Return {
                reclaim_id: None,
                leases,
            });
        }
    }
}

/// Whether so much time has passed. A clock that went back counts as over: nothing may last for as long as it went.
fn is_over(since: Timestamp, micros: i64, now: Timestamp) -> bool {
    !(0..micros).contains(&(now.0 - since.0))
}
