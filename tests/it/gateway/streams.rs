//! Streamed answers: usage asked for and hidden, failures after the first byte, clients that hang up.

use odock_tests::{
    Stack,
    client::say,
    tenant::{INPUT_NANOS, OUTPUT_NANOS, token_pricing},
};
use serde_json::json;

#[tokio::test]
async fn line_009_a_stream_ends_with_done_and_is_billed_exactly_with_the_usage_chunk_hidden()
-> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let stream = stack
        .gateway(0)?
        .stream(&key.secret, &say("demo-fast", "Hello, world"))
        .await?;
    assert_eq!(stream.status, 200);
    assert!(
        stream
            .header("content-type")
            .unwrap_or_default()
            .starts_with("text/event-stream")
    );
    assert_eq!(stream.header("x-odock-cost-nanos"), None);
    let usage_id = stream
        .header("x-odock-usage-id")
        .unwrap_or_default()
        .to_owned();
    let answer = stream.rest().await;
    assert!(answer.done && !answer.broken);
    assert_eq!((answer.text(), answer.tokens()), (" a".repeat(20), 20));
    // The client did not ask for usage: it sees no trace of it.
    assert!(!String::from_utf8_lossy(&answer.raw).contains("\"usage\":{"));

    let record = tenant.usage(&usage_id).await?;
    assert_eq!(
        (&record["stream"], &record["estimated"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(record["cost_nanos"], 3 * INPUT_NANOS + 20 * OUTPUT_NANOS);
    let row = stack
        .demo
        .row_of(record["attempts"][0]["id"].as_str().unwrap_or_default())
        .await?;
    assert!(row.usage_sent, "the gateway did not ask for usage");
    Ok(())
}

#[tokio::test]
async fn a_client_that_asks_for_usage_gets_its_chunk() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let mut body = say("demo-fast", "Hello, world");
    body["stream_options"] = json!({ "include_usage": true });
    let answer = stack
        .gateway(0)?
        .stream(&key.secret, &body)
        .await?
        .rest()
        .await;
    let usage = answer.usage().cloned().unwrap_or_default();
    assert_eq!(
        (&usage["prompt_tokens"], &usage["completion_tokens"]),
        (&json!(3), &json!(20))
    );
    assert!(answer.done);
    Ok(())
}

#[tokio::test]
async fn a_stream_that_the_upstream_cuts_ends_with_an_error_and_is_estimated() -> anyhow::Result<()>
{
    let stack = Stack::shared().await?;
    let mut tenant = stack.tenant().await?;
    tenant
        .add_model("cut", "demo-cut-stream", token_pricing())
        .await?;
    let key = tenant.key().await?;
    let stream = stack
        .gateway(0)?
        .stream(&key.secret, &say("cut", "Hello, world"))
        .await?;
    let usage_id = stream
        .header("x-odock-usage-id")
        .unwrap_or_default()
        .to_owned();
    let answer = stream.rest().await;
    assert_eq!(answer.error_code(), Some("upstream_error"));
    assert!(!answer.done);
    let record = tenant.usage(&usage_id).await?;
    assert_eq!(
        (&record["status"], &record["estimated"]),
        (&json!("upstream_error"), &json!(true))
    );
    assert_eq!(record["tokens"]["output"], 5, "{record}");
    Ok(())
}

#[tokio::test]
async fn an_upstream_that_tells_no_usage_is_estimated_and_flagged() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let mut tenant = stack.tenant().await?;
    tenant
        .add_model("quiet", "demo-no-usage", token_pricing())
        .await?;
    let key = tenant.key().await?;
    let answer = stack
        .gateway(0)?
        .chat(&key.secret, &say("quiet", "Hello, world"))
        .await?;
    answer.expect(200)?;
    let record = tenant
        .usage(answer.header("x-odock-usage-id").unwrap_or_default())
        .await?;
    assert_eq!(
        (&record["status"], &record["estimated"]),
        (&json!("completed"), &json!(true))
    );
    assert!(
        record["cost_nanos"].as_i64().is_some_and(|cost| cost > 0),
        "{record}"
    );
    Ok(())
}

#[tokio::test]
async fn line_023_a_client_that_hangs_up_stops_the_upstream_and_is_recorded() -> anyhow::Result<()>
{
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let mut stream = stack
        .gateway(0)?
        .stream(&key.secret, &say("demo-slow", "Hello, world"))
        .await?;
    let usage_id = stream
        .header("x-odock-usage-id")
        .unwrap_or_default()
        .to_owned();
    let mut received = Vec::new();
    while received
        .windows(4)
        .filter(|bytes| bytes == b"\" a\"")
        .count()
        < 3
    {
        received.extend(stream.read_at_least(1).await?);
    }
    drop(stream);
    let record = odock_tests::wait::wait_until(
        "its record",
        std::time::Duration::from_secs(3),
        async || {
            tenant
                .admin
                .read(&tenant.path(&format!("/usage/{usage_id}")))
                .await
        },
    )
    .await?;
    assert_eq!(record["status"], "client_closed", "{record}");
    let row = stack
        .demo
        .row_of(record["attempts"][0]["id"].as_str().unwrap_or_default())
        .await?;
    assert_eq!(row.outcome, "client_closed");
    assert!(row.completion_tokens < 100, "the upstream went on: {row:?}");
    let output = record["tokens"]["output"].as_u64().unwrap_or_default();
    assert!(
        (3..=row.completion_tokens).contains(&output),
        "{output}, {row:?}"
    );
    Ok(())
}

#[tokio::test]
async fn line_055_an_answer_does_not_wait_for_its_usage_to_be_recorded() -> anyhow::Result<()> {
    use odock_tests::stack::Service;
    let mut stack = Stack::builder().start().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    stack.kill(Service::Projector(0)).await?;
    let began = std::time::Instant::now();
    let answer = stack
        .gateway(0)?
        .chat(&key.secret, &say("demo-fast", "hi"))
        .await?;
    answer.expect(200)?;
    assert!(began.elapsed() < std::time::Duration::from_secs(1));
    let path = tenant.path(&format!(
        "/usage/{}",
        answer.header("x-odock-usage-id").unwrap_or_default()
    ));
    tenant.admin.get(&path).await?.refused(404, "not_found")?;
    stack.restart(Service::Projector(0)).await?;
    odock_tests::wait::wait_until(
        "its record",
        std::time::Duration::from_secs(10),
        async || tenant.admin.read(&path).await,
    )
    .await?;
    Ok(())
}
