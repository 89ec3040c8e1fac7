//! The projector of the simulated world: the real books and the real grant decision, with the parking, the rounds of
//! calling idle parts back and the denials of the grant task around them.

use std::collections::{BTreeMap, BTreeSet};

use odock_events::{
    envelope::{Envelope, Meta},
    examples,
    ids::{GatewayId, ReclaimId, UsageId},
    kind::{Event, Kind},
    ledger::{
        books::{Account, Books},
        grant::{
            CLOSE_AFTER_WINDOW_SECONDS, Decision, Situation, decide, is_grantable, is_plentiful,
        },
    },
    log::messages::{AskAccount, ControlLease, Denial},
    payload::{
        account::{AccountId, AccountSpec},
        lease::{LeaseGranted, LeaseReturned, RaiseEnded, WindowClosed},
        usage::{AccountUse, UsageFinished},
    },
    units::NanoUsd,
};

use super::{
    setting::Without,
    world::{Happening, StreamEvent, World},
};

pub(super) struct Projector {
    pub(super) books: Books,
    pub(super) answered: BTreeSet<ReclaimId>,
    pub(super) asks: usize,
    gateways: Vec<GatewayId>,
    live: BTreeSet<usize>,
    /// How far each usage stream is.
    cursors: Vec<usize>,
    parked: BTreeMap<(AccountId, usize), Parked>,
    scarce: BTreeSet<AccountId>,
    rounds: BTreeMap<AccountId, Round>,
    usage: UsageFinished,
}

#[derive(Clone, Copy)]
struct Parked {
    must: i64,
    at: i64,
}

struct Round {
    id: ReclaimId,
    waiting: BTreeSet<usize>,
    asks: BTreeMap<usize, (i64, i64)>,
    later: BTreeMap<usize, (i64, i64)>,
}

#[derive(Clone, Copy)]
struct OneAsk {
    account: AccountId,
    gateway: usize,
    must: i64,
    want: i64,
    /// Everybody has been asked for idle parts: what is short now is denied.
    last: bool,
}

impl Projector {
    pub(super) fn new(gateways: Vec<GatewayId>) -> Self {
        let Event::UsageFinished(usage) = examples::of_kind(Kind::UsageFinished).event else {
            unreachable!("the example of usage is usage")
        };
        Self {
            books: Books::default(),
            answered: BTreeSet::new(),
            asks: 0,
            cursors: vec![0; gateways.len()],
            live: (0..gateways.len()).collect(),
            gateways,
            parked: BTreeMap::new(),
            scarce: BTreeSet::new(),
            rounds: BTreeMap::new(),
            usage,
        }
    }

    /// What of an account is not settled, nor with a gateway that is lost.
    pub(super) fn left(&self, spec: &AccountSpec) -> i64 {
        let settled = self
            .books
            .accounts
            .get(&spec.id)
            .map_or(0, |account| account.settled);
        let away = self.gateways.iter().enumerate();
        let away = away.filter(|(index, _)| !self.live.contains(index));
        let away: i64 = away
            .map(|(_, id)| self.books.lease((spec.id, *id)).open())
            .sum();
        spec.limit - settled - away
    }

    /// Its heartbeats have ended.
    pub(super) fn lose(&mut self, world: &World, gateway: usize) {
        self.live.remove(&gateway);
        self.parked.retain(|(_, asks), _| *asks != gateway);
        if world.setting.without == Without::Holding {
            let id = self.gateways[gateway];
            for ((account, holder), lease) in &mut self.books.leases {
                if *holder == id
                    && let Some(account) = self.books.accounts.get_mut(account)
                {
                    account.held -= lease.open();
                    lease.returned += lease.open();
                }
            }
        }
    }

