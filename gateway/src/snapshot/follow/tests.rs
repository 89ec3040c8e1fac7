//! The follower with a real Postgres and a real Redis, through everything that may happen to them.

use std::{sync::Arc, time::Duration};

use odock_events::{
    clock::{FixedClock, Timestamp},
    seal::{PublicKey, associated_data, generate_key_pair},
    state::EntityRow,
    units::Sha256Digest,
};
use tokio::time::Instant;

use self::backbone::{Backbone, Gateway, eventually};
use super::LoadedFrom;
use crate::snapshot::{
    testing::{World, budget_id, key_id, model_id},
    vault::VaultError,
};

mod backbone;
mod misses;
mod servers;

fn tenant() -> Vec<EntityRow> {
    let world = World::new();
    vec![
        world.organisation().into(),
        world.provider(1).into(),
        world.provider_key(1).into(),
        world.model(1).into(),
        world.key(1).into(),
        world.grant(1, 1, 1).into(),
        world.budget_of_key(1, 1).into(),
    ]
}

fn key(number: u32) -> Vec<EntityRow> {
    vec![World::new().key(number).into()]
}

fn knows(gateway: &Gateway, number: u32) -> bool {
    gateway
        .cell
        .load()
        .key(&World::new().key(number).body.secret_sha256)
        .is_some()
}

#[tokio::test]
async fn postgres_comes_first_and_every_delta_after_it() {
    let mut backbone = Backbone::start().await;
    backbone.publish(tenant()).await;
    let gateway = Gateway::start(&backbone).await;
    assert_eq!(gateway.loaded_from, LoadedFrom::Postgres);
    let snapshot = gateway.cell.load();
    assert_eq!(
        (snapshot.version, snapshot.generation),
        (1, backbone.generation)
    );
    assert_eq!(snapshot.rows().count(), tenant().len() - 1);
    assert!(snapshot.key_by_id(key_id(1)).unwrap().may_use(model_id(1)));
    assert_eq!(backbone.reported(1).await.epoch, 3);

    for number in 2..60 {
        let version = backbone.publish(key(number)).await;
        gateway.reached(version).await;
        assert!(knows(&gateway, number));
    }
    let mut revoked = World::new().key(2);
    revoked.body.revoked = true;
    let changed = World::new().budget_of_key(1, 1);
    let version = backbone.publish(vec![revoked.into(), changed.into()]).await;
    backbone.reported(version).await;
    let consequences = gateway.consequences();
    assert_eq!(consequences.dead_keys, [key_id(2)]);
    assert_eq!(consequences.changed_rules, [budget_id(1).into()]);
    assert!(
        gateway
            .cell
            .load()
            .key_by_id(key_id(2))
            .unwrap()
            .key
            .body
            .revoked
    );
    gateway.stop().await;
    assert_eq!(backbone.presence().await, None);
}

