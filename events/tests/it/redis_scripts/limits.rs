//! `limits.lua`: windows, buckets and slots on a real Redis.

use std::time::Duration;

use odock_events::log::limits::{CounterAnswer, CounterAsk, LimitStore, Rule};

use super::server::Server;

fn store(server: &Server) -> LimitStore {
    LimitStore::new(&server.url(), Duration::from_secs(5)).unwrap()
}

fn window(limit: u64, start: i64, held: u64, want: u64) -> CounterAsk {
    // A window so long that no test sees its end.
    let span = 1_000_000_000_000_000;
    CounterAsk {
        key: "{l}:m:window".to_owned(),
        rule: Rule::Window { limit, span, start },
        held,
        want,
    }
}

async fn one(store: &LimitStore, process: &str, seq: u64, ask: CounterAsk) -> CounterAnswer {
    let answers = store.ask(process, seq, &[ask]).await.unwrap();
    answers.counters[0]
}

#[tokio::test]
async fn line_057_a_window_is_shared_and_totals_make_messages_harmless() {
    let server = Server::start().await;
    let store = store(&server);
    let first = one(&store, "a", 1, window(10, 0, 0, 4)).await;
    assert_eq!((first.granted, first.left), (4, 6));
    let start = first.start;
    let other = one(&store, "b", 1, window(10, start, 0, 9)).await;
    assert_eq!((other.granted, other.left), (6, 0));
    // Twice the same: nothing is granted again.
    let again = one(&store, "b", 1, window(10, start, 0, 9)).await;
    assert_eq!(again.granted, 0);
    // An answer that was lost: it holds nothing of it, and says so.
    let lost = one(&store, "b", 2, window(10, start, 0, 2)).await;
    assert_eq!((lost.granted, lost.left), (2, 4));
    // What lay idle goes back.
    let back = one(&store, "a", 2, window(10, start, 1, 0)).await;
    assert_eq!((back.granted, back.left), (0, 7));
    // More than was granted: it is charged.
    let charged = one(&store, "a", 3, window(10, start, 8, 0)).await;
    assert_eq!(charged.left, 0);
    // What is held of another window does not count here.
    let stale = one(&store, "c", 1, window(20, start - 1, 9, 3)).await;
    assert_eq!((stale.granted, stale.left), (3, 7));
}

#[tokio::test]
async fn line_063_a_bucket_grants_a_stretch_of_its_time() {
    let server = Server::start().await;
    let store = store(&server);
    let (limit, span) = (5, 1_000_000_000);
    let ask = |want| CounterAsk {
        key: "{l}:b:bucket".to_owned(),
        rule: Rule::Bucket { limit, span },
        held: 0,
        want,
    };
    let answers = store.ask("a", 1, &[ask(2)]).await.unwrap();
    let first = answers.counters[0];
    assert_eq!((first.granted, first.start), (2, answers.clock));
    let second = one(&store, "b", 1, ask(9)).await;
    assert_eq!(second.start, first.start + 2 * span.cast_signed());
    assert_eq!((second.granted, second.left), (3, 0));
    assert_eq!(one(&store, "a", 2, ask(1)).await.granted, 0);
}

#[tokio::test]
async fn line_064_slots_that_are_not_renewed_are_given_to_others() {
    let server = Server::start().await;
    let store = store(&server);
    let ask = |held, want, span| CounterAsk {
        key: "{l}:c:slots".to_owned(),
        rule: Rule::Slots { limit: 3, span },
        held,
        want,
    };
    let (long, short) = (60_000_000, 50_000);
    assert_eq!(one(&store, "a", 1, ask(0, 2, short)).await.granted, 2);
    assert_eq!(one(&store, "b", 1, ask(0, 3, long)).await.granted, 1);
    let until = tokio::time::Instant::now() + super::server::DEADLINE;
    let mut seq = 1;
    loop {
        seq += 1;
        let answer = one(&store, "b", seq, ask(1, 2, long)).await;
        if answer.granted == 2 {
            break;
        }
        assert!(tokio::time::Instant::now() < until, "{answer:?}");
    }
    // The first one comes back with calls under way: they count, and no more are granted.
    assert_eq!(one(&store, "a", 2, ask(2, 1, long)).await.granted, 0);
    assert_eq!(one(&store, "b", seq + 1, ask(1, 2, long)).await.granted, 0);
    assert_eq!(one(&store, "b", seq + 2, ask(0, 2, long)).await.granted, 1);
}

#[tokio::test]
async fn processes_that_beat_are_counted() {
    let server = Server::start().await;
    let store = store(&server);
    let long = Duration::from_secs(60);
    assert_eq!(store.beat("a", long).await.unwrap(), 1);
    assert_eq!(store.beat("b", long).await.unwrap(), 2);
    assert_eq!(store.beat("a", long).await.unwrap(), 2);
}
