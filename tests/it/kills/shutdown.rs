//! SIGTERM: streams drain, usage is shipped, leases go back.

use std::time::Duration;

use nix::sys::signal::Signal;
use odock_tests::{
    Stack,
    accounting::assert_accounted,
    client::say,
    invariants::assert_invariants,
    keeper, place,
    stack::Service,
    tenant::token_pricing,
    wait::{wait_until, within},
};

#[tokio::test]
async fn line_149_a_gateway_that_is_told_to_stop_drains_streams_and_gives_everything_back()
-> anyhow::Result<()> {
    let stack = Stack::builder().gateways(2).start().await?;
    let mut tenant = stack.tenant().await?;
    tenant
        .add_model("long", "demo-fast@tokens=100,gap_ms=20", token_pricing())
        .await?;
    let key = tenant.key().await?;
    let budget = tenant.key_budget(&key, 1_000_000_000).await?;
    let mut stream = stack
        .gateway(0)?
        .stream(&key.secret, &say("long", "hi"))
        .await?;
    stream.read_at_least(1).await?;
    let pid = stack.terminate(Service::Gateway(0))?;
    // Balancers turn away, or it listens no more; the stream goes on.
    wait_until("it is not ready", Duration::from_secs(5), async || {
        if let Ok(answer) = stack.gateway(0)?.get("/v1/ready").await {
            anyhow::ensure!(answer.status == 503, "{}", answer.status);
        }
        Ok(())
    })
    .await?;
    let answer = within(
        "the end of the stream",
        Duration::from_secs(10),
        stream.rest(),
    )
    .await?;
    assert!(
        answer.done && answer.error_code().is_none(),
        "{}",
        String::from_utf8_lossy(&answer.raw)
    );
    keeper::wait_gone(pid, Duration::from_secs(10)).await?;

    let accounted = assert_accounted(&stack).await?;
    assert_eq!(accounted.with_status("completed").len(), 1);
    // Without any reclaim: it gave its lease back by itself.
    let window = wait_until("the lease is back", Duration::from_secs(5), async || {
        let window = tenant.window(&budget).await?;
        anyhow::ensure!(window.held == 0, "{window:?}");
        Ok(window)
    })
    .await?;
    assert_eq!(window.settled, accounted.cost());
    // It counts no more in receipts.
    let path = tenant.path(&format!("/keys/{}/revoke?wait=all", key.id));
    let revoked = tenant.admin.act(&path).await?.expect(200)?;
    let receipt = &revoked["receipt"];
    assert_eq!(
        (
            &receipt["complete"],
            receipt["gateways"].as_array().map(Vec::len)
        ),
        (&true.into(), Some(1))
    );
    Ok(())
}

#[tokio::test]
async fn line_148_up_starts_from_nothing_with_its_own_stores_and_stops_in_order()
-> anyhow::Result<()> {
    let stack = Stack::builder().private_stores().start().await?;
    let ready = &stack.ready;
    let pids = ready.pids.all();
    assert_eq!(pids.len(), 7);
    stack
        .gateway(0)?
        .chat(ready.seeded_key()?, &say("demo-fast", "hi"))
        .await?
        .expect(200)?;
    let ready_file = stack.data_dir.join("ready.json");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&ready_file)?.permissions());
    assert_eq!(mode & 0o777, 0o600);

    let second = tokio::process::Command::new(odock_tests::place::odock()?)
        .args(["up", "--data-dir"])
        .arg(&stack.data_dir)
        .kill_on_drop(true)
        .output();
    let second = within("the second up", Duration::from_secs(20), second).await??;
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains(&ready.pids.up.to_string()), "{said}");

    let data_dir = stack.data_dir.clone();
    stack.stop().await?;
    assert!(!data_dir.join("ready.json").exists());
    for pid in pids {
        keeper::wait_gone(pid, Duration::from_secs(5)).await?;
    }
    Ok(())
}

#[tokio::test]
async fn line_171_a_killed_up_leaves_no_process_and_the_next_one_goes_on_with_the_data()
-> anyhow::Result<()> {
    let stack = Stack::builder().private_stores().start().await?;
    let ready = stack.ready.clone();
    let key = ready.seeded_key()?;
    let hi = say("demo-fast", "hi");
    stack.gateway(0)?.chat(key, &hi).await?.expect(200)?;
    let records = assert_accounted(&stack).await?.records.len();
    // One in flight, and one service that cannot end by itself.
    let mut stream = stack
        .gateway(0)?
        .stream(key, &say("demo-slow", "hi"))
        .await?;
    stream.read_at_least(1).await?;
    keeper::send(stack.pid(Service::Admin)?, Signal::SIGSTOP);
    place::keep(&stack.data_dir)?;
    keeper::kill(ready.pids.up).await?;
    for pid in ready.pids.all() {
        keeper::wait_gone(pid, Duration::from_secs(8)).await?;
    }

    let again = Stack::builder()
        .private_stores()
        .on(&stack.data_dir)
        .start()
        .await?;
    place::give_up(&stack.data_dir)?;
    assert_eq!(again.ready.seeded_key()?, key);
    again.gateway(0)?.chat(key, &hi).await?.expect(200)?;
    let accounted = assert_accounted(&again).await?;
    assert_eq!(accounted.records.len(), records + 2);
    assert_invariants(&again.postgres).await?;
    again.stop().await
}

#[tokio::test]
async fn a_child_that_died_is_started_again() -> anyhow::Result<()> {
    let mut stack = Stack::builder().restarting().start().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let before = stack.pid(Service::Gateway(0))?;
    stack.kill(Service::Gateway(0)).await?;
    wait_until("another gateway", Duration::from_secs(15), async || {
        stack.read_ready()?;
        anyhow::ensure!(stack.pid(Service::Gateway(0))? != before);
        stack
            .gateway(0)?
            .chat(&key.secret, &say("demo-fast", "hi"))
            .await?
            .expect(200)
    })
    .await?;
    Ok(())
}
