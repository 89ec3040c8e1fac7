//! Redis or Postgres that is not what the other knows: a new generation, and nothing lost, doubled or overspent.

use crate::support::{
    World,
    admin::{Admin, append, budget_body, team_created},
    eventually,
    gateway::{Gateway, account},
    postgres,
};
use odock_events::{
    ids::{CommandId, TeamId},
    log::messages::ControlMessage,
    payload::lease::{LeaseTotals, StatedLease},
};
use odock_projector::{
    check::{Depth, violations},
    rebuild::{self, Mode},
};

const SETTLED: &str = "SELECT coalesce(sum(settled), 0)::bigint FROM account";
const HELD: &str = "SELECT coalesce(sum(held), 0)::bigint FROM account";

/// The generation above `old`, once it is open.
async fn next_generation(world: &World, old: u64) -> u64 {
    eventually("a new generation", || async {
        Some(world.generation().await).filter(|generation| *generation > old)
    })
    .await
}

async fn sound(world: &mut World) {
    assert_eq!(
        violations(&mut world.database, Depth::Full).await.unwrap(),
        []
    );
    let report = rebuild::run(&world.dsn, Mode::Verify).await.unwrap();
    assert!(report.is_equal(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_redis_is_filled_again_from_journals_and_tables() {
    let mut world = World::new().await;
    let projector = world.start();
    let mut admin = Admin::default();
    let organisation = admin.organisation(&mut world, "Acme").await;
    let mut gateway = Gateway::open(&world).await;
    for _ in 0..3 {
        let calls: Vec<_> = (0..5).map(|_| gateway.finished(&[], 2, 0)).collect();
        gateway.append(&world, &calls).await;
        let old = world.generation().await;
        world.redis.flush().await;
        next_generation(&world, old).await;
        gateway.send_again(&world).await;
        // Versions were seeded: the next command of the organisation is taken.
        let team = team_created(organisation, TeamId::generate(), "team");
        let outcome = admin.send(&mut world, Some(organisation), &[team]).await;
        assert_eq!(outcome.result, "done", "{outcome:?}");
    }
    world.reaches("SELECT count(*) FROM usage", 15).await;
    world.reaches("SELECT count(*) FROM team", 3).await;
    let generation = world.generation().await;
    let top = || async {
        world
            .log
            .config_top(generation)
            .await
            .unwrap()
            .filter(|version| *version == 4)
    };
    eventually("the config stream to go on", top).await;
    sound(&mut world).await;
    projector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_redis_in_the_old_ones_place_gets_a_new_generation() {
    let mut world = World::new().await;
    let projector = world.start();
    let mut gateway = Gateway::open(&world).await;
    world.reaches("SELECT count(*) FROM gateway", 1).await;
    let old = world.generation().await;
    world.redis.replace();
    eventually("redis", || async { world.log.ping().await.ok() }).await;
    next_generation(&world, old).await;
    gateway.send_again(&world).await;
    let call = gateway.finished(&[], 2, 0);
    gateway.append(&world, &[call]).await;
    world.reaches("SELECT count(*) FROM usage", 1).await;
    sound(&mut world).await;
    projector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_postgres_grants_nothing_before_leases_are_stated() {
    let mut world = World::new().await;
    let projector = world.start();
    let mut admin = Admin::default();
    let organisation = admin.organisation(&mut world, "Acme").await;
    let budget = admin.budget(&mut world, organisation, 100).await;
    let account = account(budget, organisation, &budget_body(organisation, 100));
    let mut gateway = Gateway::open(&world).await;
    world.reaches("SELECT count(*) FROM gateway", 1).await;
    projector.stop().await;

    // The backup is from here; later the gateway gets a lease, spends of it and gives some back.
    let backup = postgres::copy_of(&world.dsn).await;
    world.connect_to(world.dsn.clone()).await;
    let projector = world.start();
    append_team(&world, organisation, 1).await;
    world.reaches("SELECT count(*) FROM team", 1).await;
    gateway.ask(&world, &account, 90, 90).await;
    while gateway.lease().await.granted < 90 {}
    let call = gateway.finished(std::slice::from_ref(&account), 25, 30);
    let back = gateway.returned(None, &[(account.id, 5)]);
    gateway.append(&world, &[call, back]).await;
    world.reaches(SETTLED, 25).await;
    projector.stop().await;

    let old = world.generation().await;
    world.connect_to(backup).await;
    let projector = world.start();
    next_generation(&world, old).await;
    // 60 are still in its purse, which nobody but it knows: another gateway gets nothing of them.
    let mut other = Gateway::open(&world).await;
    world.reaches("SELECT count(*) FROM gateway", 2).await;
    gateway.send_again(&world).await;
    world.reaches(SETTLED, 25).await;
    other.ask(&world, &account, 50, 50).await;
    let generation = loop {
        if let ControlMessage::StateLeases { generation } = gateway.control().await {
            break generation;
        }
    };
    assert_eq!(world.number(HELD).await, 0);
    let totals = LeaseTotals {
        granted: 90,
        settled: 25,
        returned: 5,
    };
    let stated = gateway.stated(
        generation,
        vec![StatedLease {
            account: account.clone(),
            totals,
        }],
    );
    gateway.append(&world, &[stated]).await;
    world.reaches(HELD, 60).await;
    let stated = other.stated(generation, Vec::new());
    other.append(&world, &[stated]).await;
    world
        .reaches(
            "SELECT count(*) FROM gateway, generation WHERE stated_generation = stating",
            2,
        )
        .await;
    other.show(&world).await;
    let lease = other.ask_until_granted(&world, &account, 15).await;
    assert_eq!(lease.granted, 15);
    other.ask(&world, &account, 16, 16).await;
    assert_eq!(other.denial().await.held, 75);
    assert_eq!(
        world
            .number("SELECT (settled + held)::bigint FROM account")
            .await,
        100
    );
    sound(&mut world).await;
    projector.stop().await;
}

async fn append_team(world: &World, organisation: odock_events::ids::OrganisationId, version: u64) {
    let team = team_created(organisation, TeamId::generate(), "later");
    append(
        world,
        CommandId::generate(),
        Some(organisation),
        version,
        &[team],
    )
    .await;
}
