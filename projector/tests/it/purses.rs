//! The whole protocol of money: many gateways, each with the ledger's own purse, on one hard budget that is far too
//! small for them. What is spent is exactly what there is, and nobody is refused while there is more.

use std::{collections::BTreeMap, time::Duration};

use odock_events::{
    clock::{Clock as _, SystemClock, Timestamp},
    kind::Event,
    ledger::purse::{Admission, CallNumber, Output, Protocol, Purse, Refusal, Used, Want},
    log::messages::{Ask, AskMessage, ControlLease, ControlMessage},
    payload::{account::AccountSpec, lease::LeaseReturned},
};
use odock_projector::{
    check::{Depth, violations},
    rebuild::{self, Mode},
};
use tokio::time::Instant;

use crate::support::{
    World,
    admin::{Admin, budget_body},
    gateway::{Gateway, account},
};

const RESERVED: i64 = 100;

/// A gateway with a purse. Each admitted call ends a moment later and costs `cost`.
struct Spender {
    gateway: Gateway,
    purse: Purse,
    account: AccountSpec,
    cost: i64,
    running: BTreeMap<CallNumber, Instant>,
    admitted: u64,
    refused: u64,
    /// Refused because nobody answered in time: on a busy machine, an answer is late.
    unanswered: u64,
    shown: Instant,
}

impl Spender {
    async fn new(world: &World, account: &AccountSpec, cost: i64) -> Self {
        Self {
            gateway: Gateway::open(world).await,
            purse: Purse::new(Protocol::default()),
            account: account.clone(),
            cost,
            running: BTreeMap::new(),
            admitted: 0,
            refused: 0,
            unanswered: 0,
            shown: Instant::now(),
        }
    }

    /// Makes `calls` calls at once and runs until each has been refused or has ended.
    async fn spend(mut self, world: &World, calls: u64) -> (u64, u64) {
        for call in 0..calls {
            self.call(world, CallNumber(call)).await;
        }
        while self.done() < calls || !self.running.is_empty() {
            self.step(world).await;
        }
        // Idle parts of a scarce account go back at once, so what others wait for is on its way now.
        for _ in 0..20 {
            self.step(world).await;
        }
        (self.admitted, self.refused)
    }

    async fn call(&mut self, world: &World, call: CallNumber) {
        let want = [Want {
            account: self.account.clone(),
            amount: RESERVED,
        }];
        let mut outputs = Vec::new();
        match self.purse.reserve(call, &want, now(), &mut outputs) {
            Admission::Reserved => self.begin(call),
            Admission::Refused(refusal) => self.refuse(&refusal),
            Admission::Waiting => {}
        }
        self.act(world, outputs).await;
    }

    async fn step(&mut self, world: &World) {
        let mut outputs = Vec::new();
        match self.gateway.control_within(Duration::from_millis(5)).await {
            Some(ControlMessage::Leases { leases }) => {
                for lease in &leases {
                    self.purse.apply(lease, now(), &mut outputs);
                }
            }
            Some(ControlMessage::ReturnIdle {
                reclaim_id,
                account,
                granted,
            }) => {
                if let (Some(account), Some(granted)) = (account, granted) {
                    let lease = ControlLease {
                        account,
                        granted,
                        scarce: true,
                        denial: None,
                    };
                    self.purse.apply(&lease, now(), &mut outputs);
                }
                self.purse.reclaim(reclaim_id, account, now(), &mut outputs);
            }
            Some(ControlMessage::StateLeases { .. } | ControlMessage::Full { .. }) | None => {}
        }
        let over: Vec<CallNumber> = self
            .running
            .iter()
            .filter(|(_, ends)| **ends <= Instant::now())
            .map(|(call, _)| *call)
            .collect();
        for call in over {
            self.running.remove(&call);
            let finished =
                self.gateway
                    .finished(std::slice::from_ref(&self.account), self.cost, RESERVED);
            self.gateway.append(world, &[finished]).await;
            let used = Used {
                account: self.account.id,
                reserved: RESERVED,
                settled: self.cost,
            };
            self.purse.settle(&[used], now(), &mut outputs);
        }
        self.purse.tick(now(), &mut outputs);
        self.act(world, outputs).await;
        if self.shown.elapsed() > Duration::from_secs(1) {
            self.gateway.show(world).await;
            self.shown = Instant::now();
        }
    }

