//! Typed clients: the admin API, a gateway, the demo provider, and bare sockets. They say what was sent and what came
//! back, and judge nothing.

mod admin;
mod answer;
mod demo;
mod gateway;
pub mod http2;
mod raw;
mod stream;

use std::time::Duration;

use anyhow::Context as _;

pub use self::{
    admin::Admin,
    answer::Answer,
    demo::{Demo, LedgerRow},
    gateway::{Gateway, Versions, say},
    raw::{RawAnswer, exchange},
    stream::{SseAnswer, SseStream},
};

/// Connections are pooled without a bound: a thousand calls at a time are a thousand sockets.
fn http_client() -> anyhow::Result<reqwest::Client> {
    http_builder().build().context("make an HTTP client")
}

fn http_builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(60))
}
