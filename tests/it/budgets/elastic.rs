//! Elastic budgets: streams pay chunk by chunk and are cut with a clear last event when there is no more.

use std::time::Duration;

use odock_tests::{
    Stack,
    accounting::assert_accounted,
    client::say,
    invariants::assert_invariants,
    stack::Service,
    tenant::{INPUT_NANOS, Key, OUTPUT_NANOS, Tenant, id, token_pricing},
    wait::wait_until,
};
use serde_json::json;

/// Output tokens of a chunk, and of the whole answer that the model gives.
const CHUNK: u64 = 512;
const WHOLE: u64 = 1_500;

#[tokio::test]
async fn line_170_a_stream_is_cut_with_a_clear_last_event_when_its_next_chunk_is_refused()
-> anyhow::Result<()> {
    let stack = Stack::builder().start().await?;
    let tenant = stack.tenant().await?;
    // The fifth of a chunk that is left when more is asked for lasts longer than the wait for an answer.
    let key = long_key(&tenant, "long", "demo-fast@tokens=1500,gap_ms=3").await?;
    // A chunk and its input, and not another chunk.
    let limit = 2_000_000;
    let budget = elastic(&tenant, &key, limit).await?;
    let stream = stack
        .gateway(0)?
        .stream(&key.secret, &say("long", "hi"))
        .await?;
    assert_eq!(stream.status, 200);
    let answer = stream.rest().await;
    assert_eq!(answer.error_code(), Some("budget_exceeded"));
    assert!(!answer.done && !answer.broken);
    let last = answer.frames.last().cloned().unwrap_or_default();
    assert_eq!(last["error"]["budget_id"], budget, "{last}");
    assert_eq!(last["error"]["limit_nanos"], limit, "{last}");
    assert!(
        (CHUNK * 4 / 5..=CHUNK).contains(&answer.tokens()),
        "cut after {} tokens",
        answer.tokens()
    );

    let accounted = assert_accounted(&stack).await?;
    let (row, record) = (&accounted.rows[0], &accounted.records[0]);
    assert!(
        row.outcome != "completed" && row.completion_tokens < WHOLE,
        "the upstream went on: {row:?}"
    );
    assert!(
        record.estimated && record.status == "client_closed",
        "{record:?}"
    );
    assert_eq!(record.output_tokens, answer.tokens());
    let window = tenant.reclaimed(&budget).await?;
    assert_eq!(window.held, 0, "{window:?}");
    assert_eq!(window.settled, record.cost_nanos);
    let made = row.completion_tokens.cast_signed() * OUTPUT_NANOS
        + row.prompt_tokens.cast_signed() * INPUT_NANOS;
    assert!(made <= limit, "the upstream made {made} of {limit}");
    // What is left is enough for a short stream, and for no other call: they reserve all they could cost.
    let refused = stack
        .gateway(0)?
        .chat(&key.secret, &say("long", "hi"))
        .await?;
    refused.refused(402, "budget_exceeded")?;
    assert_invariants(&stack.postgres).await
}

#[tokio::test]
async fn a_stream_with_money_passes_whole_and_costs_what_the_upstream_says() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = long_key(&tenant, "long", "demo-fast@tokens=1500,gap_ms=1").await?;
    // Less than what all of the model's cap could cost: a call that is no stream is refused.
    let budget = elastic(&tenant, &key, 6_000_000).await?;
    let gateway = stack.gateway(0)?;
    gateway
        .chat(&key.secret, &say("long", "hi"))
        .await?
        .refused(402, "budget_exceeded")?;
    let stream = gateway.stream(&key.secret, &say("long", "hi")).await?;
    let usage_id = stream
        .header("x-odock-usage-id")
        .unwrap_or_default()
        .to_owned();
    let answer = stream.rest().await;
    assert!(answer.done, "{:?}", answer.error_code());
    assert_eq!(answer.tokens(), WHOLE);
    let record = tenant.usage(&usage_id).await?;
    let cost = INPUT_NANOS + WHOLE.cast_signed() * OUTPUT_NANOS;
    assert_eq!(record["cost_nanos"], cost, "{record}");
    assert_eq!(record["estimated"], false);
    let window = tenant.reclaimed(&budget).await?;
    assert_eq!((window.settled, window.held), (cost, 0));
    Ok(())
}

#[tokio::test]
async fn line_083_a_stream_of_an_elastic_budget_settles_by_its_last_mark_when_its_gateway_is_killed()
-> anyhow::Result<()> {
    let mut stack = Stack::builder().start().await?;
    let tenant = stack.tenant().await?;
    let key = long_key(&tenant, "long", "demo-fast@tokens=1500,gap_ms=2").await?;
    let budget = elastic(&tenant, &key, 1_000_000_000).await?;
    let gateway = stack.gateway(0)?.clone();
    let mut stream = gateway.stream(&key.secret, &say("long", "hi")).await?;
    // Far into the second chunk: what the first one reserved does not cover it.
    let mut text = String::new();
    while text.matches("\"content\":\" a\"").count() < 900 {
        let more = stream.next().await?.unwrap_or_default();
        assert!(!more.is_empty(), "it ended too early: {text}");
        text.push_str(&String::from_utf8_lossy(&more));
    }
    stack.kill(Service::Gateway(0)).await?;
    drop(stream);
    stack.restart(Service::Gateway(0)).await?;
    let accounted = assert_accounted(&stack).await?;
    let (row, record) = (&accounted.rows[0], &accounted.records[0]);
    assert!(
        record.estimated && record.status == "interrupted",
        "{record:?}"
    );
    // Marks come each 256 tokens, and each second.
    assert!(
        (900 - 256..=row.completion_tokens).contains(&record.output_tokens),
        "{record:?}\n{row:?}"
    );
    let window = wait_until("a complete reclaim", Duration::from_secs(10), async || {
        tenant.reclaimed(&budget).await
    })
    .await?;
    assert_eq!((window.settled, window.held), (record.cost_nanos, 0));
    assert_invariants(&stack.postgres).await
}

/// A key for a model whose answers may be long.
async fn long_key(tenant: &Tenant, name: &str, slug: &str) -> anyhow::Result<Key> {
    let body = json!({
        "name": name, "slug": slug, "type": "chat", "pricing": token_pricing(),
        "provider_id": tenant.provider_id, "provider_key_id": tenant.provider_key_id,
        "config": { "context_window": 128_000, "max_output_tokens": 4_000 },
    });
    let model = tenant
        .admin
        .create(&tenant.path("/models?wait=all"), &body)
        .await?;
    let key = tenant.key().await?;
    let grant = json!({ "key_id": key.id, "target": { "type": "model", "id": id(&model)? } });
    tenant
        .admin
        .create(&tenant.path("/grants?wait=all"), &grant)
        .await?;
    Ok(key)
}

async fn elastic(tenant: &Tenant, key: &Key, amount: i64) -> anyhow::Result<String> {
    let others = json!({ "mode": "elastic" });
    tenant.budget("key", &key.id, amount, others).await
}
