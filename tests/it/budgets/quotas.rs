//! Quotas: all seven metrics on the same ledger as money, each in its own unit.

use std::time::Duration;

use odock_tests::{
    Stack,
    client::say,
    invariants::assert_invariants,
    tenant::{FEE_NANOS, Key, Tenant, id, token_pricing},
    wait::wait_until,
};
use serde_json::{Value, json};

async fn quota(
    tenant: &Tenant,
    key: &Key,
    metric: &str,
    limit: i64,
    others: Value,
) -> anyhow::Result<String> {
    let mut body = json!({
        "owner": { "type": "key", "id": key.id }, "metric": metric, "period": "daily", "limit": limit,
    });
    if let (Some(body), Value::Object(others)) = (body.as_object_mut(), others) {
        body.extend(others);
    }
    let path = tenant.path("/quotas?wait=all");
    id(&tenant.admin.create(&path, &body).await?)
}

async fn read(tenant: &Tenant, quota: &str) -> anyhow::Result<Value> {
    tenant
        .admin
        .read(&tenant.path(&format!("/quotas/{quota}")))
        .await
}

#[tokio::test]
async fn line_074_every_metric_counts_in_its_own_unit() -> anyhow::Result<()> {
    let stack = Stack::builder().start().await?;
    let mut tenant = stack.tenant().await?;
    tenant
        .add_model("broken", "demo-error-500", token_pricing())
        .await?;
    let key = tenant.key().await?;
    let metrics = [
        "requests",
        "tokens",
        "tokens_in",
        "tokens_out",
        "errors",
        "cost",
        "latency_ms",
    ];
    let mut quotas = Vec::new();
    for metric in metrics {
        let others = json!({ "name": metric, "timezone": "Europe/Zurich" });
        let made = quota(&tenant, &key, metric, 1_000_000_000, others).await?;
        let shown = read(&tenant, &made).await?;
        assert_eq!(
            (
                &shown["metric"],
                &shown["limit"],
                &shown["period"],
                &shown["active"]
            ),
            (
                &json!(metric),
                &json!(1_000_000_000),
                &json!("daily"),
                &json!(true)
            ),
        );
        quotas.push(made);
    }
    let gateway = stack.gateway(0)?;
    let answer = gateway
        .chat(&key.secret, &say("demo-fast", "hi there"))
        .await?;
    answer.expect(200)?;
    let failed = gateway.chat(&key.secret, &say("broken", "hi")).await?;
    assert_eq!(failed.status, 502);
    let records = wait_until("both records", Duration::from_secs(5), async || {
        let records = tenant.all_usage().await?;
        anyhow::ensure!(records.len() == 2, "{records:?}");
        Ok(records)
    })
    .await?;
    for record in &records {
        assert_eq!(record["quota_ids"], json!(quotas), "{record}");
    }
    let sum = |member: &dyn Fn(&Value) -> i64| records.iter().map(member).sum::<i64>();
    let tokens = |name: &'static str| move |of: &Value| of["tokens"][name].as_i64().unwrap_or(-1);
    let expected = [
        2,
        sum(&tokens("total")),
        sum(&tokens("input")),
        sum(&tokens("output")),
        1,
        sum(&|of| of["cost_nanos"].as_i64().unwrap_or(-1)),
        sum(&|of| of["latency_ms"].as_i64().unwrap_or(-1)),
    ];
    for ((made, metric), expected) in quotas.iter().zip(metrics).zip(expected) {
        // A refill that was asked for before the reclaim may be granted after it.
        wait_until("nothing held", Duration::from_secs(5), async || {
            tenant.reclaim().await?;
            let window = read(&tenant, made).await?["window"].clone();
            let suffix = if metric == "cost" { "_nanos" } else { "" };
            let figures = ["settled", "held", "free"]
                .map(|name| window[format!("{name}{suffix}")].as_i64().unwrap_or(-1));
            let wanted = [expected, 0, 1_000_000_000 - expected];
            anyhow::ensure!(figures == wanted, "{metric}: {window}, not {wanted:?}");
            Ok(())
        })
        .await?;
    }
    assert_invariants(&stack.postgres).await
}

#[tokio::test]
async fn line_080_a_full_quota_refuses_with_429_before_any_byte_goes_upstream() -> anyhow::Result<()>
{
    let stack = Stack::builder().start().await?;
    let tenant = stack.tenant().await?;
    let gateway = stack.gateway(0)?;
    for (metric, limit, code) in [
        ("requests", 0, 429),
        // The bound of what this call can take is above it, in and out.
        ("tokens", 10, 429),
        ("tokens_in", 1, 429),
        ("tokens_out", 199, 429),
        ("cost", 1, 429),
        ("errors", 0, 429),
        ("latency_ms", 0, 429),
        ("tokens_out", 200, 200),
    ] {
        let key = tenant.key().await?;
        let made = quota(&tenant, &key, metric, limit, json!({})).await?;
        let before = stack.demo.top().await?;
        let answer = gateway.chat(&key.secret, &say("demo-fast", "hi")).await?;
        assert_eq!(answer.status, code, "{metric} {limit}: {}", answer.text());
        if code != 429 {
            continue;
        }
        assert_eq!(stack.demo.top().await?, before, "{metric}");
        let seconds: i64 = answer.header("retry-after").unwrap_or_default().parse()?;
        assert!((1..=86_400).contains(&seconds), "{seconds}");
        assert_eq!(answer.header("x-should-retry"), Some("false"));
        let refused = answer.refused(429, "quota_exceeded")?;
        let error = &refused["error"];
        assert_eq!(
            (
                &error["quota_id"],
                &error["metric"],
                &error["limit"],
                &error["settled"]
            ),
            (&json!(made), &json!(metric), &json!(limit), &json!(0)),
        );
        assert_eq!(error["scope"], json!({ "type": "key", "id": key.id }));
        assert!(error["resets_at"].is_string() && error.get("budget_id").is_none());
    }
    Ok(())
}

