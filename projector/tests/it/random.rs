//! Random histories with crashes, lost streams and doubled deliveries: whatever happened, the tables are the fold of
//! the log, by the pure rules and by a rebuild, and the invariants hold. A failure prints its seed.

use std::{ops::Range, time::Duration};

use odock_events::{
    envelope::EntityRef,
    ids::{BudgetId, OrganisationId, TeamId},
    kind::Event,
    log::UsageAppended,
    payload::{account::AccountSpec, budget::BudgetMode},
};
use odock_projector::{
    check::{Depth, violations},
    rebuild::{self, Mode},
};
use tokio::time::Instant;

use crate::{
    model,
    support::{
        DEADLINE, POLL, Running, World,
        admin::{Admin, about, budget_body, organisation_created, team_created, team_deleted},
        eventually,
        gateway::{Gateway, account},
    },
};

/// Of a history that has a database to itself.
const STEPS: usize = 40;
/// Of one of many on the same database.
const FEW_STEPS: usize = 12;

/// Marsaglia's xorshift: the same history for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

struct History {
    random: Random,
    world: World,
    running: Running,
    admin: Admin,
    organisation: OrganisationId,
    budget: BudgetId,
    budget_version: u64,
    teams: Vec<TeamId>,
    gateways: Vec<Gateway>,
    accounts: Vec<AccountSpec>,
}

/// Where histories happen, one after the other.
struct Place {
    world: World,
    running: Running,
    admin: Admin,
}

impl Place {
    async fn new() -> Self {
        let world = World::new().await;
        let running = world.start();
        Self {
            world,
            running,
            admin: Admin::default(),
        }
    }
}

impl History {
    async fn begin(seed: u64, place: Place) -> Self {
        let Place {
            mut world,
            running,
            mut admin,
        } = place;
        let organisation = admin
            .organisation(&mut world, &format!("Acme {seed}"))
            .await;
        let budget = admin.budget(&mut world, organisation, 500).await;
        let hard = account(budget, organisation, &budget_body(organisation, 500));
        let mut soft_body = budget_body(organisation, 50);
        soft_body.mode = BudgetMode::Soft;
        let soft = account(BudgetId::generate(), organisation, &soft_body);
        let mut past = account(BudgetId::generate(), organisation, &soft_body);
        past.window_end = Some("2026-01-01T00:00:00Z".parse().unwrap());
        let gateways = vec![Gateway::open(&world).await, Gateway::open(&world).await];
        Self {
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            world,
            running,
            admin,
            organisation,
            budget,
            budget_version: 1,
            teams: Vec::new(),
            gateways,
            accounts: vec![hard, soft, past],
        }
    }

    async fn step(mut self) -> Self {
        match self.random.below(16) {
            0..=5 => self.calls().await,
            6 | 7 => self.ask().await,
            8 => self.give_back().await,
            9 => self.ship_again().await,
            10 => self.noise().await,
            11 | 12 => self.command().await,
            13 => self.change_limit().await,
            14 => self = self.crash().await,
            _ => self.lose_redis().await,
        }
        self
    }

    fn pick(&mut self) -> usize {
        self.random.below(self.gateways.len() as u64) as usize
    }

    async fn calls(&mut self) {
        let index = self.pick();
        let mut calls = Vec::new();
        for _ in 0..=self.random.below(5) {
            let count = self.random.below(3) as usize + 1;
            let (cost, reserved) = (self.random.below(30), self.random.below(25));
            let gateway = &self.gateways[index];
            calls.push(gateway.finished(&self.accounts[..count], cost as i64, reserved as i64));
        }
        self.gateways[index].append(&self.world, &calls).await;
    }

    async fn ask(&mut self) {
        let index = self.pick();
        let must = self.random.below(200) as i64;
        self.gateways[index]
            .ask(&self.world, &self.accounts[0], must, must * 2)
            .await;
    }

    async fn give_back(&mut self) {
        let index = self.pick();
        let returned = self.random.below(60) as i64;
        let event = self.gateways[index].returned(None, &[(self.accounts[0].id, returned)]);
        self.gateways[index].append(&self.world, &[event]).await;
    }

    /// A batch that went before, cut at other places.
    async fn ship_again(&mut self) {
        let index = self.pick();
        let top = self.gateways[index].seq;
        let first = self.random.below(top) + 1;
        let answer = self.gateways[index].ship(&self.world, first, top).await;
        // A crash may have raised the generation, and the new stream have nothing yet.
        let known = matches!(answer, UsageAppended::Duplicate { .. });
        assert!(
            known || matches!(answer, UsageAppended::Gap { .. }),
            "{answer:?}"
        );
    }

    async fn noise(&mut self) {
        let index = self.pick();
        let gateway = &mut self.gateways[index];
        gateway.append_raw(&self.world, b"noise").await;
    }

    /// Good ones, and ones that must be refused.
    async fn command(&mut self) {
        let own = Some(self.organisation);
        let (boundary, event) = match self.random.below(4) {
            0 => (
                None,
                // The name is taken.
                organisation_created(self.organisation, "Acme"),
            ),
            1 => (own, team_deleted(self.organisation, TeamId::generate(), 2)),
            2 if !self.teams.is_empty() => (
                own,
                team_deleted(self.organisation, self.teams.remove(0), 2),
            ),
            _ => {
                let id = TeamId::generate();
                self.teams.push(id);
                (own, team_created(self.organisation, id, "team"))
            }
        };
        self.admin.send(&mut self.world, boundary, &[event]).await;
    }

