//! Each limit with its own code, what a denial tells, and that nothing of a refused call reaches the upstream.

use std::time::Duration;

use odock_tests::{
    Stack,
    client::{exchange, say},
    wait::wait_until,
};
use serde_json::json;

use super::{early_in_a_minute, limit_key, requests};

#[tokio::test]
async fn line_021_a_rate_denial_names_scope_and_limit_and_when_to_come_back() -> anyhow::Result<()>
{
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    limit_key(&tenant, &key, requests(json!({ "per_minute": 1 }))).await?;
    early_in_a_minute(stack.redis().await?, Duration::from_secs(10)).await?;
    let (gateway, hi) = (stack.gateway(0)?, say("demo-fast", "hi"));
    let taken = gateway.chat(&key.secret, &hi).await?;
    taken.expect(200)?;
    assert_eq!(
        taken.header("ratelimit-policy"),
        Some("\"key:requests_per_minute\";q=1;w=60")
    );
    let state = taken.header("ratelimit").unwrap_or_default();
    assert!(
        state.starts_with("\"key:requests_per_minute\";r=0;t="),
        "{state}"
    );
    let refused = gateway.chat(&key.secret, &hi).await?;
    let error = refused.refused(429, "rpm_exceeded")?["error"].clone();
    assert_eq!(error["type"], "rate_limit_error");
    assert_eq!(error["scope"], json!({ "type": "key", "id": key.id }));
    assert_eq!(error["limit"], "requests_per_minute");
    let seconds = error["retry_after"].as_u64().unwrap_or_default();
    assert!((1..=60).contains(&seconds), "{error}");
    assert_eq!(
        refused.header("retry-after"),
        Some(seconds.to_string().as_str())
    );
    assert!(refused.header("ratelimit").is_some() && refused.header("ratelimit-policy").is_some());
    assert_eq!(refused.header("x-should-retry"), None);
    Ok(())
}

