//! A gateway without its stores.

use std::time::{Duration, Instant};

use odock_tests::{
    Stack, accounting::assert_accounted, client::say, stack::Service, wait::wait_until,
};

#[tokio::test]
async fn line_173_a_gateway_restarted_without_redis_and_postgres_serves_known_keys_within_a_second()
-> anyhow::Result<()> {
    let mut stack = Stack::builder()
        .own_postgres()
        .own_redis()
        .environment("CONFIG_MAX_STALE", "3s")
        .start()
        .await?;
    let tenant = stack.tenant().await?;
    let (plain, hard) = (tenant.key().await?, tenant.key().await?);
    let budget = tenant.key_budget(&hard, 1_000_000_000).await?;
    // So that it holds a lease for more than the calls to come.
    wait_until("a lease", Duration::from_secs(10), async || {
        stack
            .gateway(0)?
            .chat(&hard.secret, &say("demo-fast", "hi"))
            .await?
            .expect(200)?;
        let window = tenant.window(&budget).await?;
        anyhow::ensure!(window.held > 5_000_000, "{window:?}");
        Ok(())
    })
    .await?;
    let before = stack.demo.rows(0).await?.len();
    let in_force = std::time::SystemTime::now();
    // Something to save, so that the file is written again.
    tenant.key().await?;
    wait_until(
        "its snapshot is on disk",
        Duration::from_secs(10),
        async || {
            let written =
                std::fs::metadata(stack.data_dir.join("gateway-1/snapshot.bin"))?.modified()?;
            // Of what was in force before: a file of a moment ago may be without the last change.
            anyhow::ensure!(written > in_force && stack.ready.version == 1);
            let status = tenant.admin.read("/status").await?;
            let gateways = status["gateways"].as_array().cloned().unwrap_or_default();
            anyhow::ensure!(
                gateways
                    .iter()
                    .all(|gateway| gateway["applied_version"] == status["config_version"]),
                "{status}"
            );
            Ok(())
        },
    )
    .await?;
    stack.stop_stores().await?;
    stack.kill(Service::Gateway(0)).await?;
    let began = Instant::now();
    stack.restart(Service::Gateway(0)).await?;
    for key in [&plain, &hard] {
        stack
            .gateway(0)?
            .chat(&key.secret, &say("demo-fast", "offline"))
            .await?
            .expect(200)?;
    }
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "served after {:?}",
        began.elapsed()
    );

    // Beyond max_stale known keys go on, unknown ones are told why.
    let unknown = odock_events::secret_key::SecretKey::generate();
    wait_until(
        "the configuration is stale",
        Duration::from_secs(10),
        async || {
            stack
                .gateway(0)?
                .validate(unknown.expose())
                .await?
                .refused(503, "config_stale")
        },
    )
    .await?;
    for key in [&plain, &hard] {
        stack
            .gateway(0)?
            .chat(&key.secret, &say("demo-fast", "stale"))
            .await?
            .expect(200)?;
    }
    stack.gateway(0)?.get("/v1/ready").await?.expect(200)?;

    stack.start_stores().await?;
    let accounted = assert_accounted(&stack).await?;
    assert_eq!(accounted.records.len(), before + 4);
    Ok(())
}

#[tokio::test]
async fn line_172_warm_calls_do_without_both_stores_and_a_spent_lease_is_no_permission()
-> anyhow::Result<()> {
    let mut stack = Stack::builder().own_postgres().own_redis().start().await?;
    let tenant = stack.tenant().await?;
    let (plain, hard) = (tenant.key().await?, tenant.key().await?);
    let limit = 1_000_000_000;
    let budget = tenant.key_budget(&hard, limit).await?;
    for key in [&plain, &hard] {
        stack
            .gateway(0)?
            .chat(&key.secret, &say("demo-fast", "hi"))
            .await?
            .expect(200)?;
    }
    stack.stop_stores().await?;
    for _ in 0..50 {
        stack
            .gateway(0)?
            .chat(&plain.secret, &say("demo-fast", "hi"))
            .await?
            .expect(200)?;
    }
    // The lease is worth ten seconds of spending or half of the rest: fees end it.
    let mut served = 0;
    let refused = loop {
        let answer = stack
            .gateway(0)?
            .chat(&hard.secret, &say("demo-fee", "hi"))
            .await?;
        if answer.status != 200 {
            break answer;
        }
        served += 1;
        assert!(
            served <= limit / odock_tests::tenant::FEE_NANOS,
            "more than the whole budget"
        );
    };
    refused.refused(503, "budget_unavailable")?;
    stack.start_stores().await?;
    let accounted = assert_accounted(&stack).await?;
    let spent: i64 = accounted
        .records
        .iter()
        .filter(|record| record.key_id == hard.id)
        .map(|record| record.cost_nanos)
        .sum();
    let window = wait_until("a complete reclaim", Duration::from_secs(20), async || {
        tenant.reclaimed(&budget).await
    })
    .await?;
    assert_eq!((window.settled, window.held), (spent, 0));
    Ok(())
}
