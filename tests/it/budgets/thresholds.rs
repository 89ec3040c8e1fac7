//! Thresholds, raises, windows that can be looked at, and what they come to.

use std::time::Duration;

use odock_tests::{
    Stack,
    client::say,
    invariants::assert_invariants,
    tenant::{FEE_NANOS, Tenant},
    wait::wait_until,
};
use serde_json::{Value, json};

use crate::gateway::health::time_in;

async fn crossings(tenant: &Tenant, rule: &str) -> anyhow::Result<Vec<(i64, i64)>> {
    let path = tenant.path(&format!(
        "/events?kind=threshold.crossed&entity_id={rule}&sort=created_at"
    ));
    let events = tenant.admin.list(&path).await?;
    let figure = |event: &Value, name: &str| event["payload"][name].as_i64().unwrap_or(-1);
    Ok(events
        .iter()
        .map(|event| (figure(event, "percent"), figure(event, "settled")))
        .collect())
}

#[tokio::test]
async fn line_087_each_threshold_is_an_event_once_a_window() -> anyhow::Result<()> {
    let stack = Stack::builder().gateways(2).start().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let usual = tenant.key_budget(&key, 10 * FEE_NANOS).await?;
    let others = json!({ "mode": "soft", "thresholds": [25, 100] });
    let own = tenant.budget("key", &key.id, 4 * FEE_NANOS, others).await?;
    let untold = tenant
        .budget("key", &key.id, 10 * FEE_NANOS, json!({ "thresholds": [] }))
        .await?;
    for call in 0..10 {
        stack
            .gateway(call % 2)?
            .chat(&key.secret, &say("demo-fee", "hi"))
            .await?
            .expect(200)?;
    }
    wait_until("all is settled", Duration::from_secs(5), async || {
        let window = tenant.window(&usual).await?;
        anyhow::ensure!(window.settled == 10 * FEE_NANOS, "{window:?}");
        Ok(())
    })
    .await?;
    let at = |calls: i64, percent: i64| (percent, calls * FEE_NANOS);
    assert_eq!(
        crossings(&tenant, &usual).await?,
        [at(5, 50), at(8, 80), at(9, 90), at(10, 100)]
    );
    assert_eq!(crossings(&tenant, &own).await?, [at(1, 25), at(4, 100)]);
    assert!(crossings(&tenant, &untold).await?.is_empty());
    let shown = tenant
        .admin
        .read(&tenant.path(&format!("/budgets/{usual}")))
        .await?;
    assert_eq!(
        (&shown["thresholds"], &shown["window"]["crossed_percent"]),
        (&json!([50, 80, 90, 100]), &json!(100))
    );
    assert_invariants(&stack.postgres).await
}

#[tokio::test]
async fn line_157_a_raise_lets_more_through_until_it_ends() -> anyhow::Result<()> {
    let stack = Stack::builder().start().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let budget = tenant.key_budget(&key, 2 * FEE_NANOS).await?;
    let gateway = stack.gateway(0)?;
    let call = async || gateway.chat(&key.secret, &say("demo-fee", "hi")).await;
    for expected in [200, 200, 402] {
        assert_eq!(call().await?.status, expected);
    }
    let path = tenant.path(&format!("/budgets/{budget}"));
    let until = time_in(Duration::from_secs(4))?;
    let raise = json!({ "raise": { "amount_nanos": 2 * FEE_NANOS, "until": until } });
    let raised = tenant.admin.change(&path, &raise).await?;
    assert_eq!(raised["window"]["limit_nanos"], 4 * FEE_NANOS, "{raised}");
    assert_eq!(call().await?.status, 200);
    let window = wait_until("the raise ends", Duration::from_secs(15), async || {
        let window = tenant.reclaimed(&budget).await?;
        anyhow::ensure!(window.limit == 2 * FEE_NANOS, "{window:?}");
        Ok(window)
    })
    .await?;
    assert_eq!((window.settled, window.free), (3 * FEE_NANOS, -FEE_NANOS));
    assert_eq!(call().await?.status, 402);
    let ended = wait_until(
        "the end is in the log",
        Duration::from_secs(5),
        async || {
            let path = tenant.path(&format!("/events?kind=raise.ended&entity_id={budget}"));
            let events = tenant.admin.list(&path).await?;
            anyhow::ensure!(!events.is_empty(), "none yet");
            Ok(events)
        },
    )
    .await?;
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0]["payload"]["limit"], 2 * FEE_NANOS, "{ended:?}");
    assert_invariants(&stack.postgres).await
}

#[tokio::test]
async fn line_089_windows_can_be_browsed_projected_and_traced_to_their_records()
-> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let (key, other) = (tenant.key().await?, tenant.key().await?);
    let budget = tenant.key_budget(&key, 10 * FEE_NANOS).await?;
    let gateway = stack.gateway(0)?;
    for secret in [&key.secret, &key.secret, &other.secret] {
        let answer = gateway.chat(secret, &say("demo-fee", "hi")).await?;
        answer.expect(200)?;
        tenant
            .usage(answer.header("x-odock-usage-id").unwrap_or_default())
            .await?;
    }
    tenant.reclaim().await?;
    let windows = tenant
        .admin
        .list(&tenant.path(&format!("/budgets/{budget}/windows")))
        .await?;
    assert_eq!(windows.len(), 1, "{windows:?}");
    let window = &windows[0];
    assert_eq!(
        (
            &window["settled_nanos"],
            &window["free_nanos"],
            &window["closed"]
        ),
        (&json!(2 * FEE_NANOS), &json!(8 * FEE_NANOS), &json!(false))
    );
    assert_eq!(window["owner"], json!({ "type": "key", "id": key.id }));
    let records = tenant
        .admin
        .list(&tenant.path(&format!("/usage?budget_id={budget}")))
        .await?;
    assert_eq!(records.len(), 2);
    assert!(
        records
            .iter()
            .all(|record| record["key_id"] == key.id.as_str())
    );
    let projection = tenant
        .admin
        .read(&tenant.path(&format!("/budgets/{budget}/projection")))
        .await?;
    assert_eq!(projection["window"]["settled_nanos"], 2 * FEE_NANOS);
    assert!(
        projection["projected_nanos"].as_i64() >= Some(2 * FEE_NANOS),
        "{projection}"
    );
    assert!(
        projection["remaining_seconds"].as_i64() >= Some(0),
        "{projection}"
    );
    let unknown = tenant.path("/budgets/bud_00000000000000000000000000000000/windows");
    assert_eq!(tenant.admin.get(&unknown).await?.status, 404);
    Ok(())
}
