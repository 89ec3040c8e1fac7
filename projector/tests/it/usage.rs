//! Gateways' streams: calls and money, entries cut anew, dead letters, two projectors at once.

use odock_events::{
    codec, examples,
    kind::{Event, Kind},
    log::UsageAppended,
    payload::budget::BudgetMode,
};

use crate::support::{
    World,
    admin::budget_body,
    gateway::{Gateway, account},
};

const SETTLED: &str = "SELECT coalesce(sum(settled), 0)::bigint FROM account";

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_in_the_tables_and_its_cost_on_its_account() {
    let mut world = World::new().await;
    let projector = world.start();
    let mut gateway = Gateway::open(&world).await;
    let organisation = odock_events::ids::OrganisationId::generate();
    let mut body = budget_body(organisation, 1_000);
    body.mode = BudgetMode::Soft;
    let soft = account(odock_events::ids::BudgetId::generate(), organisation, &body);
    let calls: Vec<Event> = (0..3)
        .map(|_| gateway.finished(std::slice::from_ref(&soft), 400, 0))
        .collect();
    gateway.append(&world, &calls).await;
    world.reaches("SELECT count(*) FROM usage", 3).await;
    assert_eq!(world.number(SETTLED).await, 1_200);
    assert_eq!(
        world
            .number("SELECT sum(requests)::bigint FROM usage_hourly")
            .await,
        3
    );
    assert_eq!(
        world
            .number("SELECT sum(cost_nanos)::bigint FROM usage_daily")
            .await,
        1_200
    );
    assert_eq!(
        world
            .number("SELECT last_seq FROM gateway WHERE state = 'open'")
            .await,
        4
    );
    assert_eq!(
        world
            .number("SELECT sum(amount)::bigint FROM ledger_entry WHERE kind = 'settle'")
            .await,
        1_200
    );
    let generation = world.generation().await;
    assert_eq!(
        world.log.watermark(generation, gateway.id).await.unwrap(),
        Some(4)
    );
    let closed = gateway.closed();
    gateway.append(&world, &[closed]).await;
    world
        .reaches("SELECT count(*) FROM gateway WHERE state = 'closed'", 1)
        .await;
    projector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_overlap_count_each_event_once() {
    let mut world = World::new().await;
    let mut gateway = Gateway::new(&world).await;
    let projector = world.start();
    let opened = gateway.opened(None);
    gateway.append(&world, &[opened]).await;
    let calls: Vec<Event> = (0..10).map(|_| gateway.finished(&[], 7, 0)).collect();
    gateway.append(&world, &calls[..4]).await;
    assert_eq!(
        gateway.ship(&world, 2, 4).await,
        UsageAppended::Duplicate { top: 5 }
    );
    world.reaches("SELECT count(*) FROM usage", 4).await;
    projector.stop().await;
    // Redis loses everything; the gateway, that knows an older watermark, cuts its batches anew.
    world.redis.flush().await;
    let projector = world.start();
    gateway.append_journal(&calls[4..]);
    world.generation().await;
    assert_eq!(
        gateway.ship(&world, 1, 3).await,
        UsageAppended::Ok { last: 3 }
    );
    assert_eq!(
        gateway.ship(&world, 4, 9).await,
        UsageAppended::Ok { last: 9 }
    );
    assert_eq!(
        gateway.ship(&world, 8, 11).await,
        UsageAppended::Gap { top: 9 }
    );
    assert_eq!(
        gateway.ship(&world, 10, 11).await,
        UsageAppended::Ok { last: 11 }
    );
    world.reaches("SELECT count(*) FROM usage", 10).await;
    assert_eq!(
        world.number("SELECT count(DISTINCT id) FROM usage").await,
        10
    );
    assert_eq!(
        world.number("SELECT max(last_seq) FROM usage_batch").await,
        11
    );
    projector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_set_aside_and_the_rest_goes_on() {
    let mut world = World::new().await;
    let projector = world.start();
    let mut gateway = Gateway::open(&world).await;
    let good = gateway.finished(&[], 1, 0);
    gateway.append(&world, std::slice::from_ref(&good)).await;
    // Seq 3: another's event. Seq 4: noise. Seq 5 and 6: an entry that is no batch.
    let foreign = codec::encode(&examples::of_kind(Kind::UsageFinished)).unwrap();
    let bytes = codec::pack_batch([foreign.as_slice(), b"noise"]).unwrap();
    assert_eq!(
        gateway.ship_bytes(&world, 3, 4, &bytes).await,
        UsageAppended::Ok { last: 4 }
    );
    assert_eq!(
        gateway.ship_bytes(&world, 5, 6, b"torn").await,
        UsageAppended::Ok { last: 6 }
    );
    gateway.skip(4);
    gateway.append(&world, &[good]).await;
    world.reaches("SELECT count(*) FROM usage", 2).await;
    assert_eq!(world.number("SELECT count(*) FROM dead_letter").await, 4);
    assert_eq!(
        world
            .number("SELECT count(*) FROM dead_letter WHERE seq = 5 AND body = 'torn'")
            .await,
        1
    );
    assert_eq!(
        world
            .number("SELECT seq FROM checkpoint WHERE stream LIKE 'usage:%'")
            .await,
        7
    );
    projector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_projectors_and_crashes_count_each_call_once() {
    let mut world = World::new().await;
    let mut running = vec![world.start(), world.start()];
    let mut gateways = vec![Gateway::open(&world).await, Gateway::open(&world).await];
    for _ in 0..8 {
        for gateway in &mut gateways {
            for _ in 0..10 {
                let calls: Vec<Event> = (0..5).map(|_| gateway.finished(&[], 3, 0)).collect();
                gateway.append(&world, &calls).await;
            }
        }
        running.remove(0).kill().await;
        running.push(world.start());
    }
    world.reaches("SELECT count(*) FROM usage", 800).await;
    assert_eq!(
        world
            .number("SELECT count(DISTINCT (gateway_id, seq)) FROM usage")
            .await,
        800
    );
    assert_eq!(
        world
            .number("SELECT sum(requests)::bigint FROM usage_daily")
            .await,
        800
    );
    for projector in running {
        projector.stop().await;
    }
}
