//! One gateway, as clients use it.

use bytes::Bytes;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::{Answer, SseStream, http_builder, http_client};

/// What a client offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    All,
    Http1,
}

#[derive(Clone, Debug)]
pub struct Gateway {
    pub url: String,
    http: reqwest::Client,
}

impl Gateway {
    pub fn new(url: &str) -> anyhow::Result<Self> {
        Ok(Self {
            url: url.to_owned(),
            http: http_client()?,
        })
    }

    /// One that is reached over TLS and nothing else, by clients that trust this certificate alone.
    pub fn over_tls(address: &str, authority: &str, versions: Versions) -> anyhow::Result<Self> {
        let builder = http_builder()
            .tls_certs_only([reqwest::Certificate::from_pem(authority.as_bytes())?])
            .https_only(true);
        let builder = match versions {
            Versions::All => builder,
            Versions::Http1 => builder.http1_only(),
        };
        Ok(Self {
            url: format!("https://{address}"),
            http: builder.build()?,
        })
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        let address = self.url.trim_start_matches("http://");
        address.trim_start_matches("https://")
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    pub async fn send(&self, request: RequestBuilder) -> anyhow::Result<Answer> {
        Answer::read(request.send().await?).await
    }

    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(self.request(Method::GET, path)).await
    }

    pub async fn get_as(&self, key: &str, path: &str) -> anyhow::Result<Answer> {
        self.send(self.request(Method::GET, path).bearer_auth(key))
            .await
    }

    /// A chat call, not streaming.
    pub async fn chat(&self, key: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send(self.chat_request(key).json(body)).await
    }

    /// A chat call with exactly these bytes.
    pub async fn chat_bytes(&self, key: &str, body: impl Into<Bytes>) -> anyhow::Result<Answer> {
        let request = self
            .chat_request(key)
            .header("content-type", "application/json");
        self.send(request.body(body.into())).await
    }

    /// A chat call whose answer is read piece by piece. The body gets `stream`.
    pub async fn stream(&self, key: &str, body: &Value) -> anyhow::Result<SseStream> {
        let mut body = body.clone();
        if let Some(members) = body.as_object_mut() {
            members.insert("stream".to_owned(), json!(true));
        }
        Ok(SseStream::new(
            self.chat_request(key).json(&body).send().await?,
        ))
    }

    pub async fn validate(&self, key: &str) -> anyhow::Result<Answer> {
        self.send(
            self.request(Method::POST, "/v1/keys/validate")
                .bearer_auth(key),
        )
        .await
    }

    pub fn chat_request(&self, key: &str) -> RequestBuilder {
        self.request(Method::POST, "/v1/chat/completions")
            .bearer_auth(key)
    }
}

/// A chat body with one user message.
pub fn say(model: &str, text: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": text }] })
}
