//! The few calls of the management API that seeding needs. Each mutation carries an `Idempotency-Key`, so that it can be
//! repeated until its outcome is known.

use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

pub(crate) struct AdminClient {
    client: Client,
    base: String,
    token: String,
}

impl AdminClient {
    pub(crate) fn new(admin_url: &str, token: &str) -> anyhow::Result<Self> {
        let client = Client::builder().timeout(CALL_TIMEOUT).no_proxy().build()?;
        Ok(Self {
            client,
            base: format!("{admin_url}/api/v1"),
            token: token.to_owned(),
        })
    }

    /// `None`: there is no such thing.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Option<Value>> {
        let response = self
            .client
            .get(format!("{}{path}", self.base))
            .bearer_auth(&self.token)
            .send()
            .await
            .with_context(|| format!("GET {path}"))?;
        let status = response.status();
        let body: Value = response
            .json()
            .await
            .with_context(|| format!("GET {path}: {status}"))?;
        match status {
            StatusCode::OK => Ok(Some(body)),
            StatusCode::NOT_FOUND => Ok(None),
            _ => bail!("GET {path}: {status} {body}"),
        }
    }

    /// The first of a list that has all these values.
    pub(crate) async fn find(
        &self,
        path: &str,
        wanted: &[(&str, &str)],
    ) -> anyhow::Result<Option<Value>> {
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("{path}?limit=200{cursor}")).await?;
            let page = page.with_context(|| format!("{path} does not exist"))?;
            let entries = page.get("data").and_then(Value::as_array);
            let matching = |entry: &&Value| {
                let mut wanted = wanted.iter();
                wanted.all(|(at, value)| entry.pointer(at).and_then(Value::as_str) == Some(value))
            };
            if let Some(found) = entries.into_iter().flatten().find(matching) {
                return Ok(Some(found.clone()));
            }
            match page.get("next_cursor").and_then(Value::as_str) {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(None),
            }
        }
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.mutate(Method::POST, path, body, None).await
    }

    /// Replaces members of an entity that was just read.
    pub(crate) async fn patch(
        &self,
        path: &str,
        entity: &Value,
        body: &Value,
    ) -> anyhow::Result<Value> {
        let version = entity
            .get("version")
            .and_then(Value::as_u64)
            .context("no version")?;
        self.mutate(Method::PATCH, path, body, Some(version)).await
    }

    /// Repeats under one key while the outcome is unknown (202) or the log cannot be reached (503).
    async fn mutate(
        &self,
        method: Method,
        path: &str,
        body: &Value,
        version: Option<u64>,
    ) -> anyhow::Result<Value> {
        let key = format!("up-{}", Uuid::now_v7().simple());
        let begun = Instant::now();
        loop {
            let mut request = self
                .client
                .request(method.clone(), format!("{}{path}", self.base))
                .bearer_auth(&self.token)
                .header("idempotency-key", &key)
                .header("x-odock-reason", "odock up: demo tenant")
                .json(body);
            if let Some(version) = version {
                request = request.header("if-match", format!("\"{version}\""));
            }
            let response = request
                .send()
                .await
                .with_context(|| format!("{method} {path}"))?;
            let status = response.status();
            let answer: Value = response
                .json()
                .await
                .with_context(|| format!("{method} {path}: {status}"))?;
            let unknown = matches!(
                status,
                StatusCode::ACCEPTED | StatusCode::SERVICE_UNAVAILABLE
            );
            if status.is_success() && !unknown {
                return Ok(answer);
            }
            if !unknown || begun.elapsed() > PATIENCE {
                bail!("{method} {path}: {status} {answer}");
            }
            sleep(PAUSE).await;
        }
    }
}

/// A text member that must be there.
pub(crate) fn text(value: &Value, member: &str) -> anyhow::Result<String> {
    let found = value.get(member).and_then(Value::as_str);
    found
        .map(str::to_owned)
        .with_context(|| format!("the answer has no `{member}`"))
}

const CALL_TIMEOUT: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);
