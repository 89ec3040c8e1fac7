//! Rebuild: folding the log from nothing gives the live tables, whatever went through them.

use odock_events::{
    envelope::EntityRef,
    ids::{KeyId, TeamId},
    kind::Event,
    payload::budget::BudgetMode,
};
use odock_projector::{
    check::{Depth, violations},
    rebuild::{self, Mode, TableReport},
};

use crate::support::{
    World,
    admin::{Admin, about, budget_body, key_created, team_created, team_deleted},
    gateway::{Gateway, account},
};

/// Commands accepted and refused, money of all kinds, dead letters, a lost gateway: everything the log can hold.
pub(crate) async fn mixed_traffic(world: &mut World) {
    let mut admin = Admin::default();
    let organisation = admin.organisation(world, "Acme").await;
    let own = Some(organisation);
    let (team, key) = (TeamId::generate(), KeyId::generate());
    let created = [
        team_created(organisation, team, "search"),
        key_created(organisation, key, team),
    ];
    admin.send(world, own, &created).await;
    admin
        .send(world, own, &[team_deleted(organisation, team, 2)])
        .await;
    let budget = admin.budget(world, organisation, 1_000).await;
    let hard = account(budget, organisation, &budget_body(organisation, 1_000));
    let mut soft_body = budget_body(organisation, 10);
    soft_body.mode = BudgetMode::Soft;
    let soft = account(
        odock_events::ids::BudgetId::generate(),
        organisation,
        &soft_body,
    );

    let mut gateway = Gateway::open(world).await;
    gateway.ask(world, &hard, 100, 100).await;
    assert_eq!(gateway.lease().await.granted, 100);
    for cost in [30, 40, 90] {
        let call = gateway.finished(&[hard.clone(), soft.clone()], cost, 30);
        gateway.append(world, &[call]).await;
    }
    let overdrawn = gateway.finished(std::slice::from_ref(&hard), 500, 500);
    gateway.append(world, &[overdrawn]).await;
    assert!(matches!(
        gateway
            .ship_bytes(world, gateway.seq + 1, gateway.seq + 1, b"noise")
            .await,
        odock_events::log::UsageAppended::Ok { .. }
    ));
    gateway.skip(1);
    let changed = Event::BudgetUpdated(budget_body(organisation, 150));
    let outcome = admin
        .send(
            world,
            own,
            &[about(EntityRef::from(budget), 2, organisation, changed)],
        )
        .await;
    assert_eq!(outcome.result, "done", "{outcome:?}");
    gateway.ask(world, &hard, 500, 500).await;
    let reclaim = gateway.reclaim().await;
    let back = gateway.returned(Some(reclaim), &[(hard.id, 10)]);
    gateway.append(world, &[back]).await;
    gateway.denial().await;
    let mut successor = Gateway::new(world).await;
    let opened = successor.opened(Some(gateway.id));
    successor.append(world, &[opened]).await;
    let closed = successor.closed();
    successor.append(world, &[closed]).await;
    world
        .reaches("SELECT count(*) FROM gateway WHERE state <> 'open'", 2)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_equals_the_live_tables_and_can_take_their_place() {
    let mut world = World::new().await;
    let projector = world.start();
    mixed_traffic(&mut world).await;
    assert_eq!(
        violations(&mut world.database, Depth::Full).await.unwrap(),
        []
    );

    let report = rebuild::run(&world.dsn, Mode::Verify).await.unwrap();
    assert!(report.is_equal(), "{report}");
    assert!(report.usage_events >= 8, "{report}");
    for name in [
        "account",
        "lease",
        "ledger_entry",
        "usage",
        "dead_letter",
        "event",
        "gateway",
    ] {
        // Usage goes by the names of its partitions, the days.
        let is = |table: &&TableReport| {
            table.name == name || name == "usage" && table.name.starts_with("usage_2")
        };
        let table = report.tables.iter().find(is).unwrap();
        assert!(table.rebuilt.rows > 0, "{name} is empty");
    }
    assert!(rebuild::run(&world.dsn, Mode::Replace).await.is_err());
    projector.stop().await;

    let before = world.number("SELECT count(*) FROM usage").await;
    let report = rebuild::run(&world.dsn, Mode::Replace).await.unwrap();
    assert!(report.is_equal(), "{report}");
    // The tables that took their place go on.
    let projector = world.start();
    let mut gateway = Gateway::open(&world).await;
    let call = gateway.finished(&[], 1, 0);
    gateway.append(&world, &[call]).await;
    world
        .reaches("SELECT count(*) FROM usage", before + 1)
        .await;
    assert!(
        rebuild::run(&world.dsn, Mode::Verify)
            .await
            .unwrap()
            .is_equal()
    );
    projector.stop().await;
}

fn different(report: &rebuild::Report) -> Vec<&str> {
    let tables = report.tables.iter();
    tables
        .filter(|table| table.live != table.rebuilt)
        .map(|table| table.name.as_str())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_was_changed_by_hand_shows_with_its_day() {
    let mut world = World::new().await;
    let projector = world.start();
    mixed_traffic(&mut world).await;
    projector.stop().await;
    let day: String = sqlx::query_scalar(
        "UPDATE usage SET latency_ms = latency_ms + 1
         WHERE seq = (SELECT min(seq) FROM usage) RETURNING to_char(recorded_on, 'YYYYMMDD')",
    )
    .fetch_one(&mut world.database)
    .await
    .unwrap();
    let report = rebuild::run(&world.dsn, Mode::Verify).await.unwrap();
    assert_eq!(different(&report), [format!("usage_{day}")]);
    assert!(report.to_string().contains("DIFFERENT"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_changed_by_hand_shows() {
    let mut world = World::new().await;
    let projector = world.start();
    mixed_traffic(&mut world).await;
    projector.stop().await;
    sqlx::query("UPDATE account SET settled = settled + 1, held = held + 1")
        .execute(&mut world.database)
        .await
        .unwrap();
    let report = rebuild::run(&world.dsn, Mode::Verify).await.unwrap();
    assert_eq!(different(&report), ["account"]);
    let violations = violations(&mut world.database, Depth::Full).await.unwrap();
    assert!(
        violations
            .iter()
            .all(|violation| violation.invariant == "I10")
    );
    assert!(violations.len() >= 4, "{violations:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_derived_table_has_a_digest() {
    let mut world = World::new().await;
    let report = rebuild::run(&world.dsn, Mode::Verify).await.unwrap();
    sqlx::raw_sql(
        "CREATE SCHEMA probe; SET search_path = probe, public; SELECT create_derived_tables()",
    )
    .execute(&mut world.database)
    .await
    .unwrap();
    let mut made: Vec<String> =
        sqlx::query_scalar("SELECT tablename::text FROM pg_tables WHERE schemaname = 'probe'")
            .fetch_all(&mut world.database)
            .await
            .unwrap();
    made.sort();
    let mut digested: Vec<String> = report
        .tables
        .iter()
        .map(|table| table.name.clone())
        .collect();
    digested.sort();
    assert_eq!(made, digested);
}
