//! Callers that hang up, upstreams that cut or stop: what the ledger says then.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::client::{Upstream, call};

#[tokio::test]
async fn a_hanging_call_runs_until_its_caller_closes() {
    let upstream = Upstream::start().await;
    for more in [json!({}), json!({"stream": true})] {
        let socket = send_raw(&upstream, &call("demo-hang", &more)).await;
        let row = upstream
            .wait_for_row(|row| row["outcome"] == "running")
            .await;
        assert_eq!(
            (&row["status"], &row["finished_at"]),
            (&json!(null), &json!(null))
        );
        drop(socket);
        let row = upstream.wait_for_row(|row| row["outcome"] == "hung").await;
        assert_eq!(
            (&row["prompt_tokens"], &row["completion_tokens"]),
            (&json!(5), &json!(0))
        );
        assert!(row["finished_at"].is_string() && row["status"].is_null());
    }
}

#[tokio::test]
async fn a_caller_that_leaves_before_the_first_byte_is_seen() {
    let upstream = Upstream::start().await;
    let socket = send_raw(&upstream, &call("demo-fast@first_ms=60000", &json!({}))).await;
    upstream
        .wait_for_row(|row| row["outcome"] == "running")
        .await;
    drop(socket);
    let row = upstream
        .wait_for_row(|row| row["outcome"] == "client_closed")
        .await;
    assert_eq!(
        (
            &row["status"],
            &row["completion_tokens"],
            &row["usage_sent"]
        ),
        (&json!(null), &json!(0), &json!(false))
    );
}

#[tokio::test]
async fn an_http2_caller_that_gives_up_one_call_is_seen() {
    let mut upstream = Upstream::start().await;
    upstream.client = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http();
    let body = call("demo-fast@tokens=100000,gap_ms=5", &json!({"stream": true}));
    for (body, outcome) in [
        (call("demo-hang", &json!({})), "hung"),
        (body, "client_closed"),
    ] {
        let request = upstream
            .client
            .request(upstream.chat_request(body.to_string()));
        let given_up = tokio::spawn(async move {
            let answer = request.await.unwrap();
            answer.into_body().collect().await.unwrap();
        });
        upstream
            .wait_for_row(|row| row["outcome"] == "running")
            .await;
        given_up.abort();
        upstream.wait_for_row(|row| row["outcome"] == outcome).await;
    }
}

#[tokio::test]
async fn a_caller_that_leaves_a_stream_got_no_more_than_the_ledger_says() {
    let upstream = Upstream::start().await;
    let body = call("demo-fast@tokens=100000,gap_ms=5", &json!({"stream": true}));
    let mut socket = send_raw(&upstream, &body).await;
    let mut received = Vec::new();
    while count_tokens(&received) < 4 {
        assert_ne!(socket.read_buf(&mut received).await.unwrap(), 0);
    }
    let row = upstream
        .wait_for_row(|row| row["outcome"] == "running")
        .await;
    assert!(row["completion_tokens"].as_u64().unwrap() >= 4, "{row}");
    socket.shutdown().await.unwrap();
    // All that was written to the socket can still be read.
    socket.read_to_end(&mut received).await.unwrap();
    let row = upstream
        .wait_for_row(|row| row["outcome"] == "client_closed")
        .await;
    assert_eq!(
        (&row["completion_tokens"], &row["status"]),
        (&json!(count_tokens(&received)), &json!(200))
    );
}

#[tokio::test]
async fn a_caller_that_does_not_read_is_not_counted_far_ahead() {
    let upstream = Upstream::start().await;
    let socket = send_raw(
        &upstream,
        &call("demo-fast@tokens=10000000", &json!({"stream": true})),
    )
    .await;
    let row = upstream
        .wait_for_row(|row| row["completion_tokens"].as_u64() > Some(0))
        .await;
    assert_eq!(row["outcome"], "running");
    drop(socket);
    let row = upstream
        .wait_for_row(|row| row["outcome"] == "client_closed")
        .await;
    // 200 bytes a token, and no kernel holds a gigabyte for a socket.
    assert!(row["completion_tokens"].as_u64() < Some(5_000_000), "{row}");
}

