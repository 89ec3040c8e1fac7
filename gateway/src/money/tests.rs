//! The purse between callers that wait, leave and are cut off, a journal that may be full, and a grant task.

use std::{pin::pin, task::Poll};

use futures_util::{FutureExt as _, poll};
use odock_events::{
    clock::FixedClock,
    examples,
    kind::Kind,
    log::{
        messages::{AskMessage, Denial},
        reader::StreamReader,
    },
    payload::{account::AccountSpec, budget::Owner},
};
use tempfile::TempDir;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::*;
use crate::{
    journal::{BatchLimit, JournalOptions},
    usage::testing::{Redis, eventually},
};

const START: Timestamp = Timestamp(1_000_000_000);

struct Bench {
    money: Arc<Money>,
    asks: Asks,
    journal: Journal,
    clock: Arc<FixedClock>,
    account: AccountSpec,
    _directory: TempDir,
}

impl Bench {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let (journal, _) = Journal::open(JournalOptions::new(directory.path().to_owned())).unwrap();
        let clock = Arc::new(FixedClock::at(START));
        let own: Arc<dyn Clock> = Arc::<FixedClock>::clone(&clock);
        // Asks name what the calls need, so that each step can be followed.
        let protocol = Protocol {
            least_calls: 0,
            ..Protocol::default()
        };
        let (money, asks) = Money::new(journal.clone(), own, protocol);
        let account = match examples::of_kind(Kind::LeaseGranted).event {
            Event::LeaseGranted(granted) => AccountSpec {
                window_end: None,
                ..granted.account
            },
            other => panic!("{other:?}"),
        };
        let money = Arc::new(money);
        Self {
            money,
            asks,
            journal,
            clock,
            account,
            _directory: directory,
        }
    }

    fn used(&self, reserved: i64, settled: i64) -> Used {
        Used {
            account: self.account.id,
            reserved,
            settled,
        }
    }

    fn want(&self, amount: i64) -> [Want; 1] {
        [Want {
            account: self.account.clone(),
            amount,
        }]
    }

    fn answer(&self, granted: i64) -> ControlMessage {
        self.answer_with(granted, None)
    }

    fn answer_with(&self, granted: i64, denial: Option<Denial>) -> ControlMessage {
        let lease = ControlLease {
            account: self.account.id,
            granted,
            scarce: false,
            denial,
        };
        ControlMessage::Leases {
            leases: vec![lease],
        }
    }

    /// Somebody waits, and is served with this much.
    async fn grant(&self, granted: i64) {
        let want = self.want(granted);
        let mut call = pin!(self.money.hold(&want));
        assert!(poll!(&mut call).is_pending());
        self.money.receive(self.answer(granted));
        let reservation = call.await.unwrap();
        self.money.release(&reservation.keep());
    }

    fn spendable(&self) -> i64 {
        self.money.lock().purse.spendable(self.account.id)
    }

    fn last_returned(&self) -> (u64, LeaseReturned) {
        let seq = self.journal.next_seq() - 1;
        let events = self
            .journal
            .newest(
                seq,
                seq,
                BatchLimit {
                    events: 1,
                    bytes: 1,
                },
            )
            .unwrap();
        match codec::decode(&events[0].bytes).unwrap().event {
            Event::LeaseReturned(returned) => (seq, returned),
            other => panic!("{other:?}"),
        }
    }

    fn read_notes(&self) {
        self.money.take_left(self.money.mailbox.take());
    }
}

#[tokio::test]
async fn a_grant_is_in_the_journal_and_then_money_is_there_without_waiting() {
    let mut bench = Bench::new();
    bench.grant(100).await;
    assert_eq!(bench.journal.leases()[0].totals.granted, 100);
    let ask = bench.asks.0.recv().await.unwrap();
    assert_eq!((ask[0].must, ask[0].want), (100, 100));
    let want = bench.want(60);
    assert!(bench.money.reserve(&want).now_or_never().unwrap().is_ok());
    assert_eq!(
        (bench.money.reserved(bench.account.id), bench.spendable()),
        (60, 40)
    );
    bench.money.settle(&[bench.used(60, 25)]);
    assert_eq!(
        (bench.money.reserved(bench.account.id), bench.spendable()),
        (0, 75)
    );
}

#[tokio::test]
async fn who_leaves_the_line_takes_nothing() {
    let bench = Bench::new();
    bench.grant(100).await;
    let (first, second) = (bench.want(150), bench.want(100));
    {
        let mut waits = pin!(bench.money.reserve(&first));
        assert!(poll!(&mut waits).is_pending());
        // Nobody overtakes.
        let mut behind = pin!(bench.money.reserve(&second));
        assert!(poll!(&mut behind).is_pending());
    }
    assert_eq!(bench.money.waiting_calls(), 2);
    bench.read_notes();
    assert_eq!(bench.money.waiting_calls(), 0);
    assert!(bench.money.reserve(&second).now_or_never().unwrap().is_ok());
}

