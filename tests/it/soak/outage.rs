//! A store away under steady load, and the books after it.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use odock_tests::{
    Stack,
    accounting::assert_accounted,
    client::say,
    invariants::assert_invariants,
    servers::{PostgresServer, RedisServer},
    stack::Service,
    tenant::{FEE_NANOS, Key, Tenant, unique},
    wait::wait_until,
};
use serde_json::json;
use sqlx::PgPool;

use super::{
    load::{Call, Kind, Load},
    memory::Memory,
};

/// The store that goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Away {
    Redis,
    Postgres,
}

/// What the time of the outage is held against.
struct Outage {
    began: Instant,
    ended: Instant,
    /// How many fees each gateway's lease had left when it began, in order.
    leased: Vec<i64>,
    caught_up_after: Duration,
    memory: Memory,
}

/// Says how long the store was away, how many calls there were, when all was caught up, and the memory of both gateways.
pub(super) async fn outage(away: Away, length: Option<Duration>) -> anyhow::Result<String> {
    let stack = Stack::builder().gateways(2);
    let mut stack = match away {
        Away::Redis => stack.own_redis().start().await?,
        Away::Postgres => stack.own_postgres().start().await?,
    };
    let tenant = stack.tenant().await?;
    let (soft, hard) = (tenant.key().await?, tenant.key().await?);
    // Full from the first call on: it refuses nothing all the same.
    tenant
        .budget("key", &soft.id, 1, json!({ "mode": "soft" }))
        .await?;
    let budget = tenant.key_budget(&hard, 1_000_000 * FEE_NANOS).await?;
    let servers = (stack.own_postgres.take(), stack.own_redis.take());
    let load = Load::default();
    let (seen, servers) = {
        let (stack, load) = (&stack, &load);
        let script = async {
            let seen = script(stack, load, (&tenant, &budget, &hard), servers, length).await;
            load.stop();
            seen
        };
        tokio::join!(script, run(stack, load, &soft, &hard)).0?
    };
    (stack.own_postgres, stack.own_redis) = servers;

    let calls = load.calls();
    assert_calls(away, &seen, &calls);
    let memory = seen.memory.assert_flat()?;
    let caught_up = seen.caught_up_after;
    assert!(caught_up <= CATCH_UP, "caught up after {caught_up:?}");
    let told = format!(
        "{away:?} away for {:?}: {} calls, caught up after {caught_up:?}, KiB {memory:?}",
        seen.ended - seen.began,
        calls.len()
    );

    let accounted = assert_accounted(&stack).await?;
    let own = [&soft.id, &hard.id];
    let recorded = accounted.records.iter();
    let recorded = recorded.filter(|record| own.contains(&&record.key_id));
    let answered = calls.iter().filter(|call| call.outcome == "200");
    assert_eq!(recorded.count(), answered.count(), "not what was answered");
    let window = wait_until("a complete reclaim", CATCH_UP, async || {
        tenant.reclaimed(&budget).await
    })
    .await?;
    let spent: i64 = accounted
        .records
        .iter()
        .filter(|record| record.key_id == hard.id)
        .map(|record| record.cost_nanos)
        .sum();
    assert_eq!((window.settled, window.held), (spent, 0));
    assert_invariants(&stack.postgres).await?;
    Ok(told)
}

async fn run(stack: &Stack, load: &Load, soft: &Key, hard: &Key) {
    let gateways = stack.gateways();
    let whole = || load.call(gateways, Kind::Soft, soft);
    tokio::join!(
        whole(),
        whole(),
        whole(),
        whole(),
        load.call(gateways, Kind::Stream, soft),
        load.call(gateways, Kind::Hard, hard)
    );
}

type Servers = (Option<PostgresServer>, Option<RedisServer>);

async fn script(
    stack: &Stack,
    load: &Load,
    (tenant, budget, hard): (&Tenant, &str, &Key),
    (mut postgres, mut redis): Servers,
    length: Option<Duration>,
) -> anyhow::Result<(Outage, Servers)> {
    let pids = [
        stack.pid(Service::Gateway(0))?,
        stack.pid(Service::Gateway(1))?,
    ];
    let mut memory = Memory::of(&pids);
    warm_up(stack, tenant).await?;
    reach(load, Kind::Soft, 100).await?;
    load.pause_hard(true);
    let leased = quiet_leases(load, &stack.postgres, (budget, &hard.id)).await?;
    if let Some(server) = &mut redis {
        server.kill().await?;
    }
    if let Some(server) = &mut postgres {
        server.kill().await?;
    }
    let began = Instant::now();
    load.pause_hard(false);
    memory.watch(length.unwrap_or(SHORT)).await?;
    let refused = tenant
        .admin
        .post(&tenant.path("/teams"), &json!({ "name": unique("away") }))
        .await?;
    refused.refused(503, "log_unavailable")?;
    let ended = Instant::now();
    if let Some(server) = &mut redis {
        server.start().await?;
    }
    if let Some(server) = &mut postgres {
        server.start().await?;
    }
    let back = Instant::now();
    let made = stack.demo.rows(0).await?.len();
    let hard_before = load.answered(Kind::Hard);
    wait_until("all of it caught up", CATCH_UP * 2, async || {
        let recorded: i64 = sqlx::query_scalar("SELECT count(*) FROM usage")
            .fetch_one(&stack.postgres)
            .await?;
        anyhow::ensure!(
            recorded.cast_unsigned() >= made as u64,
            "{recorded} of {made}"
        );
        let now = load.answered(Kind::Hard);
        anyhow::ensure!(now > hard_before, "no money for hard budgets yet");
        Ok(())
    })
    .await?;
    let caught_up_after = back.elapsed();
    reach(load, Kind::Soft, load.answered(Kind::Soft) + 50).await?;
    let outage = Outage {
        began,
        ended,
        leased,
        caught_up_after,
        memory,
    };
    Ok((outage, (postgres, redis)))
}

