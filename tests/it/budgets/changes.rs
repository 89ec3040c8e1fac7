//! Changing a budget while it is used.

use odock_tests::{Stack, client::say, tenant::FEE_NANOS};
use serde_json::json;

#[tokio::test]
async fn a_raised_limit_lets_calls_through_at_once_and_a_lowered_one_stops_them()
-> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let budget = tenant.key_budget(&key, 2 * FEE_NANOS).await?;
    let path = tenant.path(&format!("/budgets/{budget}"));
    let served = async || {
        let mut served = 0;
        for round in 0..20 {
            let answer = stack
                .gateway(round % 2)?
                .chat(&key.secret, &say("demo-fee", "hi"))
                .await?;
            match answer.status {
                200 => served += 1,
                402 => return Ok(served),
                _ => anyhow::bail!("{}", answer.text()),
            }
        }
        Ok(served)
    };
    assert_eq!(served().await?, 2);
    tenant
        .admin
        .change(&path, &json!({ "amount_nanos": 5 * FEE_NANOS }))
        .await?;
    assert_eq!(served().await?, 3);
    tenant
        .admin
        .change(&path, &json!({ "amount_nanos": 100 * FEE_NANOS }))
        .await?;
    stack
        .gateway(0)?
        .chat(&key.secret, &say("demo-fee", "hi"))
        .await?
        .expect(200)?;
    tenant
        .admin
        .change(&path, &json!({ "amount_nanos": 6 * FEE_NANOS }))
        .await?;
    assert_eq!(served().await?, 0);
    let window = tenant.reclaimed(&budget).await?;
    assert_eq!(
        (window.limit, window.settled, window.held),
        (6 * FEE_NANOS, 6 * FEE_NANOS, 0)
    );
    Ok(())
}

#[tokio::test]
async fn a_deleted_budget_counts_no_more() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let budget = tenant.key_budget(&key, 0).await?;
    stack
        .gateway(0)?
        .chat(&key.secret, &say("demo-fee", "hi"))
        .await?
        .refused(402, "budget_exceeded")?;
    tenant
        .admin
        .remove(&tenant.path(&format!("/budgets/{budget}")))
        .await?;
    for gateway in stack.gateways() {
        gateway
            .chat(&key.secret, &say("demo-fee", "hi"))
            .await?
            .expect(200)?;
    }
    Ok(())
}
