//! When a budget counts: windows, their start, step and end.

use std::time::Duration;

use odock_tests::{Stack, client::say, tenant::FEE_NANOS};
use serde_json::json;

use crate::gateway::health::time_in;

#[tokio::test]
async fn line_077_windows_start_as_told_and_step_by_their_period_in_their_time_zone()
-> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    for (others, steps) in [
        // In New York a summer's day begins at 4, a winter's at 5.
        (
            json!({ "period": "daily", "timezone": "America/New_York" }),
            "T0",
        ),
        (
            json!({ "period": "daily", "timezone": "Asia/Kathmandu" }),
            "T18:15:00",
        ),
        (json!({ "period": "monthly" }), "-01T00:00:00"),
        (json!({ "period": "quarterly" }), "-01T00:00:00"),
        (
            json!({ "period": "monthly", "start_at": "2024-01-31T06:30:00Z" }),
            "T06:30:00",
        ),
    ] {
        let budget = tenant
            .budget("key", &key.id, FEE_NANOS, others.clone())
            .await?;
        let shown = tenant
            .admin
            .read(&tenant.path(&format!("/budgets/{budget}")))
            .await?;
        let (start, end) = (
            shown["window"]["window_start"].as_str(),
            shown["window"]["window_end"].as_str(),
        );
        let (start, end) = (start.unwrap_or_default(), end.unwrap_or_default());
        let now = time_in(Duration::ZERO)?;
        assert!(
            start < now.as_str() && now.as_str() < end,
            "{others}: {start} {end}"
        );
        assert!(start.contains(steps), "{others}: {start}");
    }
    Ok(())
}

#[tokio::test]
async fn line_078_budgets_that_are_inactive_not_begun_or_ended_do_not_count() -> anyhow::Result<()>
{
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let gateway = stack.gateway(0)?;
    let later = time_in(Duration::from_hours(1))?;
    for others in [
        json!({ "active": false }),
        json!({ "start_at": later }),
        json!({ "start_at": "2024-01-01T00:00:00Z", "end_at": "2024-02-01T00:00:00Z" }),
    ] {
        let key = tenant.key().await?;
        tenant.budget("key", &key.id, 0, others.clone()).await?;
        let answer = gateway.chat(&key.secret, &say("demo-fee", "hi")).await?;
        assert_eq!(answer.status, 200, "{others}: {}", answer.text());
    }
    let key = tenant.key().await?;
    let budget = tenant
        .budget("key", &key.id, 0, json!({ "active": false }))
        .await?;
    gateway
        .chat(&key.secret, &say("demo-fee", "hi"))
        .await?
        .expect(200)?;
    let path = tenant.path(&format!("/budgets/{budget}"));
    tenant
        .admin
        .change(&path, &json!({ "active": true }))
        .await?;
    gateway
        .chat(&key.secret, &say("demo-fee", "hi"))
        .await?
        .refused(402, "budget_exceeded")?;
    Ok(())
}

#[tokio::test]
async fn line_078_a_budget_begins_and_ends_on_time() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let (start, end) = (Duration::from_secs(1), Duration::from_millis(2500));
    let began = std::time::Instant::now();
    let others = json!({ "period": "total", "start_at": time_in(start)?, "end_at": time_in(end)? });
    tenant.budget("key", &key.id, 0, others).await?;
    let gateway = stack.gateway(0)?;
    let mut refused = 0;
    odock_tests::wait::wait_until("the budget ends", Duration::from_secs(10), async || {
        let before = began.elapsed();
        let answer = gateway.chat(&key.secret, &say("demo-fee", "hi")).await?;
        let after = began.elapsed();
        // The clock of the time that was sent was read just after `began`.
        let margin = Duration::from_millis(200);
        if answer.status == 402 {
            refused += 1;
            assert!(
                after >= start && before <= end + margin,
                "refused between {before:?} and {after:?}"
            );
        } else {
            assert!(
                before <= start + margin || after >= end,
                "served between {before:?} and {after:?}"
            );
        }
        anyhow::ensure!(before > end && answer.status == 200, "{}", answer.status);
        Ok(())
    })
    .await?;
    assert!(refused > 0);
    Ok(())
}
