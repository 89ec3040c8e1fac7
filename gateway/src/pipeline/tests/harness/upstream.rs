//! An upstream that does what the model's slug says.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;

use super::{Running, Shared};

pub(in crate::pipeline::tests) const COMPLETION: &str = r#"{ "id":"chatcmpl-1", "model":"demo-fast","choices":[{"index":0,"message":{"role":"assistant","content":"a a"},"finish_reason":"stop"}],
 "usage":{"prompt_tokens":5,"completion_tokens":20,"total_tokens":25} }"#;

const STREAM: &str = "data: {\"id\":\"c1\",\"model\":\"demo-stream\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" a\"}}]}\n\n\
data: {\"id\":\"c1\",\"model\":\"demo-stream\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
data: {\"id\":\"c1\",\"model\":\"demo-stream\",\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":20,\"total_tokens\":25}}\n\n\
data: [DONE]\n\n";

#[derive(Clone)]
pub(in crate::pipeline::tests) struct Seen {
    pub(in crate::pipeline::tests) headers: HeaderMap,
    pub(in crate::pipeline::tests) body: String,
}

pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    seen: Shared<Vec<Seen>>,
    running: Arc<AtomicUsize>,
}

impl Upstream {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Shared<Vec<Seen>> = Arc::new(Mutex::default());
        let running = Arc::new(AtomicUsize::new(0));
        let (log, count) = (Arc::clone(&seen), Arc::clone(&running));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (log, count) = (Arc::clone(&log), Arc::clone(&count));
                let service = service_fn(move |request| {
                    answer(request, Arc::clone(&log), Running::enter(&count))
                });
                let builder = hyper::server::conn::http1::Builder::new();
                tokio::spawn(builder.serve_connection(TokioIo::new(socket), service));
            }
        });
        Self {
            address,
            seen,
            running,
        }
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(super) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }
}

async fn answer(
    request: Request<Incoming>,
    log: Shared<Vec<Seen>>,
    running: Running,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let _running = running;
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    let slug = serde_json::from_str::<Value>(&body).unwrap()["model"]
        .as_str()
        .unwrap()
        .to_owned();
    log.lock().unwrap().push(Seen {
        headers: parts.headers,
        body,
    });
    let whole = |status: u16, kind: &str, body: String| {
        let response = Response::builder()
            .status(status)
            .header("content-type", kind);
        response
            .header("retry-after", "7")
            .body(Full::new(Bytes::from(body)))
            .unwrap()
    };
    let json = "application/json";
    Ok(match slug.strip_prefix("demo-").unwrap_or_default() {
        "stream" => whole(200, "text/event-stream", STREAM.to_owned()),
        "not-json" => whole(200, json, "<html>".to_owned()),
        "error-in-200" => whole(200, json, "{\"error\":{\"message\":\"no\"}}".to_owned()),
        "redirect" => whole(302, json, String::new()),
        "hang" => std::future::pending().await,
        other => match other
            .strip_prefix("error-")
            .and_then(|status| status.parse().ok())
        {
            Some(status) => whole(
                status,
                json,
                format!("{{\"error\":{{\"message\":\"as asked: {status}\"}}}}"),
            ),
            None => whole(200, json, COMPLETION.to_owned()),
        },
    })
}