#[tokio::test]
async fn what_was_admitted_and_never_taken_is_released() {
    let bench = Bench::new();
    let want = bench.want(100);
    {
        let mut waits = pin!(bench.money.reserve(&want));
        assert!(poll!(&mut waits).is_pending());
        bench.money.receive(bench.answer(100));
        assert_eq!(bench.money.reserved(bench.account.id), 100);
    }
    bench.read_notes();
    assert_eq!(
        (bench.money.reserved(bench.account.id), bench.spendable()),
        (0, 100)
    );
    drop(bench.money.hold(&want).await.unwrap());
    bench.read_notes();
    assert_eq!(bench.spendable(), 100);
    let kept = bench.money.hold(&want).await.unwrap().keep();
    bench.read_notes();
    assert_eq!(
        (kept, bench.spendable()),
        (vec![(bench.account.id, 100)], 0)
    );
}

#[tokio::test]
async fn nobody_waits_for_ever() {
    let bench = Bench::new();
    let want = bench.want(100);
    let mut waits = pin!(bench.money.reserve(&want));
    assert!(poll!(&mut waits).is_pending());
    bench.clock.set(Timestamp(START.0 + 249_000));
    assert!(bench.money.tick());
    assert!(poll!(&mut waits).is_pending());
    bench.clock.set(Timestamp(START.0 + 250_000));
    assert!(!bench.money.tick());
    let Poll::Ready(Err(refusal)) = poll!(&mut waits) else {
        panic!("still waits")
    };
    assert_eq!(
        refusal,
        Refusal::Unanswered {
            account: Box::new(bench.account.clone())
        }
    );
}

#[tokio::test]
async fn a_denial_is_told_to_whoever_waits_and_to_the_next_at_once() {
    let bench = Bench::new();
    let want = bench.want(100);
    let mut waits = pin!(bench.money.reserve(&want));
    assert!(poll!(&mut waits).is_pending());
    let denial = Denial {
        must: 100,
        limit: 50,
        settled: 0,
        held: 0,
        silent: Vec::new(),
        resets_at: None,
        too_many: false,
    };
    bench
        .money
        .receive(bench.answer_with(0, Some(denial.clone())));
    let expected = Refusal::Denied {
        account: Box::new(bench.account.clone()),
        denial: Box::new(denial),
    };
    assert_eq!(waits.await.unwrap_err(), expected);
    assert_eq!(
        bench
            .money
            .reserve(&want)
            .now_or_never()
            .unwrap()
            .unwrap_err(),
        expected
    );
}

#[tokio::test]
async fn what_goes_back_is_journaled_after_every_settled_call() {
    let bench = Bench::new();
    bench.grant(100).await;
    let want = bench.want(60);
    bench.money.reserve(&want).await.unwrap();
    let usage = match examples::of_kind(Kind::UsageFinished).event {
        Event::UsageFinished(usage) => usage,
        other => panic!("{other:?}"),
    };
    let settled = [(bench.account.id, 25)];
    let finished = bench
        .journal
        .finished(usage.usage_id, b"finished", &settled)
        .unwrap();
    bench.money.settle(&[bench.used(60, 25)]);
    let id = ReclaimId::generate();
    bench.money.receive(ControlMessage::ReturnIdle {
        reclaim_id: id,
        account: None,
        granted: None,
    });
    let (seq, returned) = bench.last_returned();
    assert_eq!(
        (returned.reclaim_id, returned.leases[0].returned),
        (Some(id), 75)
    );
    assert!(seq > finished);
    assert_eq!(bench.journal.leases()[0].totals.open(), 0);
    // Nothing is idle any more, and it is said.
    let again = ReclaimId::generate();
    bench.money.receive(ControlMessage::ReturnIdle {
        reclaim_id: again,
        account: None,
        granted: None,
    });
    assert_eq!(bench.last_returned().1.reclaim_id, Some(again));
}

#[tokio::test]
async fn a_call_for_idle_parts_tells_of_the_grant_that_is_to_go_back_too() {
    let bench = Bench::new();
    bench.grant(100).await;
    bench.money.receive(ControlMessage::ReturnIdle {
        reclaim_id: ReclaimId::generate(),
        account: Some(bench.account.id),
        granted: Some(150),
    });
    assert_eq!(bench.last_returned().1.leases[0].returned, 150);
    assert_eq!(bench.journal.leases()[0].totals.granted, 150);
    // Word of the grant comes after it, and says nothing new.
    bench.money.receive(bench.answer(150));
    assert_eq!(bench.spendable(), 0);
}

