//! A gateway of the simulated world: the real purse, and a journal that outlives it.

use std::collections::BTreeMap;

use odock_events::{
    ids::{GatewayId, ReclaimId},
    ledger::purse::{Admission, CallNumber, Output, Protocol, Purse, Refusal, Used, Want},
    log::messages::ControlLease,
    payload::{
        account::{AccountId, AccountSpec},
        lease::LeaseTotals,
    },
};

use super::{
    setting::Without,
    world::{Happening, StreamEvent, World},
};

type Uses = Vec<(AccountId, i64)>;

/// A call under way, with what it has reserved so far.
struct Stream {
    uses: Uses,
    wants: Vec<Want>,
    /// How many more chunks it will want.
    chunks: u32,
}

/// What waits for money.
enum Waiter {
    Call {
        wants: Vec<Want>,
        chunks: u32,
    },
    /// The next chunk of this call.
    More(u64),
}

pub(super) struct Gateway {
    pub(super) id: GatewayId,
    /// All events it ever wrote; seq is the place plus one.
    pub(super) stream: Vec<StreamEvent>,
    index: usize,
    life: u32,
    purse: Purse,
    journal: BTreeMap<AccountId, (AccountSpec, LeaseTotals)>,
    /// Calls under way: in the journal as `started`.
    open: BTreeMap<u64, Stream>,
    waiting: BTreeMap<u64, Waiter>,
    lost: bool,
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
            lost: false,
            settled: BTreeMap::new(),
            calls: 0,
            ticking: false,
            arrives_at: 0,
        }
    }

    /// Settled, and reserved by calls under way.
    pub(super) fn spent(&self, account: AccountId) -> i64 {
        let open = self.open.values().flat_map(|stream| &stream.uses);
        let open = open.filter(|(id, _)| *id == account);
        let open: i64 = open.map(|(_, reserved)| reserved).sum();
        open + self.settled.get(&account).copied().unwrap_or(0)
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    /// It goes for good, with its disk.
    pub(super) fn lose(&mut self) {
        self.lost = true;
        self.life += 1;
    }

    pub(super) fn is_at_rest<'a>(
        &self,
        accounts: impl Iterator<Item = &'a AccountId>,
    ) -> Result<(), String> {
        if self.lost {
            return Ok(());
        }
        let reserved: i64 = accounts.map(|id| self.purse.reserved(*id)).sum();
        if !self.open.is_empty() || self.purse.line_length() > 0 || reserved != 0 {
            return Err(format!("{reserved} stays reserved without a call"));
        }
        Ok(())
    }

    pub(super) fn call(&mut self, world: &mut World, accounts: &[usize], chunks: u32) {
        if self.lost {
            return;
        }
        let wants = world.wants(accounts, world.clock_of(self.index));
        if world.setting.without == Without::AllOrNone && !self.has_all(world, &wants) {
            return;
        }
        self.reserve(world, &wants, None, chunks);
    }

    /// A stream asks for its next chunk while it uses the rest of the last.
    pub(super) fn top_up(&mut self, world: &mut World, life: u32, call: u64) {
        if life != self.life {
            return;
        }
        let Some(stream) = self.open.get_mut(&call) else {
            return;
        };
        stream.chunks -= 1;
        let wants = stream.wants.clone();
        self.reserve(world, &wants, Some(call), 0);
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
                .reserve(call, want, world.clock_of(self.index), &mut Vec::new());
            self.purse
                .abandon(call, world.clock_of(self.index), &mut Vec::new());
        }
        false
    }

    /// For a new call, or for more of one.
    fn reserve(&mut self, world: &mut World, wants: &[Want], more: Option<u64>, chunks: u32) {
        self.calls += 1;
        let call = self.calls;
        let waiter = match more {
            Some(of) => Waiter::More(of),
            None => Waiter::Call {
                wants: wants.to_vec(),
                chunks,
            },
        };
        let mut outputs = Vec::new();
        match self.purse.reserve(
            CallNumber(call),
            wants,
            world.clock_of(self.index),
            &mut outputs,
        ) {
            Admission::Reserved => self.admitted(world, call, waiter),
            Admission::Refused(refusal) => self.refused(world, &waiter, refusal),
            Admission::Waiting => {
                self.waiting.insert(call, waiter);
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

    fn admitted(&mut self, world: &mut World, call: u64, waiter: Waiter) {
        let (call, wants) = match waiter {
            Waiter::Call { wants, chunks } => {
                world.admitted += 1;
                let stream = Stream {
                    uses: uses_of(&wants),
                    wants: wants.clone(),
                    chunks,
                };
                self.open.insert(call, stream);
                self.go_on(world, call);
                return;
            }
            Waiter::More(call) => {
                let wants = self.open.get(&call).map(|stream| stream.wants.clone());
                (call, wants.unwrap_or_default())
            }
        };
        let Some(stream) = self.open.get_mut(&call) else {
            return;
        };
        for ((_, reserved), want) in stream.uses.iter_mut().zip(&wants) {
            *reserved += want.amount;
        }
        self.go_on(world, call);
    }

    fn refused(&mut self, world: &mut World, waiter: &Waiter, refusal: Refusal) {
        match *waiter {
            Waiter::Call { .. } => world.refusals.push(refusal),
            Waiter::More(call) => {
                world.cut += 1;
                self.end(world, self.life, call);
            }
        }
    }

    /// To the next chunk, or to the end.
    fn go_on(&mut self, world: &mut World, call: u64) {
        let more = self.open.get(&call).is_some_and(|stream| stream.chunks > 0);
        let (gateway, life) = (self.index, self.life);
        let delay = world.between(25_000, 75_000);
        let next = if more {
            Happening::TopUp {
                gateway,
                life,
                call,
            }
        } else {
            Happening::End {
                gateway,
                life,
                call,
            }
        };
        world.after(delay, next);
    }

    /// An operator changed a limit: what is idle of it goes back.
    pub(super) fn changed(&mut self, world: &mut World, account: usize) {
        if self.lost {
            return;
        }
        let mut outputs = Vec::new();
        let rule = world.specs[account].id.rule;
        self.purse.rule_changed(rule, &mut outputs);
        self.carry_out(world, outputs);
    }

    pub(super) fn end(&mut self, world: &mut World, life: u32, call: u64) {
        if life != self.life {
            return;
        }
        let Some(Stream { uses, .. }) = self.open.remove(&call) else {
            return;
        };
        let reserved = uses.first().map_or(0, |(_, reserved)| *reserved);
        let cost = world.between(world.setting.cheapest.min(reserved), reserved);
        self.finish(world, &uses, cost);
        let mut outputs = Vec::new();
        let of = |(account, reserved): &(AccountId, i64)| Used {
            account: *account,
            reserved: *reserved,
            settled: cost,
        };
        let taken: Vec<Used> = uses.iter().map(of).collect();
        self.purse
            .settle(&taken, world.clock_of(self.index), &mut outputs);
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
        if self.lost {
            return;
        }
        self.life += 1;
        self.ticking = false;
        self.waiting.clear();
        for Stream { uses, .. } in std::mem::take(&mut self.open).into_values() {
            let reserved = uses.first().map_or(0, |(_, reserved)| *reserved);
            self.finish(world, &uses, reserved);
        }
        self.purse = Purse::new(Protocol::default());
        if world.setting.without == Without::Replay {
            self.journal.clear();
        }
        for (spec, totals) in self.journal.values() {
            self.purse
                .restore(spec, *totals, world.clock_of(self.index));
        }
    }

    pub(super) fn tick(&mut self, world: &mut World, life: u32) {
        if life != self.life {
            return;
        }
        let mut outputs = Vec::new();
        self.purse.tick(world.clock_of(self.index), &mut outputs);
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
        if self.lost {
            return;
        }
        let mut outputs = Vec::new();
        self.purse.sweep(world.clock_of(self.index), &mut outputs);
        if world.setting.without == Without::Idling {
            outputs.retain(|output| !matches!(output, Output::Return { .. }));
        }
        self.carry_out(world, outputs);
    }

    pub(super) fn answer(&mut self, world: &mut World, mut lease: ControlLease) {
        if self.lost {
            return;
        }
        if world.setting.without == Without::Totals {
            let known = self
                .journal
                .get(&lease.account)
                .map_or(0, |(_, totals)| totals.granted);
            lease.granted = known + lease.granted / 2;
        }
        let learns = lease.granted > 0 && world.setting.without != Without::Learning;
        if learns && !self.purse.knows(lease.account) {
            // A grant whose answer was lost before this process began.
            let account = world.spec_of(lease.account);
            self.purse.learn(&account, world.clock_of(self.index));
        }
        if let Some(spec) = self.purse.grows(&lease)
            && world.setting.without != Without::GrantRecord
        {
            let entry = self.journal.entry(lease.account);
            let (_, totals) = entry.or_insert_with(|| (spec, LeaseTotals::default()));
            totals.granted = lease.granted;
        }
        let mut outputs = Vec::new();
        self.purse
            .apply(&lease, world.clock_of(self.index), &mut outputs);
        self.carry_out(world, outputs);
    }

    pub(super) fn return_idle(
        &mut self,
        world: &mut World,
        id: ReclaimId,
        account: Option<AccountId>,
    ) {
        if world.setting.without == Without::Answer || self.lost {
            return;
        }
        let mut outputs = Vec::new();
        self.purse
            .reclaim(id, account, world.clock_of(self.index), &mut outputs);
        self.carry_out(world, outputs);
    }

    fn carry_out(&mut self, world: &mut World, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Admit(call) => {
                    if let Some(waiter) = self.waiting.remove(&call.0) {
                        self.admitted(world, call.0, waiter);
                    }
                }
                Output::Refuse(call, refusal) => {
                    if let Some(waiter) = self.waiting.remove(&call.0) {
                        self.refused(world, &waiter, refusal);
                    }
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

fn uses_of(wants: &[Want]) -> Uses {
    let uses = wants.iter();
    uses.map(|want| (want.account.id, want.amount)).collect()
}
