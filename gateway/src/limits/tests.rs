//! Several gateways' books against a model of the script in Redis, moved step by step: nothing here waits.

use std::time::{Duration, Instant};

use odock_events::log::limits::Answers;
use proptest::prelude::*;
use tokio::sync::oneshot::error::TryRecvError;
use uuid::Uuid;

use super::{
    book::{Book, Holdings, Outcome, Question},
    counter::Now,
    scope::{CounterId, LimitKind, Need, ScopeId, ScopeKind},
};

mod server;

use self::server::Server;

const SECOND: u64 = 1_000_000;
const MINUTE: u64 = 60 * SECOND;
/// In the middle of a minute.
const START: i64 = 1_795_521_600_000_000 + 20_000_000;

fn need(limit: LimitKind, amount: u64, of: u64) -> Need {
    let span = match limit {
        LimitKind::PerSecond => SECOND,
        LimitKind::Burst => SECOND / 10,
        LimitKind::Concurrency => 3_600 * SECOND,
        _ => MINUTE,
    };
    Need {
        counter: CounterId {
            scope: ScopeId {
                kind: ScopeKind::Key,
                id: Uuid::from_u128(7),
                organisation: Uuid::from_u128(1),
            },
            limit,
        },
        limit: of,
        span,
        amount,
        shadow: false,
    }
}

/// Gateways on one clock, which is Redis' own.
struct World {
    server: Server,
    books: Vec<Book>,
    at: Instant,
    scripts: usize,
}

impl World {
    fn new(gateways: usize) -> Self {
        let at = Instant::now();
        let book = |_| {
            let mut book = Book::new(at, START);
            book.live = gateways as u64;
            book
        };
        Self {
            server: Server::new(START),
            books: (0..gateways).map(book).collect(),
            at,
            scripts: 0,
        }
    }

    fn pass(&mut self, time: Duration) {
        self.at += time;
        self.server.now += i64::try_from(time.as_micros()).unwrap();
    }

    /// One call at one gateway, with as many questions as it takes.
    fn call(&mut self, gateway: usize, needs: &[Need]) -> Result<Holdings, Option<i64>> {
        let now = Now::of(self.books[gateway].clock(self.at));
        if let Some(outcome) = self.books[gateway].take(needs, now) {
            self.tell(gateway);
            return held(outcome);
        }
        let mut waiting = self.books[gateway].wait(needs.to_vec());
        for _ in 0..5 {
            if let Some((answer, outcome)) = self.tell(gateway).into_iter().next() {
                drop(answer);
                return held(outcome);
            }
        }
        assert_eq!(waiting.try_recv().err(), Some(TryRecvError::Empty));
        panic!("no answer after five questions");
    }

    /// Whatever the book wants asked, asked.
    fn tell(&mut self, gateway: usize) -> super::book::Wakes {
        let now = self.books[gateway].clock(self.at);
        let questions = self.books[gateway].questions(now);
        self.put(gateway, questions)
    }

    fn sweep(&mut self, gateway: usize) {
        let now = self.books[gateway].clock(self.at);
        let questions = self.books[gateway].sweep(now);
        assert!(self.put(gateway, questions).is_empty(), "nobody waits");
    }

    fn put(&mut self, gateway: usize, questions: Vec<Question>) -> super::book::Wakes {
        let mut wakes = Vec::new();
        for question in questions {
            self.scripts += 1;
            let answers: Answers = self.server.ask(gateway, question.seq, &question.asks);
            let granted = answers.clock;
            let book = &mut self.books[gateway];
            book.apply(&question, Some((&answers, self.at)));
            let at = book.clock(self.at);
            wakes.extend(book.wake(Now { at, granted }));
        }
        wakes
    }

    fn end(&mut self, gateway: usize, holdings: &Holdings, tokens: u64) {
        self.books[gateway].give_back(holdings, Some(tokens));
        assert!(self.tell(gateway).is_empty(), "nobody waits");
    }
}

fn held(outcome: Outcome) -> Result<Holdings, Option<i64>> {
    match outcome {
        Outcome::Admitted(admission) => Ok(admission.holdings),
        Outcome::Denied(denial) => Err(denial.retry_after_micros),
    }
}

