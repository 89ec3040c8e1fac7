//! A gateway of the simulated world: the real purse, and a journal that outlives it.

use std::collections::BTreeMap;

use odock_events::{
    ids::{GatewayId, ReclaimId},
    ledger::purse::{Admission, CallNumber, Output, Protocol, Purse, Used, Want},
    log::messages::ControlLease,
    payload::{
        account::{AccountId, AccountSpec},
        lease::LeaseTotals,
    },
};

use super::world::{Happening, StreamEvent, Without, World};

type Uses = Vec<(AccountId, i64)>;

pub(super) struct Gateway {
    pub(super) id: GatewayId,
    /// All events it ever wrote; seq is the place plus one.
    pub(super) stream: Vec<StreamEvent>,
    index: usize,
    life: u32,
    purse: Purse,
    journal: BTreeMap<AccountId, (AccountSpec, LeaseTotals)>,
    /// Calls under way: in the journal as `started`.
    open: BTreeMap<u64, Uses>,
    waiting: BTreeMap<u64, Uses>,
    settled: BTreeMap<AccountId, i64>,
    calls: u64,
    ticking: bool,
    /// Entries arrive in order, each not before the one before it.
    arrives_at: i64,
}

impl Gateway {
    pub(super) fn new(index: usize, id: GatewayId) -> Self {
        Self {
            id,
            stream: Vec::new(),
            index,
            life: 0,
            purse: Purse::new(Protocol::default()),
            journal: BTreeMap::new(),
            open: BTreeMap::new(),
            waiting: BTreeMap::new(),
            settled: BTreeMap::new(),
            calls: 0,
            ticking: false,
            arrives_at: 0,
        }
    }

    /// Settled, and reserved by calls under way.
    pub(super) fn spent(&self, account: AccountId) -> i64 {
        let open = self
            .open
            .values()
            .flatten()
            .filter(|(id, _)| *id == account);
        let open: i64 = open.map(|(_, reserved)| reserved).sum();
        open + self.settled.get(&account).copied().unwrap_or(0)
    }

    pub(super) fn is_at_rest(&self, specs: &[AccountSpec]) -> Result<(), String> {
        let reserved: i64 = specs.iter().map(|spec| self.purse.reserved(spec.id)).sum();
        if !self.open.is_empty() || self.purse.line_length() > 0 || reserved != 0 {
            return Err(format!("{reserved} stays reserved without a call"));
        }
        Ok(())
    }

    pub(super) fn call(&mut self, world: &mut World, accounts: &[usize]) {
        let wants = world.wants(accounts);
        if world.setting.without == Without::AllOrNone && !self.has_all(world, &wants) {
            return;
        }
        self.reserve(world, &wants);
    }

    /// Takes account by account, and keeps what it got when one of them has nothing.
    fn has_all(&mut self, world: &World, wants: &[Want]) -> bool {
        let taken: Vec<&Want> = wants
            .iter()
            .take_while(|want| self.purse.spendable(want.account.id) >= want.amount)
            .collect();
        if taken.is_empty() || taken.len() == wants.len() {
            return true;
        }
        for want in taken {
            let call = CallNumber(u64::MAX);
            let want = std::slice::from_ref(want);
            let _ = self
                .purse
                .reserve(call, want, world.time(), &mut Vec::new());
            self.purse.abandon(call, world.time(), &mut Vec::new());
        }
        false
    }

    fn reserve(&mut self, world: &mut World, wants: &[Want]) {
        self.calls += 1;
        let call = self.calls;
        let uses = wants
            .iter()
            .map(|want| (want.account.id, want.amount))
            .collect();
        let mut outputs = Vec::new();
        match self
            .purse
            .reserve(CallNumber(call), wants, world.time(), &mut outputs)
        {
            Admission::Reserved => self.start(world, call, uses),
            Admission::Refused(refusal) => world.refusals.push(refusal),
            Admission::Waiting => {
                self.waiting.insert(call, uses);
                if !self.ticking {
                    self.ticking = true;
                    world.after(
                        5_000,
                        Happening::Tick {
                            gateway: self.index,
                            life: self.life,
                        },
                    );
                }
            }
        }
        self.carry_out(world, outputs);
    }

    fn start(&mut self, world: &mut World, call: u64, uses: Uses) {
        world.admitted += 1;
        self.open.insert(call, uses);
        let delay = world.between(25_000, 75_000);
        world.after(
            delay,
            Happening::End {
                gateway: self.index,
                life: self.life,
                call,
            },
        );
    }

