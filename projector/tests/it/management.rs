//! Commands: accepted, refused, repeated, folded by two projectors at once, and across crashes.

use std::time::Duration;

use odock_events::{
    codec::Entry,
    ids::{CommandId, KeyId, TeamId},
    log::reader::StreamReader,
    state::config::ConfigDelta,
};
use odock_projector::check::{Depth, violations};
use serde_bytes::ByteBuf;

use crate::support::{
    World,
    admin::{
        Admin, about, append, append_entry, key_created, organisation_created, outcome_of,
        team_created, team_deleted,
    },
    eventually,
};

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_command_is_in_every_table_and_in_the_config_stream() {
    let mut world = World::new().await;
    let projector = world.start();
    let mut admin = Admin::default();
    let mut notified = sqlx::postgres::PgListener::connect(&world.dsn)
        .await
        .unwrap();
    notified.listen("odock_command").await.unwrap();
    let organisation = admin.organisation(&mut world, "Acme").await;
    let told = tokio::time::timeout(Duration::from_secs(5), notified.recv()).await;
    assert!(
        told.unwrap()
            .unwrap()
            .payload()
            .parse::<CommandId>()
            .is_ok()
    );
    let (team, key) = (TeamId::generate(), KeyId::generate());
    let events = [
        team_created(organisation, team, "search"),
        key_created(organisation, key, team),
    ];
    let outcome = admin.send(&mut world, Some(organisation), &events).await;
    assert_eq!((outcome.result.as_str(), outcome.position), ("done", 2));
    assert_eq!(outcome.config_version, Some(2));

    assert_eq!(
        world
            .number("SELECT count(*) FROM team WHERE version = 1 AND position = 2")
            .await,
        1
    );
    assert_eq!(
        world
            .number("SELECT count(*) FROM api_key WHERE position = 2")
            .await,
        1
    );
    assert_eq!(
        world
            .number("SELECT count(*) FROM event WHERE position = 2")
            .await,
        2
    );
    assert_eq!(
        world
            .number("SELECT max(config_version) FROM event_log")
            .await,
        2
    );
    assert_eq!(
        world
            .number("SELECT sum(version)::bigint FROM boundary")
            .await,
        2
    );
    assert_eq!(world.number("SELECT position FROM log_head").await, 2);
    assert_eq!(world.number("SELECT version FROM config_head").await, 2);

    let generation = world.generation().await;
    let mut reader = StreamReader::connect(&world.redis.url()).await.unwrap();
    let mut versions = Vec::new();
    while versions.len() < 2 {
        let after = versions.len() as u64;
        let read = reader
            .config(generation, after, 10, Duration::from_secs(1))
            .await
            .unwrap();
        versions.extend(read);
    }
    let delta = ConfigDelta::from_bytes(&versions[1].bytes).unwrap();
    assert_eq!(
        (versions[1].version, delta.version, delta.position),
        (2, 2, 2)
    );
    assert_eq!(delta.changes.len(), 2);
    projector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_command_says_why_and_uses_its_version_up() {
    let mut world = World::new().await;
    let projector = world.start();
    let mut admin = Admin::default();
    let organisation = admin.organisation(&mut world, "Acme").await;
    let taken = organisation_created(odock_events::ids::OrganisationId::generate(), "Acme");
    let outcome = admin.send(&mut world, None, &[taken]).await;
    assert_eq!(outcome.code.as_deref(), Some("name_taken"));

    let (team, key) = (TeamId::generate(), KeyId::generate());
    let own = Some(organisation);
    let orphan = admin
        .send(&mut world, own, &[key_created(organisation, key, team)])
        .await;
    assert_eq!(orphan.code.as_deref(), Some("conflict"));
    let both = [
        team_created(organisation, team, "search"),
        key_created(organisation, key, team),
    ];
    assert_eq!(admin.send(&mut world, own, &both).await.result, "done");
    let used = admin
        .send(&mut world, own, &[team_deleted(organisation, team, 2)])
        .await;
    assert_eq!(used.code.as_deref(), Some("in_use"));
    let stale = admin
        .send(&mut world, own, &[team_deleted(organisation, team, 7)])
        .await;
    assert_eq!(stale.code.as_deref(), Some("conflict"));
    let outside = admin
        .send(&mut world, None, &[team_deleted(organisation, team, 2)])
        .await;
    assert_eq!(outside.code.as_deref(), Some("conflict"));
    // Nothing of the refused ones has stayed, and what comes after them is taken.
    assert_eq!(world.number("SELECT count(*) FROM api_key").await, 1);
    let other = TeamId::generate();
    let last = admin
        .send(&mut world, own, &[team_created(organisation, other, "ads")])
        .await;
    assert_eq!(
        (last.result.as_str(), last.config_version),
        ("done", Some(3))
    );
    assert_eq!(
        world
            .number("SELECT count(*) FROM event WHERE kind = 'command.rejected'")
            .await,
        5
    );
    assert_eq!(world.number("SELECT count(*) FROM config_delta").await, 3);
    projector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_command_keeps_its_outcome() {
    let mut world = World::new().await;
    let projector = world.start();
    let mut admin = Admin::default();
    let organisation = admin.organisation(&mut world, "Acme").await;
    let id = CommandId::generate();
    let events = [team_created(organisation, TeamId::generate(), "search")];
    append(&world, id, Some(organisation), 0, &events).await;
    append(&world, id, Some(organisation), 1, &events).await;
    world.reaches("SELECT position FROM log_head", 3).await;
    let outcome = outcome_of(&mut world, id).await;
    assert_eq!((outcome.result.as_str(), outcome.position), ("done", 2));
    assert_eq!(world.number("SELECT count(*) FROM team").await, 1);
    // The repetition has used a version up in the stream, so it has in the tables.
    let next = [team_created(organisation, TeamId::generate(), "ads")];
    append(&world, CommandId::generate(), Some(organisation), 2, &next).await;
    world.reaches("SELECT count(*) FROM team", 2).await;
    projector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_projectors_and_crashes_fold_each_command_once() {
    let mut world = World::new().await;
    let mut running = vec![world.start(), world.start()];
    let mut admin = Admin::default();
    let organisation = admin.organisation(&mut world, "Acme").await;
    for round in 0..6 {
        for number in 0..10 {
            let version = round * 10 + number;
            let team = team_created(organisation, TeamId::generate(), "team");
            append(
                &world,
                CommandId::generate(),
                Some(organisation),
                version,
                &[team],
            )
            .await;
        }
        running.remove(0).kill().await;
        running.push(world.start());
    }
    world.reaches("SELECT count(*) FROM team", 60).await;
    assert_eq!(world.number("SELECT position FROM log_head").await, 61);
    assert_eq!(world.number("SELECT count(*) FROM event_log").await, 61);
    assert_eq!(
        world
            .number("SELECT seq FROM checkpoint WHERE stream = 'management'")
            .await,
        61
    );
    for projector in running {
        projector.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_kind_stops_the_projector_and_nothing_is_skipped() {
    let mut world = World::new().await;
    let projector = world.start();
    let mut admin = Admin::default();
    let organisation = admin.organisation(&mut world, "Acme").await;
    let mut bytes = odock_events::codec::encode(&about(
        organisation.into(),
        2,
        organisation,
        odock_events::kind::Event::OrganisationDeleted(odock_events::payload::Nothing {}),
    ))
    .unwrap();
    let name = b"organisation.deleted";
    let at = bytes
        .windows(name.len())
        .position(|window| window == name)
        .unwrap();
    bytes[at + name.len() - 1] = b'x';
    let entry = Entry {
        command_id: Some(CommandId::generate()),
        boundary: None,
        expected_version: Some(1),
        events: vec![ByteBuf::from(bytes)],
    };
    append_entry(&world, &entry).await;
    assert!(
        projector
            .error()
            .await
            .to_string()
            .contains("organisation.deletex")
    );
    let again = world.start();
    assert!(
        again
            .error()
            .await
            .to_string()
            .contains("management entry 2")
    );
    assert_eq!(world.number("SELECT position FROM log_head").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_are_cut_do_no_harm() {
    let mut world = World::new().await;
    let (active, standby) = (world.start(), world.start());
    let mut admin = Admin::default();
    let organisation = admin.organisation(&mut world, "Acme").await;
    for number in 0..8 {
        let team = team_created(organisation, TeamId::generate(), "team");
        append(
            &world,
            CommandId::generate(),
            Some(organisation),
            number,
            &[team],
        )
        .await;
        // As a restart of Postgres does it: every session of every projector ends.
        sqlx::query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND application_name LIKE 'odock-projector%'",
        )
        .execute(&mut world.database)
        .await
        .unwrap();
    }
    world.reaches("SELECT count(*) FROM team", 8).await;
    assert_eq!(
        violations(&mut world.database, Depth::Full).await.unwrap(),
        []
    );
    active.stop().await;
    standby.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ready_file_says_who_is_active_and_the_standby_takes_over() {
    let world = World::new().await;
    let directory = tempfile::tempdir().unwrap();
    let files = [directory.path().join("one"), directory.path().join("two")];
    let says = |file: std::path::PathBuf, active: bool| {
        eventually("the state of a projector", move || {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let state: Option<serde_json::Value> = serde_json::from_str(&text).ok();
            let said = state.filter(|state| state["active"] == active && state["addr"].is_null());
            std::future::ready(said)
        })
    };
    let active = world.start_with_file(&files[0]);
    let state = says(files[0].clone(), true).await;
    assert_eq!(state["pid"], std::process::id());
    let standby = world.start_with_file(&files[1]);
    says(files[1].clone(), false).await;
    active.kill().await;
    says(files[1].clone(), true).await;
    standby.stop().await;
}