#[test]
fn line_057_a_window_admits_exactly_its_limit_whoever_asks() {
    for gateways in [1, 2, 4, 7] {
        let mut world = World::new(gateways);
        let minute = [need(LimitKind::PerMinute, 1, 100)];
        let calls = (0..1_000).map(|call| world.call(call * 7 % gateways, &minute).is_ok());
        assert_eq!(
            calls.filter(|taken| *taken).count(),
            100,
            "{gateways} gateways"
        );
        world.pass(Duration::from_secs(40));
        assert!(world.call(0, &minute).is_ok(), "the next minute has begun");
    }
}

#[test]
fn line_057_what_lies_idle_at_one_gateway_goes_back_and_is_used_at_another() {
    let mut world = World::new(2);
    let minute = [need(LimitKind::PerMinute, 1, 10_000)];
    for _ in 0..500 {
        world.call(0, &minute).unwrap();
    }
    world.pass(Duration::from_millis(300));
    world.sweep(0);
    let more = (0..20_000)
        .filter(|_| world.call(1, &minute).is_ok())
        .count();
    assert_eq!(more, 9_500);
}

#[test]
fn line_172_a_busy_limit_costs_no_round_trip_and_a_small_one_costs_one() {
    let mut world = World::new(2);
    let busy = [
        need(LimitKind::PerSecond, 1, 100_000),
        need(LimitKind::PerMinute, 1, 5_000_000),
        need(LimitKind::TokensPerMinute, 200, 1_000_000_000),
    ];
    for _ in 0..2_000 {
        world.call(0, &busy).unwrap();
    }
    world.scripts = 0;
    for _ in 0..2_000 {
        world.call(0, &busy).unwrap();
    }
    assert!(
        world.scripts <= 20,
        "{} questions for 2,000 calls",
        world.scripts
    );
    let small = [need(LimitKind::PerMinute, 1, 40)];
    let mut world = World::new(2);
    for _ in 0..40 {
        world.call(0, &small).unwrap();
    }
    assert_eq!(world.scripts, 40);
    for _ in 0..1_000 {
        world.call(0, &small).unwrap_err();
    }
    assert_eq!(world.scripts, 41, "who is refused costs nothing");
}

#[test]
fn line_063_a_burst_is_as_large_as_it_says_and_fills_again_at_its_rate() {
    let mut world = World::new(3);
    // Ten at once, one more each tenth of a second.
    let burst = [need(LimitKind::Burst, 1, 10)];
    let taken = (0..100)
        .filter(|call| world.call(call % 3, &burst).is_ok())
        .count();
    assert_eq!(taken, 10);
    let retry_after = world.call(0, &burst).unwrap_err().unwrap();
    assert!((1..=100_000).contains(&retry_after), "{retry_after}");
    world.pass(Duration::from_millis(350));
    let taken = (0..100)
        .filter(|call| world.call(call % 3, &burst).is_ok())
        .count();
    assert_eq!(taken, 3);
}

#[test]
fn line_064_slots_are_shared_come_back_and_outlive_no_gateway() {
    let mut world = World::new(2);
    let slot = [need(LimitKind::Concurrency, 1, 3)];
    let first = world.call(0, &slot).unwrap();
    world.call(1, &slot).unwrap();
    world.call(1, &slot).unwrap();
    assert!(world.call(0, &slot).is_err());
    world.pass(Duration::from_millis(20));
    world.end(0, &first, 0);
    let again = world.call(1, &slot).unwrap();
    world.pass(Duration::from_millis(20));
    assert!(
        world.call(0, &slot).is_err(),
        "all three are at the other one"
    );
    // The other one stands still: it does not renew.
    world.pass(Duration::from_secs(4));
    assert!(world.call(0, &slot).is_ok());
    assert!(!world.books[1].holds(&again, world.books[1].clock(world.at)));
    // One that renews keeps them.
    for _ in 0..100 {
        world.pass(Duration::from_millis(100));
        world.sweep(0);
    }
    assert!(
        world.call(1, &slot).is_err(),
        "its own two that still run count, and the other's"
    );
}