    /// A new limit, for all windows that are not closed.
    pub(super) fn change(
        &mut self,
        world: &mut World,
        account: usize,
        limit: i64,
    ) -> Result<(), String> {
        world.ordered[account] = limit;
        let lowered = limit < world.specs[account].limit;
        if lowered && world.setting.without == Without::Lowering {
            return Ok(());
        }
        world.specs[account].limit = limit;
        let rule = world.specs[account].id.rule;
        let own = self.books.accounts.iter();
        let own = own.filter(|(id, account)| id.rule == rule && !account.closed);
        let own: Vec<AccountId> = own.map(|(id, _)| *id).collect();
        for account in own {
            let event = Event::RaiseEnded(RaiseEnded { account, limit });
            self.apply(event)?;
        }
        self.serve_parked(world)
    }

    /// A minute after their end windows are closed.
    pub(super) fn close(&mut self, world: &World) -> Result<(), String> {
        let over = |id: &AccountId| {
            let end = world.spec_of(*id).window_end;
            end.is_some_and(|end| world.now >= end.0 + CLOSE_AFTER_WINDOW_SECONDS * 1_000_000)
        };
        let ended = self.books.accounts.iter();
        let ended = ended.filter(|(id, account)| !account.closed && over(id));
        let ended: Vec<AccountId> = ended.map(|(id, _)| *id).collect();
        for account in ended {
            self.apply(Event::WindowClosed(WindowClosed { account }))?;
        }
        Ok(())
    }

    fn apply(&mut self, event: Event) -> Result<(), String> {
        let meta = meta(self.gateways[0]);
        let applied = self.books.apply(&Envelope { meta, event });
        applied.map(drop).map_err(|error| error.to_string())
    }

    /// Whether the account's window may be granted from.
    fn is_open(&self, world: &World, id: AccountId) -> bool {
        let account = self.books.accounts.get(&id);
        let closed = account.is_some_and(|account| account.closed);
        let end = world.spec_of(id).window_end;
        end.is_none()
            || world.setting.without == Without::Closing
            || (!closed && is_grantable(id.window_start, end, world.time()))
    }

    pub(super) fn ask(
        &mut self,
        world: &mut World,
        gateway: usize,
        accounts: Vec<AskAccount>,
    ) -> Result<(), String> {
        self.asks += 1;
        for ask in accounts {
            let (account, must, want) = (ask.account.id, ask.must, ask.want);
            self.decide(
                world,
                OneAsk {
                    account,
                    gateway,
                    must,
                    want,
                    last: false,
                },
            )?;
        }
        Ok(())
    }

    fn decide(&mut self, world: &mut World, ask: OneAsk) -> Result<(), String> {
        let lease = self.books.lease((ask.account, self.gateways[ask.gateway]));
        let account = self.books.accounts.get(&ask.account);
        let limit = world.spec_of(ask.account).limit;
        let (held, settled) = account.map_or((0, 0), |account| (account.held, account.settled));
        let situation = Situation {
            free: limit - held - settled,
            granted: lease.granted,
            live_gateways: self.live.len() as u32,
        };
        if !self.is_open(world, ask.account) {
            let denial = denial(ask.must, 0, account);
            self.tell(world, ask.account, ask.gateway, Some(denial));
            return Ok(());
        }
        let want = if self.scarce.contains(&ask.account) {
            ask.must
        } else {
            ask.want
        };
        let decision = match world.setting.without {
            Without::FreeCheck => Decision::Granted(lease.granted.max(ask.must)),
            _ => decide(situation, ask.must, want),
        };
        match decision {
            Decision::Granted(total) => {
                self.grant(world, ask.account, ask.gateway, total)?;
                self.parked.remove(&(ask.account, ask.gateway));
                self.tell(world, ask.account, ask.gateway, None);
                Ok(())
            }
            Decision::Short => {
                self.scarce.insert(ask.account);
                self.parked.insert(
                    (ask.account, ask.gateway),
                    Parked {
                        must: ask.must,
                        at: world.now,
                    },
                );
                let denial = denial(ask.must, limit, self.books.accounts.get(&ask.account));
                self.short(world, ask, denial);
                Ok(())
            }
        }
    }