    pub(super) fn end(&mut self, world: &mut World, life: u32, call: u64) {
        if life != self.life {
            return;
        }
        let Some(uses) = self.open.remove(&call) else {
            return;
        };
        let cost = world.between(world.setting.cheapest, world.setting.reserved);
        self.finish(world, &uses, cost);
        let mut outputs = Vec::new();
        let of = |(account, reserved): &(AccountId, i64)| Used {
            account: *account,
            reserved: *reserved,
            settled: cost,
        };
        let taken: Vec<Used> = uses.iter().map(of).collect();
        self.purse.settle(&taken, world.time(), &mut outputs);
        self.carry_out(world, outputs);
    }

    fn finish(&mut self, world: &mut World, uses: &Uses, cost: i64) {
        for (account, _) in uses {
            *self.settled.entry(*account).or_default() += cost;
            if let Some((_, totals)) = self.journal.get_mut(account) {
                totals.settled += cost;
            }
        }
        self.write(
            world,
            StreamEvent::Finished {
                uses: uses.clone(),
                cost,
            },
        );
    }

    /// Killed, and started again from the journal: calls under way cost what they had reserved.
    pub(super) fn kill(&mut self, world: &mut World) {
        self.life += 1;
        self.ticking = false;
        self.waiting.clear();
        for uses in std::mem::take(&mut self.open).into_values() {
            self.finish(world, &uses, world.setting.reserved);
        }
        self.purse = Purse::new(Protocol::default());
        if world.setting.without == Without::Replay {
            self.journal.clear();
        }
        for (spec, totals) in self.journal.values() {
            self.purse.restore(spec, *totals, world.time());
        }
    }

    pub(super) fn tick(&mut self, world: &mut World, life: u32) {
        if life != self.life {
            return;
        }
        let mut outputs = Vec::new();
        self.purse.tick(world.time(), &mut outputs);
        self.carry_out(world, outputs);
        self.ticking = self.purse.line_length() > 0;
        if self.ticking {
            world.after(
                5_000,
                Happening::Tick {
                    gateway: self.index,
                    life,
                },
            );
        }
    }

    pub(super) fn sweep(&mut self, world: &mut World) {
        let mut outputs = Vec::new();
        self.purse.sweep(world.time(), &mut outputs);
        self.carry_out(world, outputs);
    }

    pub(super) fn answer(&mut self, world: &mut World, mut lease: ControlLease) {
        if world.setting.without == Without::Totals {
            let known = self
                .journal
                .get(&lease.account)
                .map_or(0, |(_, totals)| totals.granted);
            lease.granted = known + lease.granted / 2;
        }
        if let Some(spec) = self.purse.grows(&lease)
            && world.setting.without != Without::GrantRecord
        {
            let entry = self.journal.entry(lease.account);
            let (_, totals) = entry.or_insert_with(|| (spec, LeaseTotals::default()));
            totals.granted = lease.granted;
        }
        let mut outputs = Vec::new();
        self.purse.apply(&lease, world.time(), &mut outputs);
        self.carry_out(world, outputs);
    }

    pub(super) fn return_idle(
        &mut self,
        world: &mut World,
        id: ReclaimId,
        account: Option<AccountId>,
    ) {
        if world.setting.without == Without::Answer {
            return;
        }
        let mut outputs = Vec::new();
        self.purse.reclaim(id, account, world.time(), &mut outputs);
        self.carry_out(world, outputs);
    }

    fn carry_out(&mut self, world: &mut World, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Admit(call) => {
                    if let Some(uses) = self.waiting.remove(&call.0) {
                        self.start(world, call.0, uses);
                    }
                }
                Output::Refuse(call, refusal) => {
                    self.waiting.remove(&call.0);
                    world.refusals.push(refusal);
                }
                Output::Ask(accounts) => {
                    world.send(&Happening::Ask {
                        gateway: self.index,
                        accounts,
                    });
                }
                Output::Return {
                    reclaim_id: id,
                    leases,
                } => {
                    for lease in &leases {
                        if let Some((_, totals)) = self.journal.get_mut(&lease.account) {
                            totals.returned = totals.returned.max(lease.returned);
                        }
                    }
                    self.write(world, StreamEvent::Returned { id, leases });
                }
            }
        }
    }

    fn write(&mut self, world: &mut World, event: StreamEvent) {
        self.stream.push(event);
        let delay = world.between(1_000, 5_000);
        self.arrives_at = self.arrives_at.max(world.now + delay);
        let shipped = Happening::Shipped {
            gateway: self.index,
            seq: self.stream.len(),
        };
        world.at(self.arrives_at, shipped);
    }
}
