//! One HTTP answer, read whole.

use anyhow::Context as _;
use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub(super) async fn read(response: reqwest::Response) -> anyhow::Result<Self> {
        Ok(Self {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.bytes().await?,
        })
    }

    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("no JSON: {}", self.text()))
    }

    /// The body, if the status is this one.
    pub fn expect(&self, status: u16) -> anyhow::Result<Value> {
        anyhow::ensure!(
            self.status == status,
            "wanted {status}, got {}: {}",
            self.status,
            self.text()
        );
        self.json()
    }

    /// Fails unless the answer is a refusal with this status and code, of a gateway or of the admin API.
    pub fn refused(&self, status: u16, code: &str) -> anyhow::Result<Value> {
        let body = self.expect(status)?;
        let given = body.get("code").or_else(|| body.get("error")?.get("code"));
        anyhow::ensure!(
            given.and_then(Value::as_str) == Some(code),
            "wanted {code}, got {}",
            self.text()
        );
        Ok(body)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}
