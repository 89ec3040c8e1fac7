//! A seeded world of gateways and a projector around the real rules: purses, books and the grant decision. Asks and
//! answers are lost, doubled and reordered; usage streams are in order; gateways are killed and replay their journals.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use odock_events::{
    clock::Timestamp,
    ids::{BudgetId, ReclaimId},
    ledger::{
        books::Account,
        purse::{Refusal, Want},
    },
    log::messages::{AskAccount, ControlLease},
    payload::{
        account::{AccountId, AccountSpec},
        lease::ReturnedLease,
    },
};
use uuid::Uuid;

use super::setting::Setting;

/// What happens at a moment.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    Call {
        gateway: usize,
        accounts: Vec<usize>,
        /// Of a stream, how many more chunks it will want.
        chunks: u32,
    },
    /// A stream has nearly used what it reserved.
    TopUp {
        gateway: usize,
        life: u32,
        call: u64,
    },
    End {
        gateway: usize,
        life: u32,
        call: u64,
    },
    Kill {
        gateway: usize,
    },
    Lose {
        gateway: usize,
    },
    /// An operator changes a limit; gateways hear of it a little later.
    Change {
        account: usize,
        limit: i64,
    },
    Changed {
        gateway: usize,
        account: usize,
    },
    /// The projector closes windows that are over.
    Close,
    Tick {
        gateway: usize,
        life: u32,
    },
    Sweep,
    /// Messages.
    Totals {
        gateway: usize,
    },
    Ask {
        gateway: usize,
        accounts: Vec<AskAccount>,
    },
    Answer {
        gateway: usize,
        lease: ControlLease,
    },
    ReturnIdle {
        gateway: usize,
        id: ReclaimId,
        account: Option<AccountId>,
        granted: Option<i64>,
    },
    /// The usage stream of a gateway has come this far.
    Shipped {
        gateway: usize,
        seq: usize,
    },
    RoundOver {
        account: AccountId,
        id: ReclaimId,
    },
}

/// One event of a usage stream.
#[derive(Clone, Debug)]
pub(super) enum StreamEvent {
    Finished {
        uses: Vec<(AccountId, i64)>,
        cost: i64,
    },
    Returned {
        id: Option<ReclaimId>,
        leases: Vec<ReturnedLease>,
    },
}

pub(super) struct World {
    pub(super) setting: Setting,
    pub(super) now: i64,
    pub(super) specs: Vec<AccountSpec>,
    pub(super) admitted: usize,
    pub(super) refusals: Vec<Refusal>,
    /// Streams that were cut in the middle.
    pub(super) cut: usize,
    /// The limits as the operator wants them.
    pub(super) ordered: Vec<i64>,
    /// The most that may be settled and held: the limit, and after it was lowered what was there already.
    ceilings: BTreeMap<AccountId, i64>,
    random: u64,
    order: u64,
    queue: BinaryHeap<Reverse<(i64, u64)>>,
    happenings: BTreeMap<u64, Happening>,
}

impl World {
    pub(super) fn new(setting: Setting, template: &AccountSpec) -> Self {
        let mut world = Self {
            random: setting.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1,
            setting,
            now: 1_000_000,
            specs: Vec::new(),
            admitted: 0,
            refusals: Vec::new(),
            cut: 0,
            ordered: Vec::new(),
            ceilings: BTreeMap::new(),
            order: 0,
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
        };
        world.ordered.clone_from(&world.setting.limits);
        for limit in world.setting.limits.clone() {
            let id = AccountId::of(BudgetId(world.uuid()), template.id.window_start);
            world.specs.push(AccountSpec {
                id,
                limit,
                window_end: None,
                ..template.clone()
            });
        }
        world
    }

    /// The next number of `SplitMix64`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    pub(super) fn between(&mut self, least: i64, most: i64) -> i64 {
        least + self.below((most - least + 1) as u64) as i64
    }

    pub(super) fn uuid(&mut self) -> Uuid {
        Uuid::from_u64_pair(self.below(u64::MAX), self.below(u64::MAX))
    }

    pub(super) fn time(&self) -> Timestamp {
        Timestamp(self.now)
    }

    pub(super) fn at(&mut self, time: i64, happening: Happening) {
        self.order += 1;
        self.queue.push(Reverse((time.max(self.now), self.order)));
        self.happenings.insert(self.order, happening);
    }

    pub(super) fn after(&mut self, delay: i64, happening: Happening) {
        self.at(self.now + delay, happening);
    }

    /// A message that may be lost, doubled and late.
    pub(super) fn send(&mut self, message: &Happening) {
        let copies = if self.below(100) < self.setting.loss_percent {
            2
        } else {
            1
        };
        for _ in 0..copies {
            if self.below(100) >= self.setting.loss_percent {
                let delay = self.between(1_000, 4_000);
                self.after(delay, message.clone());
            }
        }
    }

    pub(super) fn next(&mut self) -> Option<Happening> {
        let Reverse((time, order)) = self.queue.pop()?;
        self.now = time;
        self.happenings.remove(&order)
    }

    /// By the clock of a gateway.
    pub(super) fn wants(&self, accounts: &[usize], at: Timestamp) -> Vec<Want> {
        let amount = self.setting.reserved;
        accounts
            .iter()
            .map(|index| Want {
                account: self.spec_at(*index, at),
                amount,
            })
            .collect()
    }

    /// What a gateway's clock says.
    pub(super) fn clock_of(&self, gateway: usize) -> Timestamp {
        let wrong = gateway % 2 == 1;
        let skew = if wrong { self.setting.skew_seconds } else { 0 };
        Timestamp(self.now + skew * 1_000_000)
    }

    /// The account of a moment's window.
    fn spec_at(&self, index: usize, at: Timestamp) -> AccountSpec {
        let spec = self.specs[index].clone();
        let length = self.setting.window_seconds;
        if length == 0 {
            return spec;
        }
        let start = at.0.div_euclid(1_000_000).div_euclid(length) * length;
        AccountSpec {
            id: AccountId::of(spec.id.rule, Timestamp(start * 1_000_000)),
            window_end: Some(Timestamp((start + length) * 1_000_000)),
            ..spec
        }
    }

    /// The account as the configuration has it now, whatever its window.
    pub(super) fn spec_of(&self, id: AccountId) -> AccountSpec {
        let spec = self.specs.iter().find(|spec| spec.id.rule == id.rule);
        let length = self.setting.window_seconds;
        let ends = |start: Timestamp| Timestamp(start.0 + length * 1_000_000);
        AccountSpec {
            id,
            window_end: (length > 0).then(|| ends(id.window_start)),
            ..spec
                .cloned()
                .unwrap_or_else(|| unreachable!("an account of no rule"))
        }
    }

    /// Neither more than the limit, nor, after it was lowered, more than there was.
    pub(super) fn check(
        &mut self,
        id: AccountId,
        account: &Account,
        spent: i64,
    ) -> Result<(), String> {
        let there = account.settled + account.held;
        let rule = self.specs.iter().position(|spec| spec.id.rule == id.rule);
        let ordered = rule.map_or(account.limit, |index| self.ordered[index]);
        // A closed window keeps the limit that it had.
        let limit = if account.closed {
            account.limit
        } else {
            ordered
        };
        let before = self.ceilings.get(&id).copied().unwrap_or(limit);
        let most = before.max(limit);
        if there > most || spent > most {
            return Err(format!(
                "overspent at {id}: {account:?}, {spent} spent or reserved, {most} at most"
            ));
        }
        self.ceilings.insert(id, there.max(spent).max(limit));
        Ok(())
    }
}
