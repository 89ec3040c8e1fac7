//! A stream from an upstream that may do anything, to a caller who may leave at any time.

use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use odock_events::{
    ids::{KeyId, UsageId},
    payload::usage::UsageFinished,
};

use super::*;
use crate::{
    dialect::openai_chat::stream::StreamOptions,
    pipeline::{
        live::LiveCalls,
        testing::{PRICING, TestBooks, call_record},
    },
};

type Piece = Result<Frame<Bytes>, std::io::Error>;
type Pieces = Pin<Box<dyn stream::Stream<Item = Piece> + Send>>;

const IDLE: std::time::Duration = std::time::Duration::from_millis(100);

fn chunk(text: &str) -> String {
    format!(
        "data: {{\"id\":\"c1\",\"model\":\"demo-fast\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n"
    )
}

const USAGE: &str = "data: {\"id\":\"c1\",\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2,\"total_tokens\":7}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

#[expect(
    clippy::unnecessary_wraps,
    reason = "the item of a stream that may break"
)]
fn piece(text: impl Into<Bytes>) -> Piece {
    Ok(Frame::data(text.into()))
}

struct Running<B> {
    body: AnswerStream<B>,
    books: TestBooks,
    shutdown: CancellationToken,
    live: Arc<LiveCalls>,
    key_id: KeyId,
}

fn run<S>(pieces: S) -> Running<StreamBody<S>>
where
    S: stream::Stream<Item = Piece> + Unpin,
{
    let books = TestBooks::new();
    let record = call_record(Some(PRICING), 90_000);
    let key_id = record.started.usage.key_id;
    let shutdown = CancellationToken::new();
    let live = Arc::new(LiveCalls::default());
    let body = AnswerStream::new(StreamParts {
        upstream: StreamBody::new(pieces),
        upstream_status: 200,
        silence: Silence::new(IDLE),
        reader: StreamReader::new(StreamOptions::default()),
        call: books.open(record),
        choices: 1,
        top_ups: None,
        shutdown: shutdown.clone(),
        live: live.enter(key_id, UsageId::generate()),
        metrics: Arc::clone(&books.books.metrics),
    });
    Running {
        body,
        books,
        shutdown,
        live,
        key_id,
    }
}

async fn text_of<B: Body<Data = Bytes, Error = Infallible>>(body: B) -> String {
    let Ok(collected) = body.collect().await;
    String::from_utf8(collected.to_bytes().to_vec()).unwrap()
}

async fn only_record(books: &TestBooks) -> (bool, UsageFinished) {
    let mut records = books.finished().await;
    assert_eq!(records.len(), 1);
    assert_eq!(books.books.journal.open_calls(), 0);
    records
        .pop()
        .map(|(meta, usage)| (meta.estimated, usage))
        .unwrap()
}

#[tokio::test]
async fn a_whole_stream_passes_and_costs_what_the_upstream_says() {
    let pieces = [chunk("a"), chunk("b"), USAGE.to_owned(), DONE.to_owned()];
    let running = run(stream::iter(pieces.map(piece)));
    let text = text_of(running.body).await;
    assert_eq!(
        text,
        [chunk("a"), chunk("b"), DONE.to_owned()].concat(),
        "usage is withheld"
    );
    let (estimated, usage) = only_record(&running.books).await;
    assert!(!estimated);
    assert_eq!(
        (usage.status, usage.cost.0),
        (UsageStatus::Completed, 5 * 1_000 + 2 * 2_000)
    );
    assert_eq!(usage.provider_request_id.as_deref(), Some("c1"));
}

#[tokio::test]
async fn the_record_is_written_before_the_caller_can_see_the_end() {
    let running = run(stream::iter([piece([&chunk("a"), USAGE, DONE].concat())]));
    let mut body = running.body;
    let Some(Ok(_)) = body.frame().await else {
        panic!("a frame")
    };
    drop(body);
    let (_, usage) = only_record(&running.books).await;
    assert_eq!(usage.status, UsageStatus::Completed);
}

#[tokio::test]
async fn a_stream_that_breaks_or_falls_silent_ends_with_an_error_frame() {
    let broken = Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
    let silent =
        || futures_util::StreamExt::chain(stream::iter([piece(chunk("a"))]), stream::pending());
    let cases: Vec<(Pieces, _, _)> = vec![
        (
            Box::pin(stream::iter([piece(chunk("a")), broken])),
            "upstream_error",
            UsageStatus::UpstreamError,
        ),
        (
            Box::pin(stream::iter([piece(chunk("a"))])),
            "upstream_error",
            UsageStatus::UpstreamError,
        ),
        (Box::pin(silent()), "upstream_timeout", UsageStatus::Timeout),
    ];
    for (pieces, code, status) in cases {
        let running = run(pieces);
        let text = text_of(running.body).await;
        let last = text.trim_end().rsplit("\n\n").next().unwrap();
        assert!(text.starts_with(&chunk("a")), "{text}");
        assert!(
            last.starts_with("data: {\"error\":") && last.contains(code),
            "{text}"
        );
        assert!(!text.contains("[DONE]"), "{text}");
        let (estimated, usage) = only_record(&running.books).await;
        assert!(estimated);
        assert_eq!((usage.status, usage.tokens.output), (status, 1));
    }
}

#[tokio::test]
async fn a_caller_who_leaves_hands_the_call_to_the_closer() {
    let pieces = futures_util::StreamExt::chain(
        stream::iter([piece(chunk("a")), piece(chunk("b"))]),
        stream::pending(),
    );
    let mut running = run(pieces);
    for _ in 0..2 {
        let Some(Ok(_)) = running.body.frame().await else {
            panic!("a frame")
        };
    }
    drop(running.body);
    let mut books = running.books;
    let Ok(crate::pipeline::open_call::Unfinished::Abandoned(record)) = books.queue.try_recv()
    else {
        panic!("an abandoned call")
    };
    books.books.close(*record).map_err(drop).unwrap();
    let (estimated, usage) = only_record(&books).await;
    assert!(estimated);
    assert_eq!(
        (usage.status, usage.tokens.output),
        (UsageStatus::ClientClosed, 2)
    );
}

#[tokio::test]
async fn a_stream_is_cut_with_the_reason() {
    for (by_shutdown, code) in [(false, "api_key_revoked"), (true, "shutting_down")] {
        let pieces =
            futures_util::StreamExt::chain(stream::iter([piece(chunk("a"))]), stream::pending());
        let mut running = run(pieces);
        let Some(Ok(_)) = running.body.frame().await else {
            panic!("a frame")
        };
        if by_shutdown {
            running.shutdown.cancel();
        } else {
            running.live.cut(&[running.key_id]);
        }
        let text = text_of(running.body).await;
        assert!(text.contains(code), "{text}");
        let (_, usage) = only_record(&running.books).await;
        assert_eq!(
            (usage.status, usage.tokens.output),
            (UsageStatus::ClientClosed, 1)
        );
    }
}

#[tokio::test]
async fn an_error_frame_of_the_upstream_is_its_failure() {
    let frame = "data: {\"error\":{\"message\":\"overloaded\"}}\n\n";
    let running = run(stream::iter([piece(frame), piece(DONE)]));
    assert_eq!(text_of(running.body).await, [frame, DONE].concat());
    let (estimated, usage) = only_record(&running.books).await;
    assert!(!estimated);
    assert_eq!(
        (usage.status, usage.cost.0),
        (UsageStatus::UpstreamError, 0)
    );
}
