//! How much of a budget is spent before the first refusal, when what is in flight is small against the limit.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use futures_util::future::try_join_all;
use odock_tests::{
    Stack,
    accounting::assert_accounted,
    client::say,
    tenant::{FEE_NANOS, Key, token_pricing},
};

#[tokio::test]
async fn line_170_with_one_gateway_ninety_nine_percent_is_spent_before_the_first_refusal()
-> anyhow::Result<()> {
    spends_before_it_refuses(1, 200, 99).await
}

#[tokio::test]
async fn line_170_with_eight_gateways_ninety_seven_percent_is_spent_before_the_first_refusal()
-> anyhow::Result<()> {
    spends_before_it_refuses(8, 600, 97).await
}

/// One call in flight per gateway, until the first of them is refused.
async fn spends_before_it_refuses(gateways: u8, fees: i64, percent: i64) -> anyhow::Result<()> {
    let stack = Stack::builder().gateways(gateways).start().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let limit = fees * FEE_NANOS;
    let budget = tenant.key_budget(&key, limit).await?;
    let (spent, refused) = (AtomicI64::new(0), AtomicBool::new(false));
    let callers = stack.gateways().iter().map(async |gateway| {
        let Key { secret, .. } = &key;
        while !refused.load(Ordering::Relaxed) {
            let answer = gateway.chat(secret, &say("demo-fee", "hi")).await?;
            match answer.status {
                200 => {
                    spent.fetch_add(FEE_NANOS, Ordering::Relaxed);
                }
                402 if !refused.swap(true, Ordering::Relaxed) => {
                    let spent = spent.load(Ordering::Relaxed);
                    anyhow::ensure!(
                        spent * 100 >= limit * percent,
                        "refused when {spent} of {limit} were spent: {}",
                        answer.text()
                    );
                }
                // 503: money that was still on its way after 250 ms; the caller asks again.
                402 | 503 => {}
                other => anyhow::bail!("{other}: {}", answer.text()),
            }
        }
        Ok(())
    });
    try_join_all(callers).await?;
    let window = tenant.reclaimed(&budget).await?;
    assert_eq!(window.held, 0, "{window:?}");
    assert!(window.settled <= limit, "{window:?}");
    assert!(window.settled * 100 >= limit * percent, "{window:?}");
    Ok(())
}

#[tokio::test]
async fn line_170_what_comes_free_is_not_granted_to_whom_nobody_waits_for_any_more()
-> anyhow::Result<()> {
    let stack = Stack::builder().gateways(2).start().await?;
    let mut tenant = stack.tenant().await?;
    tenant
        .add_model("long", "demo-fast@tokens=100,gap_ms=20", token_pricing())
        .await?;
    let key = tenant.key().await?;
    // One call of two hundred tokens fits, and no second one.
    let budget = tenant.key_budget(&key, 1_300_000).await?;
    let (one, other) = (stack.gateway(0)?, stack.gateway(1)?);
    let mut stream = one.stream(&key.secret, &say("long", "hi")).await?;
    assert_eq!(stream.status, 200);
    stream.read_at_least(1).await?;
    let refused = other.chat(&key.secret, &say("long", "hi")).await?;
    assert!(matches!(refused.status, 402 | 503), "{}", refused.text());
    let grants = async || -> anyhow::Result<i64> {
        let id = budget.trim_start_matches("bud_");
        let statement = "SELECT count(*) FROM ledger_entry
             WHERE rule_id = $1::uuid AND kind = 'grant'";
        let counted = sqlx::query_scalar(statement).bind(id);
        Ok(counted.fetch_one(&stack.postgres).await?)
    };
    let parked: i64 = sqlx::query_scalar("SELECT count(*) FROM parked_ask")
        .fetch_one(&stack.postgres)
        .await?;
    assert!(parked > 0, "the refused call's ask");
    tenant.reclaim().await?;
    let before = grants().await?;
    assert!(stream.rest().await.done);
    let accounted = assert_accounted(&stack).await?;
    let window = tenant.window(&budget).await?;
    assert_eq!(window.settled, accounted.cost());
    assert_eq!(grants().await?, before, "a grant for nobody");
    Ok(())
}
