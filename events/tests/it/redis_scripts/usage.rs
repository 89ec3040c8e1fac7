//! `usage_append`: each answer it can give.

use odock_events::log::{EventLog as _, UsageAppended, UsageEntry};

use super::server::{Producer, Server};

#[tokio::test]
async fn batches_follow_one_another() {
    let server = Server::start().await;
    let log = server.open_log().await;
    let producer = Producer::new();
    let answer = producer.append(&log, 1, 3).await;
    assert_eq!(answer, UsageAppended::Ok { last: 3 });
    let answer = producer.append(&log, 4, 4).await;
    assert_eq!(answer, UsageAppended::Ok { last: 4 });
    let entries = log.read_usage(1, producer.gateway, 0, 10).await.unwrap();
    let entry = |first, last| UsageEntry {
        gateway_id: producer.gateway,
        first,
        last,
        bytes: format!("{first}..{last}").into_bytes(),
    };
    assert_eq!(entries, [entry(1, 3), entry(4, 4)]);
    let above = log.read_usage(1, producer.gateway, 2, 10).await.unwrap();
    assert_eq!(above, entries, "an entry may begin below the cursor");
    let above = log.read_usage(1, producer.gateway, 3, 10).await.unwrap();
    assert_eq!(above, [entry(4, 4)]);
    let owner = log.usage_owner(1, producer.gateway).await.unwrap();
    assert_eq!(owner, Some((1, "n".to_owned())));
    let top = log.usage_top(1, producer.gateway).await.unwrap();
    assert_eq!(top, Some(4));
    assert_eq!(log.usage_owners(1).await.unwrap(), [producer.gateway]);
}

#[tokio::test]
async fn what_is_there_is_a_duplicate_and_what_is_not_next_a_gap() {
    let server = Server::start().await;
    let log = server.open_log().await;
    let producer = Producer::new();
    producer.append(&log, 1, 5).await;
    let before = server.dump().await;
    for (first, last) in [(1, 5), (2, 3), (5, 5)] {
        let answer = producer.append(&log, first, last).await;
        assert_eq!(answer, UsageAppended::Duplicate { top: 5 });
    }
    for (first, last) in [(3, 8), (5, 6), (7, 9)] {
        let answer = producer.append(&log, first, last).await;
        assert_eq!(answer, UsageAppended::Gap { top: 5 });
    }
    assert_eq!(server.dump().await, before, "a refusal changes nothing");
}

#[tokio::test]
async fn another_process_is_fenced() {
    let server = Server::start().await;
    let log = server.open_log().await;
    let first = Producer {
        epoch: 2,
        ..Producer::new()
    };
    first.append(&log, 1, 1).await;
    let fenced = |owner: &str| UsageAppended::Fenced {
        owner: owner.to_owned(),
    };
    let older = Producer {
        epoch: 1,
        ..first.clone()
    };
    assert_eq!(older.append(&log, 2, 2).await, fenced("2:n"));
    let twin = Producer {
        nonce: "other".to_owned(),
        ..first.clone()
    };
    assert_eq!(twin.append(&log, 2, 2).await, fenced("2:n"));
    let newer = Producer {
        epoch: 3,
        nonce: "other".to_owned(),
        ..first.clone()
    };
    let answer = newer.append(&log, 2, 2).await;
    assert_eq!(answer, UsageAppended::Ok { last: 2 });
    assert_eq!(first.append(&log, 3, 3).await, fenced("3:other"));
}

#[tokio::test]
async fn an_empty_stream_goes_on_above_the_base() {
    let server = Server::start().await;
    let log = server.open_log().await;
    let producer = Producer {
        base: 40,
        ..Producer::new()
    };
    let answer = producer.append(&log, 30, 40).await;
    assert_eq!(answer, UsageAppended::Duplicate { top: 40 });
    let answer = producer.append(&log, 42, 43).await;
    assert_eq!(answer, UsageAppended::Gap { top: 40 });
    let answer = producer.append(&log, 41, 43).await;
    assert_eq!(answer, UsageAppended::Ok { last: 43 });
}

#[tokio::test]
async fn a_trimmed_stream_keeps_its_top() {
    let server = Server::start().await;
    let log = server.open_log().await;
    let producer = Producer::new();
    producer.append(&log, 1, 2).await;
    producer.append(&log, 3, 4).await;
    let _: u64 = server
        .ask(&["XTRIM", &producer.stream(), "MAXLEN", "0"])
        .await
        .unwrap();
    let left = log.read_usage(1, producer.gateway, 0, 10).await.unwrap();
    assert_eq!(left, []);
    let answer = producer.append(&log, 3, 4).await;
    assert_eq!(answer, UsageAppended::Duplicate { top: 4 });
    let answer = producer.append(&log, 5, 5).await;
    assert_eq!(answer, UsageAppended::Ok { last: 5 });
}

#[tokio::test]
async fn trimming_never_takes_what_is_above() {
    let server = Server::start().await;
    let log = server.open_log().await;
    let producer = Producer::new();
    for batch in 0..500_u64 {
        producer.append(&log, batch * 2 + 1, batch * 2 + 2).await;
    }
    log.trim_usage(1, producer.gateway, 901).await.unwrap();
    let left: u64 = server.ask(&["XLEN", &producer.stream()]).await.unwrap();
    assert!((50..300).contains(&left), "{left}");
    let read = log.read_usage(1, producer.gateway, 901, 100).await.unwrap();
    assert_eq!(
        read.first().map(|entry| (entry.first, entry.last)),
        Some((901, 902))
    );
    assert_eq!(read.len(), 50);
}

#[tokio::test]
async fn large_seqs_and_epochs_keep_every_digit() {
    let server = Server::start().await;
    let log = server.open_log().await;
    let base = (1 << 53) - 10;
    let producer = Producer {
        base,
        epoch: 4_000_000_000,
        ..Producer::new()
    };
    let answer = producer.append(&log, base + 1, base + 2).await;
    assert_eq!(answer, UsageAppended::Ok { last: base + 2 });
    let answer = producer.append(&log, base + 3, base + 3).await;
    assert_eq!(answer, UsageAppended::Ok { last: base + 3 });
    let entries = log
        .read_usage(1, producer.gateway, base + 2, 10)
        .await
        .unwrap();
    assert_eq!(entries[0].first, base + 3);
}

#[tokio::test]
async fn two_processes_that_race_leave_one_unbroken_stream() {
    let server = Server::start().await;
    let log = server.open_log().await;
    let producer = Producer::new();
    let race = |nonce: &str| {
        let log = log.clone();
        let producer = Producer {
            nonce: nonce.to_owned(),
            ..producer.clone()
        };
        async move {
            let mut accepted = 0;
            for seq in 1..=200 {
                match producer.append(&log, seq, seq).await {
                    UsageAppended::Ok { .. } => accepted += 1,
                    UsageAppended::Fenced { .. } => break,
                    answer => panic!("{answer:?}"),
                }
            }
            accepted
        }
    };
    let (first, second) = tokio::join!(race("a"), race("b"));
    assert_eq!(first.max(second), 200);
    assert_eq!(first.min(second), 0);
}
