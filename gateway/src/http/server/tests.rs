//! The accept loop over real sockets, spoken to in raw bytes.

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::http::inbound::{BodyLimits, read_body};

const PATIENCE: Duration = Duration::from_secs(10);

fn settings() -> TransportSettings {
    let ms = Duration::from_millis;
    TransportSettings {
        timeouts: ClientTimeouts {
            head: ms(300),
            idle: ms(600),
            write: ms(400),
        },
        head: HeadLimits {
            bytes: 16 * 1024,
            fields: 100,
        },
        caps: ConnectionCaps {
            total: 4,
            per_address: 3,
        },
    }
}

/// Echoes the length of the body; `/slow` waits, `/panic` panics, `/large` answers more than a socket holds.
async fn handler(request: Request<Incoming>, _: Arc<Connection>) -> Response<AnswerBody> {
    let path = request.uri().path().to_owned();
    let limits = BodyLimits {
        bytes: 1000,
        idle: Duration::from_millis(200),
        least_rate: 1,
    };
    let mut response = match (path.as_str(), read_body(request.into_body(), limits).await) {
        (_, Err(error)) => error.to_response(Dialect::OpenAi),
        ("/panic", _) => panic!("as asked"),
        ("/large", _) => Response::new(AnswerBody::whole(Bytes::from(vec![b'x'; 64 << 20]))),
        ("/slow", _) => {
            tokio::time::sleep(Duration::from_millis(900)).await;
            Response::new(AnswerBody::whole(Bytes::from_static(b"late")))
        }
        (_, Ok(body)) => Response::new(AnswerBody::whole(Bytes::from(body.len().to_string()))),
    };
    response
        .headers_mut()
        .insert("x-request-id", HeaderValue::from_static("t"));
    response
}

struct Running {
    address: SocketAddr,
    shutdown: Shutdown,
}

async fn start() -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = Shutdown::new(CancellationToken::new());
    tokio::spawn(serve(listener, settings(), None, handler, shutdown.clone()));
    Running { address, shutdown }
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends these bytes and reads until the server closes.
    async fn exchange(&self, bytes: &[u8]) -> String {
        let mut socket = self.connect().await;
        socket.write_all(bytes).await.unwrap();
        read_to_close(&mut socket).await
    }
}

async fn read_to_close(socket: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset after the answer is a close, too.
    let _ = timeout(PATIENCE, socket.read_to_end(&mut answer))
        .await
        .unwrap();
    String::from_utf8(answer).unwrap()
}

async fn read_until(socket: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let byte = timeout(PATIENCE, socket.read_u8()).await.unwrap().unwrap();
        text.push(char::from(byte));
    }
    text
}

#[tokio::test]
async fn a_connection_serves_one_call_after_another() {
    let server = start().await;
    let mut socket = server.connect().await;
    for _ in 0..3 {
        socket
            .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
            .await
            .unwrap();
        let answer = read_until(&mut socket, "\r\n\r\n3").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
    socket
        .write_all(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        )
        .await
        .unwrap();
    read_until(&mut socket, "\r\n\r\n2").await;
}

#[tokio::test]
async fn ambiguous_and_malformed_requests_are_refused_and_the_connection_closed() {
    let server = start().await;
    for request in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1x\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nab\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nA: b\0c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nA: b\rc\r\n\r\n",
        "GET / HTTP/1.1\nA: b\n\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        let answer = server.exchange(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{request:?}: {answer}");
        assert!(
            answer.contains("\"code\":\"invalid_request\""),
            "{request:?}: {answer}"
        );
        assert!(answer.contains("x-request-id: "), "{request:?}: {answer}");
    }
}

#[tokio::test]
async fn a_header_section_too_large_is_431() {
    let server = start().await;
    let fields = "A: b\r\n".repeat(101);
    let long = "x".repeat(17_000);
    let huge = "x".repeat(200_000);
    for head in [fields, format!("A: {long}\r\n"), format!("A: {huge}\r\n")] {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{head}\r\n");
        let answer = server.exchange(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        assert!(answer.contains("headers_too_large"), "{answer}");
    }
    let fits = format!(
        "GET / HTTP/1.1\r\nHost: a\r\n{}Connection: close\r\n\r\n",
        "A: b\r\n".repeat(98)
    );
    assert!(
        server
            .exchange(fits.as_bytes())
            .await
            .starts_with("HTTP/1.1 200 ")
    );
}

#[tokio::test]
async fn slow_headers_slow_bodies_and_idle_connections_end() {
    let server = start().await;
    let answer = server.exchange(b"GET / HTTP/1.1\r\nHost").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    let answer = server
        .exchange(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
        .await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("request_timeout"), "{answer}");
    assert_eq!(
        server.exchange(b"").await,
        "",
        "an idle connection is closed without a word"
    );
}

#[tokio::test]
async fn a_body_that_is_refused_half_way_still_gets_its_answer() {
    let server = start().await;
    let mut socket = server.connect().await;
    socket
        .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n")
        .await
        .unwrap();
    let _ = socket.write_all(&vec![b'x'; 4_000_000]).await;
    let answer = read_to_close(&mut socket).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn a_call_in_progress_is_not_idle() {
    let server = start().await;
    let answer = server
        .exchange(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    assert!(answer.ends_with("late"), "{answer}");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_dropped() {
    let server = start().await;
    let mut socket = server.connect().await;
    socket
        .write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let ended = timeout(PATIENCE, async {
        while !server.shutdown.tracker.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    // The connection task has begun once its first bytes are here.
    socket.readable().await.unwrap();
    ended.await.unwrap();
}

#[tokio::test]
async fn a_panic_is_500_and_kills_nothing_else() {
    let server = start().await;
    let answer = server
        .exchange(b"GET /panic HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    assert!(answer.contains("internal_error"), "{answer}");
    let answer = server
        .exchange(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn connections_above_the_cap_are_told_so() {
    let server = start().await;
    let mut kept = Vec::new();
    for _ in 0..3 {
        let mut socket = server.connect().await;
        socket
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        read_until(&mut socket, "\r\n\r\n0").await;
        kept.push(socket);
    }
    let answer = read_to_close(&mut server.connect().await).await;
    assert!(answer.contains("\"overloaded\""), "{answer}");
}

#[tokio::test]
async fn a_drain_lets_running_calls_finish_and_takes_no_new_ones() {
    let server = start().await;
    let mut socket = server.connect().await;
    socket
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    read_until(&mut socket, "\r\n\r\n0").await;
    server.shutdown.drain(Duration::from_secs(10)).await;
    let answer = read_to_close(&mut socket).await;
    assert!(answer.ends_with("late"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn http_2_without_tls_is_understood() {
    let server = start().await;
    let socket = server.connect().await;
    let (mut sender, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        TokioIo::new(socket),
    )
    .await
    .unwrap();
    tokio::spawn(connection);
    let body = http_body_util::Full::new(Bytes::from_static(b"abcd"));
    let request = Request::post("http://x/").body(body).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let body = http_body_util::BodyExt::collect(response.into_body())
        .await
        .unwrap()
        .to_bytes();
    assert_eq!(body, "4");
}
