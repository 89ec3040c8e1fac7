//! The shipper against a real Redis that is wiped, loses its tail, knows too much, or belongs to somebody else.

use std::sync::Arc;

use odock_events::{
    clock::SystemClock,
    codec,
    envelope::Envelope,
    examples,
    ids::{GatewayId, UsageId},
    kind::{Event, Kind},
    ledger::purse::Protocol,
    payload::usage::{UsageFinished, UsageStatus},
};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    testing::{Redis, eventually},
    *,
};
use crate::{
    journal::{JournalOptions, Started},
    money::Money,
};

fn journal(directory: &TempDir) -> (Journal, Recovered) {
    Journal::open(JournalOptions::new(directory.path().to_owned())).unwrap()
}

fn example() -> UsageFinished {
    match examples::of_kind(Kind::UsageFinished).event {
        Event::UsageFinished(usage) => UsageFinished {
            usage_id: UsageId::generate(),
            ..usage
        },
        other => panic!("{other:?}"),
    }
}

/// Writes so many finished calls.
fn finish(journal: &Journal, count: usize) {
    for _ in 0..count {
        let usage = example();
        let (id, settled) = (usage.usage_id, settled_by(&usage));
        let envelope = Envelope {
            event: Event::UsageFinished(usage),
            ..examples::of_kind(Kind::UsageFinished)
        };
        journal
            .finished(id, &codec::encode(&envelope).unwrap(), &settled)
            .unwrap();
    }
}

/// A gateway that ships.
struct Gateway {
    directory: TempDir,
    journal: Journal,
    id: GatewayId,
    stop: CancellationToken,
    shipped: tokio::sync::watch::Receiver<Shipped>,
    standing: tokio::sync::watch::Receiver<Standing>,
    task: JoinHandle<Result<(), UsageError>>,
}

impl Gateway {
    async fn start(redis: &Redis, directory: TempDir, before: impl FnOnce(&Journal)) -> Self {
        let (journal, recovered) = journal(&directory);
        before(&journal);
        let shipper = Shipper::new(journal.clone(), redis.log().await, &recovered);
        let (stop, receiver) = (CancellationToken::new(), shipper.shipped());
        let standing = shipper.standing();
        let task = tokio::spawn(shipper.run(stop.clone(), CancellationToken::new()));
        let id = journal.identity().gateway_id;
        Self {
            directory,
            journal,
            id,
            stop,
            shipped: receiver,
            standing,
            task,
        }
    }

    async fn sent(&mut self, seq: u64) {
        let sent = self.shipped.wait_for(|shipped| shipped.sent >= seq);
        tokio::time::timeout(std::time::Duration::from_secs(10), sent)
            .await
            .unwrap()
            .unwrap();
    }

    /// The same gateway with the files as they are, in a new process as it were.
    async fn stop(self) -> TempDir {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
        self.directory
    }
}

fn seqs(events: &[(u64, Envelope)]) -> Vec<u64> {
    events.iter().map(|(seq, _)| *seq).collect()
}

