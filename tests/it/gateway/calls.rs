//! The first call of a newcomer, and what it leaves behind.

use std::time::Duration;

use odock_tests::{
    Stack,
    client::say,
    tenant::{INPUT_NANOS, OUTPUT_NANOS},
    wait::wait_until,
};
use serde_json::{Value, json};

#[tokio::test]
async fn the_seeded_key_makes_a_call_that_is_recorded_within_a_second() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let key = stack.ready.seeded_key()?;
    let answer = stack
        .gateway(0)?
        .chat(key, &say("demo-fast", "Hello, world, how are you?"))
        .await?;
    let body = answer.expect(200)?;
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["model"], "demo-fast");
    assert_eq!(body["usage"]["prompt_tokens"], 6);
    assert_eq!(body["usage"]["completion_tokens"], 20);

    let cost = 6 * INPUT_NANOS + 20 * OUTPUT_NANOS;
    assert_eq!(
        answer.header("x-odock-cost-nanos"),
        Some(cost.to_string().as_str())
    );
    assert_eq!(answer.header("x-odock-model"), Some("demo-fast"));
    assert_eq!(answer.header("x-odock-attempts"), Some("1"));
    let usage_id = answer
        .header("x-odock-usage-id")
        .unwrap_or_default()
        .to_owned();
    let organisation = stack.ready.organisation_id.clone().unwrap_or_default();
    let path = format!("/organisations/{organisation}/usage/{usage_id}");
    let record = wait_until("the record", Duration::from_secs(1), async || {
        stack.admin.read(&path).await
    })
    .await?;
    assert_eq!(record["cost_nanos"], cost);
    assert_eq!(record["status"], "completed");
    Ok(())
}

#[tokio::test]
async fn line_127_one_record_per_call_with_every_field() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let budget = tenant.key_budget(&key, 1_000_000_000).await?;
    let request = stack
        .gateway(0)?
        .chat_request(&key.secret)
        .header("x-request-id", "label-1");
    let answer = stack
        .gateway(0)?
        .send(request.json(&say("demo-fast", "Say hello to me")))
        .await?;
    let body = answer.expect(200)?;
    let record = tenant
        .usage(answer.header("x-odock-usage-id").unwrap_or_default())
        .await?;

    let expected = json!({
        "request_id": "label-1", "organisation_id": tenant.organisation_id, "team_id": null, "user_id": null,
        "key_id": key.id, "model_id": tenant.model_id("demo-fast")?, "model": "demo-fast", "slug": "demo-fast",
        "provider_id": tenant.provider_id, "provider": "custom", "route": "/v1/chat/completions",
        "stream": false, "status": "completed", "http_status": 200, "estimated": false,
        "tokens": {"input": 3, "cached_input": 0, "cache_write": 0, "output": 20, "reasoning": 0, "total": 23},
        "cost_nanos": 43_000,
        "cost": {"request": 0, "input": 3_000, "cached_input": 0, "cache_write": 0, "output": 40_000, "reasoning": 0},
        "price_version": 1, "budget_ids": [budget], "provider_request_id": body["id"], "trace_id": null,
    });
    for (name, value) in expected.as_object().into_iter().flatten() {
        assert_eq!(&record[name], value, "{name} of {record}");
    }
    for present in [
        "id",
        "config_version",
        "gateway_id",
        "started_at",
        "first_byte_at",
        "finished_at",
        "latency_ms",
    ] {
        assert!(!record[present].is_null(), "{present} of {record}");
    }
    let attempts = record["attempts"].as_array().map_or(0, Vec::len);
    assert_eq!(attempts, 1, "{record}");
    let attempt = &record["attempts"][0];
    assert_eq!(
        (&attempt["outcome"], &attempt["status"]),
        (&json!("success"), &json!(200))
    );
    assert_eq!(attempt["cost_nanos"], 43_000);
    let row = stack
        .demo
        .row_of(attempt["id"].as_str().unwrap_or_default())
        .await?;
    assert_eq!((row.prompt_tokens, row.completion_tokens), (3, 20));
    Ok(())
}

#[tokio::test]
async fn line_086_a_budget_moves_by_exactly_the_calls_cost_in_whole_nanos() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let mut tenant = stack.tenant().await?;
    // A third of a nano per token: rounded up once for the record, not for each class.
    let odd = json!({ "input_per_million_nanos": 333_333, "output_per_million_nanos": 333_333, "per_request_nanos": 7 });
    tenant.add_model("odd", "demo-fast", odd).await?;
    let key = tenant.key().await?;
    let budget = tenant.key_budget(&key, 1_000_000).await?;
    let answer = stack
        .gateway(1)?
        .chat(&key.secret, &say("odd", "abcdefgh"))
        .await?;
    answer.expect(200)?;
    // 2 + 20 tokens at 0.333333 nanos and 7: 14.333326.
    assert_eq!(answer.header("x-odock-cost-nanos"), Some("15"));
    let record = tenant
        .usage(answer.header("x-odock-usage-id").unwrap_or_default())
        .await?;
    assert_eq!(record["cost_nanos"], 15);
    let window = tenant.reclaimed(&budget).await?;
    assert_eq!(
        (window.settled, window.held, window.free),
        (15, 0, 1_000_000 - 15)
    );
    assert!(no_floats(&record), "{record}");
    Ok(())
}