#[test]
fn line_067_tokens_that_were_not_used_come_back_and_more_than_reserved_are_charged() {
    let mut world = World::new(2);
    let call = [need(LimitKind::TokensPerMinute, 300, 1_000)];
    let first = world.call(0, &call).unwrap();
    let second = world.call(0, &call).unwrap();
    let third = world.call(1, &call).unwrap();
    assert!(world.call(1, &call).is_err(), "100 are left");
    world.end(0, &first, 50);
    world.end(0, &second, 450);
    world.end(1, &third, 300);
    world.pass(Duration::from_millis(300));
    world.sweep(0);
    world.sweep(1);
    world.pass(Duration::from_millis(100));
    assert!(
        world
            .call(1, &[need(LimitKind::TokensPerMinute, 201, 1_000)])
            .is_err()
    );
    assert!(
        world
            .call(1, &[need(LimitKind::TokensPerMinute, 200, 1_000)])
            .is_ok()
    );
    let never = world.call(0, &[need(LimitKind::TokensPerMinute, 1_001, 1_000)]);
    assert_eq!(never.unwrap_err(), None);
}

#[test]
fn line_059_a_call_takes_of_all_its_counters_or_of_none() {
    let mut world = World::new(1);
    let (wide, narrow) = (
        need(LimitKind::PerMinute, 1, 10),
        need(LimitKind::PerSecond, 1, 2),
    );
    for _ in 0..2 {
        world.call(0, &[wide, narrow]).unwrap();
    }
    for _ in 0..50 {
        world.call(0, &[wide, narrow]).unwrap_err();
    }
    let left = (0..50).filter(|_| world.call(0, &[wide]).is_ok()).count();
    assert_eq!(left, 8, "refused calls used nothing");
}

#[test]
fn alone_a_gateway_has_its_share() {
    let mut world = World::new(4);
    world.books[0].alone = true;
    for (limit, of, share) in [
        (LimitKind::PerMinute, 100, 25),
        (LimitKind::Concurrency, 3, 1),
        (LimitKind::Burst, 10, 2),
    ] {
        let needs = [need(limit, 1, of)];
        let mut taken = 0;
        for _ in 0..60 {
            let book = &mut world.books[0];
            let now = Now::of(book.clock(world.at));
            let outcome = book.take(&needs, now).or_else(|| {
                let waiting = book.wait(needs.to_vec());
                for question in book.questions(now.at) {
                    book.apply(&question, None);
                }
                let wakes = book.wake(Now::of(book.clock(world.at)));
                drop(waiting);
                wakes.into_iter().next().map(|(_, outcome)| outcome)
            });
            taken += usize::from(matches!(outcome, Some(Outcome::Admitted(_))));
        }
        assert_eq!(taken, share, "{limit:?}");
    }
}

proptest! {
    /// Any calls at any gateways, with pauses, ends and sweeps between them: never more than the limit in a window,
    /// never more slots than there are.
    #[test]
    fn line_064_no_order_of_steps_exceeds_a_limit(
        steps in proptest::collection::vec((0_usize..3, 0_u8..10, 1_u64..900), 1..300),
        limit in 1_u64..200,
    ) {
        let mut world = World::new(3);
        let minute = need(LimitKind::PerMinute, 1, limit);
        let slot = need(LimitKind::Concurrency, 1, limit.min(9));
        let mut admitted = std::collections::BTreeMap::<i64, u64>::new();
        let mut running: Vec<(usize, Holdings)> = Vec::new();
        for (gateway, what, millis) in steps {
            match what {
                0..=5 => if let Ok(holdings) = world.call(gateway, &[slot, minute]) {
                    *admitted.entry(world.server.now / 60_000_000).or_default() += 1;
                    running.push((gateway, holdings));
                },
                6 | 7 => if let Some((at, holdings)) = running.pop() {
                    world.end(at, &holdings, 0);
                },
                8 => (0..3).for_each(|gateway| world.sweep(gateway)),
                _ => {
                    // Every gateway renews in time.
                    world.pass(Duration::from_millis(millis));
                    (0..3).for_each(|gateway| world.sweep(gateway));
                }
            }
            prop_assert!(running.len() as u64 <= limit.min(9));
            prop_assert!(admitted.values().all(|count| *count <= limit), "{admitted:?} of {limit}");
        }
    }
}
