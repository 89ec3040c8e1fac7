//! Tests of the ledger by itself: restarts, paging over files, bodies, damage.

use std::fs;

use odock_events::clock::FixedClock;
use tempfile::TempDir;

use super::*;

/// So few rows a file that a handful of calls fills several.
const SEGMENT: u64 = 3;

fn open(directory: &TempDir) -> Arc<Ledger> {
    let clock = FixedClock::at(Timestamp(1_764_000_000_000_000));
    Ledger::open_with(directory.path(), Box::new(clock), SEGMENT).unwrap()
}

/// What a process killed at this moment would leave.
fn copy(directory: &TempDir) -> TempDir {
    let copy = TempDir::new().unwrap();
    for file in fs::read_dir(directory.path()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    copy
}

fn begin(ledger: &Arc<Ledger>, name: &str) -> Entry {
    let row = NewRow {
        client_request_id: Some(format!("att_{name}")),
        model: "demo-fast".to_owned(),
        stream: true,
        prompt_tokens: 7,
    };
    ledger
        .begin(row, &Bytes::copy_from_slice(name.as_bytes()))
        .unwrap()
}

fn complete(ledger: &Arc<Ledger>, count: u64) {
    for index in 0..count {
        let mut entry = begin(ledger, &format!("{index}"));
        entry.set_status(200);
        entry.count(20, true);
        entry.finish(Outcome::Completed);
    }
}

fn outcomes(ledger: &Ledger) -> Vec<(u64, Outcome)> {
    let page = ledger.page(0, 1_000).unwrap();
    page.data.iter().map(|row| (row.seq, row.outcome)).collect()
}

#[test]
fn a_row_is_what_happened_to_its_call() {
    let directory = TempDir::new().unwrap();
    let ledger = open(&directory);
    let mut entry = begin(&ledger, "one");
    let running = ledger.page(0, 10).unwrap().data.remove(0);
    assert_eq!(
        (running.outcome, running.status, running.finished_at),
        (Outcome::Running, None, None)
    );
    entry.set_status(200);
    entry.count(3, false);
    entry.note_progress();
    assert_eq!(ledger.page(0, 10).unwrap().data[0].completion_tokens, 3);
    entry.count(2, true);
    entry.finish(Outcome::Completed);
    entry.finish(Outcome::Cut);
    drop(entry);
    let page = serde_json::to_value(ledger.page(0, 10).unwrap()).unwrap();
    let id = page["data"][0]["id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("chatcmpl-") && id.len() == 41, "{id}");
    assert_eq!(
        page,
        serde_json::json!({"data": [{
            "seq": 1, "id": id, "client_request_id": "att_one", "model": "demo-fast", "stream": true,
            "received_at": "2025-11-24T16:00:00.000000Z", "finished_at": "2025-11-24T16:00:00.000000Z",
            "outcome": "completed", "status": 200, "prompt_tokens": 7, "completion_tokens": 5,
            "usage_sent": true,
            "body_sha256": "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed",
        }], "next_after": 1})
    );
}

#[test]
fn what_is_dropped_says_why() {
    let directory = TempDir::new().unwrap();
    let ledger = open(&directory);
    drop(begin(&ledger, "gone"));
    let mut hung = begin(&ledger, "hung");
    hung.close_as_hung();
    drop(hung);
    let stopped = begin(&ledger, "stopped");
    ledger.stop();
    drop(stopped);
    let expected = [
        (1, Outcome::ClientClosed),
        (2, Outcome::Hung),
        (3, Outcome::Cut),
    ];
    assert_eq!(outcomes(&ledger), expected);
}

#[test]
fn every_row_survives_a_kill_and_what_ran_was_cut() {
    let directory = TempDir::new().unwrap();
    let ledger = open(&directory);
    complete(&ledger, 2);
    let mut running = begin(&ledger, "running");
    running.set_status(200);
    running.count(4, false);
    running.note_progress();
    let before = ledger.page(0, 10).unwrap().data;
    let killed = copy(&directory);
    drop(running);

    let ledger = open(&killed);
    let after = ledger.page(0, 10).unwrap().data;
    assert_eq!(after[..2], before[..2]);
    let cut = Row {
        outcome: Outcome::Cut,
        ..before[2].clone()
    };
    assert_eq!((after[2].completion_tokens, &after[2]), (4, &cut));
    complete(&ledger, 1);
    assert_eq!(ledger.page(3, 10).unwrap().data[0].seq, 4);
    assert_ne!(ledger.page(3, 10).unwrap().data[0].id, after[0].id);
}

#[test]
fn pages_run_over_files_memory_and_stragglers() {
    let directory = TempDir::new().unwrap();
    let ledger = open(&directory);
    let abandoned = begin(&ledger, "abandoned");
    let killed = copy(&directory);
    drop((abandoned, ledger));
    let ledger = open(&killed);
    let mut straggler = begin(&ledger, "straggler");
    complete(&ledger, 18);
    straggler.count(9, false);
    straggler.note_progress();

    let all = ledger.page(0, 1_000).unwrap();
    assert_eq!(
        all.data.iter().map(|row| row.seq).collect::<Vec<_>>(),
        (1..=20).collect::<Vec<_>>()
    );
    assert_eq!(
        (all.data[0].outcome, all.data[1].outcome),
        (Outcome::Cut, Outcome::Running)
    );
    assert_eq!(all.data[1].completion_tokens, 9);

    for limit in 1..=7 {
        let (mut after, mut data) = (0, Vec::new());
        loop {
            let page = ledger.page(after, limit).unwrap();
            assert!(page.data.len() <= limit);
            if page.data.is_empty() {
                assert_eq!(page.next_after, 20);
                break;
            }
            after = page.next_after;
            data.extend(page.data);
        }
        assert_eq!(data, all.data, "limit {limit}");
    }

    straggler.finish(Outcome::Completed);
    assert_eq!(
        ledger.page(1, 1).unwrap().data[0].outcome,
        Outcome::Completed
    );
    assert_eq!(ledger.page(u64::MAX, 1).unwrap().data, []);
    drop(straggler);
    drop(ledger);
    assert_eq!(open(&killed).page(0, 1_000).unwrap().data.len(), 20);
}

#[test]
fn bodies_of_the_last_thousand_are_kept() {
    let directory = TempDir::new().unwrap();
    let ledger = open(&directory);
    assert_eq!(ledger.body(1), None);
    complete(&ledger, 1_002);
    assert_eq!(ledger.body(1_002).unwrap(), "1001");
    assert_eq!(ledger.body(3).unwrap(), "2");
    for seq in [0, 1, 2, 1_003, u64::MAX] {
        assert_eq!(ledger.body(seq), None, "{seq}");
    }
}

#[test]
fn a_second_process_is_kept_out() {
    let directory = TempDir::new().unwrap();
    let _first = open(&directory);
    let second = Ledger::open(directory.path(), Box::new(FixedClock::default()));
    assert!(matches!(second, Err(LedgerError::InUse)));
}

#[test]
fn half_a_line_at_the_end_goes_and_damage_before_it_is_told() {
    let directory = TempDir::new().unwrap();
    complete(&open(&directory), 2);
    let file = directory.path().join("ledger-000000.ndjson");
    let whole = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{whole}{{\"call\":{{\"seq\":3,")).unwrap();
    let ledger = open(&directory);
    complete(&ledger, 1);
    assert_eq!(ledger.page(0, 10).unwrap().data.len(), 3);
    drop(ledger);
    fs::write(&file, whole.replacen("\"change\"", "\"chance\"", 1)).unwrap();
    let damaged = Ledger::open_with(directory.path(), Box::new(FixedClock::default()), SEGMENT);
    assert!(matches!(damaged, Err(LedgerError::Damaged { line: 2, .. })));
}