/// Many calls, so that the allocator has what it will keep.
async fn warm_up(stack: &Stack, tenant: &Tenant) -> anyhow::Result<()> {
    let key = tenant.key().await?;
    let body = say("demo-fast", "warm");
    let callers = (0..16).map(async |number: usize| {
        let gateway = stack.gateway(number % 2)?;
        for _ in 0..150 {
            gateway.chat(&key.secret, &body).await?.expect(200)?;
        }
        anyhow::Ok(())
    });
    try_join_all(callers).await?;
    Ok(())
}

/// What each gateway's lease has left in whole fees, when all that was called has settled and nothing moves any more.
async fn quiet_leases(
    load: &Load,
    postgres: &PgPool,
    (budget, key): (&str, &str),
) -> anyhow::Result<Vec<i64>> {
    let hex = |id: &str| id.rsplit('_').next().unwrap_or_default().to_owned();
    let (mut before, mut quiet) = (Vec::new(), 0);
    wait_until("quiet leases", Duration::from_secs(10), async || {
        let recorded: i64 =
            sqlx::query_scalar("SELECT count(*) FROM usage WHERE key_id = $1::uuid")
                .bind(hex(key))
                .fetch_one(postgres)
                .await?;
        let mut open: Vec<i64> = sqlx::query_scalar(
            "SELECT (granted - settled - returned) FROM lease WHERE rule_id = $1::uuid",
        )
        .bind(hex(budget))
        .fetch_all(postgres)
        .await?;
        open.sort_unstable();
        let answered = load.answered(Kind::Hard) as i64;
        let same = recorded == answered && open == before;
        quiet = if same { quiet + 1 } else { 0 };
        before.clone_from(&open);
        anyhow::ensure!(quiet > 50, "{recorded} of {answered} settled, {open:?}");
        Ok(())
    })
    .await?;
    Ok(before.iter().map(|open| open / FEE_NANOS).collect())
}

fn assert_calls(away: Away, seen: &Outage, calls: &[Call]) {
    let during = |call: &&Call| call.began >= seen.began && call.began < seen.ended;
    for call in calls.iter().filter(|call| call.kind != Kind::Hard) {
        assert_eq!(call.outcome, "200", "{call:?}");
    }
    let median = |chosen: &dyn Fn(&&Call) -> bool| {
        let soft = calls.iter().filter(|call| call.kind == Kind::Soft);
        let mut took: Vec<_> = soft.filter(chosen).map(|call| call.took).collect();
        took.sort_unstable();
        took.get(took.len() / 2).copied().unwrap_or_default()
    };
    let (before, without) = (median(&|call| call.began < seen.began), median(&during));
    assert!(
        without <= before * 2 + Duration::from_millis(10),
        "{away:?} away: {without:?} instead of {before:?} a call"
    );
    // One that waits for money when the store comes back may get it.
    let alone = |call: &&Call| during(call) && call.began + LONGEST_WAIT < seen.ended;
    let hard = || {
        calls
            .iter()
            .filter(|call| call.kind == Kind::Hard)
            .filter(alone)
    };
    let mut served: Vec<i64> = (0..2)
        .map(|gateway| {
            let own = hard().filter(|call| call.gateway == gateway);
            own.filter(|call| call.outcome == "200").count() as i64
        })
        .collect();
    served.sort_unstable();
    assert_eq!(served, seen.leased, "not what the leases had left");
    for call in hard() {
        let expected = matches!(call.outcome.as_str(), "200" | "503 budget_unavailable");
        assert!(expected, "{call:?}");
    }
}

async fn reach(load: &Load, kind: Kind, answered: usize) -> anyhow::Result<()> {
    let what = format!("{answered} answered calls");
    wait_until(what, Duration::from_secs(60), async || {
        let now = load.answered(kind);
        anyhow::ensure!(now >= answered, "{now}");
        Ok(())
    })
    .await
}

/// In `make test`.
const SHORT: Duration = Duration::from_secs(20);
/// More than a call waits for money.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
const CATCH_UP: Duration = Duration::from_secs(30);
