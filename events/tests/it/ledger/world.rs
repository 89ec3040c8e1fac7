//! A seeded world of gateways and a projector around the real rules: purses, books and the grant decision. Asks and
//! answers are lost, doubled and reordered; usage streams are in order; gateways are killed and replay their journals.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use odock_events::{
    clock::Timestamp,
    ids::{BudgetId, GatewayId, ReclaimId},
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

use super::{gateway::Gateway, projector::Projector};

/// A rule that is left out, to see that the checks would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Without {
    Nothing,
    /// Answers carry amounts: a doubled one counts twice.
    Totals,
    /// A call keeps what it got of some accounts although another one refused.
    AllOrNone,
    /// Grants do not look at what is free.
    FreeCheck,
    /// Denials are told without calling idle parts back.
    Reclaim,
    /// A restart knows nothing of its journal's leases.
    Replay,
    /// Grants are spent without being journaled.
    GrantRecord,
    /// A reclaim is not answered.
    Answer,
}

#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) seed: u64,
    pub(super) gateways: usize,
    pub(super) calls: usize,
    /// Limits of the accounts; each call reserves on a random part of them.
    pub(super) limits: Vec<i64>,
    pub(super) reserved: i64,
    /// Least cost of a call; the most is `reserved`.
    pub(super) cheapest: i64,
    pub(super) span_micros: i64,
    pub(super) loss_percent: u64,
    pub(super) kills: usize,
    pub(super) without: Without,
}

/// What happens at a moment.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    Call {
        gateway: usize,
        accounts: Vec<usize>,
    },
    End {
        gateway: usize,
        life: u32,
        call: u64,
    },
    Kill {
        gateway: usize,
    },
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
            order: 0,
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
        };
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

    pub(super) fn wants(&self, accounts: &[usize]) -> Vec<Want> {
        let amount = self.setting.reserved;
        accounts
            .iter()
            .map(|index| Want {
                account: self.specs[*index].clone(),
                amount,
            })
            .collect()
    }
}

/// What a run ended with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) admitted: usize,
    pub(super) accounts: Vec<Account>,
    pub(super) asks: usize,
}

/// Runs a world to its end. An error names the rule that was broken.
pub(super) fn run(setting: Setting, template: &AccountSpec) -> Result<Outcome, String> {
    let mut world = World::new(setting, template);
    let setting = world.setting.clone();
    let mut gateways: Vec<Gateway> = (0..setting.gateways)
        .map(|index| Gateway::new(index, GatewayId(world.uuid())))
        .collect();
    let mut projector = Projector::new(&world, gateways.iter().map(|gateway| gateway.id).collect());
    schedule(&mut world);
    drain(&mut world, &mut gateways, &mut projector)?;
    spend_the_rest(&mut world, &mut gateways, &mut projector)?;
    let unanswered = world
        .refusals
        .iter()
        .filter(|refusal| matches!(refusal, Refusal::Unanswered { .. }))
        .count();
    if unanswered > 0 && is_exact(&setting) {
        return Err(format!(
            "{unanswered} calls had no answer although nothing was lost"
        ));
    }
    reclaim(&mut world, &mut gateways, &mut projector)?;
    let accounts = world
        .specs
        .iter()
        .filter_map(|spec| projector.books.accounts.get(&spec.id));
    Ok(Outcome {
        admitted: world.admitted,
        accounts: accounts.cloned().collect(),
        asks: projector.asks,
    })
}

/// Nothing is lost on the way: every promise holds to the letter.
fn is_exact(setting: &Setting) -> bool {
    setting.loss_percent == 0 && setting.kills == 0
}

/// All is quiet. Whoever asks now must be served as long as there is money, account by account. When nothing was lost,
/// the first who asks is; a lost answer may leave a part with a gateway that learns of it when it asks next.
fn spend_the_rest(
    world: &mut World,
    gateways: &mut [Gateway],
    projector: &mut Projector,
) -> Result<(), String> {
    let setting = world.setting.clone();
    let exact = is_exact(&setting);
    for account in 0..setting.limits.len() {
        let mut refused = 0;
        while refused < 2 * setting.gateways {
            let (left, admitted) = (projector.left(&world.specs[account]), world.admitted);
            let gateway = (admitted + refused) % setting.gateways;
            world.after(
                1_100_000,
                Happening::Call {
                    gateway,
                    accounts: vec![account],
                },
            );
            drain(world, gateways, projector)?;
            refused += usize::from(world.admitted == admitted);
            if exact && world.admitted == admitted && left >= setting.reserved {
                return Err(format!("{left} is left and a call is refused"));
            }
        }
        let left = projector.left(&world.specs[account]);
        if left >= setting.reserved {
            return Err(format!("{left} is left and calls are refused"));
        }
    }
    Ok(())
}

