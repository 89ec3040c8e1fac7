//! `mgmt_append`: each answer it can give.

use std::time::Duration;

use odock_events::{
    ids::{CommandId, OrganisationId},
    log::{
        EventLog as _, ManagementAppend, ManagementAppended, ManagementEntry,
        generation::GenerationSeed, redis::RedisLog,
    },
};

use super::server::{Server, seed};

async fn append(
    log: &RedisLog,
    boundary: Option<OrganisationId>,
    expected_version: u64,
) -> ManagementAppended {
    log.append_management(&ManagementAppend {
        generation: 1,
        boundary,
        expected_version,
        bytes: b"command",
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn each_boundary_has_its_versions_and_all_share_the_seq() {
    let server = Server::start().await;
    let log = server.open_log().await;
    let one = Some(OrganisationId::generate());
    let other = Some(OrganisationId::generate());
    for (boundary, version, seq) in [(None, 0, 1), (one, 0, 2), (other, 0, 3), (one, 1, 4)] {
        let answer = append(&log, boundary, version).await;
        assert_eq!(answer, ManagementAppended::Ok { seq });
    }
    let before = server.dump().await;
    let answer = append(&log, one, 1).await;
    assert_eq!(answer, ManagementAppended::Conflict { version: 2 });
    let answer = append(&log, other, 2).await;
    assert_eq!(answer, ManagementAppended::Conflict { version: 1 });
    assert_eq!(server.dump().await, before, "a refusal changes nothing");
    let entries = log.read_management(1, 2, 10).await.unwrap();
    let entry = |seq| ManagementEntry {
        seq,
        bytes: b"command".to_vec(),
    };
    assert_eq!(entries, [entry(3), entry(4)]);
    assert_eq!(log.management_top(1).await.unwrap(), Some(4));
}

#[tokio::test]
async fn of_many_at_one_version_one_gets_through() {
    let server = Server::start().await;
    let log = server.open_log().await;
    let mut answers = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let log = log.clone();
        answers.spawn(async move { append(&log, None, 0).await });
    }
    let answers = answers.join_all().await;
    let through = answers
        .iter()
        .filter(|answer| **answer == ManagementAppended::Ok { seq: 1 });
    assert_eq!(through.count(), 1);
    let refused = answers
        .iter()
        .filter(|answer| **answer == ManagementAppended::Conflict { version: 1 });
    assert_eq!(refused.count(), 49);
}

#[tokio::test]
async fn seqs_and_versions_go_on_from_the_seed() {
    let server = Server::start().await;
    let log = server.log().await;
    let organisation = OrganisationId::generate();
    assert_eq!(append(&log, None, 0).await, ManagementAppended::Closed);
    log.raise_generation(&GenerationSeed {
        management_seq: 70,
        versions: vec![(None, 3), (Some(organisation), 9)],
        ..seed(1)
    })
    .await
    .unwrap();
    let answer = append(&log, None, 0).await;
    assert_eq!(answer, ManagementAppended::Conflict { version: 3 });
    let answer = append(&log, Some(organisation), 9).await;
    assert_eq!(answer, ManagementAppended::Ok { seq: 71 });
    let entries = log.read_management(1, 70, 10).await.unwrap();
    assert_eq!(entries.len(), 1);
}

#[tokio::test]
async fn many_boundaries_are_seeded_whole() {
    let server = Server::start().await;
    let log = server.log().await;
    let versions: Vec<_> = (1..=2_500)
        .map(|version| (Some(OrganisationId::generate()), version))
        .collect();
    log.raise_generation(&GenerationSeed {
        versions: versions.clone(),
        ..seed(1)
    })
    .await
    .unwrap();
    for (boundary, version) in versions.into_iter().step_by(499) {
        let answer = append(&log, boundary, version + 1).await;
        assert_eq!(answer, ManagementAppended::Conflict { version });
    }
}

#[tokio::test]
async fn whoever_asked_first_has_the_turn_at_a_boundary_until_it_ends_or_expires() {
    let server = Server::start().await;
    let log = server.open_log().await;
    let (here, elsewhere) = (Some(OrganisationId::generate()), None);
    let (first, second) = (CommandId::generate(), CommandId::generate());
    let minute = Duration::from_secs(60);
    let turn = async |boundary| {
        let opening = log.management_opening(boundary).await.unwrap();
        assert_eq!(opening.generation, Some(1));
        opening.turn
    };
    assert_eq!(turn(here).await, None);
    log.take_turn(here, first, minute).await.unwrap();
    log.take_turn(here, second, minute).await.unwrap();
    assert_eq!(
        (turn(here).await, turn(elsewhere).await),
        (Some(first), None)
    );
    log.end_turn(here).await.unwrap();
    log.take_turn(here, second, Duration::from_millis(1))
        .await
        .unwrap();
    while turn(here).await.is_some() {
        tokio::task::yield_now().await;
    }
}