    fn short(&mut self, world: &mut World, ask: OneAsk, denial: Denial) {
        if let (false, Some(round)) = (ask.last, self.rounds.get_mut(&ask.account)) {
            let own = round.asks.contains_key(&ask.gateway);
            let list = if own {
                &mut round.asks
            } else {
                &mut round.later
            };
            list.insert(ask.gateway, (ask.must, ask.want));
            return;
        }
        let gateways = self.gateways.iter().enumerate();
        let holders = gateways.filter(|(index, id)| {
            let open = self.books.lease((ask.account, **id)).open();
            open > 0 && self.live.contains(index)
        });
        let holders: BTreeSet<usize> = holders.map(|(index, _)| index).collect();
        if ask.last || holders.is_empty() || world.setting.without == Without::Reclaim {
            self.tell(world, ask.account, ask.gateway, Some(denial));
            return;
        }
        let id = ReclaimId(world.uuid());
        for gateway in &holders {
            let lease = self.books.lease((ask.account, self.gateways[*gateway]));
            world.send(&Happening::ReturnIdle {
                gateway: *gateway,
                id,
                account: Some(ask.account),
                granted: Some(lease.granted),
            });
        }
        world.after(
            100_000,
            Happening::RoundOver {
                account: ask.account,
                id,
            },
        );
        let asks = BTreeMap::from([(ask.gateway, (ask.must, ask.want))]);
        let round = Round {
            id,
            waiting: holders,
            asks,
            later: BTreeMap::new(),
        };
        self.rounds.insert(ask.account, round);
    }

    /// Everybody has answered, or the time is over.
    pub(super) fn round_over(
        &mut self,
        world: &mut World,
        account: AccountId,
        id: ReclaimId,
    ) -> Result<(), String> {
        if self.rounds.get(&account).is_none_or(|round| round.id != id) {
            return Ok(());
        }
        let Some(round) = self.rounds.remove(&account) else {
            return Ok(());
        };
        for (last, asks) in [(true, round.asks), (false, round.later)] {
            for (gateway, (must, want)) in asks {
                self.decide(
                    world,
                    OneAsk {
                        account,
                        gateway,
                        must,
                        want,
                        last,
                    },
                )?;
            }
        }
        Ok(())
    }

    /// Reads a usage stream up to here, above its cursor.
    pub(super) fn follow(
        &mut self,
        world: &mut World,
        gateway: usize,
        stream: &[StreamEvent],
    ) -> Result<(), String> {
        for event in stream.iter().skip(self.cursors[gateway]) {
            let envelope = self.envelope(world, gateway, event);
            self.books
                .apply(&envelope)
                .map_err(|error| error.to_string())?;
            self.serve_parked(world)?;
            if let StreamEvent::Returned { id: Some(id), .. } = event {
                self.answered.insert(*id);
                let round = self.rounds.iter_mut().find(|(_, round)| round.id == *id);
                if let Some((account, round)) = round {
                    round.waiting.remove(&gateway);
                    let account = *account;
                    if round.waiting.is_empty() {
                        self.round_over(world, account, *id)?;
                    }
                }
            }
        }
        self.cursors[gateway] = self.cursors[gateway].max(stream.len());
        Ok(())
    }

    fn envelope(&self, world: &World, gateway: usize, event: &StreamEvent) -> Envelope {
        let gateway_id = self.gateways[gateway];
        let event = match event {
            StreamEvent::Finished { uses, cost } => {
                let of = |(id, reserved): &(AccountId, i64)| AccountUse {
                    account: world.spec_of(*id),
                    reserved: *reserved,
                };
                Event::UsageFinished(UsageFinished {
                    usage_id: UsageId::generate(),
                    gateway_id,
                    cost: NanoUsd(*cost),
                    accounts: uses.iter().map(of).collect(),
                    ..self.usage.clone()
                })
            }
            StreamEvent::Returned { id, leases } => Event::LeaseReturned(LeaseReturned {
                gateway_id,
                reclaim_id: *id,
                leases: leases.clone(),
            }),
        };
        Envelope {
            meta: meta(gateway_id),
            event,
        }
    }

