//! Generations: closed, stale, raised, raised twice, overtaken.

use odock_events::{
    ids::GatewayId,
    log::{
        EventLog as _, ManagementAppend, ManagementAppended, UsageAppended,
        generation::GenerationSeed, keys::Keys,
    },
};

use super::server::{Producer, Server, open_planes, seed};

#[tokio::test]
async fn an_emptied_redis_is_closed_until_it_is_seeded() {
    let server = Server::start().await;
    let log = server.open_log().await;
    let mut producer = Producer::new();
    producer.append(&log, 1, 9).await;
    let _: String = server.ask(&["FLUSHALL"]).await.unwrap();
    let closed = producer.append(&log, 10, 10).await;
    assert_eq!(closed, UsageAppended::Closed);
    assert_eq!(open_planes(&log).await, [None, None, None]);
    assert_eq!(server.dump().await, [], "a closed log takes nothing");
    log.raise_generation(&GenerationSeed {
        owners: vec![(producer.gateway, 1, "n".to_owned())],
        watermarks: vec![(producer.gateway, 4)],
        ..seed(2)
    })
    .await
    .unwrap();
    let stale = producer.append(&log, 10, 10).await;
    assert_eq!(stale, UsageAppended::Stale { generation: 2 });
    producer.generation = 2;
    producer.base = log.watermark(2, producer.gateway).await.unwrap().unwrap();
    assert_eq!(producer.base, 4);
    let gap = producer.append(&log, 10, 10).await;
    assert_eq!(gap, UsageAppended::Gap { top: 4 });
    let taken = producer.append(&log, 5, 10).await;
    assert_eq!(taken, UsageAppended::Ok { last: 10 });
}

#[tokio::test]
async fn seeded_owners_fence() {
    let server = Server::start().await;
    let log = server.log().await;
    let producer = Producer::new();
    let any = GatewayId::generate();
    log.raise_generation(&GenerationSeed {
        owners: vec![
            (producer.gateway, 5, "known".to_owned()),
            (any, 1, String::new()),
        ],
        ..seed(1)
    })
    .await
    .unwrap();
    let fenced = producer.append(&log, 1, 1).await;
    assert_eq!(
        fenced,
        UsageAppended::Fenced {
            owner: "5:known".to_owned()
        }
    );
    let without_nonce = Producer {
        gateway: any,
        ..producer
    };
    let taken = without_nonce.append(&log, 1, 1).await;
    assert_eq!(taken, UsageAppended::Ok { last: 1 });
}

#[tokio::test]
async fn commands_of_an_old_generation_are_stale() {
    let server = Server::start().await;
    let log = server.open_log().await;
    log.raise_generation(&seed(5)).await.unwrap();
    let answer = log
        .append_management(&ManagementAppend {
            generation: 1,
            boundary: None,
            expected_version: 0,
            bytes: b"command",
        })
        .await
        .unwrap();
    assert_eq!(answer, ManagementAppended::Stale { generation: 5 });
}

#[tokio::test]
async fn a_projector_that_was_overtaken_opens_nothing() {
    let server = Server::start().await;
    let log = server.open_log().await;
    log.raise_generation(&seed(9)).await.unwrap();
    let late = log.raise_generation(&seed(8)).await;
    assert!(late.unwrap_err().to_string().contains("higher generation"));
    assert_eq!(open_planes(&log).await, [Some(9), Some(9), Some(9)]);
}

#[tokio::test]
async fn raising_again_leaves_alone_what_is_open() {
    let server = Server::start().await;
    let log = server.open_log().await;
    let producer = Producer::new();
    producer.append(&log, 1, 3).await;
    let command = ManagementAppend {
        generation: 1,
        boundary: None,
        expected_version: 0,
        bytes: b"command",
    };
    log.append_management(&command).await.unwrap();
    let before = server.dump().await;
    log.raise_generation(&seed(1)).await.unwrap();
    assert_eq!(server.dump().await, before);
}

#[tokio::test]
async fn old_keys_expire_and_new_ones_stay() {
    let server = Server::start().await;
    let log = server.open_log().await;
    let producer = Producer::new();
    producer.append(&log, 1, 3).await;
    log.relay_config(1, 1, b"row").await.unwrap();
    log.raise_generation(&seed(2)).await.unwrap();
    let old = Keys::new(1);
    for key in [producer.stream(), old.owner(), old.versions(), old.config()] {
        let seconds: i64 = server.ask(&["TTL", &key]).await.unwrap();
        assert!((80_000..=86_400).contains(&seconds), "{key}: {seconds}");
    }
    let new = Keys::new(2).versions();
    let seconds: i64 = server.ask(&["TTL", &new]).await.unwrap();
    assert_eq!(seconds, -1);
    let left = log.read_usage(1, producer.gateway, 0, 10).await.unwrap();
    assert_eq!(left.len(), 1, "readable until then");
}
