//! A gateway and its upstream in one process: tenant configuration in memory, a journal in a directory of its own, real
//! sockets on any free port.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use odock_events::{
    clock::{Clock as _, SystemClock},
    envelope::Meta,
    ids::GatewayId,
    payload::usage::UsageFinished,
    secret_key::SecretKey,
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

mod tenant;
mod upstream;

pub(super) use self::upstream::COMPLETION;
use self::{
    tenant::TenantRows,
    upstream::{Seen, Upstream},
};
use crate::{
    config::{Config, SETTINGS},
    error::{Dialect, GatewayError},
    http::{body::AnswerBody, connection::Connection, health::Dependencies, router, server},
    pipeline::{
        Inbound, accounts::Accounts, closer, live::LiveCalls, open_call::Books, testing::TestBooks,
    },
    provider::{client::UpstreamClient, targets::Targets},
    shutdown::Shutdown,
    snapshot::{Snapshot, SnapshotCell, misses::Misses},
    state::{Gateway, RequestSettings},
};

const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Harness {
    pub(super) key: String,
    pub(super) unknown_key: String,
    pub(super) revoked_key: String,
    pub(super) expired_key: String,
    gateway: Arc<Gateway>,
    books: TestBooks,
    address: SocketAddr,
    upstream: Upstream,
    rows: TenantRows,
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    headers: HeaderMap,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// The path of chat completions; the model is named for the reader of the test.
pub(super) fn chat(_model: &str) -> String {
    "/v1/chat/completions".to_owned()
}

pub(super) fn request(model: &str) -> String {
    serde_json::json!({"model": model, "messages": [{"role": "user", "content": "hi"}]}).to_string()
}

impl Harness {
    pub(super) async fn start() -> Self {
        let upstream = Upstream::start().await;
        let keys: [SecretKey; 4] = std::array::from_fn(|_| SecretKey::generate());
        let [key, unknown, revoked, expired] = keys;
        let rows = TenantRows::new(upstream.address, &key, &revoked, &expired);
        let mut books = TestBooks::new();
        let gateway = Arc::new(gateway(&rows, &books));
        let queue = std::mem::replace(&mut books.queue, tokio::sync::mpsc::channel(1).1);
        tokio::spawn(closer::run(
            queue,
            Arc::clone(&books.books),
            CancellationToken::new(),
        ));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::clone(&gateway);
        let handler =
            move |request, connection| router::answer(Arc::clone(&shared), request, connection);
        let transport = config().transport;
        tokio::spawn(server::serve(
            listener,
            transport,
            None,
            handler,
            gateway.shutdown.clone(),
        ));
        let text = |key: &SecretKey| key.expose().to_owned();
        Self {
            key: text(&key),
            unknown_key: text(&unknown),
            revoked_key: text(&revoked),
            expired_key: text(&expired),
            gateway,
            books,
            address,
            upstream,
            rows,
        }
    }

    pub(super) async fn post(&self, path: &str, body: &str, headers: &[(&str, &str)]) -> Answer {
        self.post_as(&format!("Bearer {}", self.key), path, body, headers)
            .await
    }

    pub(super) async fn post_as(
        &self,
        authorization: &str,
        path: &str,
        body: &str,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = Request::post(path).header("authorization", authorization);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = Full::new(Bytes::from(body.to_owned()));
        exchange(self.address, request.body(body).unwrap()).await
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        let request = Request::get(path).header("authorization", format!("Bearer {}", self.key));
        exchange(self.address, request.body(Full::default()).unwrap()).await
    }

    pub(super) fn post_in_background(&self, body: &str) -> JoinHandle<Answer> {
        let request = Request::post("/v1/chat/completions")
            .header("authorization", format!("Bearer {}", self.key))
            .body(Full::new(Bytes::from(body.to_owned())));
        tokio::spawn(exchange(self.address, request.unwrap()))
    }

    /// A call whose head and half of whose body has arrived; the other half comes with it.
    pub(super) async fn open_upload(&self) -> (TcpStream, String) {
        let body = request("fast");
        let (first, rest) = body.split_at(body.len() / 2);
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{first}",
            self.key,
            body.len()
        );
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.write_all(head.as_bytes()).await.unwrap();
        self.wait_until(|harness| {
            let text = String::from_utf8(harness.books().metrics.render()).unwrap();
            text.contains("gateway_requests_in_flight 1")
        })
        .await;
        (socket, rest.to_owned())
    }

    /// The next configuration, in which the key is revoked, and what follows from it, as `startup` does it.
    pub(super) fn revoke(&self) {
        let snapshot = Snapshot::of_rows(2, self.rows.with_revoked_key());
        self.gateway.snapshot.store(Arc::new(snapshot));
        self.gateway.live.cut(&[self.rows.key]);
    }

    /// Chat calls at another address go through these steps instead.
    pub(super) async fn serve<S, F>(&self, steps: S) -> SocketAddr
    where
        S: Fn(Arc<Gateway>, Inbound) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<Response<AnswerBody>, GatewayError>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::clone(&self.gateway);
        let handler = move |request: Request<Incoming>, connection: Arc<Connection>| {
            let (head, body) = request.into_parts();
            let inbound = Inbound {
                head: Box::new(head),
                body,
                request_id: HeaderValue::from_static("request"),
                id: uuid::Uuid::now_v7(),
                received_at: SystemClock.now(),
                peer: connection.peer.ip(),
            };
            let answer = steps(Arc::clone(&shared), inbound);
            async move {
                let answer = answer.await;
                answer.unwrap_or_else(|error| error.to_response(Dialect::OpenAi))
            }
        };
        tokio::spawn(server::serve(
            listener,
            config().transport,
            None,
            handler,
            self.gateway.shutdown.clone(),
        ));
        address
    }

    /// A chat call at an address of `serve`.
    pub(super) async fn post_to(&self, address: SocketAddr, body: &str) -> Answer {
        let request = Request::post("/v1/chat/completions")
            .header("authorization", format!("Bearer {}", self.key))
            .body(Full::new(Bytes::from(body.to_owned())));
        exchange(address, request.unwrap()).await
    }

    pub(super) fn books(&self) -> &Books {
        &self.books.books
    }

    pub(super) fn seen(&self) -> Seen {
        self.upstream.seen().pop().unwrap()
    }

    /// How many calls reached the upstream.
    pub(super) fn calls(&self) -> usize {
        self.upstream.seen().len()
    }

    pub(super) fn running_upstream_calls(&self) -> usize {
        self.upstream.running()
    }

    pub(super) async fn records(&self) -> Vec<(Meta, UsageFinished)> {
        self.books.finished().await
    }

    /// The one record, once it is there.
    pub(super) async fn only_record(&self) -> (Meta, UsageFinished) {
        self.wait_until(|harness| harness.books().journal.next_seq() > 1)
            .await;
        let mut records = self.records().await;
        assert_eq!(records.len(), 1);
        assert_eq!(self.books().journal.open_calls(), 0);
        records.pop().unwrap()
    }

    pub(super) async fn wait_until(&self, holds: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting)
            .await
            .expect("it comes true in time");
    }

    pub(super) fn stop(&self) {
        self.gateway.shutdown.stop.cancel();
    }

    /// Asks the gateway over a connection that was open before.
    pub(super) fn ready_code(&self) -> Option<crate::error::Code> {
        crate::http::health::ready(&self.gateway)
            .err()
            .map(|error| error.code())
    }
}