    async fn change_limit(&mut self) {
        self.budget_version += 1;
        let amount = self.random.below(800) as i64;
        let event = Event::BudgetUpdated(budget_body(self.organisation, amount));
        let entity = EntityRef::from(self.budget);
        let event = about(entity, self.budget_version, self.organisation, event);
        let outcome = self
            .admin
            .send(&mut self.world, Some(self.organisation), &[event])
            .await;
        assert_eq!(outcome.result, "done");
    }

    /// Kills the projector in the middle of what it does; sometimes a second one is there already.
    async fn crash(self) -> Self {
        let Self {
            running,
            world,
            mut random,
            ..
        } = self;
        let early = (random.below(2) == 0).then(|| world.start());
        running.kill().await;
        let running = early.unwrap_or_else(|| world.start());
        Self {
            random,
            world,
            running,
            ..self
        }
    }

    async fn lose_redis(&mut self) {
        let old = self.world.generation().await;
        self.world.redis.flush().await;
        let world = &self.world;
        eventually("a new generation", || async move {
            Some(world.generation().await).filter(|generation| *generation > old)
        })
        .await;
        for gateway in &mut self.gateways {
            gateway.send_again(&self.world).await;
        }
    }

    /// Everything is folded, and it is what the log says.
    async fn end(mut self, seed: u64) -> Place {
        for gateway in &mut self.gateways {
            let closed = gateway.closed();
            gateway.append(&self.world, &[closed]).await;
        }
        for gateway in &mut self.gateways {
            let deadline = Instant::now() + DEADLINE;
            let mut sent = Instant::now();
            loop {
                let generation = self.world.generation().await;
                let folded = self.world.log.watermark(generation, gateway.id);
                if folded.await.unwrap() == Some(gateway.seq) {
                    break;
                }
                assert!(
                    Instant::now() < deadline,
                    "seed {seed}: not all events are folded"
                );
                tokio::time::sleep(POLL).await;
                // As gateways do when the watermark does not move.
                if sent.elapsed() > Duration::from_millis(500) {
                    gateway.send_again(&self.world).await;
                    sent = Instant::now();
                }
            }
        }
        let Self {
            mut world,
            running,
            admin,
            ..
        } = self;
        model::assert_tables(&mut world.database, &format!("seed {seed}")).await;
        Place {
            world,
            running,
            admin,
        }
    }
}

async fn history(seed: u64, steps: usize, place: Place) -> Place {
    let history = async {
        let mut history = History::begin(seed, place).await;
        for _ in 0..steps {
            history = history.step().await;
        }
        history.end(seed).await
    };
    tokio::time::timeout(Duration::from_mins(1), history)
        .await
        .unwrap_or_else(|_| panic!("seed {seed} does not come to its end"))
}

async fn history_of(seed: u64) {
    let mut place = history(seed, STEPS, Place::new().await).await;
    let found = violations(&mut place.world.database, Depth::Full)
        .await
        .unwrap();
    assert_eq!(found, [], "seed {seed}");
    // Once while it runs, once at rest.
    for _ in 0..2 {
        let report = rebuild::run(&place.world.dsn, Mode::Verify).await.unwrap();
        assert!(report.is_equal(), "seed {seed}\n{report}");
        place.running.stop().await;
        place.running = place.world.start();
    }
}

/// Short histories on one database, each held against the pure rules when it ends.
async fn many(seeds: Range<u64>) {
    let mut place = Place::new().await;
    let all = seeds.clone();
    for seed in seeds {
        place = history(seed, FEW_STEPS, place).await;
    }
    let found = violations(&mut place.world.database, Depth::Full)
        .await
        .unwrap();
    assert_eq!(found, [], "seeds {all:?}");
    let report = rebuild::run(&place.world.dsn, Mode::Verify).await.unwrap();
    assert!(report.is_equal(), "seeds {all:?}\n{report}");
    place.running.stop().await;
}

macro_rules! many {
    ($($name:ident = $seeds:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            many($seeds).await;
        }
    )*};
}

many! {
    fifty_short_histories_fold_to_what_the_pure_rules_say_1 = 1_000..1_050;
    fifty_short_histories_fold_to_what_the_pure_rules_say_2 = 2_000..2_050;
    fifty_short_histories_fold_to_what_the_pure_rules_say_3 = 3_000..3_050;
    fifty_short_histories_fold_to_what_the_pure_rules_say_4 = 4_000..4_050;
}

macro_rules! histories {
    ($($name:ident = $seed:literal;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            history_of($seed).await;
        }
    )*};
}

histories! {
    history_1_folds_to_the_same_tables = 1;
    history_2_folds_to_the_same_tables = 2;
    history_3_folds_to_the_same_tables = 3;
    history_4_folds_to_the_same_tables = 4;
    history_5_folds_to_the_same_tables = 5;
    history_6_folds_to_the_same_tables = 6;
}