    fn done(&self) -> u64 {
        self.admitted + self.refused + self.unanswered
    }

    fn refuse(&mut self, refusal: &Refusal) {
        match refusal {
            Refusal::Denied { .. } => self.refused += 1,
            Refusal::Unanswered { .. } | Refusal::Crowded => self.unanswered += 1,
        }
    }

    fn begin(&mut self, call: CallNumber) {
        self.admitted += 1;
        self.running
            .insert(call, Instant::now() + Duration::from_millis(20));
    }

    async fn act(&mut self, world: &World, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Admit(call) => self.begin(call),
                Output::Refuse(_, refusal) => self.refuse(&refusal),
                Output::Ask(accounts) => {
                    let ask = Ask {
                        gateway_id: self.gateway.id,
                        accounts,
                    };
                    world.log.send_ask(&AskMessage::Ask(ask)).await.unwrap();
                }
                Output::Return { reclaim_id, leases } => {
                    let gateway_id = self.gateway.id;
                    let returned = LeaseReturned {
                        gateway_id,
                        reclaim_id,
                        leases,
                    };
                    self.gateway
                        .append(world, &[Event::LeaseReturned(returned)])
                        .await;
                }
            }
        }
    }
}

fn now() -> Timestamp {
    SystemClock.now()
}

async fn tenant(world: &mut World, amount: i64) -> AccountSpec {
    let mut admin = Admin::default();
    let organisation = admin.organisation(world, "Acme").await;
    let budget = admin.budget(world, organisation, amount).await;
    account(budget, organisation, &budget_body(organisation, amount))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_calls_on_money_for_ten_admit_ten() {
    let mut world = World::new().await;
    let projector = world.start();
    let account = tenant(&mut world, 10 * RESERVED).await;
    let mut spenders = Vec::new();
    for _ in 0..8 {
        spenders.push(Spender::new(&world, &account, RESERVED).await);
    }
    let shared = &world;
    let spending = spenders
        .into_iter()
        .map(|spender| spender.spend(shared, 125));
    let counts = futures_util::future::join_all(spending).await;
    let admitted: u64 = counts.iter().map(|(admitted, _)| admitted).sum();
    assert_eq!(admitted, 10, "{counts:?}");
    world
        .reaches("SELECT settled FROM account", 10 * RESERVED)
        .await;
    world.reaches("SELECT held FROM account", 0).await;
    assert_eq!(
        violations(&mut world.database, Depth::Full).await.unwrap(),
        []
    );
    let report = rebuild::run(&world.dsn, Mode::Verify).await.unwrap();
    assert!(report.is_equal(), "{report}");
    projector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_calls_did_not_need_is_spent_by_others_to_the_last_reservation() {
    let mut world = World::new().await;
    let projector = world.start();
    let account = tenant(&mut world, 10 * RESERVED).await;
    let mut one = Spender::new(&world, &account, 30).await;
    let mut two = Spender::new(&world, &account, 30).await;
    // One call after the other, by turns, each reserving 100 and costing 30: while 100 are left the next one fits.
    for call in 1..=32 {
        // Who had no answer calls again; only a denial is one.
        let answered =
            |one: &Spender, two: &Spender| one.admitted + two.admitted + one.refused + two.refused;
        while answered(&one, &two) < call {
            let before = one.done() + two.done();
            let caller = if call % 2 == 0 { &mut one } else { &mut two };
            caller.call(&world, CallNumber(1_000 * call + before)).await;
            while one.done() + two.done() == before
                || !(one.running.is_empty() && two.running.is_empty())
            {
                tokio::join!(one.step(&world), two.step(&world));
            }
        }
        assert_eq!(
            one.refused + two.refused,
            u64::from(call == 32),
            "call {call}"
        );
    }
    world.reaches("SELECT settled FROM account", 930).await;
    assert_eq!(
        violations(&mut world.database, Depth::Full).await.unwrap(),
        []
    );
    projector.stop().await;
}
