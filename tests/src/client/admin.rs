//! The admin API with a bearer token.

use anyhow::Context as _;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use super::{Answer, http_client};

#[derive(Clone, Debug)]
pub struct Admin {
    pub url: String,
    pub token: String,
    http: reqwest::Client,
}

impl Admin {
    pub fn new(url: &str, token: &str) -> anyhow::Result<Self> {
        Ok(Self {
            url: url.to_owned(),
            token: token.to_owned(),
            http: http_client()?,
        })
    }

    /// A request with the token, for what the methods below do not offer. `path` begins after `/api/v1`.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.anonymous(method, path).bearer_auth(&self.token)
    }

    /// The same without the token.
    pub fn anonymous(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}/api/v1{path}", self.url))
    }

    pub async fn send(&self, request: RequestBuilder) -> anyhow::Result<Answer> {
        Answer::read(request.send().await?).await
    }

    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// A POST without a body: the actions.
    pub async fn act(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(self.request(Method::POST, path)).await
    }

    pub async fn patch(&self, path: &str, version: u64, body: &Value) -> anyhow::Result<Answer> {
        let request = self
            .request(Method::PATCH, path)
            .header("if-match", tag(version));
        self.send(request.json(body)).await
    }

    pub async fn delete(&self, path: &str, version: u64) -> anyhow::Result<Answer> {
        let request = self
            .request(Method::DELETE, path)
            .header("if-match", tag(version));
        self.send(request).await
    }

    /// What lies at a path now.
    pub async fn read(&self, path: &str) -> anyhow::Result<Value> {
        self.get(path)
            .await?
            .expect(200)
            .with_context(|| format!("GET {path}"))
    }

    /// A new resource.
    pub async fn create(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let made = self.post(path, body).await?;
        made.expect(201)
            .with_context(|| format!("POST {path} {body}"))
    }

    /// Changes a resource as it stands now, and waits for every gateway.
    pub async fn change(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let version = version_of(&self.read(path).await?)?;
        let changed = self
            .patch(&format!("{path}?wait=all"), version, body)
            .await?;
        changed
            .expect(200)
            .with_context(|| format!("PATCH {path} {body}"))
    }

    /// Deletes a resource as it stands now, and waits for every gateway.
    pub async fn remove(&self, path: &str) -> anyhow::Result<Value> {
        let version = version_of(&self.read(path).await?)?;
        let gone = self.delete(&format!("{path}?wait=all"), version).await?;
        gone.expect(200).with_context(|| format!("DELETE {path}"))
    }

    /// Every item of a list, page by page.
    pub async fn list(&self, path: &str) -> anyhow::Result<Vec<Value>> {
        let mut all = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let joint = if path.contains('?') { '&' } else { '?' };
            let next = cursor.map(|cursor| format!("{joint}cursor={cursor}"));
            let page = self
                .read(&format!("{path}{}", next.unwrap_or_default()))
                .await?;
            let data = page.get("data").and_then(Value::as_array);
            all.extend(data.context("a list without data")?.iter().cloned());
            cursor = page
                .get("next_cursor")
                .and_then(Value::as_str)
                .map(str::to_owned);
            if cursor.is_none() {
                return Ok(all);
            }
        }
    }
}

fn version_of(resource: &Value) -> anyhow::Result<u64> {
    resource
        .get("version")
        .and_then(Value::as_u64)
        .context("a resource without version")
}

fn tag(version: u64) -> String {
    format!("\"{version}\"")
}