#[tokio::test]
async fn line_079_a_crowd_gets_as_many_requests_as_the_quota_has() -> anyhow::Result<()> {
    let stack = Stack::builder().gateways(2).start().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let made = quota(&tenant, &key, "requests", 10, json!({ "period": "total" })).await?;
    // A budget beside it: both must have room, and what the quota refuses costs the budget nothing.
    let budget = tenant.key_budget(&key, 1_000 * FEE_NANOS).await?;
    let body = say("demo-fee", "hi");
    let gateways = [stack.gateway(0)?, stack.gateway(1)?];
    let calls = (0..100).map(|call| gateways[call % 2].chat(&key.secret, &body));
    let answers = futures_util::future::try_join_all(calls).await?;
    let served = answers.iter().filter(|answer| answer.status == 200).count();
    let refused = answers
        .iter()
        .filter(|answer| answer.refused(429, "quota_exceeded").is_ok());
    assert_eq!((served, refused.count()), (10, 90));
    assert_eq!(stack.demo.rows(0).await?.len(), 10);
    wait_until("ten settled", Duration::from_secs(5), async || {
        tenant.reclaim().await?;
        let window = read(&tenant, &made).await?["window"].clone();
        anyhow::ensure!(window["settled"] == 10 && window["held"] == 0, "{window}");
        let money = tenant.window(&budget).await?;
        anyhow::ensure!(
            (money.settled, money.held) == (10 * FEE_NANOS, 0),
            "{money:?}"
        );
        Ok(())
    })
    .await?;
    assert_invariants(&stack.postgres).await
}

#[tokio::test]
async fn line_084_errors_and_latency_refuse_once_their_window_is_full() -> anyhow::Result<()> {
    let stack = Stack::builder().gateways(2).start().await?;
    let mut tenant = stack.tenant().await?;
    tenant
        .add_model("broken", "demo-error-500", token_pricing())
        .await?;
    let model = tenant
        .add_model("late", "demo-fast@first_ms=60", token_pricing())
        .await?;
    assert!(!model.is_empty());
    for (metric, limit, calls) in [("errors", 2, "broken"), ("latency_ms", 100, "late")] {
        let key = tenant.key().await?;
        let made = quota(&tenant, &key, metric, limit, json!({})).await?;
        // Nothing is reserved: these two go through, and are what fills the window.
        for _ in 0..2 {
            let answer = stack
                .gateway(0)?
                .chat(&key.secret, &say(calls, "hi"))
                .await?;
            assert_ne!(answer.status, 429, "{metric}: {}", answer.text());
        }
        for gateway in [stack.gateway(0)?, stack.gateway(1)?] {
            wait_until("the window is full", Duration::from_secs(5), async || {
                let answer = gateway.chat(&key.secret, &say("demo-fast", "hi")).await?;
                answer.refused(429, "quota_exceeded")
            })
            .await?;
        }
        let shown = read(&tenant, &made).await?;
        assert!(
            shown["window"]["settled"].as_i64() >= Some(limit),
            "{shown}"
        );
        assert_eq!(shown["window"]["held"], 0);
        // More room, and calls go through again.
        let path = tenant.path(&format!("/quotas/{made}"));
        tenant
            .admin
            .change(&path, &json!({ "limit": 1_000_000 }))
            .await?;
        stack
            .gateway(1)?
            .chat(&key.secret, &say("demo-fast", "hi"))
            .await?
            .expect(200)?;
    }
    assert_invariants(&stack.postgres).await
}

#[tokio::test]
async fn a_quota_of_tokens_needs_a_bound_of_tokens_and_no_price() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let mut tenant = stack.tenant().await?;
    tenant.add_model("free", "demo-fast", Value::Null).await?;
    let body = json!({
        "name": "open", "slug": "demo-fast", "type": "chat", "provider_id": tenant.provider_id,
        "provider_key_id": tenant.provider_key_id, "config": { "context_window": 1_000 },
    });
    let path = tenant.path("/models?wait=all");
    let open = id(&tenant.admin.create(&path, &body).await?)?;
    let key = tenant.key().await?;
    let grant = json!({ "key_id": key.id, "target": { "type": "model", "id": open } });
    let path = tenant.path("/grants?wait=all");
    tenant.admin.create(&path, &grant).await?;
    quota(&tenant, &key, "tokens", 100_000, json!({})).await?;
    let gateway = stack.gateway(0)?;
    gateway
        .chat(&key.secret, &say("free", "hi"))
        .await?
        .expect(200)?;
    let refused = gateway
        .chat(&key.secret, &say("open", "hi"))
        .await?
        .refused(400, "cost_unbounded")?;
    let message = refused["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("a quota of tokens"), "{message}");
    Ok(())
}