fn schedule(world: &mut World) {
    let setting = world.setting.clone();
    for call in 0..setting.calls {
        let delay = world.between(0, setting.span_micros);
        let mut accounts: Vec<usize> = (0..world.specs.len())
            .filter(|_| world.below(100) < 70)
            .collect();
        if accounts.is_empty() {
            accounts.push(0);
        }
        world.after(
            delay,
            Happening::Call {
                gateway: call % setting.gateways,
                accounts,
            },
        );
    }
    for _ in 0..setting.kills {
        let delay = world.between(0, setting.span_micros);
        let gateway = world.below(setting.gateways as u64) as usize;
        world.after(delay, Happening::Kill { gateway });
    }
    for second in 1..=setting.span_micros / 1_000_000 {
        world.after(second * 1_000_000, Happening::Sweep);
    }
}

/// Lets everything happen that is under way, and checks after each step.
fn drain(
    world: &mut World,
    gateways: &mut [Gateway],
    projector: &mut Projector,
) -> Result<(), String> {
    let mut steps = 0;
    while let Some(happening) = world.next() {
        happen(world, gateways, projector, happening)?;
        for (id, account) in &projector.books.accounts {
            let spent: i64 = gateways.iter().map(|gateway| gateway.spent(*id)).sum();
            if account.settled + account.held > account.limit || spent > account.limit {
                return Err(format!(
                    "overspent at {id}: {account:?}, {spent} spent or reserved"
                ));
            }
        }
        steps += 1;
        if steps > 200_000 {
            return Err("it never comes to rest".to_owned());
        }
    }
    for gateway in gateways {
        gateway.is_at_rest(&world.specs)?;
    }
    Ok(())
}

fn happen(
    world: &mut World,
    gateways: &mut [Gateway],
    projector: &mut Projector,
    happening: Happening,
) -> Result<(), String> {
    match happening {
        Happening::Call { gateway, accounts } => gateways[gateway].call(world, &accounts),
        Happening::End {
            gateway,
            life,
            call,
        } => gateways[gateway].end(world, life, call),
        Happening::Kill { gateway } => gateways[gateway].kill(world),
        Happening::Tick { gateway, life } => gateways[gateway].tick(world, life),
        Happening::Sweep => gateways.iter_mut().for_each(|gateway| gateway.sweep(world)),
        Happening::Ask { gateway, accounts } => projector.ask(world, gateway, accounts)?,
        Happening::Totals { gateway } => projector.tell_totals(world, gateway),
        Happening::Answer { gateway, lease } => gateways[gateway].answer(world, lease),
        Happening::ReturnIdle {
            gateway,
            id,
            account,
            granted,
        } => {
            if let (Some(account), Some(granted)) = (account, granted) {
                let lease = ControlLease {
                    account,
                    granted,
                    scarce: true,
                    denial: None,
                };
                gateways[gateway].answer(world, lease);
            }
            gateways[gateway].return_idle(world, id, account);
        }
        Happening::Shipped { gateway, seq } => {
            projector.follow(world, gateway, &gateways[gateway].stream[..seq])?;
        }
        Happening::RoundOver { account, id } => projector.round_over(world, account, id)?,
    }
    Ok(())
}

/// An operator calls everything back: all money is free or settled then.
fn reclaim(
    world: &mut World,
    gateways: &mut [Gateway],
    projector: &mut Projector,
) -> Result<(), String> {
    // As gateways do for a while after they have asked: a lost answer is made good by totals.
    for gateway in 0..12 * gateways.len() {
        world.send(&Happening::Totals {
            gateway: gateway % gateways.len(),
        });
        drain(world, gateways, projector)?;
    }
    for gateway in 0..gateways.len() {
        let id = ReclaimId(world.uuid());
        world.after(
            1_000,
            Happening::ReturnIdle {
                gateway,
                id,
                account: None,
                granted: None,
            },
        );
        drain(world, gateways, projector)?;
        if !projector.answered.contains(&id) {
            return Err("a reclaim was not answered".to_owned());
        }
    }
    for (id, account) in &projector.books.accounts {
        let settled: i64 = gateways.iter().map(|gateway| gateway.spent(*id)).sum();
        if account.held != 0 || account.settled != settled {
            return Err(format!(
                "at {id}: {account:?}, and the gateways settled {settled}"
            ));
        }
    }
    Ok(())
}
