//! Exact across gateways: none too many, none too few.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::try_join_all;
use odock_tests::{
    Stack,
    client::{Answer, say},
    tenant::Key,
    wait::wait_until,
};
use serde_json::json;

use super::{early_in_a_minute, limit_key, minute_of, requests};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn line_057_four_gateways_and_a_limit_of_a_hundred_a_minute_admit_exactly_a_hundred()
-> anyhow::Result<()> {
    let stack = Stack::builder().gateways(4).start().await?;
    let tenant = stack.tenant().await?;
    for _ in 0..ATTEMPTS {
        let key = tenant.key().await?;
        limit_key(&tenant, &key, requests(json!({ "per_minute": 100 }))).await?;
        let before = stack.demo.rows(0).await?.len();
        let (alone_before, minute) = (
            times_alone(&stack)?,
            early_in_a_minute(stack.redis().await?, Duration::from_secs(30)).await?,
        );
        let answers = crowd(&stack, &key, 1_000).await?;
        if minute_of(stack.redis().await?).await? != minute {
            // The machine was so slow that the minute ended meanwhile.
            continue;
        }
        let counted = counted(&answers);
        let admitted = counted.get("200").copied().unwrap_or_default();
        assert_eq!(stack.demo.rows(0).await?.len() - before, admitted);
        let alone = times_alone(&stack)? - alone_before;
        if alone > 0 {
            // It was so slow that Redis did not answer a gateway within two seconds: that one has its own share then,
            // and the others do not know of it. Never more than that.
            assert!((100..=100 + alone * 25).contains(&admitted), "{counted:?}");
            continue;
        }
        let expected = [("200", 100), ("429 rpm_exceeded", 900)];
        let expected = expected.map(|(outcome, times)| (outcome.to_owned(), times));
        assert_eq!(counted, BTreeMap::from(expected));
        return Ok(());
    }
    anyhow::bail!("in {ATTEMPTS} attempts Redis always left a gateway alone, or the minute ended")
}

/// How often a gateway began to count alone.
fn times_alone(stack: &Stack) -> anyhow::Result<usize> {
    let logs = stack.logs()?;
    Ok(logs.matches("rate limits are counted alone").count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn line_057_what_one_gateway_leaves_another_may_use() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    limit_key(&tenant, &key, requests(json!({ "per_minute": 10 }))).await?;
    let minute = early_in_a_minute(stack.redis().await?, Duration::from_secs(20)).await?;
    let mut admitted = 0;
    for turn in 0..12 {
        // Three at one gateway, the rest at the other.
        let gateway = stack.gateway(usize::from(turn > 2))?;
        let answer = gateway.chat(&key.secret, &say("demo-fast", "hi")).await?;
        if answer.status == 200 {
            admitted += 1;
        } else {
            answer.refused(429, "rpm_exceeded")?;
        }
    }
    assert_eq!(minute_of(stack.redis().await?).await?, minute);
    assert_eq!(admitted, 10);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn line_057_without_redis_a_gateway_counts_alone_and_nobody_is_refused_for_it()
-> anyhow::Result<()> {
    let mut stack = Stack::builder().gateways(2).own_redis().start().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    limit_key(&tenant, &key, requests(json!({ "per_minute": 100_000 }))).await?;
    let hi = say("demo-fast", "hi");
    stack
        .gateway(0)?
        .chat(&key.secret, &hi)
        .await?
        .expect(200)?;
    if let Some(redis) = &mut stack.own_redis {
        redis.kill().await?;
    }
    for _ in 0..20 {
        stack
            .gateway(0)?
            .chat(&key.secret, &hi)
            .await?
            .expect(200)?;
    }
    let alone = async |wanted: &str| {
        let line = format!("gateway_ratelimit_alone {wanted}");
        wait_until(line.clone(), Duration::from_secs(10), async || {
            let metrics = stack.gateway(0)?.get("/metrics").await?.text();
            anyhow::ensure!(metrics.contains(&line));
            Ok(())
        })
        .await
    };
    alone("1").await?;
    Ok(())
}

/// So many calls at a time over all gateways, on connections that are there before the first.
async fn crowd(stack: &Stack, key: &Key, calls: usize) -> anyhow::Result<Vec<Answer>> {
    let gateways = stack.gateways();
    let each = || (0..calls).filter_map(|number| gateways.get(number % gateways.len()));
    let connected = try_join_all(each().map(|gateway| gateway.get("/v1/health"))).await?;
    assert!(connected.iter().all(|answer| answer.status == 200));
    let body = say("demo-fast", "hi");
    try_join_all(each().map(|gateway| gateway.chat(&key.secret, &body))).await
}

fn counted(answers: &[Answer]) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    for answer in answers {
        let body = answer.json().unwrap_or_default();
        let code = body.pointer("/error/code").and_then(|code| code.as_str());
        let code = code.map_or(String::new(), |code| format!(" {code}"));
        *counted
            .entry(format!("{}{code}", answer.status))
            .or_default() += 1;
    }
    counted
}

/// Each of them begins in a minute of its own.
const ATTEMPTS: usize = 3;
