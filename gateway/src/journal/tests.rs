//! The journal against torn tails, damage, full disks, second processes, and a model of what was written.

use std::{fs, path::Path};

use odock_events::{
    codec,
    envelope::{Envelope, Meta},
    examples,
    ids::{EventId, UsageId},
    kind::{Event, Kind},
    payload::{account::AccountSpec, budget::BudgetMode, usage::UsageFinished},
    units::NanoUsd,
};
use tempfile::TempDir;

use super::*;

mod full_disk;
mod model;

fn options(directory: &TempDir, segment_bytes: u64) -> JournalOptions {
    JournalOptions {
        segment_bytes,
        ..JournalOptions::new(directory.path().to_owned())
    }
}

fn open(directory: &TempDir) -> (Journal, Recovered) {
    Journal::open(options(directory, 64 << 20)).unwrap()
}

fn example() -> UsageFinished {
    match examples::of_kind(Kind::UsageFinished).event {
        Event::UsageFinished(usage) => usage,
        other => panic!("{other:?}"),
    }
}

fn account() -> AccountSpec {
    example().accounts[0].account.clone()
}

/// A call that has reserved 100 and will cost 40.
fn started() -> Started {
    let mut usage = example();
    usage.usage_id = UsageId::generate();
    usage.accounts[0].reserved = 100;
    usage.cost = NanoUsd(40);
    Started {
        meta: Meta::new(usage.usage_id.into(), 0, usage.started_at),
        usage,
    }
}

fn finish(journal: &Journal, started: Started) -> Result<u64, JournalError> {
    let (id, settled) = (started.usage.usage_id, settled_by(&started.usage));
    let envelope = Envelope {
        meta: started.meta,
        event: Event::UsageFinished(started.usage),
    };
    journal.finished(id, &codec::encode(&envelope).unwrap(), &settled)
}

fn returned(journal: &Journal, total: i64) -> u64 {
    let leases = [ReturnedLease {
        account: account().id,
        returned: total,
    }];
    let event = odock_events::payload::lease::LeaseReturned {
        gateway_id: journal.identity().gateway_id,
        reclaim_id: None,
        leases: leases.to_vec(),
    };
    let meta = Meta::new(
        event.gateway_id.into(),
        0,
        odock_events::clock::Timestamp(1),
    );
    let envelope = Envelope {
        meta,
        event: Event::LeaseReturned(event),
    };
    journal
        .returned(&codec::encode(&envelope).unwrap(), &leases)
        .unwrap()
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> = paths
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "journal")
        })
        .collect();
    paths.sort();
    paths
}

fn last_segment(directory: &TempDir) -> PathBuf {
    segments(directory.path()).pop().unwrap()
}

/// All seqs that can be read back.
fn seqs(journal: &Journal) -> Vec<u64> {
    let (mut reader, mut seqs) = (journal.reader(), Vec::new());
    let last = journal.next_seq() - 1;
    while (seqs.len() as u64) < last {
        let events = reader.read(seqs.len() as u64 + 1, last, 7).unwrap();
        assert!(!events.is_empty(), "seq {} is missing", seqs.len() + 1);
        seqs.extend(events.iter().map(|event| event.seq));
    }
    seqs
}

#[test]
fn what_was_written_is_there_after_a_restart() {
    let directory = TempDir::new().unwrap();
    let (journal, recovered) = open(&directory);
    assert_eq!((recovered.next_seq, recovered.leases.len()), (1, 0));
    let id = journal.identity().gateway_id;
    let (first, second) = (started(), started());
    journal.granted(&account(), 500).unwrap();
    journal.started(&first).unwrap();
    journal.started(&second).unwrap();
    let progress = Progress {
        usage_id: second.usage.usage_id,
        tokens: second.usage.tokens,
        cost: NanoUsd(7),
        breakdown: second.usage.breakdown,
        reserved: Vec::new(),
    };
    journal.progress(&progress).unwrap();
    assert_eq!(finish(&journal, first).unwrap(), 1);
    assert_eq!(returned(&journal, 60), 2);
    drop(journal);

    let (journal, recovered) = open(&directory);
    assert_eq!(
        (journal.identity().gateway_id, journal.identity().epoch),
        (id, 2)
    );
    assert_eq!(recovered.next_seq, 3);
    let totals = recovered.leases[0].totals;
    assert_eq!(
        (totals.granted, totals.settled, totals.returned),
        (500, 40, 60)
    );
    assert_eq!(
        recovered.open,
        [OpenCall {
            started: second,
            progress: Some(progress)
        }]
    );
    assert!(!recovered.tail_unproven);
    assert_eq!(seqs(&journal), [1, 2]);
}