#[tokio::test]
async fn what_is_synced_is_shipped_in_order_and_once() {
    let redis = Redis::start();
    let mut gateway = Gateway::start(&redis, TempDir::new().unwrap(), |_| {}).await;
    redis.open_generation(1, gateway.id, 0).await;
    finish(&gateway.journal, 700);
    gateway.sent(700).await;
    finish(&gateway.journal, 3);
    gateway.sent(703).await;
    let events = redis.events(1, gateway.id).await;
    assert_eq!(seqs(&events), (1..=703).collect::<Vec<_>>());
    let directory = gateway.stop().await;
    let mut gateway = Gateway::start(&redis, directory, |journal| finish(journal, 1)).await;
    gateway.sent(704).await;
    assert_eq!(
        seqs(&redis.events(1, gateway.id).await),
        (1..=704).collect::<Vec<_>>()
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_wiped_redis_gets_everything_above_the_watermark_again() {
    let redis = Redis::start();
    let mut gateway = Gateway::start(&redis, TempDir::new().unwrap(), |_| {}).await;
    redis.open_generation(1, gateway.id, 0).await;
    finish(&gateway.journal, 20);
    gateway.sent(20).await;
    redis
        .log()
        .await
        .set_watermarks(1, &[(gateway.id, 15)])
        .await
        .unwrap();
    let at_fifteen = gateway.shipped.wait_for(|shipped| shipped.watermark == 15);
    at_fifteen.await.unwrap();
    redis.run(&["FLUSHALL"]).await;
    finish(&gateway.journal, 5);
    // Postgres was restored as well: its watermark is lower than the gateway has heard before.
    redis.open_generation(2, gateway.id, 8).await;
    gateway.sent(25).await;
    let there = eventually("all events are there again", async || {
        let events = redis.events(2, gateway.id).await;
        (seqs(&events).last() == Some(&25)).then_some(events)
    });
    assert_eq!(seqs(&there.await), (9..=25).collect::<Vec<_>>());
    gateway.stop().await;
}

#[tokio::test]
async fn a_lost_tail_is_sent_again_when_the_watermark_stands_still() {
    let redis = Redis::start();
    let mut gateway = Gateway::start(&redis, TempDir::new().unwrap(), |_| {}).await;
    redis.open_generation(1, gateway.id, 0).await;
    finish(&gateway.journal, 10);
    gateway.sent(10).await;
    redis
        .log()
        .await
        .set_watermarks(1, &[(gateway.id, 4)])
        .await
        .unwrap();
    gateway
        .shipped
        .wait_for(|shipped| shipped.watermark == 4)
        .await
        .unwrap();
    redis
        .run(&["DEL", &format!("{{u0}}:1:usage:{}", gateway.id)])
        .await;
    let events = eventually("the lost events are there again", async || {
        let events = redis.events(1, gateway.id).await;
        (!events.is_empty()).then_some(events)
    });
    assert_eq!(seqs(&events.await), (5..=10).collect::<Vec<_>>());
    gateway.stop().await;
}

#[tokio::test]
async fn a_backlog_that_is_longer_than_memory_comes_from_disk() {
    let redis = Redis::start();
    let count = 6_000;
    let mut gateway = Gateway::start(&redis, TempDir::new().unwrap(), |journal| {
        finish(journal, count);
    })
    .await;
    assert!(
        gateway
            .journal
            .newest(
                1,
                1,
                crate::journal::BatchLimit {
                    events: 1,
                    bytes: 1
                }
            )
            .is_none()
    );
    redis.open_generation(1, gateway.id, 0).await;
    gateway.sent(count as u64).await;
    assert_eq!(redis.events(1, gateway.id).await.len(), count);
    gateway.stop().await;
}

#[tokio::test]
async fn another_process_with_the_same_identity_ends_this_one() {
    let redis = Redis::start();
    let gateway = Gateway::start(&redis, TempDir::new().unwrap(), |_| {}).await;
    redis.open_generation(1, gateway.id, 0).await;
    redis
        .run(&["HSET", "{u0}:1:owner", &gateway.id.to_string(), "1:another"])
        .await;
    finish(&gateway.journal, 2);
    let error = gateway.task.await.unwrap().unwrap_err();
    assert!(matches!(error, UsageError::Fenced { owner } if owner == "1:another"));
}

#[tokio::test]
async fn a_log_that_knows_more_than_the_journal_means_a_rolled_back_disk() {
    let redis = Redis::start();
    let mut gateway = Gateway::start(&redis, TempDir::new().unwrap(), |_| {}).await;
    redis.open_generation(1, gateway.id, 0).await;
    finish(&gateway.journal, 5);
    gateway.sent(5).await;
    let old = gateway.id;
    let directory = gateway.stop().await;
    // The disk goes back to before the last three events.
    let path = directory.path().join("0000000000000001.journal");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() * 2 / 5]).unwrap();
    // By the time the log is asked, the new process has written as many events as the old one.
    let gateway = Gateway::start(&redis, directory, |journal| finish(journal, 9)).await;
    let error = gateway.task.await.unwrap().unwrap_err();
    assert!(
        matches!(error, UsageError::RolledBack { known: 5, .. }),
        "{error}"
    );
    drop(gateway.journal);
    let (journal, recovered) = journal(&gateway.directory);
    assert_eq!(journal.identity().predecessor, Some(old));
    assert_eq!(recovered.next_seq, 1);
}

#[tokio::test]
async fn a_start_says_so_and_settles_what_was_under_way() {
    let directory = TempDir::new().unwrap();
    let (first, _) = journal(&directory);
    let usage = example();
    let account = usage.accounts[0].account.clone();
    first.granted(&account, 20_000_000).unwrap();
    let meta = examples::of_kind(Kind::UsageFinished).meta;
    first
        .started(&Started {
            meta,
            usage: usage.clone(),
        })
        .unwrap();
    drop(first);
    let (second, recovered) = journal(&directory);
    assert_eq!(open(&second, recovered, &SystemClock).unwrap(), 1);
    let events = second.newest(
        1,
        2,
        crate::journal::BatchLimit {
            events: 9,
            bytes: 1 << 20,
        },
    );
    let events: Vec<_> = events
        .unwrap()
        .iter()
        .map(|event| codec::decode(&event.bytes).unwrap())
        .collect();
    assert!(matches!(&events[0].event, Event::GatewayOpened(opened) if opened.epoch == 2));
    let Event::UsageFinished(settled) = &events[1].event else {
        panic!("not usage")
    };
    assert_eq!(
        (settled.usage_id, settled.status),
        (usage.usage_id, UsageStatus::Interrupted)
    );
    assert!(events[1].meta.estimated);
    assert_eq!(
        second.leases()[0].totals.open(),
        20_000_000 - settled.cost.0
    );
    assert_eq!(second.open_calls(), 0);
}