#[tokio::test]
async fn line_063_seconds_minutes_and_bursts_have_their_own_reason() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    for (limits, code) in [
        (json!({ "per_second": 1 }), "rps_exceeded"),
        (json!({ "per_minute": 1 }), "rpm_exceeded"),
        (json!({ "per_minute": 5, "burst": 1 }), "burst_exceeded"),
    ] {
        let key = tenant.key().await?;
        limit_key(&tenant, &key, requests(limits)).await?;
        let (gateway, hi) = (stack.gateway(0)?, say("demo-fast", "hi"));
        // The second call of a window is refused; a window that ends between the two is no refusal.
        wait_until(code, Duration::from_secs(10), async || {
            let refused = gateway.chat(&key.secret, &hi).await?;
            let error = refused.refused(429, code)?["error"].clone();
            anyhow::ensure!(error["retry_after"].as_u64() >= Some(1), "{error}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn line_065_a_body_that_is_too_large_or_of_unknown_length_is_refused_unread()
-> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let payload = json!({ "ratelimit": { "payload": { "max_request_bytes": 200 } } });
    limit_key(&tenant, &key, payload).await?;
    let gateway = stack.gateway(0)?;
    gateway
        .chat(&key.secret, &say("demo-fast", "hi"))
        .await?
        .expect(200)?;
    let large = gateway
        .chat(&key.secret, &say("demo-fast", &"x".repeat(200)))
        .await?;
    let error = large.refused(429, "payload_too_large")?["error"].clone();
    assert_eq!(
        (&error["limit"], &error["limit_value"]),
        (&json!("max_request_bytes"), &json!(200))
    );
    assert_eq!(large.header("x-should-retry"), Some("false"));
    assert_eq!(large.header("retry-after"), None);
    let chunked = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n",
        key.secret
    );
    let answer = exchange(gateway.address(), chunked.as_bytes()).await?;
    assert_eq!(answer.statuses(), [429]);
    limit_key(&tenant, &key, json!({})).await?;
    let answer = exchange(gateway.address(), chunked.as_bytes()).await?;
    assert_eq!(
        answer.statuses(),
        [400],
        "without a limit its length is its own affair"
    );
    Ok(())
}

#[tokio::test]
async fn line_066_more_output_than_a_policy_allows_is_refused_before_the_upstream()
-> anyhow::Result<()> {
    let stack = Stack::builder().gateways(1).start().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let payload = json!({ "ratelimit": { "payload": { "max_tokens": 10 } } });
    limit_key(&tenant, &key, payload).await?;
    let gateway = stack.gateway(0)?;
    let mut body = say("demo-fast", "hi");
    body["max_tokens"] = json!(11);
    gateway
        .chat(&key.secret, &body)
        .await?
        .refused(429, "max_tokens_exceeded")?;
    assert_eq!(stack.demo.rows(0).await?.len(), 0);
    body["max_tokens"] = json!(10);
    gateway.chat(&key.secret, &body).await?.expect(200)?;
    // Who asks for no limit gets the policy's.
    let answer = gateway.chat(&key.secret, &say("demo-fast", "hi")).await?;
    let answer = answer.expect(200)?;
    assert_eq!(answer["usage"]["completion_tokens"], 10, "{answer}");
    Ok(())
}

#[tokio::test]
async fn line_067_tokens_a_minute_are_reserved_and_what_is_not_used_comes_back()
-> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    // A call reserves 1 + 200 (the model's bound) and uses 1 + 20: six fit only if the rest comes back.
    let tokens = json!({ "ratelimit": { "tokens": { "per_minute": 320 } } });
    limit_key(&tenant, &key, tokens).await?;
    early_in_a_minute(stack.redis().await?, Duration::from_secs(20)).await?;
    let (gateway, hi) = (stack.gateway(0)?, say("demo-fast", "hi"));
    for used in 1..=6 {
        let answer = gateway.chat(&key.secret, &hi).await?;
        anyhow::ensure!(answer.status == 200, "call {used}: {}", answer.text());
    }
    let refused = gateway.chat(&key.secret, &hi).await?;
    let error = refused.refused(429, "tpm_exceeded")?["error"].clone();
    assert_eq!(error["limit"], "tokens_per_minute");
    // What fits into the rest is still taken, at another gateway too once this one has given it back.
    let mut small = hi.clone();
    small["max_tokens"] = json!(5);
    wait_until("the rest", Duration::from_secs(5), async || {
        stack
            .gateway(1)?
            .chat(&key.secret, &small)
            .await?
            .expect(200)
    })
    .await?;
    let mut huge = hi;
    huge["max_tokens"] = json!(200);
    huge["n"] = json!(2);
    let never = gateway.chat(&key.secret, &huge).await?;
    never.refused(429, "tpm_exceeded")?;
    assert_eq!(
        never.header("x-should-retry"),
        Some("false"),
        "401 never fit into 320"
    );
    Ok(())
}

#[tokio::test]
async fn line_069_a_shadowed_limit_is_told_of_and_denies_nothing() -> anyhow::Result<()> {
    let stack = Stack::builder().gateways(1).start().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let shadowed = json!({
        "ip": { "blocklist": ["127.0.0.1"], "shadow": true },
        "ratelimit": {
            "requests": { "per_minute": { "limit": 1, "shadow": true } },
            "payload": { "max_tokens": { "limit": 1, "shadow": true } },
        },
    });
    limit_key(&tenant, &key, shadowed).await?;
    early_in_a_minute(stack.redis().await?, Duration::from_secs(10)).await?;
    let gateway = stack.gateway(0)?;
    let mut body = say("demo-fast", "hi");
    body["max_tokens"] = json!(15);
    for _ in 0..3 {
        let answer = gateway.chat(&key.secret, &body).await?.expect(200)?;
        assert_eq!(answer["usage"]["completion_tokens"], 15, "{answer}");
    }
    let metrics = gateway.get("/metrics").await?.text();
    for (module, stage, least) in [
        ("ip", "early", 3),
        ("requests_per_minute", "early", 2),
        ("max_tokens", "final", 3),
    ] {
        let line = format!(
            "gateway_ratelimit_rejections_total{{decision=\"shadow_denied\",ratelimit_module=\"{module}\",ratelimit_stage=\"{stage}\"}} {least}"
        );
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    }
    assert!(
        stack
            .logs()?
            .contains("a shadowed limit would have refused a call")
    );
    Ok(())
}
