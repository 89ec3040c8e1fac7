//! More keys than the snapshot has room for: they are looked up when they are used.

use std::sync::Arc;

use futures_util::future::join_all;
use odock_events::state::Key;

use super::*;
use crate::snapshot::{KeyEntry, misses::Found};

fn secret(number: u32) -> Sha256Digest {
    World::new().key(number).body.secret_sha256
}

fn revoked(number: u32) -> Key {
    let mut key = World::new().key(number);
    (key.body.revoked, key.version) = (true, 2);
    key
}

async fn find(gateway: &Gateway, number: u32) -> Found {
    gateway.misses.find(secret(number)).await
}

async fn found(gateway: &Gateway, number: u32) -> Arc<KeyEntry> {
    match find(gateway, number).await {
        Found::Key(entry) => entry,
        other => panic!("key {number}: {other:?}"),
    }
}

/// A tenant with five keys of one grant each, and a gateway that has room for two.
async fn start() -> (Backbone, Gateway) {
    let mut backbone = Backbone::start().await;
    backbone.publish(tenant()).await;
    for number in 2..6 {
        let world = World::new();
        backbone
            .publish(vec![
                world.key(number).into(),
                world.grant(number, number, 1).into(),
            ])
            .await;
    }
    let gateway = Gateway::start_small(&backbone, 2).await;
    (backbone, gateway)
}

#[tokio::test]
async fn a_key_without_a_place_is_looked_up_once_for_all_who_wait_and_takes_another_s_place() {
    let (_backbone, gateway) = start().await;
    assert!(!gateway.cell.load().is_complete());
    let all = join_all((0..50).map(|_| found(&gateway, 3))).await;
    assert!(
        all.iter()
            .all(|entry| entry.key.id == key_id(3) && entry.may_use(model_id(1)))
    );
    assert_eq!(gateway.misses.asked(), 1);
    assert!(knows(&gateway, 3));
    for number in 1..6 {
        found(&gateway, number).await;
        assert!(knows(&gateway, number));
        assert!(gateway.cell.load().key_count() <= 2);
    }
    // The grants went with the keys.
    assert_eq!(
        gateway.cell.load().grants().count(),
        gateway.cell.load().key_count()
    );
    gateway.stop().await;
}

#[tokio::test]
async fn line_027_unknown_keys_are_remembered_and_the_delta_that_creates_one_clears_it() {
    let (mut backbone, gateway) = start().await;
    for _ in 0..20 {
        assert!(matches!(find(&gateway, 9).await, Found::Nothing));
    }
    assert_eq!(
        gateway.misses.asked(),
        1,
        "an unknown key costs one query a second"
    );
    let version = backbone.publish(key(9)).await;
    gateway.reached(version).await;
    assert!(!knows(&gateway, 9), "there was no room for it");
    assert_eq!(found(&gateway, 9).await.key.id, key_id(9));
    assert_eq!(gateway.misses.asked(), 2);
    gateway.stop().await;
}

#[tokio::test]
async fn what_postgres_knows_already_is_waited_for_and_what_it_no_longer_knows_is_not_taken() {
    let (mut backbone, gateway) = start().await;
    let delta = backbone.commit(vec![revoked(4).into()]).await;
    let early = find(&gateway, 4);
    let late = async {
        backbone.relay(&delta).await;
        gateway.reached(delta.version).await;
    };
    let (early, ()) = tokio::join!(early, late);
    assert!(matches!(early, Found::Key(entry) if entry.key.body.revoked));
    // A replica that is behind: what it says is older than what is in force.
    backbone.set_version(delta.version - 1).await;
    assert!(matches!(find(&gateway, 5).await, Found::Unknown));
    assert!(!knows(&gateway, 5));
    backbone.set_version(delta.version).await;
    assert_eq!(found(&gateway, 5).await.key.id, key_id(5));
    gateway.stop().await;
}

#[tokio::test]
async fn a_revocation_ends_calls_of_keys_that_lost_their_place_and_of_those_that_have_one() {
    let (mut backbone, gateway) = start().await;
    for number in 1..6 {
        found(&gateway, number).await;
    }
    let before = gateway.cell.load().version;
    let version = backbone
        .publish((1..6).map(|number| revoked(number).into()).collect())
        .await;
    gateway.reached(version).await;
    let mut dead = gateway.consequences().dead_keys;
    dead.sort_unstable();
    assert_eq!(dead, (1..6).map(key_id).collect::<Vec<_>>());
    for number in 1..6 {
        assert!(!gateway.misses.is_unchanged_since(before, key_id(number)));
        assert!(found(&gateway, number).await.key.body.revoked);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_cache_that_was_complete_and_overflows_goes_on_by_look_ups_over_a_restart_too() {
    let mut backbone = Backbone::start().await;
    backbone.publish(tenant()).await;
    let gateway = Gateway::start_small(&backbone, 2).await;
    let version = backbone.publish(key(2)).await;
    gateway.reached(version).await;
    assert!(gateway.cell.load().is_complete() && knows(&gateway, 2));
    let version = backbone.publish(key(3)).await;
    gateway.reached(version).await;
    assert!(!gateway.cell.load().is_complete() && !knows(&gateway, 3));
    assert!(knows(&gateway, 1) && knows(&gateway, 2));
    found(&gateway, 3).await;
    gateway.stop().await;
    // What was in use is loaded again, and what was revoked meanwhile is known to be.
    backbone.commit(vec![revoked(3).into()]).await;
    let gateway = Gateway::start_small(&backbone, 2).await;
    assert_eq!(gateway.loaded_from, LoadedFrom::File);
    assert!(!gateway.cell.load().is_complete() && knows(&gateway, 3));
    gateway.reached(version + 1).await;
    assert!(found(&gateway, 3).await.key.body.revoked);
    assert_eq!(gateway.consequences().dead_keys, [key_id(3)]);
    gateway.stop().await;
}
