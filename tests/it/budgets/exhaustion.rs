//! How much of a budget is spent before the first refusal, when what is in flight is small against the limit.

use std::{
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
    time::Duration,
};

use futures_util::future::try_join_all;
use odock_tests::{
    Stack,
    client::say,
    tenant::{FEE_NANOS, Key},
    wait::wait_until,
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
    // The last refused call's ask may be granted what another call left, after its caller has gone: it comes back.
    let window = wait_until("all holds given back", GIVEN_BACK, async || {
        let window = tenant.reclaimed(&budget).await?;
        anyhow::ensure!(window.held == 0, "{window:?}");
        Ok(window)
    })
    .await?;
    assert!(window.settled <= limit, "{window:?}");
    assert!(window.settled * 100 >= limit * percent, "{window:?}");
    Ok(())
}

/// An ask that nobody waits for any more is forgotten after five seconds.
const GIVEN_BACK: Duration = Duration::from_secs(10);