pub(super) async fn finish_upload(socket: &mut TcpStream, rest: String) -> Answer {
    socket.write_all(rest.as_bytes()).await.unwrap();
    let mut text = String::new();
    tokio::time::timeout(PATIENCE, socket.read_to_string(&mut text))
        .await
        .unwrap()
        .unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer {
        status,
        headers: HeaderMap::new(),
        body: body.to_owned(),
    }
}

async fn exchange(address: SocketAddr, mut request: Request<Full<Bytes>>) -> Answer {
    let socket = TcpStream::connect(address).await.unwrap();
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await;
    let (mut sender, connection) = handshake.unwrap();
    request
        .headers_mut()
        .insert("host", HeaderValue::from_static("gateway"));
    // The connection ends with the request, so that an aborted call is a hang-up.
    let answer = async move {
        let response = sender.send_request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    };
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        _ = &mut connection => answer.await,
    }
}

fn config() -> Config {
    let pairs = [
        ("POSTGRES_DSN", "postgres://nobody@127.0.0.1:1/none"),
        ("REDIS_URL", "redis://127.0.0.1:1"),
        ("UPSTREAM_ALLOW_PRIVATE_ADDRESSES", "true"),
    ];
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let settings = odock_events::settings::Settings::from_pairs(pairs, SETTINGS).unwrap();
    Config::from_settings(&settings).unwrap()
}

fn gateway(rows: &TenantRows, books: &TestBooks) -> Gateway {
    let config = config();
    let snapshot = SnapshotCell::new(config.snapshot.stale_policy, config.snapshot.max_stale);
    snapshot.store(Arc::new(Snapshot::of_rows(1, rows.all())));
    snapshot.heard(SystemClock.now());
    let shutdown = Shutdown::new(CancellationToken::new());
    let upstream = &config.upstream;
    let client = UpstreamClient::new(
        upstream.limits,
        upstream.address_rule,
        None,
        shutdown.tracker.clone(),
    );
    let dsn = "postgres://nobody@127.0.0.1:1/none";
    let snapshot = Arc::new(snapshot);
    let pool = sqlx::PgPool::connect_lazy(dsn).unwrap();
    let misses = Misses::new(pool, Arc::clone(&snapshot), shutdown.tracker.clone());
    Gateway {
        id: GatewayId::generate(),
        settings: RequestSettings {
            body: config.body,
            journal_strict: true,
            prometheus: true,
        },
        snapshot,
        misses: Arc::new(misses),
        vault: Arc::new(tenant::vault(rows)),
        books: Arc::clone(&books.books),
        accounts: Accounts::default(),
        client: client.unwrap(),
        targets: Targets::default(),
        live: Arc::new(LiveCalls::default()),
        closer: books.closer.clone(),
        dependencies: Dependencies {
            postgres: sqlx::PgPool::connect_lazy(dsn).unwrap(),
            redis: redis::Client::open("redis://127.0.0.1:1").unwrap(),
        },
        shutdown,
    }
}

/// Shared by the harness and the upstream's connections.
type Shared<T> = Arc<Mutex<T>>;

struct Running(Arc<AtomicUsize>);

impl Running {
    fn enter(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
