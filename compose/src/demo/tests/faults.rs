//! The settings that make an upstream misbehave.

use serde_json::json;

use super::client::{Upstream, call};

#[tokio::test]
async fn any_status_can_be_asked_for() {
    let upstream = Upstream::start().await;
    let reply = upstream
        .chat(&call("demo-fast@status=429,retry_after=2", &json!({})))
        .await;
    assert_eq!(
        (reply.status.as_u16(), &reply.headers["retry-after"]),
        (429, &"2".parse().unwrap())
    );
    assert_eq!(reply.json()["error"]["code"], "rate_limit_exceeded");
    let reply = upstream
        .chat(&call("demo-fast@status=503", &json!({"stream": true})))
        .await;
    assert_eq!(
        (reply.status.as_u16(), &reply.json()["error"]["type"]),
        (503, &json!("server_error"))
    );
    let reply = upstream
        .chat(&call("demo-fast@status=302", &json!({})))
        .await;
    assert_eq!(
        (reply.status.as_u16(), &reply.headers["location"]),
        (302, &"/v1/models".parse().unwrap())
    );
    for row in upstream.rows().await {
        assert_eq!(
            (&row["outcome"], &row["prompt_tokens"]),
            (&json!("error"), &json!(0))
        );
    }
}

#[tokio::test]
async fn streams_can_lack_done_and_use_other_line_ends() {
    let upstream = Upstream::start().await;
    let events = upstream
        .chat(&call("demo-fast@omit_done=1", &json!({"stream": true})))
        .await
        .events();
    assert_eq!(
        (events.len(), &events[19]["choices"][0]["finish_reason"]),
        (20, &json!("stop"))
    );
    assert_eq!(upstream.last_row().await["outcome"], "completed");

    let usage = json!({"stream": true, "stream_options": {"include_usage": true}});
    let reply = upstream.chat(&call("demo-fast@crlf=1", &usage)).await;
    assert_eq!(
        (
            reply.text().matches("\r\n\r\n").count(),
            reply.text().matches("\n\n").count()
        ),
        (22, 0)
    );
    assert_eq!(reply.events().len(), 22);

    let events = upstream
        .chat(&call("demo-fast@usage_null=1", &usage))
        .await
        .events();
    assert!(
        events[..20]
            .iter()
            .all(|event| event.get("usage") == Some(&json!(null)))
    );
    assert!(events[20]["usage"].is_object());
}

#[tokio::test]
async fn bytes_can_come_in_odd_pieces() {
    let upstream = Upstream::start().await;
    for model in [
        "demo-fast@chunk_bytes=7",
        "demo-fast@chunk_bytes=7,gap_ms=1",
    ] {
        let reply = upstream.chat(&call(model, &json!({"stream": true}))).await;
        assert!(reply.frames.iter().all(|frame| frame.len() <= 7));
        assert_eq!(reply.events().len(), 21);
        assert_eq!(upstream.last_row().await["completion_tokens"], 20);
    }
    let reply = upstream
        .chat(&call("demo-fast@chunk_bytes=7", &json!({})))
        .await;
    assert_eq!(reply.json()["usage"]["completion_tokens"], 20);
    let row = upstream.last_row().await;
    assert_eq!(
        (
            &row["outcome"],
            &row["completion_tokens"],
            &row["usage_sent"]
        ),
        (&json!("completed"), &json!(20), &json!(true))
    );
    let reply = upstream
        .chat(&call(
            "demo-cut-stream@chunk_bytes=7",
            &json!({"stream": true}),
        ))
        .await;
    assert_eq!((reply.events().len(), reply.error.is_some()), (5, true));
    assert_eq!(upstream.last_row().await["outcome"], "cut");
}
