//! Redis killed, stopped, full, without its scripts: calls end in time, and nothing is skipped or half written.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use odock_events::log::{
    EventLog as _, ManagementAppend, ManagementAppended, UsageAppended, reader::StreamReader,
    redis::RedisLog,
};

use super::server::{Producer, Server, connected, eventually, open_planes, was_refused_for_memory};

const BLOCK: Duration = Duration::from_millis(200);

#[tokio::test]
async fn scripts_are_loaded_again_when_they_are_gone() {
    let server = Server::start().await;
    let log = server.open_log().await;
    let producer = Producer::new();
    producer.append(&log, 1, 1).await;
    let _: String = server.ask(&["SCRIPT", "FLUSH", "SYNC"]).await.unwrap();
    let answer = producer.append(&log, 2, 2).await;
    assert_eq!(answer, UsageAppended::Ok { last: 2 });
}

#[tokio::test]
async fn what_was_answered_survives_kill_9() {
    let mut server = Server::start_synced().await;
    let log = server.open_log().await;
    let producer = Producer::new();
    producer.append(&log, 1, 7).await;
    log.put_checkpoint("12").await.unwrap();
    let before = log.identity().await.unwrap();
    server.kill();
    assert!(producer.try_append(&log, 8, 8).await.is_err());
    server.start_again().await;
    connected(&log).await;
    let answer = producer.append(&log, 7, 7).await;
    assert_eq!(answer, UsageAppended::Duplicate { top: 7 });
    let answer = producer.append(&log, 8, 8).await;
    assert_eq!(answer, UsageAppended::Ok { last: 8 });
    let after = log.identity().await.unwrap();
    assert_eq!(after.checkpoint.as_deref(), Some("12"));
    assert_ne!(after.run_id, before.run_id, "another process is noticed");
}

#[tokio::test]
async fn an_emptied_redis_has_no_checkpoint() {
    let server = Server::start().await;
    let log = server.open_log().await;
    log.put_checkpoint("12").await.unwrap();
    let _: String = server.ask(&["FLUSHALL"]).await.unwrap();
    assert_eq!(log.identity().await.unwrap().checkpoint, None);
}

#[tokio::test]
async fn a_client_waits_for_no_server() {
    let mut server = Server::start().await;
    server.kill();
    let log = RedisLog::connect(&server.url()).await.unwrap();
    let begin = Instant::now();
    assert!(log.ping().await.is_err());
    assert!(begin.elapsed() < Duration::from_secs(2));
    assert!(StreamReader::connect(&server.url()).await.is_err());
    server.start_again().await;
    connected(&log).await;
    let patient = server.log().await;
    assert_eq!(open_planes(&patient).await, [None, None, None]);
}

#[tokio::test]
async fn a_stopped_server_costs_one_deadline_and_is_found_again() {
    let server = Server::start().await;
    let patient = server.open_log().await;
    let log = RedisLog::connect(&server.url()).await.unwrap();
    let producer = Producer::new();
    producer.append(&patient, 1, 1).await;
    connected(&log).await;
    signal("-STOP", server.process_id());
    let begin = Instant::now();
    let answer = producer.try_append(&log, 2, 2).await;
    let waited = begin.elapsed();
    signal("-CONT", server.process_id());
    assert!(answer.is_err());
    assert!(waited < Duration::from_secs(2), "{waited:?}");
    connected(&patient).await;
    // It may have arrived all the same: nobody knows, so it is sent again.
    let again = producer.append(&patient, 2, 2).await;
    let taken = matches!(
        again,
        UsageAppended::Ok { .. } | UsageAppended::Duplicate { top: 2 }
    );
    assert!(taken, "{again:?}");
    let entries = patient
        .read_usage(1, producer.gateway, 0, 10)
        .await
        .unwrap();
    assert_eq!(entries.len(), 2);
}

fn signal(name: &str, process: u32) {
    let status = Command::new("kill")
        .arg(name)
        .arg(process.to_string())
        .status();
    assert!(status.unwrap().success());
}

