//! kill -9 of a gateway.

use std::time::{Duration, Instant};

use odock_tests::{
    Stack, accounting::assert_accounted, client::say, invariants::assert_invariants,
    stack::Service, tenant::token_pricing,
};

#[tokio::test]
async fn line_171_a_gateway_killed_in_the_middle_of_streams_twenty_times_loses_no_call()
-> anyhow::Result<()> {
    let mut stack = Stack::builder().start().await?;
    let mut tenant = stack.tenant().await?;
    tenant
        .add_model("long", "demo-fast@tokens=200,gap_ms=10", token_pricing())
        .await?;
    let key = tenant.key().await?;
    let budget = tenant.key_budget(&key, 1_000_000_000).await?;
    let soft = tenant.key().await?;
    for round in 0..20_usize {
        let gateway = stack.gateway(0)?.clone();
        let mut streams = Vec::new();
        for _ in 0..3 {
            streams.push(gateway.stream(&key.secret, &say("long", "hi")).await?);
            streams.push(gateway.stream(&soft.secret, &say("long", "hi")).await?);
        }
        for stream in &mut streams {
            // From the first byte to far into the stream.
            stream.read_at_least(1 + round * 200).await?;
        }
        gateway
            .chat(&key.secret, &say("demo-fast", "hi"))
            .await?
            .expect(200)?;
        stack.kill(Service::Gateway(0)).await?;
        drop(streams);
        let began = Instant::now();
        stack.restart(Service::Gateway(0)).await?;
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "back after {:?}",
            began.elapsed()
        );
    }
    let accounted = assert_accounted(&stack).await?;
    assert_eq!(accounted.rows.len(), 20 * 7);
    let interrupted = accounted.with_status("interrupted");
    assert_eq!(interrupted.len(), 20 * 6);
    assert!(interrupted.iter().all(|record| record.estimated));
    // Under a hard budget the whole reservation, else the last progress mark, which is less.
    for record in interrupted.iter().filter(|record| record.key_id == soft.id) {
        let most = accounted.rows.iter().filter(|row| {
            row.client_request_id.as_deref()
                == record.attempts.first().map(|attempt| attempt.id.as_str())
        });
        for row in most {
            assert!(
                record.output_tokens <= row.completion_tokens + 1,
                "{record:?}\n{row:?}"
            );
        }
    }
    let spent: i64 = accounted
        .records
        .iter()
        .filter(|record| record.key_id == key.id)
        .map(|record| record.cost_nanos)
        .sum();
    let window = tenant.reclaimed(&budget).await?;
    assert_eq!((window.settled, window.held), (spent, 0));
    assert_invariants(&stack.postgres).await
}

#[tokio::test]
async fn line_083_a_restarted_gateway_settles_its_open_calls_and_one_that_stays_away_keeps_its_money_held()
-> anyhow::Result<()> {
    let mut stack = Stack::builder().gateways(2).start().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let budget = tenant.key_budget(&key, 1_000_000_000).await?;
    let mut stream = stack
        .gateway(0)?
        .stream(&key.secret, &say("demo-slow", "hi"))
        .await?;
    stream.read_at_least(1).await?;
    stack.kill(Service::Gateway(0)).await?;
    drop(stream);
    let held = tenant.window(&budget).await?.held;
    assert!(held > 0, "what it reserved is free already");
    stack
        .gateway(1)?
        .chat(&key.secret, &say("demo-fast", "hi"))
        .await?
        .expect(200)?;
    assert!(tenant.window(&budget).await?.held > 0);
    stack.restart(Service::Gateway(0)).await?;
    let accounted = assert_accounted(&stack).await?;
    assert_eq!(accounted.with_status("interrupted").len(), 1);
    let window = tenant.reclaimed(&budget).await?;
    assert_eq!((window.settled, window.held), (accounted.cost(), 0));
    Ok(())
}

#[tokio::test]
async fn a_second_process_with_the_same_journal_does_not_start() -> anyhow::Result<()> {
    let stack = Stack::builder().start().await?;
    let settings = stack.data_dir.join("run/gateway-1.toml");
    let second = tokio::process::Command::new(odock_tests::place::odock()?)
        .args(["gateway", "--config"])
        .arg(settings)
        .kill_on_drop(true)
        .output();
    let second = odock_tests::wait::within("its end", Duration::from_secs(20), second).await??;
    assert!(!second.status.success());
    stack.gateway(0)?.get("/v1/ready").await?.expect(200)?;
    Ok(())
}
