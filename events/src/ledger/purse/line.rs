//! Who waits for money: first come, first served, and nobody waits for ever.

use std::collections::BTreeSet;

use super::{Output, Purse, Refusal, Waiter, Want, is_over};
use crate::{clock::Timestamp, payload::account::AccountId};

impl Purse {
    /// Admits from the line whoever fits, in order; a call that still waits keeps its accounts from those behind it.
    pub(super) fn serve(&mut self, now: Timestamp, outputs: &mut Vec<Output>) {
        let mut blocked = BTreeSet::new();
        let mut index = 0;
        while let Some(waiter) = self.line.get(index) {
            let fits = waiter.wants.iter().all(|want| {
                !blocked.contains(&want.account.id)
                    && self.spendable(want.account.id) >= want.amount
            });
            if fits {
                if let Some(waiter) = self.leave(index) {
                    self.take(&waiter.wants, now);
                    outputs.push(Output::Admit(waiter.call));
                }
            } else {
                blocked.extend(waiter.wants.iter().map(|want| want.account.id));
                if blocked.len() >= self.leases.len() {
                    return;
                }
                index += 1;
            }
        }
    }

    /// Takes a waiter out of the line.
    pub(super) fn leave(&mut self, index: usize) -> Option<Waiter> {
        let waiter = self.line.remove(index)?;
        for want in &waiter.wants {
            if let Some(lease) = self.leases.get_mut(&want.account.id) {
                lease.waiting = lease.waiting.saturating_sub(1);
            }
        }
        Some(waiter)
    }

    /// Refuses everybody in line whose shortage is more than what was free when the denial was made.
    pub(super) fn refuse_denied(
        &mut self,
        account: AccountId,
        now: Timestamp,
        outputs: &mut Vec<Output>,
    ) {
        let mut index = 0;
        while let Some(waiter) = self.line.get(index) {
            let waits_here = waiter.wants.iter().any(|want| want.account.id == account);
            let refusal = if waits_here {
                self.known_denial(&waiter.wants, now)
            } else {
                None
            };
            match refusal {
                Some(refusal) => {
                    if let Some(waiter) = self.leave(index) {
                        outputs.push(Output::Refuse(waiter.call, refusal));
                    }
                }
                None => index += 1,
            }
        }
    }

    /// A denial in force that covers one of the wants.
    pub(super) fn known_denial(&self, wants: &[Want], now: Timestamp) -> Option<Refusal> {
        wants.iter().find_map(|want| {
            let lease = self.leases.get(&want.account.id)?;
            let (told_at, denial) = lease.denied.as_ref()?;
            let in_force = !is_over(*told_at, self.protocol.denied_micros, now);
            let free = (denial.limit - denial.settled - denial.held).max(0);
            let short = want.amount - lease.spendable();
            (in_force && short > free).then(|| Refusal::Denied {
                account: Box::new(want.account.clone()),
                denial: Box::new(denial.clone()),
            })
        })
    }

    /// Refuses who waited too long. While the line moves, because money still comes, one may wait four times as long:
    /// the denial, if there is one, is on its way.
    pub(super) fn expire(&mut self, now: Timestamp, outputs: &mut Vec<Output>) {
        let wait = self.protocol.wait_micros;
        let mut index = 0;
        while let Some(waiter) = self.line.get(index) {
            if !is_over(waiter.since, wait, now) {
                return;
            }
            if self.moves(waiter, now) {
                index += 1;
                continue;
            }
            let Some(waiter) = self.leave(index) else {
                return;
            };
            let refusal = self.known_denial(&waiter.wants, now).or_else(|| {
                let short = waiter
                    .wants
                    .iter()
                    .find(|want| self.spendable(want.account.id) < want.amount)
                    .or_else(|| waiter.wants.first());
                short.map(|want| Refusal::Unanswered {
                    account: Box::new(want.account.clone()),
                })
            });
            outputs.push(Output::Refuse(
                waiter.call,
                refusal.unwrap_or(Refusal::Crowded),
            ));
        }
    }

    /// Somebody got money of one of these accounts a moment ago, since this one began to wait.
    fn moves(&self, waiter: &Waiter, now: Timestamp) -> bool {
        let wait = self.protocol.wait_micros;
        let may_wait = !is_over(waiter.since, 4 * wait, now);
        let mut leases = waiter
            .wants
            .iter()
            .filter_map(|want| self.leases.get(&want.account.id));
        may_wait
            && leases.any(|lease| lease.used_at > waiter.since && now.0 - lease.used_at.0 < wait)
    }
}
