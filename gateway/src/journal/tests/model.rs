//! Random operations, a kill at any byte, and a replay that must equal what was whole on disk.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Operation {
    Start,
    Progress,
    Finish,
    Grant(i64),
    Return,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        3 => Just(Operation::Start),
        1 => Just(Operation::Progress),
        3 => Just(Operation::Finish),
        1 => (1_i64..1_000).prop_map(Operation::Grant),
        1 => Just(Operation::Return),
    ]
}

/// What must be known after a restart.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    next_seq: u64,
    leases: Vec<StatedLease>,
    open: Vec<OpenCall>,
}

impl Model {
    fn of(recovered: Recovered) -> Self {
        let Recovered {
            next_seq,
            leases,
            open,
            unreadable,
            ..
        } = recovered;
        assert_eq!(unreadable, None);
        Self {
            next_seq,
            leases,
            open,
        }
    }

    fn apply(&mut self, operation: &Operation, journal: &Journal) {
        match operation {
            Operation::Start => {
                let started = started();
                journal.started(&started).unwrap();
                self.open.push(OpenCall {
                    started,
                    progress: None,
                });
            }
            Operation::Progress => {
                let Some(call) = self.open.first_mut() else {
                    return;
                };
                let mark = Progress {
                    usage_id: call.started.usage.usage_id,
                    tokens: call.started.usage.tokens,
                    cost: NanoUsd(call.progress.as_ref().map_or(1, |last| last.cost.0 + 1)),
                    breakdown: call.started.usage.breakdown,
                    reserved: Vec::new(),
                };
                journal.progress(&mark).unwrap();
                call.progress = Some(mark);
            }
            Operation::Finish => {
                if self.open.is_empty() {
                    return;
                }
                let call = self.open.remove(0);
                assert_eq!(finish(journal, call.started).unwrap(), self.next_seq);
                self.next_seq += 1;
                if let Some(lease) = self.leases.first_mut() {
                    lease.totals.settled += 40;
                }
            }
            Operation::Grant(amount) => {
                let granted = self.leases.first().map_or(0, |lease| lease.totals.granted) + amount;
                journal.granted(&account(), granted).unwrap();
                if self.leases.is_empty() {
                    self.leases.push(StatedLease {
                        account: account(),
                        totals: odock_events::payload::lease::LeaseTotals::default(),
                    });
                }
                self.leases[0].totals.granted = granted;
            }
            Operation::Return => {
                let Some(lease) = self.leases.first_mut() else {
                    return;
                };
                lease.totals.returned += 1;
                assert_eq!(returned(journal, lease.totals.returned), self.next_seq);
                self.next_seq += 1;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_replay_knows_exactly_what_was_whole_on_disk(
        operations in proptest::collection::vec(operation(), 1..60),
        small in any::<bool>(), cut in 0.0_f64..1.0,
    ) {
        let directory = TempDir::new().unwrap();
        let options = options(&directory, if small { 6_000 } else { 1 << 20 });
        let (journal, _) = Journal::open(options.clone()).unwrap();
        let mut model = Model { next_seq: 1, ..Model::default() };
        // After each operation: the segment it went to, that one's length, and what must be known.
        let mut history = vec![(last_segment(&directory), 0, model.clone())];
        for operation in &operations {
            let segment = last_segment(&directory);
            model.apply(operation, &journal);
            let length = fs::metadata(&segment).unwrap().len();
            history.push((segment, length, model.clone()));
        }
        drop(journal);
        let last = last_segment(&directory);
        let length = fs::metadata(&last).unwrap().len();
        let cut = (length as f64 * cut) as u64;
        fs::File::options().write(true).open(&last).unwrap().set_len(cut).unwrap();
        let survives = |entry: &&(PathBuf, u64, Model)| entry.0 != last || entry.1 <= cut;
        let expected = history.iter().rev().find(survives).unwrap().2.clone();

        let (journal, recovered) = Journal::open(options).unwrap();
        prop_assert_eq!(Model::of(recovered), expected.clone());
        prop_assert_eq!(seqs(&journal), (1..expected.next_seq).collect::<Vec<_>>());
        prop_assert_eq!(finish(&journal, started()).unwrap(), expected.next_seq);
    }
}
