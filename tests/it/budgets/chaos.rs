//! A thousand calls on money for ten, over eight gateways, while gateways, projectors and Redis are killed: never a nano
//! too many, and once all are back none that stays held. `make chaos` runs a hundred seeds of it.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::Context as _;
use futures_util::future::join_all;
use odock_tests::{
    Stack,
    accounting::{Accounted, assert_accounted},
    client::say,
    invariants::assert_invariants,
    stack::Service,
    tenant::{FEE_NANOS, Key, Tenant},
    wait::wait_until,
};

const GATEWAYS: usize = 8;
const PROJECTORS: usize = 2;
const CALLS: usize = 1_000;
const MONEY_FOR: i64 = 10;
/// Rounds without `ODOCK_CHAOS_ROUNDS`.
const ROUNDS: u64 = 5;

/// Who dies, and after how many answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Gateway(usize),
    Projector(usize),
    Redis,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chaos_line_170_no_kill_of_gateways_projectors_or_redis_overspends_or_leaks_a_nano()
-> anyhow::Result<()> {
    let number = |name: &str| std::env::var_os(name)?.to_str()?.parse().ok();
    let rounds: u64 = number("ODOCK_CHAOS_ROUNDS").unwrap_or(ROUNDS);
    let first: u64 = number("ODOCK_CHAOS_SEED").unwrap_or(1);
    let mut stack = Stack::builder()
        .gateways(GATEWAYS as u8)
        .projectors(PROJECTORS as u8)
        .own_redis()
        .start()
        .await?;
    let tenant = stack.tenant().await?;
    let mut before = 0;
    for seed in first..first + rounds {
        let plan = plan(seed);
        println!("seed {seed}: {plan:?}");
        let accounted = round(&mut stack, &tenant, &plan)
            .await
            .with_context(|| format!("ODOCK_CHAOS_SEED={seed} makes the same kills: {plan:?}"))?;
        // What reached the upstream for this round's money; the fee is what each of them costs.
        let reached = accounted.rows.len() - before;
        anyhow::ensure!(
            reached as i64 <= MONEY_FOR,
            "seed {seed}: {reached} calls reached the upstream on money for {MONEY_FOR}"
        );
        before = accounted.rows.len();
    }
    assert_invariants(&stack.postgres).await
}

/// One to three gateways, sometimes the active projector, sometimes Redis, each at another moment of the crowd.
fn plan(seed: u64) -> Vec<(u32, Victim)> {
    let mut state = seed;
    let mut below = move |bound: u64| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    };
    let mut victims: Vec<Victim> = Vec::new();
    for _ in 0..=below(3) {
        let victim = Victim::Gateway(below(GATEWAYS as u64) as usize);
        if !victims.contains(&victim) {
            victims.push(victim);
        }
    }
    if below(2) == 0 {
        victims.push(Victim::Projector(below(PROJECTORS as u64) as usize));
    }
    if below(2) == 0 {
        victims.push(Victim::Redis);
    }
    let mut plan: Vec<_> = victims
        .into_iter()
        .map(|victim| (below(200) as u32, victim))
        .collect();
    plan.sort_by_key(|(after, _)| *after);
    plan
}

async fn round(
    stack: &mut Stack,
    tenant: &Tenant,
    plan: &[(u32, Victim)],
) -> anyhow::Result<Accounted> {
    let key = tenant.key().await?;
    let budget = tenant.key_budget(&key, MONEY_FOR * FEE_NANOS).await?;
    let mut redis = stack.own_redis.take().context("a Redis of its own")?;
    {
        let stack = &*stack;
        let ended = AtomicU32::new(0);
        let strikes = async {
            for (after, victim) in plan {
                wait_until("calls that ended", Duration::from_secs(30), async || {
                    let ended = ended.load(Ordering::Relaxed);
                    anyhow::ensure!(ended >= *after, "{ended} of {after}");
                    Ok(())
                })
                .await?;
                match victim {
                    Victim::Gateway(index) => stack.kill(Service::Gateway(*index)).await?,
                    Victim::Projector(index) => stack.kill(Service::Projector(*index)).await?,
                    Victim::Redis => redis.kill().await?,
                }
            }
            anyhow::Ok(())
        };
        let (struck, ()) = tokio::join!(strikes, crowd(stack, &key, &ended));
        struck?;
    }
    if plan.iter().any(|(_, victim)| *victim == Victim::Redis) {
        redis.start().await?;
    }
    stack.own_redis = Some(redis);
    for (_, victim) in plan {
        match victim {
            Victim::Gateway(index) => stack.restart(Service::Gateway(*index)).await?,
            Victim::Projector(index) => stack.restart(Service::Projector(*index)).await?,
            Victim::Redis => {}
        }
    }
    all_spent(stack, tenant, &key, &budget).await?;
    let accounted = assert_accounted(stack).await?;
    let records = accounted.records.iter();
    let spent: i64 = records
        .filter(|record| record.key_id == key.id)
        .map(|record| record.cost_nanos)
        .sum();
    let window = reclaimed(tenant, &budget).await?;
    anyhow::ensure!(
        (window.settled, window.held, window.free) == (spent, 0, 0) && spent == window.limit,
        "{window:?}, and the records cost {spent}"
    );
    Ok(accounted)
}

/// All calls at once, in turn over the gateways. Refused, unanswered and broken ones are part of it.
async fn crowd(stack: &Stack, key: &Key, ended: &AtomicU32) {
    let body = say("demo-fee", "hi");
    let gateways = stack.gateways();
    let calls = (0..CALLS).filter_map(|number| gateways.get(number % gateways.len()));
    let each = calls.map(async |gateway| {
        let answer = gateway.chat(&key.secret, &body).await;
        if let Ok(answer) = &answer {
            assert!(
                matches!(answer.status, 200 | 402 | 503),
                "{}: {}",
                answer.status,
                answer.text()
            );
        }
        ended.fetch_add(1, Ordering::Relaxed);
    });
    join_all(each).await;
}

/// What is left is spent, call by call, until every gateway says that there is nothing.
async fn all_spent(stack: &Stack, tenant: &Tenant, key: &Key, budget: &str) -> anyhow::Result<()> {
    let body = say("demo-fee", "the rest");
    for gateway in stack.gateways() {
        wait_until("a refusal", Duration::from_secs(30), async || {
            let answer = gateway.chat(&key.secret, &body).await?;
            if answer.status == 402 {
                let window = reclaimed(tenant, budget).await?;
                anyhow::ensure!(
                    window.free < FEE_NANOS,
                    "refused while {} are free: {}",
                    window.free,
                    answer.text()
                );
                return Ok(());
            }
            anyhow::bail!("{}: {}", answer.status, answer.text())
        })
        .await?;
    }
    Ok(())
}

async fn reclaimed(tenant: &Tenant, budget: &str) -> anyhow::Result<odock_tests::tenant::Window> {
    wait_until("a complete reclaim", Duration::from_secs(20), async || {
        tenant.reclaimed(budget).await
    })
    .await
}