#[test]
fn a_tail_that_is_torn_at_any_byte_costs_the_last_record_only() {
    let directory = TempDir::new().unwrap();
    let (journal, _) = open(&directory);
    finish(&journal, started()).unwrap();
    let whole = fs::metadata(last_segment(&directory)).unwrap().len();
    finish(&journal, started()).unwrap();
    drop(journal);
    let path = last_segment(&directory);
    let bytes = fs::read(&path).unwrap();
    for cut in whole as usize..bytes.len() {
        fs::write(&path, &bytes[..cut]).unwrap();
        let segments = segment::Segments::scan(directory.path()).unwrap();
        let state = replay::read_last(&segments).unwrap();
        assert_eq!(state.next_seq, 2, "cut at {cut}");
        assert_eq!(fs::metadata(&path).unwrap().len(), whole);
    }
}

#[test]
fn damage_before_the_tail_refuses_the_start_and_keeps_the_file() {
    let directory = TempDir::new().unwrap();
    let (journal, _) = open(&directory);
    let head = fs::metadata(last_segment(&directory)).unwrap().len() as usize;
    finish(&journal, started()).unwrap();
    finish(&journal, started()).unwrap();
    drop(journal);
    let path = last_segment(&directory);
    let mut bytes = fs::read(&path).unwrap();
    bytes[head + 30] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let error = Journal::open(options(&directory, 1 << 20)).err().unwrap();
    assert!(matches!(&error, JournalError::Damaged { offset, .. } if *offset == head as u64));
    assert_eq!(fs::read(&path).unwrap(), bytes);
    let again = Journal::open(options(&directory, 1 << 20)).err().unwrap();
    assert!(matches!(again, JournalError::Damaged { .. }));
}

#[test]
fn a_segment_whose_head_is_torn_was_never_begun() {
    let directory = TempDir::new().unwrap();
    let (journal, _) = open(&directory);
    journal.granted(&account(), 500).unwrap();
    finish(&journal, started()).unwrap();
    drop(journal);
    let next = directory.path().join("0000000000000002.journal");
    fs::write(&next, [9, 0, 0, 0, 1, 2]).unwrap();
    let (journal, recovered) = open(&directory);
    assert_eq!(recovered.next_seq, 2);
    assert_eq!(recovered.leases[0].totals.open(), 460);
    assert_eq!(seqs(&journal), [1]);
}

#[test]
fn segments_follow_one_another_and_go_when_shipped_and_old() {
    let directory = TempDir::new().unwrap();
    let mut options = options(&directory, 4_000);
    let (journal, _) = Journal::open(options.clone()).unwrap();
    journal.granted(&account(), 1_000_000).unwrap();
    let open_call = started();
    journal.started(&open_call).unwrap();
    for _ in 0..20 {
        finish(&journal, started()).unwrap();
    }
    let files = segments(directory.path()).len();
    assert!(files > 4, "{files}");
    let mut reader = journal.reader();
    let events = reader.read(1, 20, 100).unwrap();
    assert!(events.iter().map(|event| event.seq).eq(1..=20));
    journal.release(20).unwrap();
    assert_eq!(segments(directory.path()).len(), files);
    drop(journal);

    options.keep_for = Duration::ZERO;
    let (journal, recovered) = Journal::open(options).unwrap();
    assert_eq!(recovered.open[0].started, open_call);
    assert_eq!(recovered.leases[0].totals.settled, 20 * 40);
    let mut reader = journal.reader();
    assert_eq!(reader.read(1, 20, 100).unwrap(), events);
    journal.release(0).unwrap();
    assert_eq!(segments(directory.path()).len(), files + 1);
    journal.release(10).unwrap();
    let left = segments(directory.path()).len();
    assert!(left < files && left > 1, "{left}");
    assert_eq!(reader.read(11, 20, 100).unwrap(), events[10..]);
    journal.release(20).unwrap();
    assert_eq!(segments(directory.path()).len(), 1);
    assert_eq!(seqs_from(&journal, 21), Vec::<u64>::new());
}

fn seqs_from(journal: &Journal, from: u64) -> Vec<u64> {
    let events = journal
        .reader()
        .read(from, journal.next_seq() - 1, 10)
        .unwrap();
    events.iter().map(|event| event.seq).collect()
}

