//! A streamed answer: read frame by frame, or whole.

use anyhow::Context as _;
use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;

use super::Answer;

/// An answer under way. Dropped, the client has hung up.
#[derive(Debug)]
pub struct SseStream {
    pub status: u16,
    pub headers: HeaderMap,
    response: reqwest::Response,
}

/// All of a streamed answer.
#[derive(Clone, Debug)]
pub struct SseAnswer {
    pub raw: Vec<u8>,
    /// The `data:` of each frame but `[DONE]`.
    pub frames: Vec<Value>,
    pub done: bool,
    /// The connection ended in the middle of the body.
    pub broken: bool,
}

impl SseStream {
    pub(super) fn new(response: reqwest::Response) -> Self {
        Self {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            response,
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The next bytes as they come; `None` at the end.
    pub async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        self.response.chunk().await.context("the stream broke off")
    }

    /// Reads until so many bytes have come: the client of a call that is under way.
    pub async fn read_at_least(&mut self, bytes: usize) -> anyhow::Result<Vec<u8>> {
        let mut read = Vec::new();
        while read.len() < bytes {
            let more = self.next().await?.with_context(|| {
                let text = String::from_utf8_lossy(&read);
                format!("the stream ended too early, status {}: {text}", self.status)
            })?;
            read.extend_from_slice(&more);
        }
        Ok(read)
    }

    /// The rest, to its end or to where it breaks.
    pub async fn rest(mut self) -> SseAnswer {
        let mut raw = Vec::new();
        let broken = loop {
            match self.response.chunk().await {
                Ok(Some(bytes)) => raw.extend_from_slice(&bytes),
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        SseAnswer::parse(raw, broken)
    }

    /// The answer as one, for a refusal.
    pub async fn whole(self) -> anyhow::Result<Answer> {
        Answer::read(self.response).await
    }
}

impl SseAnswer {
    pub fn parse(raw: Vec<u8>, broken: bool) -> Self {
        let text = String::from_utf8_lossy(&raw).replace("\r\n", "\n");
        let mut frames = Vec::new();
        let mut done = false;
        for frame in text.split("\n\n") {
            for data in frame.lines().filter_map(|line| line.strip_prefix("data:")) {
                match data.trim_start() {
                    "[DONE]" => done = true,
                    data => frames.extend(serde_json::from_str::<Value>(data)),
                }
            }
        }
        Self {
            raw,
            frames,
            done,
            broken,
        }
    }

    /// The text of the first choice, put together.
    pub fn text(&self) -> String {
        let deltas = self.frames.iter().filter_map(|frame| {
            frame
                .pointer("/choices/0/delta/content")
                .and_then(Value::as_str)
        });
        deltas.collect()
    }

    /// How many chunks carried a token.
    pub fn tokens(&self) -> u64 {
        let carrying = self.frames.iter().filter(|frame| {
            let content = frame
                .pointer("/choices/0/delta/content")
                .and_then(Value::as_str);
            content.is_some_and(|text| !text.is_empty())
        });
        carrying.count() as u64
    }

    /// The usage chunk, if the client got one.
    pub fn usage(&self) -> Option<&Value> {
        self.frames
            .iter()
            .filter_map(|frame| frame.get("usage"))
            .find(|usage| usage.is_object())
    }

    /// The code of an error that came after the first byte.
    pub fn error_code(&self) -> Option<&str> {
        self.frames
            .iter()
            .find_map(|frame| frame.pointer("/error/code")?.as_str())
    }
}