#[tokio::test]
async fn an_entry_is_applied_and_reported_without_any_poll_between() {
    let mut backbone = Backbone::start().await;
    let gateway = Gateway::start(&backbone).await;
    backbone.reported(0).await;
    backbone.publish(tenant()).await;
    backbone.reported(1).await;
    let mut times = Vec::new();
    for number in 2..52 {
        let delta = backbone.commit(key(number)).await;
        let sent = Instant::now();
        backbone.relay(&delta).await;
        while backbone
            .presence()
            .await
            .is_none_or(|seen| seen.applied_version < delta.version)
        {
            tokio::task::yield_now().await;
        }
        times.push(sent.elapsed());
    }
    times.sort();
    let median = times[times.len() / 2];
    println!(
        "stream to presence: p50 {median:?}, worst {:?}",
        times[times.len() - 1]
    );
    // The heartbeat alone would take half a second on average; the rest is the machine's load.
    assert!(median < Duration::from_millis(100), "{median:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_new_generation_counts_also_when_it_goes_back() {
    let mut backbone = Backbone::start().await;
    backbone.publish(tenant()).await;
    let gateway = Gateway::start(&backbone).await;
    for number in 2..6 {
        backbone.publish(key(number)).await;
    }
    gateway.reached(5).await;
    // Postgres comes back from an older copy, and Redis is wiped.
    backbone.delete_keys().await;
    backbone.set_version(3).await;
    backbone.version = 3;
    backbone.redis.flush().await;
    backbone.raise_generation().await;
    backbone.beat().await;
    eventually("the older state", || async {
        (gateway.cell.version() == 3).then_some(())
    })
    .await;
    assert!(!knows(&gateway, 2));
    let mut dead = gateway.consequences().dead_keys;
    dead.sort();
    assert_eq!(dead, [1, 2, 3, 4, 5].map(key_id));
    backbone.reported(3).await;
    let version = backbone.publish(key(9)).await;
    backbone.reported(version).await;
    assert!(knows(&gateway, 9));
    gateway.stop().await;
}

#[tokio::test]
async fn a_restarted_redis_is_followed_from_the_same_place() {
    let mut backbone = Backbone::start().await;
    backbone.publish(tenant()).await;
    let gateway = Gateway::start(&backbone).await;
    let version = backbone.publish(key(2)).await;
    gateway.reached(version).await;
    backbone.redis.kill();
    let missed = backbone.commit(key(3)).await;
    backbone.redis.start_again();
    backbone.redis_is_back().await;
    backbone.relay(&missed).await;
    let version = backbone.publish(key(4)).await;
    gateway.reached(version).await;
    assert!(knows(&gateway, 3) && knows(&gateway, 4));
    backbone.reported(version).await;
    gateway.stop().await;
}

#[tokio::test]
async fn with_everything_down_the_file_serves_and_the_stream_goes_on_from_it() {
    let mut backbone = Backbone::start().await;
    backbone.publish(tenant()).await;
    let gateway = Gateway::start(&backbone).await;
    gateway.reached(1).await;
    gateway.stop().await;

    servers::open_database(&backbone.dsn, false).await;
    backbone.redis.kill();
    let gateway = Gateway::start(&backbone).await;
    assert_eq!(gateway.loaded_from, LoadedFrom::File);
    assert!(
        gateway.first_load_took < Duration::from_secs(1),
        "{:?}",
        gateway.first_load_took
    );
    assert!(
        gateway
            .cell
            .load()
            .key_by_id(key_id(1))
            .unwrap()
            .may_use(model_id(1))
    );

    // The stream alone is enough to go on.
    backbone.redis.start_again();
    backbone.redis_is_back().await;
    servers::open_database(&backbone.dsn, true).await;
    let delta = backbone.commit(key(2)).await;
    servers::open_database(&backbone.dsn, false).await;
    backbone.relay(&delta).await;
    backbone.reported(2).await;
    assert!(knows(&gateway, 2));
    gateway.kill().await;
}

#[tokio::test]
async fn without_file_and_postgres_it_waits_for_postgres() {
    let mut backbone = Backbone::start().await;
    backbone.publish(tenant()).await;
    servers::open_database(&backbone.dsn, false).await;
    let gateway = Gateway::start(&backbone).await;
    assert_eq!(gateway.loaded_from, LoadedFrom::Nothing);
    assert!(!gateway.cell.is_loaded());
    assert_eq!(backbone.presence().await, None);
    servers::open_database(&backbone.dsn, true).await;
    backbone.reported(1).await;
    assert!(knows(&gateway, 1));
    gateway.stop().await;
}

#[tokio::test]
async fn a_gap_and_an_entry_that_does_not_read_are_loaded_over() {
    let mut backbone = Backbone::start().await;
    backbone.publish(tenant()).await;
    let gateway = Gateway::start(&backbone).await;
    backbone.commit(key(2)).await;
    let version = backbone.publish(key(3)).await;
    backbone.reported(version).await;
    assert!(knows(&gateway, 2) && knows(&gateway, 3));

    // What Postgres does not have is not applied, and what was good stays.
    let broken = version + 1;
    backbone
        .log
        .relay_config(backbone.generation, broken, b"\xC1")
        .await
        .unwrap();
    let heartbeat = backbone.reported(version).await.heartbeat_at;
    assert_eq!(heartbeat, Timestamp(0));
    assert!(knows(&gateway, 3));
    backbone.commit(key(4)).await;
    backbone.reported(broken).await;
    assert!(knows(&gateway, 4));
    gateway.stop().await;
}

#[tokio::test]
async fn a_version_that_was_announced_and_never_came_is_loaded() {
    let mut backbone = Backbone::start().await;
    backbone.publish(tenant()).await;
    let gateway = Gateway::start(&backbone).await;
    backbone.reported(1).await;
    backbone.commit(key(2)).await;
    eventually("the version", || async {
        backbone.beat().await;
        gateway
            .cell
            .reached(2, Duration::from_millis(100))
            .await
            .then_some(())
    })
    .await;
    assert!(knows(&gateway, 2));
    gateway.stop().await;
}

#[tokio::test]
async fn an_older_postgres_does_not_replace_what_is_in_force() {
    let mut backbone = Backbone::start().await;
    backbone.publish(tenant()).await;
    let gateway = Gateway::start(&backbone).await;
    let version = backbone.publish(key(2)).await;
    gateway.reached(version).await;
    gateway.stop().await;

    backbone.set_version(version - 1).await;
    let gateway = Gateway::start(&backbone).await;
    assert_eq!(
        (gateway.loaded_from, gateway.cell.version()),
        (LoadedFrom::File, version)
    );
    // It asks Postgres before it goes on with the stream.
    let delta = backbone.commit(key(3)).await;
    backbone.set_version(version - 1).await;
    backbone.relay(&delta).await;
    backbone.reported(delta.version).await;
    assert!(knows(&gateway, 2) && knows(&gateway, 3));
    assert_eq!(gateway.versions(), [version, version + 1]);
    gateway.stop().await;
}

#[tokio::test]
async fn age_counts_from_the_last_beat_and_survives_in_the_file() {
    let mut backbone = Backbone::start().await;
    backbone.publish(tenant()).await;
    let second = |second: i64| Timestamp(second * 1_000_000);
    let clock = Arc::new(FixedClock::at(second(1_000)));
    let gateway = Gateway::start_at(&backbone, Arc::clone(&clock) as _, None).await;
    assert!(
        !gateway.cell.is_stale(second(1_060)),
        "a load from postgres is current"
    );
    clock.set(second(1_100));
    assert!(gateway.cell.is_stale(second(1_100)));
    eventually("a beat", || async {
        backbone.beat().await;
        (gateway.cell.heard_at() == second(1_100)).then_some(())
    })
    .await;
    gateway.stop().await;

    servers::open_database(&backbone.dsn, false).await;
    backbone.redis.kill();
    let gateway = Gateway::start_at(&backbone, clock, None).await;
    assert_eq!(gateway.loaded_from, LoadedFrom::File);
    assert!(!gateway.cell.is_stale(second(1_160)));
    assert!(gateway.cell.is_stale(second(1_161)));
    backbone.redis.start_again();
    gateway.kill().await;
}

#[tokio::test]
async fn sealed_keys_come_with_their_delta_or_as_soon_as_postgres_has_them() {
    let mut backbone = Backbone::start().await;
    backbone.publish(tenant()).await;
    let pair = generate_key_pair().unwrap();
    let clock = Arc::new(FixedClock::default());
    let gateway = Gateway::start_at(&backbone, clock, Some(&pair)).await;
    let public = PublicKey::from_pem(&pair.public_pem).unwrap();
    let sealed = |number| {
        let mut row = World::new().provider_key(number);
        let owner = associated_data(row.organisation_id, row.body.provider_id);
        let json = public.seal("sk-upstream", &owner).unwrap().to_json();
        row.body.sealed_sha256 = Sha256Digest::of(json.as_bytes());
        (row, json)
    };
    let (row, json) = sealed(2);
    backbone
        .put_envelope(row.body.sealed_secret_id, &json)
        .await;
    let version = backbone.publish(vec![row.clone().into()]).await;
    gateway.reached(version).await;
    assert_eq!(
        gateway.vault.authorization(&row).unwrap(),
        "Bearer sk-upstream"
    );

    let (row, json) = sealed(3);
    let version = backbone.publish(vec![row.clone().into()]).await;
    backbone.reported(version).await;
    assert_eq!(
        gateway.vault.secret(&row).await.unwrap_err(),
        VaultError::NotHere
    );
    backbone
        .put_envelope(row.body.sealed_secret_id, &json)
        .await;
    eventually("the envelope", || async {
        gateway.vault.secret(&row).await.ok()
    })
    .await;
    gateway.stop().await;

    servers::open_database(&backbone.dsn, false).await;
    let gateway = Gateway::start_at(&backbone, Arc::new(FixedClock::default()), Some(&pair)).await;
    assert_eq!(gateway.loaded_from, LoadedFrom::File);
    assert!(
        gateway.vault.secret(&row).await.is_ok(),
        "the file holds what was fetched"
    );
    gateway.kill().await;
}