#[tokio::test]
async fn line_043_a_models_name_becomes_its_slug_upstream_and_back_in_the_answer()
-> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let mut tenant = stack.tenant().await?;
    tenant
        .add_model(
            "my fast one",
            "demo-fast",
            odock_tests::tenant::token_pricing(),
        )
        .await?;
    let key = tenant.key().await?;
    let answer = stack
        .gateway(0)?
        .chat(&key.secret, &say("my fast one", "hi"))
        .await?;
    assert_eq!(answer.expect(200)?["model"], "my fast one");
    assert_eq!(answer.header("x-odock-model"), Some("my fast one"));
    let record = tenant
        .usage(answer.header("x-odock-usage-id").unwrap_or_default())
        .await?;
    assert_eq!(
        (&record["model"], &record["slug"]),
        (&json!("my fast one"), &json!("demo-fast"))
    );
    let attempt = record["attempts"][0]["id"].as_str().unwrap_or_default();
    assert_eq!(stack.demo.row_of(attempt).await?.model, "demo-fast");

    let streamed = stack
        .gateway(0)?
        .stream(&key.secret, &say("my fast one", "hi"))
        .await?
        .rest()
        .await;
    assert!(
        streamed.done
            && streamed
                .frames
                .iter()
                .all(|frame| frame["model"] == "my fast one")
    );

    let twin = json!({
        "name": "my fast one", "slug": "other", "type": "chat",
        "provider_id": tenant.provider_id, "provider_key_id": tenant.provider_key_id,
    });
    tenant
        .admin
        .post(&tenant.path("/models"), &twin)
        .await?
        .refused(409, "name_taken")?;
    Ok(())
}

#[tokio::test]
async fn line_044_two_models_of_one_slug_have_their_own_grants_prices_and_usage()
-> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let mut tenant = stack.tenant().await?;
    tenant
        .add_model("cheap", "demo-fast", json!({ "per_request_nanos": 1 }))
        .await?;
    tenant
        .add_model("dear", "demo-fast", json!({ "per_request_nanos": 1000 }))
        .await?;
    let key = tenant
        .key_without_grants(&json!({ "type": "organisation" }))
        .await?;
    tenant.grant(&key, "cheap").await?;
    let gateway = stack.gateway(0)?;
    let cheap = gateway.chat(&key.secret, &say("cheap", "hi")).await?;
    cheap.expect(200)?;
    assert_eq!(cheap.header("x-odock-cost-nanos"), Some("1"));
    gateway
        .chat(&key.secret, &say("dear", "hi"))
        .await?
        .refused(403, "model_not_allowed")?;
    tenant.grant(&key, "dear").await?;
    let dear = gateway.chat(&key.secret, &say("dear", "hi")).await?;
    dear.expect(200)?;
    assert_eq!(dear.header("x-odock-cost-nanos"), Some("1000"));
    Ok(())
}

#[tokio::test]
async fn line_019_every_answer_carries_a_request_id_the_clients_if_it_is_one() -> anyhow::Result<()>
{
    let stack = Stack::shared().await?;
    let gateway = stack.gateway(0)?;
    for (sent, kept) in [
        ("my.id_1-x", true),
        ("not ok", false),
        (&"x".repeat(129), false),
    ] {
        let request = gateway
            .request(reqwest::Method::GET, "/v1/health")
            .header("x-request-id", sent);
        let answer = gateway.send(request).await?;
        let given = answer.header("x-request-id").unwrap_or_default();
        if kept {
            assert_eq!(given, sent);
        } else {
            assert!(
                given.len() == 32 && given.bytes().all(|byte| byte.is_ascii_hexdigit()),
                "{given}"
            );
        }
    }
    let refused = gateway.get("/nowhere").await?;
    assert!(refused.header("x-request-id").is_some());
    Ok(())
}

#[tokio::test]
async fn line_151_models_are_listed_as_granted_in_openais_shape() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant
        .key_without_grants(&json!({ "type": "organisation" }))
        .await?;
    let gateway = stack.gateway(0)?;
    let none = gateway
        .get_as(&key.secret, "/v1/models")
        .await?
        .expect(200)?;
    assert_eq!(none, json!({ "object": "list", "data": [] }));
    tenant.grant(&key, "demo-fee").await?;
    let one = gateway
        .get_as(&key.secret, "/v1/models")
        .await?
        .expect(200)?;
    let listed =
        json!([{ "id": "demo-fee", "object": "model", "created": 0, "owned_by": "custom" }]);
    assert_eq!(one["data"], listed);
    gateway
        .get("/v1/models")
        .await?
        .refused(401, "unauthorized")?;
    Ok(())
}

fn no_floats(value: &Value) -> bool {
    match value {
        Value::Number(number) => !number.is_f64(),
        Value::Array(values) => values.iter().all(no_floats),
        Value::Object(members) => members.values().all(no_floats),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}
