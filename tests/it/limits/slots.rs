//! Concurrency: never one too many at the upstream, whoever dies or stands still, and every slot comes back.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use nix::sys::signal::Signal;
use odock_tests::{
    Stack,
    client::{LedgerRow, say},
    keeper,
    stack::Service,
    tenant::{Key, token_pricing},
    wait::wait_until,
};
use serde_json::{Map, Value, json};

use super::limit_key;

fn concurrency(limits: Value) -> Value {
    let limits = Map::from_iter([("concurrency".to_owned(), limits)]);
    json!({ "ratelimit": limits })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn line_064_five_slots_on_four_gateways_never_become_six_though_some_are_killed_or_paused()
-> anyhow::Result<()> {
    let mut stack = Stack::builder().gateways(4).start().await?;
    let mut tenant = stack.tenant().await?;
    tenant
        .add_model("brief", "demo-fast@first_ms=100", token_pricing())
        .await?;
    let key = tenant.key().await?;
    limit_key(&tenant, &key, concurrency(json!({ "max": 5 }))).await?;
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let load = async {
        let callers = (0..24).map(|caller| call_on(&stack, &key, caller, &over, &answered));
        join_all(callers).await;
        anyhow::Ok(())
    };
    let blows = async {
        wait_for_calls(&answered, 20).await?;
        let paused = stack.pid(Service::Gateway(1))?;
        keeper::send(paused, Signal::SIGSTOP);
        stack.kill(Service::Gateway(2)).await?;
        // Longer than a lease: its slots are others' when it goes on.
        leases_of_two_are_left(&stack, &tenant.organisation_id, &key).await?;
        wait_for_calls(&answered, answered.load(Ordering::Relaxed) + 60).await?;
        keeper::send(paused, Signal::SIGCONT);
        wait_for_calls(&answered, answered.load(Ordering::Relaxed) + 60).await?;
        over.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    let (called, struck) = tokio::join!(load, blows);
    called?;
    struck?;
    let rows = stack.demo.rows(0).await?;
    let most = most_at_once(&rows);
    assert!(most <= 5, "{most} calls were at the upstream at once");
    assert!(most >= 3, "the limit was never near: {most}");
    stack.restart(Service::Gateway(2)).await?;
    all_slots_are_free(&stack, &key).await
}

#[tokio::test]
async fn line_054_a_slot_is_free_after_every_end_of_a_call() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let mut tenant = stack.tenant().await?;
    tenant
        .add_model("failing", "demo-error-500", token_pricing())
        .await?;
    tenant
        .add_model("half", "demo-cut-stream", token_pricing())
        .await?;
    let key = tenant.key().await?;
    limit_key(&tenant, &key, concurrency(json!({ "max": 1 }))).await?;
    let gateway = stack.gateway(0)?;
    let fast = say("demo-fast", "hi");
    for _ in 0..3 {
        gateway.chat(&key.secret, &fast).await?.expect(200)?;
        let failed = gateway.chat(&key.secret, &say("failing", "hi")).await?;
        failed.refused(502, "upstream_error")?;
        let unknown = gateway.chat(&key.secret, &say("no-such", "hi")).await?;
        unknown.refused(400, "model_not_found")?;
        let whole = gateway.stream(&key.secret, &fast).await?;
        assert_eq!(whole.status, 200);
        assert!(whole.rest().await.done);
        let half = gateway.stream(&key.secret, &say("half", "hi")).await?;
        assert_eq!(half.status, 200);
        half.rest().await;
    }
    let mut slow = gateway.stream(&key.secret, &say("demo-slow", "hi")).await?;
    slow.read_at_least(1).await?;
    let busy = stack.gateway(1)?.chat(&key.secret, &fast).await?;
    let denial = busy.refused(429, "concurrency_exceeded")?;
    assert_eq!(denial["error"]["limit"], "concurrency");
    // The caller hangs up.
    drop(slow);
    wait_until("the slot", Duration::from_secs(5), async || {
        stack
            .gateway(1)?
            .chat(&key.secret, &fast)
            .await?
            .expect(200)
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn line_064_a_slot_ends_with_its_time_although_its_call_goes_on() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let limits = json!({ "max": 1, "lease_ttl_seconds": 1 });
    limit_key(&tenant, &key, concurrency(limits)).await?;
    let slow = say("demo-slow", "hi");
    let mut long = stack.gateway(0)?.stream(&key.secret, &slow).await?;
    long.read_at_least(1).await?;
    let second = wait_until("a second slot", Duration::from_secs(4), async || {
        let stream = stack.gateway(1)?.stream(&key.secret, &slow).await?;
        anyhow::ensure!(stream.status == 200, "{}", stream.status);
        Ok(stream)
    })
    .await?;
    drop(second);
    assert!(long.rest().await.done, "the first call was not cut");
    Ok(())
}

async fn call_on(
    stack: &Stack,
    key: &Key,
    caller: usize,
    over: &AtomicBool,
    answered: &AtomicUsize,
) {
    let body = say("brief", "hi");
    let mut round = caller;
    while !over.load(Ordering::Relaxed) {
        round += 1;
        let Ok(gateway) = stack.gateway(round % 4) else {
            return;
        };
        let call = tokio::time::timeout(Duration::from_secs(1), gateway.chat(&key.secret, &body));
        match call.await {
            Ok(Ok(answer)) if answer.status == 200 => {
                answered.fetch_add(1, Ordering::Relaxed);
            }
            // Refused, dead or standing still: on to the next one.
            Ok(Ok(_) | Err(_)) | Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn wait_for_calls(answered: &AtomicUsize, calls: usize) -> anyhow::Result<()> {
    wait_until(
        "calls that were answered",
        Duration::from_secs(60),
        async || {
            let now = answered.load(Ordering::Relaxed);
            anyhow::ensure!(now >= calls, "{now} of {calls}");
            Ok(())
        },
    )
    .await
}

/// What the dead and the paused gateway held has run out at the counter in Redis.
async fn leases_of_two_are_left(
    stack: &Stack,
    organisation: &str,
    key: &Key,
) -> anyhow::Result<()> {
    let organisation = organisation.trim_start_matches("org_");
    let counter = format!(
        "{{l:{organisation}}}:c:{}",
        key.id.trim_start_matches("key_")
    );
    let mut redis = stack.redis().await?;
    wait_until(
        "their leases run out",
        Duration::from_secs(20),
        async || {
            let query = redis::cmd("HLEN").arg(&counter).to_owned();
            let left: u64 = query.query_async(&mut redis).await?;
            anyhow::ensure!(left <= 2, "{left} hold slots");
            Ok(())
        },
    )
    .await
}

/// Five calls at a time are taken again, and the sixth is not.
async fn all_slots_are_free(stack: &Stack, key: &Key) -> anyhow::Result<()> {
    let slow = say("demo-slow", "hi");
    let mut held = Vec::new();
    wait_until("five slots", Duration::from_secs(10), async || {
        while held.len() < 5 {
            let stream = stack
                .gateway(held.len() % 4)?
                .stream(&key.secret, &slow)
                .await?;
            anyhow::ensure!(
                stream.status == 200,
                "slot {}: {}",
                held.len(),
                stream.status
            );
            held.push(stream);
        }
        Ok(())
    })
    .await?;
    let sixth = stack.gateway(3)?.chat(&key.secret, &slow).await?;
    sixth.refused(429, "concurrency_exceeded")?;
    Ok(())
}

/// By the upstream's own ledger; a call that ends in the moment in which another begins is not beside it.
fn most_at_once(rows: &[LedgerRow]) -> i64 {
    let mut moments: Vec<(&str, i64)> = Vec::new();
    for row in rows {
        moments.push((&row.received_at, 1));
        if let Some(end) = &row.finished_at {
            moments.push((end, -1));
        }
    }
    moments.sort_unstable();
    let mut now = 0;
    let counts = moments.iter().map(|(_, change)| {
        now += change;
        now
    });
    counts.max().unwrap_or_default()
}
