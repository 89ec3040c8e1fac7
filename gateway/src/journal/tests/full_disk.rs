//! A disk that is full in the middle of a record, made of a limit on file sizes in a process of its own.

use std::process::Command;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

use super::*;

const LIMIT: &str = "40";

/// Runs this test again in a shell that limits file sizes; there it is the child.
#[test]
fn a_full_disk_refuses_records_and_leaves_no_hole() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    if soft != RLIM_INFINITY {
        return fill_the_disk(hard);
    }
    let script = format!("trap '' XFSZ; ulimit -S -f {LIMIT}; exec \"$0\" \"$@\"");
    let name = "journal::tests::full_disk::a_full_disk_refuses_records_and_leaves_no_hole";
    let child = Command::new("sh")
        .arg("-c")
        .arg(script)
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

fn fill_the_disk(hard: u64) {
    let directory = TempDir::new().unwrap();
    let (journal, _) = open(&directory);
    journal.granted(&account(), 1_000_000).unwrap();
    let mut written = 0;
    let error = loop {
        match finish(&journal, started()) {
            Ok(seq) => written = seq,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, JournalError::Io { .. }), "{error}");
    assert!(written > 5);
    assert!(!journal.is_writable());
    assert!(journal.started(&started()).is_err());
    assert_eq!(journal.next_seq(), written + 1);
    assert_eq!(journal.leases()[0].totals.settled, written as i64 * 40);

    setrlimit(Resource::RLIMIT_FSIZE, hard, hard).unwrap();
    assert_eq!(finish(&journal, started()).unwrap(), written + 1);
    assert!(journal.is_writable());
    assert_eq!(seqs(&journal), (1..=written + 1).collect::<Vec<_>>());
    drop(journal);
    let (journal, recovered) = open(&directory);
    assert_eq!(recovered.next_seq, written + 2);
    assert!(recovered.open.is_empty());
    assert_eq!(seqs(&journal).len() as u64, written + 1);
}