#[tokio::test]
async fn a_blocked_reader_wakes_at_once() {
    let server = Server::start().await;
    let log = server.open_log().await;
    let producer = Producer::new();
    let cursors = [(producer.gateway, 0)];
    let mut reader = server.reader().await;
    let begin = Instant::now();
    let (read, _) = tokio::join!(
        reader.usage(1, &cursors, 10, Duration::from_secs(5)),
        async {
            let clients = async || {
                let clients: String = server.ask(&["CLIENT", "LIST"]).await.ok()?;
                clients.contains("cmd=xread").then_some(())
            };
            eventually("the reader is blocked", clients).await;
            producer.append(&log, 1, 2).await
        }
    );
    assert_eq!(read.unwrap().len(), 1);
    assert!(begin.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn a_quiet_stream_ends_the_block_and_not_the_connection() {
    let server = Server::start().await;
    let _ = server.open_log().await;
    let mut reader = server.reader().await;
    for _ in 0..3 {
        assert_eq!(reader.management(1, 0, 10, BLOCK).await.unwrap(), []);
    }
    let begin = Instant::now();
    assert_eq!(reader.usage(1, &[], 10, BLOCK).await.unwrap(), []);
    assert!(begin.elapsed() >= BLOCK);
}

#[tokio::test]
async fn a_reader_goes_on_where_it_was_after_a_restart() {
    let mut server = Server::start_synced().await;
    let log = server.open_log().await;
    let producer = Producer::new();
    let mut read = Vec::new();
    let mut reader = server.reader().await;
    for round in 0..3_u64 {
        let first = round * 10 + 1;
        for seq in first..first + 10 {
            producer.append(&log, seq, seq).await;
        }
        let cursor = read.last().copied().unwrap_or(0);
        let entries = reader
            .usage(1, &[(producer.gateway, cursor)], 5, BLOCK)
            .await;
        read.extend(entries.unwrap().iter().map(|entry| entry.last));
        server.kill();
        let cursor = read.last().copied().unwrap_or(0);
        let broken = reader
            .usage(1, &[(producer.gateway, cursor)], 5, BLOCK)
            .await;
        assert!(
            broken.is_err(),
            "a reader never outlives its server unnoticed"
        );
        server.start_again().await;
        connected(&log).await;
        reader = server.reader().await;
    }
    while read.len() < 30 {
        let cursor = read.last().copied().unwrap_or(0);
        let entries = reader
            .usage(1, &[(producer.gateway, cursor)], 5, BLOCK)
            .await;
        let before = read.len();
        read.extend(entries.unwrap().iter().map(|entry| entry.last));
        assert!(read.len() > before);
    }
    assert!(read.iter().copied().eq(1..=30));
}

#[tokio::test]
async fn several_streams_are_read_at_once_each_from_its_cursor() {
    let server = Server::start().await;
    let log = server.open_log().await;
    let (one, other) = (Producer::new(), Producer::new());
    one.append(&log, 1, 2).await;
    one.append(&log, 3, 4).await;
    other.append(&log, 1, 1).await;
    let mut reader = server.reader().await;
    let cursors = [(one.gateway, 3), (other.gateway, 0)];
    let entries = reader.usage(1, &cursors, 10, BLOCK).await.unwrap();
    let mut places: Vec<_> = entries
        .iter()
        .map(|entry| (entry.gateway_id, entry.first, entry.last))
        .collect();
    places.sort_unstable();
    let mut wanted = vec![(one.gateway, 3, 4), (other.gateway, 1, 1)];
    wanted.sort_unstable();
    assert_eq!(places, wanted);
}

#[tokio::test]
async fn a_full_redis_refuses_whole_batches() {
    let server = Server::start().await;
    let log = server.open_log().await;
    let producer = Producer::new();
    producer.append(&log, 1, 1).await;
    let command = ManagementAppend {
        generation: 1,
        boundary: None,
        expected_version: 0,
        bytes: b"command",
    };
    log.append_management(&command).await.unwrap();
    let before = server.dump().await;
    let _: String = server
        .ask(&["CONFIG", "SET", "maxmemory", "1"])
        .await
        .unwrap();
    let error = producer.try_append(&log, 2, 3).await.unwrap_err();
    assert!(was_refused_for_memory(&error), "{error}");
    let next = ManagementAppend {
        expected_version: 1,
        ..command
    };
    let error = log.append_management(&next).await.unwrap_err();
    assert!(was_refused_for_memory(&error), "{error}");
    assert_eq!(server.dump().await, before, "nothing is half written");
    let _: String = server
        .ask(&["CONFIG", "SET", "maxmemory", "0"])
        .await
        .unwrap();
    let answer = producer.append(&log, 2, 3).await;
    assert_eq!(answer, UsageAppended::Ok { last: 3 });
    let answer = log.append_management(&next).await.unwrap();
    assert_eq!(answer, ManagementAppended::Ok { seq: 2 });
}

#[tokio::test]
async fn a_redis_that_fills_up_on_the_way_has_no_hole() {
    let server = Server::start().await;
    let log = server.open_log().await;
    let _: String = server
        .ask(&["CONFIG", "SET", "maxmemory", "3mb"])
        .await
        .unwrap();
    let producer = Producer::new();
    let bytes = vec![7; 20_000];
    let mut last = 0;
    let error = loop {
        let seq = last + 1;
        assert!(seq < 10_000, "it never filled");
        let answer = log
            .append_usage(&odock_events::log::UsageAppend {
                generation: 1,
                gateway_id: producer.gateway,
                epoch: 1,
                nonce: "n",
                first: seq,
                last: seq,
                base: 0,
                bytes: &bytes,
            })
            .await;
        match answer {
            Ok(answer) => assert_eq!(answer, UsageAppended::Ok { last: seq }),
            Err(error) => break error,
        }
        last = seq;
    };
    assert!(was_refused_for_memory(&error), "{error}");
    assert!(last > 5);
    let entries = log
        .read_usage(1, producer.gateway, 0, 10_000)
        .await
        .unwrap();
    assert!(entries.iter().map(|entry| entry.last).eq(1..=last));
}
