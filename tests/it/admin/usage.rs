//! The usage API: filters and sums.

use std::time::Duration;

use odock_tests::{Stack, client::say, tenant::token_pricing, wait::wait_until};
use serde_json::{Value, json};

#[tokio::test]
async fn usage_is_filtered_and_summed() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let mut tenant = stack.tenant().await?;
    tenant
        .add_model("failing", "demo-error-500", token_pricing())
        .await?;
    let (one, two) = (tenant.key().await?, tenant.key().await?);
    let gateway = stack.gateway(0)?;
    for key in [&one, &one, &two] {
        gateway
            .chat(&key.secret, &say("demo-fast", "hi"))
            .await?
            .expect(200)?;
    }
    gateway
        .chat(&two.secret, &say("demo-fee", "hi"))
        .await?
        .expect(200)?;
    gateway
        .chat(&two.secret, &say("failing", "hi"))
        .await?
        .refused(502, "upstream_error")?;
    wait_until("five records", Duration::from_secs(2), async || {
        let records = tenant.all_usage().await?;
        anyhow::ensure!(records.len() == 5, "{}", records.len());
        Ok(())
    })
    .await?;
    for (query, count) in [
        (format!("key_id={}", one.id), 2),
        ("model=demo-fast".to_owned(), 3),
        ("status=upstream_error".to_owned(), 1),
        ("status=completed".to_owned(), 4),
        ("provider=custom".to_owned(), 5),
        ("estimated=false&model=demo-fee".to_owned(), 1),
        (
            "from=2020-01-01T00:00:00Z&to=2020-01-02T00:00:00Z".to_owned(),
            0,
        ),
        ("from=2020-01-01T00:00:00Z".to_owned(), 5),
    ] {
        let found = tenant
            .admin
            .list(&tenant.path(&format!("/usage?{query}")))
            .await?;
        assert_eq!(found.len(), count, "{query}");
    }
    let summary = async |group: &str| {
        tenant
            .admin
            .read(&tenant.path(&format!("/usage/summary?group_by={group}")))
            .await
    };
    let days = summary("day").await?;
    let day = &days["data"][0];
    assert_eq!(
        (&day["requests"], &day["errors"]),
        (&json!(5), &json!(1)),
        "{days}"
    );
    let cost = |value: &Value| {
        value["data"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|row| row["cost_nanos"].as_i64())
            .sum::<i64>()
    };
    let records = tenant.all_usage().await?;
    let spent: i64 = records
        .iter()
        .filter_map(|record| record["cost_nanos"].as_i64())
        .sum();
    for group in ["day", "key", "model"] {
        assert_eq!(cost(&summary(group).await?), spent, "{group}");
    }
    assert_eq!(
        summary("key").await?["data"].as_array().map(Vec::len),
        Some(2)
    );
    assert_eq!(
        summary("model").await?["data"].as_array().map(Vec::len),
        Some(3)
    );
    let wrong = tenant
        .admin
        .get(&tenant.path("/usage/summary?group_by=colour"))
        .await?;
    assert!(matches!(wrong.status, 400 | 422), "{}", wrong.text());
    Ok(())
}
