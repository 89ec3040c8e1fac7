//! A collector of spans: takes OTLP over HTTP as a real one does, and keeps what it was sent.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, common::v1::any_value::Value, trace::v1::Span,
};
use prost::Message as _;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// A running collector; dropped, it ends.
#[derive(Debug)]
pub struct Collector {
    pub address: SocketAddr,
    received: Arc<Mutex<Received>>,
    stop: CancellationToken,
    _tasks: TaskTracker,
}

#[derive(Debug, Default)]
struct Received {
    spans: Vec<Span>,
    bytes: Vec<u8>,
    /// What was none of an exporter's requests.
    strange: Vec<String>,
}

impl Collector {
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let received: Arc<Mutex<Received>> = Arc::default();
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (into, token, tracker) = (Arc::clone(&received), stop.clone(), tasks.clone());
        tasks.spawn(stop.clone().run_until_cancelled_owned(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let into = Arc::clone(&into);
                let service = service_fn(move |request| take(Arc::clone(&into), request));
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(socket), service);
                let served = async move { drop(connection.await) };
                tracker.spawn(token.clone().run_until_cancelled_owned(served));
            }
        }));
        Ok(Self {
            address,
            received,
            stop,
            _tasks: tasks,
        })
    }

    /// The spans of one trace, in the order in which they began.
    pub fn trace(&self, trace_id: &str) -> Vec<Span> {
        let received = self.lock();
        let spans = received.spans.iter();
        let mut own: Vec<Span> = spans
            .filter(|span| hex(&span.trace_id) == trace_id)
            .cloned()
            .collect();
        own.sort_by_key(|span| span.start_time_unix_nano);
        own
    }

    /// All that came, as it came.
    pub fn bytes(&self) -> Vec<u8> {
        self.lock().bytes.clone()
    }

    /// Requests that were not as the protocol has them.
    pub fn strange(&self) -> Vec<String> {
        self.lock().strange.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A text attribute.
pub fn attribute<'span>(span: &'span Span, name: &str) -> Option<&'span str> {
    let attribute = span.attributes.iter().find(|one| one.key == name)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

/// An id as it is written.
pub fn hex(id: &[u8]) -> String {
    let mut text = String::with_capacity(id.len() * 2);
    for byte in id {
        text.extend(
            [byte >> 4, byte & 15]
                .map(|half| char::from_digit(half.into(), 16))
                .iter()
                .flatten(),
        );
    }
    text
}

async fn take(
    received: Arc<Mutex<Received>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes);
    let content_type = head.headers.get(http::header::CONTENT_TYPE);
    let right = head.uri.path() == "/v1/traces"
        && content_type.is_some_and(|kind| kind == "application/x-protobuf");
    let decoded = body
        .ok()
        .filter(|_| right)
        .and_then(|body| Some((ExportTraceServiceRequest::decode(body.clone()).ok()?, body)));
    let mut received = received.lock().unwrap_or_else(PoisonError::into_inner);
    let mut response = Response::new(Full::default());
    if let Some((exported, body)) = decoded {
        received.bytes.extend_from_slice(&body);
        let scopes = exported.resource_spans.into_iter();
        let scopes = scopes.flat_map(|resource| resource.scope_spans);
        received.spans.extend(scopes.flat_map(|scope| scope.spans));
    } else {
        *response.status_mut() = StatusCode::BAD_REQUEST;
        received.strange.push(format!("{head:?}"));
    }
    Ok(response)
}
