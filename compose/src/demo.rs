//! The demo upstream (`odock demo-upstream`): an OpenAI-compatible stub provider with an exact ledger of what reached it.
//! `odock up` starts it, and every test and bench calls it.
//!
//! `POST /v1/chat/completions` and `GET /v1/models` want the bearer key. `GET /_health`, `GET /_ledger?after=&limit=` and
//! `GET /_ledger/{seq}/body` want none. Models:
//!
//! | model | behaviour |
//! |---|---|
//! | `demo-fast`, `demo-fee` | 20 tokens at once |
//! | `demo-slow` | first byte after 500 ms, then 100 tokens, one each 50 ms |
//! | `demo-error-500` | 500 with an OpenAI error body |
//! | `demo-hang` | no byte until the caller closes |
//! | `demo-cut-stream` | 5 tokens, then the socket closes; unary: half the body |
//! | `demo-no-usage` | as `demo-fast`, never any `usage` |
//!
//! A slug may carry settings after an `@`, separated by commas; an unknown one is a 400:
//!
//! | setting | effect |
//! |---|---|
//! | `tokens=200` | the model's tokens for a choice (`demo-cut-stream`: before the cut) |
//! | `gap_ms=5` | time between two tokens of a stream |
//! | `first_ms=100` | time before the status line, of whatever answer (a unary answer is whole then) |
//! | `status=429` | answers that status (300 to 599) with an error body; below 400 with a `Location` |
//! | `retry_after=2` | with `status`: adds `Retry-After: 2` |
//! | `omit_done=1` | the stream ends without `data: [DONE]` |
//! | `chunk_bytes=7` | the body is written in pieces of so many bytes, each flushed on its own |
//! | `crlf=1` | SSE lines end in CR LF |
//! | `usage_null=1` | with `include_usage` every chunk says `"usage":null`, as OpenAI's do |
//!
//! One SSE chunk is one token: the first carries the role as well, the last the finish reason. Prompt tokens count the
//! `content` strings and the text parts of `messages`. The ledger lies in `ledger-*.ndjson` and grows by about 600 bytes a call;
//! bodies are kept in memory only. A row counts a token when its bytes are handed to the connection, so that it is never behind
//! what the caller has read, and at most a socket's buffers ahead of it.

mod answer;
mod body;
mod ledger;
mod model;
mod request;
mod routes;
mod serve;
mod stream;

#[cfg(test)]
mod tests;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::Context as _;
use odock_events::clock::SystemClock;
use tokio_util::sync::CancellationToken;

use ledger::Ledger;
use routes::Demo;

/// The key that `odock up` and the tests use.
pub(crate) const DEFAULT_KEY: &str = "demo-upstream-key";

/// Where the demo upstream listens, keeps its ledger, and which key it takes.
#[derive(Clone)]
pub(crate) struct DemoOptions {
    /// Port 0: any free one.
    pub(crate) addr: SocketAddr,
    /// The ledger lies here and outlives restarts.
    pub(crate) data_dir: PathBuf,
    pub(crate) key: String,
}

/// Serves until `shutdown`; `bound` is told the address once connections are taken. What is still running a second after
/// `shutdown` is dropped, and its ledger row says `cut`.
///
/// # Errors
/// The address cannot be bound, or the ledger cannot be read or is held by another process.
pub(crate) async fn run(
    options: DemoOptions,
    shutdown: CancellationToken,
    bound: impl FnOnce(SocketAddr),
) -> anyhow::Result<()> {
    let ledger = Ledger::open(&options.data_dir, Box::new(SystemClock))
        .with_context(|| format!("open the ledger in {}", options.data_dir.display()))?;
    let listener =
        serve::listen(options.addr).with_context(|| format!("listen on {}", options.addr))?;
    bound(listener.local_addr()?);
    let demo = Arc::new(Demo::new(ledger, &options.key));
    serve::serve(listener, demo, shutdown).await;
    Ok(())
}
