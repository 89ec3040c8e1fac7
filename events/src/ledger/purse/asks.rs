//! When a purse asks for more, and for how much.

use std::collections::BTreeMap;

use super::{Output, Purse, Want, is_over};
use crate::{
    clock::Timestamp,
    log::messages::AskAccount,
    payload::account::{AccountId, AccountSpec},
};

impl Purse {
    /// Asks for the next window of an account that is in use, before it begins.
    pub fn prefetch(&mut self, account: &AccountSpec, now: Timestamp, outputs: &mut Vec<Output>) {
        let earlier = self.leases.range(..account.id).next_back();
        let earlier = earlier
            .filter(|(id, _)| (id.rule, id.subject) == (account.id.rule, account.id.subject));
        let want = earlier.map_or(0, |(_, lease)| lease.target(&self.protocol, now));
        let repeat = self.protocol.repeat_micros;
        let lease = self.lease(account, now);
        let due = lease
            .asked_at
            .is_none_or(|asked| is_over(asked, 10 * repeat, now));
        if want > 0 && due && lease.totals.granted == 0 {
            lease.asked_at = Some(now);
            let ask = AskAccount {
                account: account.clone(),
                must: 0,
                want,
            };
            self.asked_at = Some(now);
            outputs.push(Output::Ask(vec![ask]));
        }
    }

    /// One ask that names every account somebody in line is short of, unless an ask for it is under way.
    pub(super) fn ask(&mut self, now: Timestamp, outputs: &mut Vec<Output>) {
        if self.line.is_empty() {
            return;
        }
        let mut short: BTreeMap<AccountId, (i64, i64)> = BTreeMap::new();
        for waiter in &self.line {
            for want in &waiter.wants {
                let (_, sum) = short.entry(want.account.id).or_insert((want.amount, 0));
                *sum = sum.saturating_add(want.amount);
            }
        }
        let mut accounts = Vec::new();
        for (id, (oldest, sum)) in short {
            let Some(lease) = self.leases.get_mut(&id) else {
                continue;
            };
            let repeat = self.protocol.repeat_micros;
            let due = lease
                .asked_at
                .is_none_or(|asked| is_over(asked, repeat, now));
            if lease.spendable() < oldest && due {
                lease.asked_at = Some(now);
                let base = lease.base();
                accounts.push(AskAccount {
                    account: lease.account.clone(),
                    must: base.saturating_add(oldest),
                    want: base.saturating_add(sum.max(lease.target(&self.protocol, now))),
                });
            }
        }
        if !accounts.is_empty() {
            self.asked_at = Some(now);
            outputs.push(Output::Ask(accounts));
        }
    }

    /// Off the hot path: asks for more when half of what the pace needs is gone.
    pub(super) fn refill(&mut self, wants: &[Want], now: Timestamp, outputs: &mut Vec<Output>) {
        let mut accounts = Vec::new();
        for want in wants {
            let Some(lease) = self.leases.get_mut(&want.account.id) else {
                continue;
            };
            let target = lease.target(&self.protocol, now);
            let wait = 4 * self.protocol.repeat_micros;
            let due = lease.asked_at.is_none_or(|asked| is_over(asked, wait, now));
            if !self.scarce.contains(&want.account.id) && due && lease.spendable() < target / 2 {
                lease.asked_at = Some(now);
                accounts.push(AskAccount {
                    account: lease.account.clone(),
                    must: lease.totals.granted,
                    want: lease.base().saturating_add(target),
                });
            }
        }
        if !accounts.is_empty() {
            self.asked_at = Some(now);
            outputs.push(Output::Ask(accounts));
        }
    }
}