#[test]
fn a_reader_keeps_up_with_the_writer_and_can_go_back() {
    let directory = TempDir::new().unwrap();
    let (journal, _) = Journal::open(options(&directory, 10_000)).unwrap();
    let writer = {
        let journal = journal.clone();
        std::thread::spawn(move || (0..200).for_each(|_| drop(finish(&journal, started()))))
    };
    let (mut reader, mut next) = (journal.reader(), 1);
    while next <= 200 {
        for event in reader.read(next, journal.next_seq() - 1, 13).unwrap() {
            assert_eq!(event.seq, next);
            next += 1;
        }
    }
    writer.join().unwrap();
    assert_eq!(reader.read(90, 200, 3).unwrap()[0].seq, 90);
    let limit = BatchLimit {
        events: 5,
        bytes: 1 << 20,
    };
    let newest = journal.newest(196, 200, limit).unwrap();
    assert_eq!(newest, reader.read(196, 200, 5).unwrap());
}

#[tokio::test]
async fn records_are_synced_and_said_to_be() {
    let directory = TempDir::new().unwrap();
    let (journal, _) = open(&directory);
    let number = journal.started(&started()).unwrap();
    journal.synced(number).await.unwrap();
    assert_eq!(journal.progressed().borrow().synced_seq, 0);
    let seq = finish(&journal, started()).unwrap();
    let mut progressed = journal.progressed();
    progressed
        .wait_for(|progressed| progressed.synced_seq == seq)
        .await
        .unwrap();
}

#[test]
fn a_second_process_is_kept_out() {
    let directory = TempDir::new().unwrap();
    let (journal, _) = open(&directory);
    let error = Journal::open(options(&directory, 1 << 20)).err().unwrap();
    let own = std::process::id().to_string();
    assert!(matches!(&error, JournalError::Locked { pid, .. } if *pid == own));
    let other_process = || {
        let mut flock = std::process::Command::new("flock");
        let flock = flock
            .arg("-n")
            .arg(directory.path().join("lock"))
            .arg("true");
        flock.status().unwrap().success()
    };
    assert!(!other_process());
    drop(journal);
    assert!(other_process());
}

#[test]
fn an_abandoned_identity_is_followed_by_a_new_one_that_names_it() {
    let directory = TempDir::new().unwrap();
    let (journal, _) = open(&directory);
    let old = journal.identity().gateway_id;
    finish(&journal, started()).unwrap();
    journal.identity().abandon(Abandoned::Lost).unwrap();
    drop(journal);
    let (journal, recovered) = open(&directory);
    let identity = journal.identity();
    assert_ne!(identity.gateway_id, old);
    assert_eq!((identity.predecessor, identity.epoch), (Some(old), 1));
    assert_eq!(recovered.next_seq, 1);
    let aside = directory.path().join(format!("abandoned-{old}"));
    assert_eq!(segments(&aside).len(), 1);
}

#[test]
fn an_interrupted_call_costs_its_reservation_or_its_last_progress() {
    let now = odock_events::clock::Timestamp(example().started_at.0 + 3_000_000);
    let call = |reserved: i64| {
        let mut started = started();
        started.usage.accounts[0].reserved = reserved;
        started.usage.cost = NanoUsd(reserved);
        let progress = Some(Progress {
            usage_id: started.usage.usage_id,
            tokens: started.usage.tokens,
            cost: NanoUsd(7),
            breakdown: started.usage.breakdown,
            reserved: Vec::new(),
        });
        settle_orphan(OpenCall { started, progress }, now)
    };
    for (reserved, cost) in [(100, 100), (0, 7)] {
        let envelope = call(reserved);
        assert!(envelope.meta.estimated && envelope.meta.id != EventId(uuid::Uuid::nil()));
        let Event::UsageFinished(usage) = envelope.event else {
            panic!("not usage")
        };
        assert_eq!((usage.cost.0, usage.attempts[0].cost_nanos.0), (cost, cost));
        assert_eq!(usage.latency_ms, 3_000);
    }
}

#[test]
fn an_interrupted_stream_of_an_elastic_budget_costs_its_last_mark_of_what_it_has_reserved_by_then()
{
    let mut started = started();
    let used = &mut started.usage.accounts[0];
    (used.account.mode, used.reserved) = (BudgetMode::Elastic, 100);
    let account = used.account.id;
    started.usage.cost = NanoUsd(3);
    let mark = Progress {
        usage_id: started.usage.usage_id,
        tokens: started.usage.tokens,
        cost: NanoUsd(150),
        breakdown: started.usage.breakdown,
        reserved: vec![(account, 200)],
    };
    for (progress, cost, reserved) in [(None, 3, 100), (Some(mark), 150, 200)] {
        let call = OpenCall {
            started: started.clone(),
            progress,
        };
        let Event::UsageFinished(usage) = settle_orphan(call, started.meta.occurred_at).event
        else {
            panic!("not usage")
        };
        assert_eq!((usage.cost.0, usage.accounts[0].reserved), (cost, reserved));
        assert_eq!(settled_by(&usage), [(account, cost)]);
    }
}
