//! Redis and Postgres behind a bad network.

use std::time::{Duration, Instant};

use odock_tests::{
    Stack, Tenant,
    accounting::assert_accounted,
    client::say,
    invariants::assert_invariants,
    proxy::{Fault, FaultProxy},
    servers::{PostgresServer, RedisServer},
    stack::Service,
    tenant::{Key, unique},
    wait::wait_until,
};
use serde_json::json;

use super::FAULTS;

#[tokio::test]
async fn outage_of_the_network_to_both_stores_a_gateway_goes_on_and_heals() -> anyhow::Result<()> {
    let mut stack = Stack::builder().start().await?;
    let redis = proxy(&stack.ready.redis_url).await?;
    let postgres = proxy(&stack.ready.postgres_url).await?;
    stack.kill(Service::Gateway(0)).await?;
    let environment = [
        ("REDIS_URL", &*redis.instead_of(&stack.ready.redis_url)?),
        (
            "POSTGRES_DSN",
            &*postgres.instead_of(&stack.ready.postgres_url)?,
        ),
    ];
    stack
        .restart_with(Service::Gateway(0), &environment)
        .await?;
    let callers = Callers::new(&stack).await?;
    let budget = callers
        .tenant
        .key_budget(&callers.hard, 100_000_000_000)
        .await?;
    callers.call(&stack, 20).await?;
    for fault in FAULTS {
        redis.set(fault);
        postgres.set(fault);
        callers.call(&stack, 20).await?;
        if !matches!(fault, Fault::Delay(_)) {
            let began = Instant::now();
            let health = stack.gateway(0)?.get("/v1/healthz").await?;
            assert_eq!(health.status, 503, "{fault:?}: {}", health.text());
            assert!(began.elapsed() < ANSWERED, "{fault:?}");
        }
        redis.set(Fault::None);
        postgres.set(Fault::None);
        callers.healed(&stack, fault).await?;
    }
    let accounted = assert_accounted(&stack).await?;
    let spent = accounted.records.iter();
    let spent = spent.filter(|record| record.key_id == callers.hard.id);
    let spent: i64 = spent.map(|record| record.cost_nanos).sum();
    let window = wait_until("a complete reclaim", HEALED, async || {
        callers.tenant.reclaimed(&budget).await
    })
    .await?;
    assert_eq!((window.settled, window.held), (spent, 0));
    assert_invariants(&stack.postgres).await
}

#[tokio::test]
async fn outage_of_the_network_to_redis_no_answer_is_a_lie() -> anyhow::Result<()> {
    let url = RedisServer::shared().await?.take_database().await?;
    let redis = proxy(&url).await?;
    let stack = Stack::builder().redis_at(&redis.instead_of(&url)?);
    behind(stack.start().await?, &redis).await
}

#[tokio::test]
async fn outage_of_the_network_to_postgres_no_answer_is_a_lie() -> anyhow::Result<()> {
    let url = PostgresServer::shared().await?.create_database().await?;
    let postgres = proxy(&url).await?;
    let stack = Stack::builder().postgres_at(&postgres.instead_of(&url)?);
    behind(stack.start().await?, &postgres).await
}