#[tokio::test]
async fn a_graceful_end_returns_all_and_waits_for_postgres() {
    let redis = Redis::start();
    let mut gateway = Gateway::start(&redis, TempDir::new().unwrap(), |_| {}).await;
    redis.open_generation(1, gateway.id, 0).await;
    let account = example().accounts[0].account.clone();
    gateway.journal.granted(&account, 500).unwrap();
    let (money, _) = Money::new(
        gateway.journal.clone(),
        Arc::new(SystemClock),
        Protocol::default(),
    );
    finish(&gateway.journal, 1);
    let (journal, shipped) = (gateway.journal.clone(), gateway.shipped.clone());
    let postgres = async {
        gateway.sent(3).await;
        redis
            .log()
            .await
            .set_watermarks(1, &[(gateway.id, 3)])
            .await
            .unwrap();
        gateway
    };
    let closing = Closing {
        journal: &journal,
        money: &money,
        clock: &SystemClock,
        shipped,
    };
    let (closed, gateway) = tokio::join!(closing.run(std::time::Duration::from_secs(10)), postgres);
    assert_eq!(closed.unwrap(), Closed::Drained);
    let events = redis.events(1, gateway.id).await;
    assert!(matches!(&events[1].1.event, Event::LeaseReturned(returned)
        if returned.leases[0].returned == 500));
    assert!(matches!(&events[2].1.event, Event::GatewayClosed(_)));
    let identity = std::fs::read_to_string(gateway.directory.path().join("identity.json"));
    assert!(identity.unwrap().contains("\"clean\": true"));
    gateway.stop().await;
}

#[tokio::test]
async fn an_end_with_calls_under_way_does_not_close_the_gateway() {
    let directory = TempDir::new().unwrap();
    let (journal, _) = journal(&directory);
    let meta = examples::of_kind(Kind::UsageFinished).meta;
    journal
        .started(&Started {
            meta,
            usage: example(),
        })
        .unwrap();
    let (money, _) = Money::new(journal.clone(), Arc::new(SystemClock), Protocol::default());
    let (_, shipped) = tokio::sync::watch::channel(Shipped::default());
    let closing = Closing {
        journal: &journal,
        money: &money,
        clock: &SystemClock,
        shipped,
    };
    let closed = closing
        .run(std::time::Duration::from_millis(20))
        .await
        .unwrap();
    assert_eq!(closed, Closed::OpenCalls(1));
    assert_eq!(journal.next_seq(), 1);
}

/// A copy of a journal's files, as they are while its process lives on.
fn copy(of: &TempDir) -> TempDir {
    let copy = TempDir::new().unwrap();
    for entry in std::fs::read_dir(of.path()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

#[tokio::test]
async fn a_copy_appends_nothing_to_what_the_original_shipped_since_and_takes_a_new_identity() {
    let redis = Redis::start();
    let mut original = Gateway::start(&redis, TempDir::new().unwrap(), |_| {}).await;
    redis.open_generation(1, original.id, 0).await;
    finish(&original.journal, 5);
    original.sent(5).await;
    let mut copied = Gateway::start(&redis, copy(&original.directory), |_| {}).await;
    let own = copied
        .standing
        .wait_for(|standing| *standing == Standing::Own);
    own.await.unwrap();
    let log = redis.log().await;
    let owner = log.usage_owner(1, original.id).await.unwrap();
    finish(&original.journal, 3);
    original.sent(8).await;
    // It has written more than the original: its own seqs say nothing.
    finish(&copied.journal, 10);
    let error = copied.task.await.unwrap().unwrap_err();
    assert!(
        matches!(
            &error,
            UsageError::Copied {
                top: 8,
                most: 5,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(log.usage_owner(1, original.id).await.unwrap(), owner);
    finish(&original.journal, 1);
    original.sent(9).await;
    let events = redis.events(1, original.id).await;
    assert_eq!(seqs(&events), (1..=9).collect::<Vec<_>>());
    drop(copied.journal);
    let (again, _) = journal(&copied.directory);
    assert_ne!(again.identity().gateway_id, original.id);
    original.stop().await;
}

#[tokio::test]
async fn a_copy_that_was_first_goes_on_and_the_original_ends() {
    let redis = Redis::start();
    let mut original = Gateway::start(&redis, TempDir::new().unwrap(), |_| {}).await;
    redis.open_generation(1, original.id, 0).await;
    finish(&original.journal, 5);
    original.sent(5).await;
    let mut copied = Gateway::start(&redis, copy(&original.directory), |journal| {
        finish(journal, 2);
    })
    .await;
    copied.sent(7).await;
    finish(&original.journal, 4);
    let error = original.task.await.unwrap().unwrap_err();
    assert!(matches!(error, UsageError::Fenced { .. }), "{error}");
    // Started again, with an epoch as high as the copy's, it is a stranger in the stream.
    drop(original.journal);
    let again = Gateway::start(&redis, original.directory, |_| {}).await;
    assert_eq!(again.id, copied.id);
    let ended = again.task.await.unwrap();
    assert!(matches!(ended, Err(UsageError::Copied { .. })), "{ended:?}");
    drop(again.journal);
    let (new, _) = journal(&again.directory);
    assert_ne!(new.identity().gateway_id, copied.id);
    finish(&copied.journal, 1);
    copied.sent(8).await;
    copied.stop().await;
}