#[tokio::test]
async fn a_call_that_did_not_come_whole_has_no_row() {
    let upstream = Upstream::start().await;
    let mut socket = TcpStream::connect(upstream.addr).await.unwrap();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: demo\r\nauthorization: Bearer demo-upstream-key\r\n";
    let body = call("demo-fast", &json!({})).to_string();
    let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len() + 1);
    socket.write_all(request.as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
    let mut answer = Vec::new();
    // The end of this connection is the proof that the call was given up.
    let _ = socket.read_to_end(&mut answer).await;
    assert_eq!(upstream.rows().await.len(), 0);
}

#[tokio::test]
async fn a_cut_stream_delivers_five_tokens_and_closes() {
    let upstream = Upstream::start().await;
    let body = call(
        "demo-cut-stream",
        &json!({"stream": true, "stream_options": {"include_usage": true}}),
    );
    let reply = upstream.chat(&body).await;
    assert!(reply.error.is_some());
    let events = reply.events();
    assert_eq!(events.len(), 5);
    assert!(
        events
            .iter()
            .all(|event| event["choices"][0]["delta"]["content"] == " a")
    );
    let row = upstream.last_row().await;
    assert_eq!(
        (&row["outcome"], &row["status"]),
        (&json!("cut"), &json!(200))
    );
    assert_eq!(
        (&row["completion_tokens"], &row["usage_sent"]),
        (&json!(5), &json!(false))
    );
}

#[tokio::test]
async fn a_cut_unary_answer_is_half_its_body() {
    let upstream = Upstream::start().await;
    let reply = upstream.chat(&call("demo-cut-stream", &json!({}))).await;
    assert!(reply.error.is_some());
    let announced: usize = reply.headers["content-length"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let text = reply.text();
    assert_eq!(text.len(), announced / 2);
    let row = upstream.last_row().await;
    assert_eq!(
        (&row["outcome"], &row["usage_sent"]),
        (&json!("cut"), &json!(false))
    );
    assert_eq!(row["completion_tokens"], text.matches(" a").count() as u64);
}

#[tokio::test]
async fn a_stop_lets_short_calls_end_and_cuts_the_others() {
    let upstream = Upstream::start().await;
    let _hanging = send_raw(&upstream, &call("demo-hang", &json!({}))).await;
    upstream.wait_for_row(|row| row["seq"] == 1).await;
    let mut short = send_raw(
        &upstream,
        &call("demo-fast@tokens=10,gap_ms=10", &json!({"stream": true})),
    )
    .await;
    upstream.wait_for_row(|row| row["seq"] == 2).await;
    let stopping = tokio::spawn(upstream.stop());
    let mut answer = Vec::new();
    short.read_to_end(&mut answer).await.unwrap();
    assert_eq!(count_tokens(&answer), 10);
    let upstream = Upstream::start_in(stopping.await.unwrap()).await;
    let rows = upstream.rows().await;
    assert_eq!(
        (&rows[0]["outcome"], &rows[1]["outcome"]),
        (&json!("cut"), &json!("completed"))
    );
    assert!(rows[0]["finished_at"].is_string());
}

/// A call on a socket of its own, so that dropping it closes the connection.
async fn send_raw(upstream: &Upstream, body: &serde_json::Value) -> TcpStream {
    let body = body.to_string();
    let mut socket = TcpStream::connect(upstream.addr).await.unwrap();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: demo\r\nauthorization: Bearer demo-upstream-key\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let written =
        tokio::time::timeout(Duration::from_secs(5), socket.write_all(request.as_bytes()));
    written.await.unwrap().unwrap();
    socket
}

fn count_tokens(bytes: &[u8]) -> usize {
    String::from_utf8_lossy(bytes)
        .matches(r#""content":" a""#)
        .count()
}