#[tokio::test]
async fn totals_are_stated_on_demand() {
    let bench = Bench::new();
    bench.grant(100).await;
    bench
        .money
        .receive(ControlMessage::StateLeases { generation: 7 });
    let seq = bench.journal.next_seq() - 1;
    let events = bench
        .journal
        .newest(
            seq,
            seq,
            BatchLimit {
                events: 1,
                bytes: 1,
            },
        )
        .unwrap();
    let Event::LeaseStated(stated) = codec::decode(&events[0].bytes).unwrap().event else {
        panic!("not stated")
    };
    assert_eq!(
        (stated.generation, stated.leases[0].totals.granted),
        (7, 100)
    );
}

#[tokio::test]
async fn a_full_disk_grants_nothing_and_forgets_no_return() {
    let bench = Bench::new();
    bench.grant(100).await;
    let disk = bench.journal.fill_disk();
    bench.money.rule_changed(bench.account.id.rule);
    assert_eq!(bench.spendable(), 0);
    let want = bench.want(50);
    let mut waits = pin!(bench.money.reserve(&want));
    assert!(poll!(&mut waits).is_pending());
    bench.money.receive(bench.answer(150));
    assert!(poll!(&mut waits).is_pending());
    assert_eq!(bench.spendable(), 0);
    bench.journal.free_disk(disk);
    bench.money.write_unwritten();
    assert_eq!(bench.last_returned().1.leases[0].returned, 100);
    bench.money.receive(bench.answer(150));
    assert!(poll!(&mut waits).is_ready());
}

#[tokio::test]
async fn a_window_in_use_asks_for_the_next_one_early() {
    let mut bench = Bench::new();
    let end = Timestamp(START.0 + 5_000_000);
    bench.account.id.window_start = Timestamp(0);
    bench.account.window_end = Some(end);
    bench.grant(100).await;
    bench.asks.0.recv().await.unwrap();
    let want = bench.want(40);
    bench.money.reserve(&want).await.unwrap();
    let account = bench.account.clone();
    let next = move |id: AccountId, _: Option<&Owner>, at: Timestamp| {
        assert_eq!((id, at), (account.id, end));
        let id = AccountId {
            window_start: end,
            ..account.id
        };
        Some(AccountSpec {
            id,
            window_end: None,
            ..account.clone()
        })
    };
    bench.money.sweep(&next);
    let ask = bench.asks.0.try_recv().unwrap();
    assert_eq!(
        (ask[0].account.id.window_start, ask[0].must, ask[0].want),
        (end, 0, 100)
    );
}

#[tokio::test]
async fn a_call_waits_for_a_grant_task_behind_redis() {
    let redis = Redis::start();
    let bench = Bench::new();
    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    let log = redis.log().await;
    let links = MoneyLinks {
        log: log.clone(),
        redis_url: redis.url(),
        next_window: Arc::new(|_, _, _| None),
    };
    let Bench {
        money,
        asks,
        journal,
        clock: _clock,
        account,
        _directory,
    } = bench;
    let id = journal.identity().gateway_id;
    let mut reader = eventually("redis", async || {
        StreamReader::connect(&redis.url()).await.ok()
    })
    .await;
    let mut after = reader.asks_end().await.unwrap();
    money.spawn(asks, links, &tracker, &stop);
    let waits = {
        let (money, account) = (Arc::clone(&money), account.clone());
        tokio::spawn(async move {
            money
                .reserve(&[Want {
                    account,
                    amount: 100,
                }])
                .await
        })
    };
    let mut totals = false;
    let must = eventually("an ask", async || {
        for (id, message) in reader
            .asks(&after, std::time::Duration::from_millis(50))
            .await
            .ok()?
        {
            after = id;
            match message {
                AskMessage::Totals { .. } => totals = true,
                AskMessage::Ask(ask) => return Some(ask.accounts[0].must),
                AskMessage::Reclaim { .. } => {}
            }
        }
        None
    })
    .await;
    let lease = ControlLease {
        account: account.id,
        granted: must,
        scarce: false,
        denial: None,
    };
    let answer = ControlMessage::Leases {
        leases: vec![lease],
    };
    // The control stream is read from where it ends when the gateway gets to it: repeated until it does.
    eventually("the call is admitted", async || {
        log.send_control(id, &answer).await.ok()?;
        (money.reserved(account.id) == 100).then_some(())
    })
    .await;
    assert!(waits.await.unwrap().is_ok());
    eventually("all totals were asked for", async || {
        let messages = reader
            .asks(&after, std::time::Duration::from_millis(50))
            .await
            .ok()?;
        totals |= messages
            .iter()
            .any(|(_, message)| matches!(message, AskMessage::Totals { .. }));
        totals.then_some(())
    })
    .await;
    stop.cancel();
    tracker.close();
    tracker.wait().await;
}
