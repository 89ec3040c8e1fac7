//! The demo provider: what really reached an upstream.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;

use super::{Answer, http_client};
use crate::wait::wait_until;

#[derive(Clone, Debug)]
pub struct Demo {
    pub url: String,
    http: reqwest::Client,
}

/// One row of `GET /_ledger`.
#[derive(Clone, Debug, Deserialize)]
pub struct LedgerRow {
    pub seq: u64,
    pub id: String,
    pub client_request_id: Option<String>,
    pub model: String,
    pub stream: bool,
    pub outcome: String,
    pub status: Option<u16>,
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub usage_sent: bool,
    pub body_sha256: String,
    pub received_at: String,
    pub finished_at: Option<String>,
}

#[derive(Deserialize)]
struct Page {
    data: Vec<LedgerRow>,
    next_after: u64,
}

impl Demo {
    pub fn new(url: &str) -> anyhow::Result<Self> {
        Ok(Self {
            url: url.to_owned(),
            http: http_client()?,
        })
    }

    /// All rows above a seq.
    pub async fn rows(&self, mut after: u64) -> anyhow::Result<Vec<LedgerRow>> {
        let mut all = Vec::new();
        loop {
            let url = format!("{}/_ledger?after={after}&limit=1000", self.url);
            let answer = Answer::read(self.http.get(url).send().await?).await?;
            let page: Page = serde_json::from_value(answer.expect(200)?)?;
            if page.data.is_empty() {
                return Ok(all);
            }
            after = page.next_after;
            all.extend(page.data);
        }
    }

    /// The newest seq: a test that looks at rows above it sees its own and those of tests beside it.
    pub async fn top(&self) -> anyhow::Result<u64> {
        Ok(self.rows(0).await?.last().map_or(0, |row| row.seq))
    }

    /// The row of one attempt, when it has ended.
    pub async fn row_of(&self, attempt: &str) -> anyhow::Result<LedgerRow> {
        let what = format!("the ledger's row of {attempt}");
        wait_until(what, Duration::from_secs(10), async || {
            let rows = self.rows(0).await?;
            let row = rows
                .into_iter()
                .find(|row| row.client_request_id.as_deref() == Some(attempt));
            let row = row.ok_or_else(|| anyhow::anyhow!("there is none"))?;
            anyhow::ensure!(row.finished_at.is_some(), "it has not ended: {row:?}");
            Ok(row)
        })
        .await
    }

    /// The exact bytes of a request.
    pub async fn body(&self, seq: u64) -> anyhow::Result<Bytes> {
        let url = format!("{}/_ledger/{seq}/body", self.url);
        let answer = Answer::read(self.http.get(url).send().await?).await?;
        anyhow::ensure!(
            answer.status == 200,
            "no body of row {seq}: {}",
            answer.status
        );
        Ok(answer.body)
    }
}
