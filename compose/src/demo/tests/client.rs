//! The tests' demo upstream and their client of it.

use std::{net::SocketAddr, path::Path, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::demo::{DEFAULT_KEY, DemoOptions, run};

/// A running demo upstream; its ledger is `directory`.
pub(super) struct Upstream {
    pub(super) addr: SocketAddr,
    pub(super) client: Client<HttpConnector, Full<Bytes>>,
    shutdown: CancellationToken,
    served: JoinHandle<anyhow::Result<()>>,
    directory: TempDir,
}

/// An answer read whole; `error` is set when it broke off.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// The body's frames as they came.
    pub(super) frames: Vec<Bytes>,
    pub(super) error: Option<String>,
}

impl Upstream {
    pub(super) async fn start() -> Self {
        Self::start_in(TempDir::new().unwrap()).await
    }

    pub(super) async fn start_in(directory: TempDir) -> Self {
        let shutdown = CancellationToken::new();
        let (bound, address) = oneshot::channel();
        let options = options(directory.path());
        let served = tokio::spawn(run(options, shutdown.clone(), |addr| {
            bound.send(addr).unwrap();
        }));
        let addr = address.await.unwrap();
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self {
            addr,
            client,
            shutdown,
            served,
            directory,
        }
    }

    /// Stops it in order and gives the ledger's directory back.
    pub(super) async fn stop(self) -> TempDir {
        drop(self.client);
        self.shutdown.cancel();
        self.served.await.unwrap().unwrap();
        self.directory
    }

    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Reply {
        let (head, mut body) = self.client.request(request).await.unwrap().into_parts();
        let (mut frames, mut error) = (Vec::new(), None);
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => frames.extend(frame.into_data()),
                Err(broken) => {
                    error = Some(broken.to_string());
                    break;
                }
            }
        }
        Reply {
            status: head.status,
            headers: head.headers,
            frames,
            error,
        }
    }

    pub(super) async fn chat(&self, body: &Value) -> Reply {
        self.send(self.chat_request(body.to_string())).await
    }

    pub(super) fn chat_request(&self, body: String) -> Request<Full<Bytes>> {
        Request::post(format!("http://{}/v1/chat/completions", self.addr))
            .header("authorization", format!("Bearer {DEFAULT_KEY}"))
            .header("content-type", "application/json")
            .header("x-client-request-id", "att_1")
            .body(Full::from(body))
            .unwrap()
    }

    pub(super) async fn get(&self, path: &str) -> Reply {
        let uri = format!("http://{}{path}", self.addr);
        self.send(
            Request::builder()
                .method(Method::GET)
                .uri(uri)
                .body(Full::default())
                .unwrap(),
        )
        .await
    }

    pub(super) async fn rows(&self) -> Vec<Value> {
        let page = self.get("/_ledger").await.json();
        page["data"].as_array().unwrap().clone()
    }

    /// The newest row.
    pub(super) async fn last_row(&self) -> Value {
        self.rows().await.pop().unwrap()
    }

    /// Waits until the newest row is as wanted.
    pub(super) async fn wait_for_row(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let row = self.rows().await.pop().unwrap_or_default();
            if wanted(&row) {
                return row;
            }
            assert!(Instant::now() < deadline, "still {row}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Reply {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.frames.concat()).unwrap()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text()).unwrap_or_else(|_| panic!("{}", self.text()))
    }

    /// The stream's events; `[DONE]` is the string.
    pub(super) fn events(&self) -> Vec<Value> {
        let text = self.text().replace("\r\n", "\n");
        let events = text.split_terminator("\n\n").map(|event| {
            let data = event.strip_prefix("data: ").unwrap();
            serde_json::from_str(data).unwrap_or_else(|_| Value::from(data))
        });
        events.collect()
    }
}

pub(super) fn options(directory: &Path) -> DemoOptions {
    DemoOptions {
        addr: SocketAddr::from(([127, 0, 0, 1], 0)),
        data_dir: directory.to_owned(),
        key: DEFAULT_KEY.to_owned(),
    }
}

/// A call of `model` with a prompt of 5 tokens; `more` is added to it.
pub(super) fn call(model: &str, more: &Value) -> Value {
    let mut body =
        json!({"model": model, "messages": [{"role": "user", "content": "twenty bytes of text"}]});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}