    fn serve_parked(&mut self, world: &mut World) -> Result<(), String> {
        self.parked
            .retain(|_, parked| world.now - parked.at < 5_000_000);
        let mut oldest: Vec<_> = self
            .parked
            .iter()
            .map(|(key, parked)| (*key, *parked))
            .collect();
        oldest.sort_by_key(|(_, parked)| parked.at);
        for ((account, gateway), Parked { must, .. }) in oldest {
            let granted = self.books.lease((account, self.gateways[gateway])).granted;
            let free = self.books.accounts.get(&account).map_or(0, Account::free);
            if !self.is_open(world, account) {
                continue;
            }
            let live_gateways = self.live.len() as u32;
            let situation = Situation {
                free,
                granted,
                live_gateways,
            };
            if let Decision::Granted(total) = decide(situation, must, must) {
                self.grant(world, account, gateway, total)?;
                self.parked.remove(&(account, gateway));
                self.tell(world, account, gateway, None);
            }
        }
        let over = |id: &AccountId| {
            let account = self.books.accounts.get(id);
            account.is_none_or(|account| is_plentiful(account.free(), account.limit))
        };
        let over: Vec<AccountId> = self.scarce.iter().copied().filter(over).collect();
        for account in over {
            self.scarce.remove(&account);
            for gateway in 0..self.gateways.len() {
                self.tell(world, account, gateway, None);
            }
        }
        Ok(())
    }

    fn lease_of(&self, account: AccountId, gateway: usize) -> i64 {
        self.books.lease((account, self.gateways[gateway])).granted
    }

    fn grant(
        &mut self,
        world: &World,
        account: AccountId,
        gateway: usize,
        total: i64,
    ) -> Result<(), String> {
        let row = self.books.accounts.get(&account);
        if row.is_some_and(|row| row.closed && self.lease_of(account, gateway) < total) {
            return Err(format!("a grant from a closed window: {account}"));
        }
        let gateway_id = self.gateways[gateway];
        let account = world.spec_of(account);
        let event = LeaseGranted {
            gateway_id,
            account,
            granted: total,
        };
        let envelope = Envelope {
            meta: meta(gateway_id),
            event: Event::LeaseGranted(event),
        };
        self.books
            .apply(&envelope)
            .map(drop)
            .map_err(|error| error.to_string())
    }

    /// All totals of a gateway.
    pub(super) fn tell_totals(&self, world: &mut World, gateway: usize) {
        let id = self.gateways[gateway];
        let leases = self.books.leases.keys().filter(|(_, holder)| *holder == id);
        for (account, _) in leases {
            self.tell(world, *account, gateway, None);
        }
    }

    fn tell(&self, world: &mut World, account: AccountId, gateway: usize, denial: Option<Denial>) {
        let granted = self.books.lease((account, self.gateways[gateway])).granted;
        let scarce = self.scarce.contains(&account);
        let lease = ControlLease {
            account,
            granted,
            scarce,
            denial,
        };
        world.send(&Happening::Answer { gateway, lease });
    }
}

fn denial(must: i64, limit: i64, account: Option<&Account>) -> Denial {
    let (held, settled) = account.map_or((0, 0), |account| (account.held, account.settled));
    Denial {
        must,
        limit,
        settled,
        held,
        silent: Vec::new(),
        resets_at: None,
        too_many: false,
    }
}

fn meta(gateway: GatewayId) -> Meta {
    Meta {
        id: odock_events::ids::EventId(gateway.0),
        ..Meta::new(gateway.into(), 0, examples::AT)
    }
}
