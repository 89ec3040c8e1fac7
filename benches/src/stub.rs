//! The upstream of the benches: fixed answers, as cheap as hyper lets them be, so that it is never the limit. The demo
//! upstream, which counts and remembers, is for everything else.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Either, Full};
use hyper::{
    Request, Response,
    body::{Body, Frame, Incoming},
    header::CONTENT_TYPE,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpListener,
    task::LocalSet,
    time::{Sleep, sleep},
};

/// Tokens of a stream, one chunk each.
pub const CHUNKS: usize = 20;

const TEXT: &str = "The meter never lies about what passes by, and nobody has to wait for it.";

/// Serves until the process ends, on this thread. A body that asks for `"gap_ms"` by its model's name gets pauses:
/// slug `bench@gap_ms=5`.
pub fn serve(addr: SocketAddr) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, async move {
        let listener = TcpListener::bind(addr).await?;
        loop {
            let Ok((socket, _)) = listener.accept().await else {
                continue;
            };
            socket.set_nodelay(true)?;
            tokio::task::spawn_local(
                http1::Builder::new()
                    .pipeline_flush(true)
                    .serve_connection(TokioIo::new(socket), service_fn(answer)),
            );
        }
    })
}

type Answer = Response<Either<Full<Bytes>, Chunks>>;

async fn answer(request: Request<Incoming>) -> Result<Answer, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    let wants = |text: &str| body.windows(text.len()).any(|part| part == text.as_bytes());
    let (kind, body) = if wants("\"stream\":true") {
        let gap = if wants("bench-gap") {
            Duration::from_millis(5)
        } else {
            Duration::ZERO
        };
        ("text/event-stream", Either::Right(Chunks::new(gap)))
    } else {
        (
            "application/json",
            Either::Left(Full::new(Bytes::from(unary()))),
        )
    };
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    Ok(response)
}

fn unary() -> String {
    format!(
        r#"{{"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion","created":1741569952,"model":"bench","choices":[{{"index":0,"message":{{"role":"assistant","content":"{TEXT}","refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":19,"completion_tokens":28,"total_tokens":47,"prompt_tokens_details":{{"cached_tokens":0,"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}},"service_tier":"default","system_fingerprint":"fp_44709d6fcb"}}"#
    )
}

fn chunk(choices: &str, usage: &str) -> Bytes {
    Bytes::from(format!(
        "data: {{\"id\":\"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT\",\"object\":\"chat.completion.chunk\",\"created\":1741569952,\"model\":\"bench\",\"choices\":[{choices}],\"usage\":{usage}}}\n\n"
    ))
}

/// One frame a chunk, with a pause or at least a turn of the loop between two.
struct Chunks {
    next: usize,
    gap: Duration,
    pause: Option<Pin<Box<Sleep>>>,
    yielded: bool,
}

impl Chunks {
    fn new(gap: Duration) -> Self {
        Self {
            next: 0,
            gap,
            pause: None,
            yielded: true,
        }
    }

    fn next_chunk(&self) -> Option<Bytes> {
        match self.next {
            number if number < CHUNKS => Some(chunk(
                r#"{"index":0,"delta":{"content":" word"},"finish_reason":null}"#,
                "null",
            )),
            CHUNKS => Some(chunk(
                r#"{"index":0,"delta":{},"finish_reason":"stop"}"#,
                "null",
            )),
            number if number == CHUNKS + 1 => Some(chunk(
                "",
                r#"{"prompt_tokens":19,"completion_tokens":20,"total_tokens":39}"#,
            )),
            number if number == CHUNKS + 2 => Some(Bytes::from_static(b"data: [DONE]\n\n")),
            _ => None,
        }
    }
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !self.yielded {
            if self.gap.is_zero() {
                self.yielded = true;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let gap = self.gap;
            let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(gap)));
            std::task::ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        let chunk = self.next_chunk();
        self.next += 1;
        self.yielded = false;
        Poll::Ready(chunk.map(|bytes| Ok(Frame::data(bytes))))
    }
}
