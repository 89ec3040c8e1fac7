//! The client against raw sockets that misbehave.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::*;

const LIMITS: UpstreamLimits = UpstreamLimits {
    connect: Duration::from_secs(5),
    idle: Duration::from_millis(200),
    answer_bytes: 1000,
};
const FIRST_BYTE: Duration = Duration::from_millis(300);

fn client(rule: AddressRule) -> UpstreamClient {
    UpstreamClient::new(LIMITS, rule, None, TaskTracker::new()).unwrap()
}

/// An upstream that takes one connection, reads a head, writes `answer`, and keeps the socket while `hold`.
async fn upstream(
    answer: &'static [u8],
    hold: bool,
) -> (http::Uri, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!(
        "http://{}/v1/chat/completions",
        listener.local_addr().unwrap()
    );
    let task = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let head = read_head(&mut socket).await;
        socket.write_all(answer).await.unwrap();
        if hold {
            let _ = tokio::io::copy(&mut socket, &mut tokio::io::sink()).await;
        }
        head
    });
    (target.parse().unwrap(), task)
}

async fn read_head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

fn post(target: http::Uri) -> Request<Full<Bytes>> {
    Request::post(target)
        .body(Full::new(Bytes::from_static(b"{}")))
        .unwrap()
}

async fn fetch(answer: &'static [u8], hold: bool) -> Result<(u16, Bytes), UpstreamFailure> {
    let client = client(AddressRule::PrivateToo);
    let (target, _task) = upstream(answer, hold).await;
    let response = client.send(post(target), FIRST_BYTE).await?;
    let status = response.status().as_u16();
    Ok((status, client.read_whole(response.into_body()).await?))
}

#[tokio::test]
async fn redirects_are_not_followed_and_no_compression_is_asked_for() {
    let client = client(AddressRule::PrivateToo);
    let answer =
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
    let (target, task) = upstream(answer, false).await;
    let response = client.send(post(target), FIRST_BYTE).await.unwrap();
    assert_eq!(response.status(), 302);
    let head = task.await.unwrap().to_ascii_lowercase();
    assert!(
        head.starts_with("post /v1/chat/completions http/1.1\r\n"),
        "{head}"
    );
    assert!(!head.contains("accept-encoding"), "{head}");
}

#[tokio::test]
async fn each_phase_has_its_deadline() {
    let failure = fetch(b"", true).await.unwrap_err();
    assert!(
        matches!(failure, UpstreamFailure::Timeout(FIRST_BYTE)),
        "{failure:?}"
    );
    assert_eq!(failure.code(), Code::UpstreamTimeout);
    let failure = fetch(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab", true)
        .await
        .unwrap_err();
    assert!(
        matches!(failure, UpstreamFailure::Timeout(idle) if idle == LIMITS.idle),
        "{failure:?}"
    );
}

#[tokio::test]
async fn a_broken_answer_is_told_apart_from_none() {
    for answer in [
        &b""[..],
        b"not http at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
    ] {
        let failure = fetch(answer, false).await.unwrap_err();
        assert_eq!(failure.code(), Code::UpstreamError, "{failure:?}");
    }
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let target: http::Uri = format!("http://{closed}/").parse().unwrap();
    let outcome = client(AddressRule::PrivateToo)
        .send(post(target), FIRST_BYTE)
        .await;
    assert_eq!(outcome.unwrap_err().code(), Code::UpstreamUnreachable);
}

#[tokio::test]
async fn a_private_address_is_refused_before_a_connection_is_made() {
    let (target, task) = upstream(b"", false).await;
    let outcome = client(AddressRule::PublicOnly)
        .send(post(target), FIRST_BYTE)
        .await;
    assert_eq!(outcome.unwrap_err().code(), Code::ProviderNotAllowed);
    assert!(!task.is_finished(), "nobody connected");
    task.abort();
}

#[tokio::test]
async fn an_answer_is_bounded() {
    let body = http_body_util::StreamBody::new(futures_util::stream::iter((0..11).map(|_| {
        Ok::<_, std::convert::Infallible>(http_body::Frame::data(Bytes::from(vec![0; 100])))
    })));
    let failure = read_whole(body, LIMITS).await.unwrap_err();
    assert!(matches!(failure, UpstreamFailure::TooLarge(1000)));
}

#[tokio::test]
async fn a_slow_but_steady_answer_is_no_failure() {
    use futures_util::StreamExt as _;
    let pieces = futures_util::stream::iter(0..6).then(|_| async {
        tokio::time::sleep(LIMITS.idle / 2).await;
        Ok::<_, std::convert::Infallible>(http_body::Frame::data(Bytes::from_static(b"x")))
    });
    let body = http_body_util::StreamBody::new(Box::pin(pieces));
    assert_eq!(read_whole(body, LIMITS).await.unwrap().len(), 6);
}