/// All services have the same bad network to one store: calls go on, a change is made and stays or is refused or
/// unknown, in time, and what is unknown is told later.
async fn behind(stack: Stack, proxy: &FaultProxy) -> anyhow::Result<()> {
    let callers = Callers::new(&stack).await?;
    callers
        .tenant
        .key_budget(&callers.hard, 100_000_000_000)
        .await?;
    callers.call(&stack, 20).await?;
    let tenant = &callers.tenant;
    let mut promised = Vec::new();
    for fault in FAULTS {
        proxy.set(fault);
        callers.call(&stack, 20).await?;
        for _ in 0..3 {
            let name = unique("during");
            let began = Instant::now();
            let answer = tenant
                .admin
                .post(&tenant.path("/teams"), &json!({ "name": name }))
                .await?;
            let took = began.elapsed();
            assert!(took < ANSWERED, "{fault:?}: {took:?} {}", answer.text());
            let slow_only = matches!(fault, Fault::Delay(_));
            assert!(slow_only || answer.status != 201, "{fault:?}: made");
            match answer.status {
                201 => promised.push((name, Promise::Made)),
                202 => {
                    let url = answer.json()?["status_url"].as_str().map(str::to_owned);
                    promised.push((name, Promise::Unknown(url.unwrap_or_default())));
                }
                _ => {
                    answer.refused(503, "log_unavailable")?;
                    promised.push((name, Promise::Refused));
                }
            }
        }
        proxy.set(Fault::None);
        callers.healed(&stack, fault).await?;
    }
    let teams = tenant.admin.list(&tenant.path("/teams?limit=200")).await?;
    for (name, promise) in promised {
        let there = teams.iter().any(|team| team["name"] == *name);
        match &promise {
            Promise::Made => assert!(there, "{name}: acknowledged and lost"),
            Promise::Refused => assert!(!there, "{name}: refused, and there all the same"),
            Promise::Unknown(url) => {
                let path = url.trim_start_matches("/api/v1");
                let outcome = tenant.admin.read(path).await?;
                assert_eq!(there, outcome["status"] == "done", "{name}: {outcome}");
                assert_ne!(outcome["status"], "pending", "{name}");
            }
        }
    }
    assert_accounted(&stack).await?;
    assert_invariants(&stack.postgres).await
}

/// What the answer to a change said.
#[derive(Debug)]
enum Promise {
    Made,
    Refused,
    /// Where it is told later.
    Unknown(String),
}

struct Callers {
    tenant: Tenant,
    plain: Key,
    hard: Key,
    limited: Key,
}

impl Callers {
    async fn new(stack: &Stack) -> anyhow::Result<Self> {
        let tenant = stack.tenant().await?;
        let limited = json!({
            "type": "organisation", "name": "limited",
            "policies": { "ratelimit": { "requests": { "per_minute": 100_000 } } },
        });
        Ok(Self {
            plain: tenant.key().await?,
            hard: tenant.key().await?,
            limited: tenant.key_with(&limited).await?,
            tenant,
        })
    }

    /// Some calls of each key, all of them answered, and in time.
    async fn call(&self, stack: &Stack, times: u32) -> anyhow::Result<()> {
        for number in 0..times {
            for (key, patience) in [
                (&self.plain, AT_ONCE),
                (&self.hard, AT_ONCE),
                // One counter is waited for once, then the gateway counts alone.
                (&self.limited, COUNTED),
            ] {
                let began = Instant::now();
                let answer = stack
                    .gateway(0)?
                    .chat(&key.secret, &say("demo-fast", "hi"))
                    .await?;
                answer.expect(200)?;
                let took = began.elapsed();
                anyhow::ensure!(took < patience, "call {number} took {took:?}");
            }
        }
        Ok(())
    }

    /// Without a hand: a change reaches the gateway, and a call has its record.
    async fn healed(&self, stack: &Stack, fault: Fault) -> anyhow::Result<()> {
        let tenant = &self.tenant;
        wait_until(format!("healed after {fault:?}"), HEALED, async || {
            let name = json!({ "name": unique("after") });
            let path = tenant.path("/teams?wait=all&wait_seconds=1");
            let made = tenant.admin.post(&path, &name).await?.expect(201)?;
            anyhow::ensure!(made["receipt"]["complete"] == true, "{made}");
            let answer = stack
                .gateway(0)?
                .chat(&self.hard.secret, &say("demo-fast", "hi"))
                .await?;
            answer.expect(200)?;
            let usage_id = answer.header("x-odock-usage-id").unwrap_or_default();
            tenant.usage(usage_id).await?;
            Ok(())
        })
        .await
    }
}

async fn proxy(url: &str) -> anyhow::Result<FaultProxy> {
    FaultProxy::start(FaultProxy::server_of(url)?).await
}

const AT_ONCE: Duration = Duration::from_secs(1);
const COUNTED: Duration = Duration::from_secs(4);
/// An admin says within two seconds what it knows; a store that swallows takes it longer to notice.
const ANSWERED: Duration = Duration::from_secs(8);
const HEALED: Duration = Duration::from_secs(10);
