//! Redis and Postgres killed, wiped and set back, and the projector killed, under load.

use std::time::Duration;

use odock_tests::{
    Stack,
    accounting::assert_accounted,
    client::say,
    invariants::assert_invariants,
    stack::Service,
    tenant::{Key, Tenant},
    wait::wait_until,
};

use super::Load;

/// What happens between two spells of load.
enum Blow {
    Projector,
    Redis,
    RedisWithFiles,
    FlushAll,
    Postgres,
}

#[tokio::test]
async fn line_171_a_projector_killed_in_the_middle_of_batches_loses_and_doubles_nothing()
-> anyhow::Result<()> {
    under(Blow::Projector, 5).await
}

#[tokio::test]
async fn line_171_a_killed_redis_loses_and_doubles_nothing() -> anyhow::Result<()> {
    under(Blow::Redis, 2).await
}

#[tokio::test]
async fn line_171_a_redis_that_comes_back_empty_loses_and_doubles_nothing() -> anyhow::Result<()> {
    under(Blow::RedisWithFiles, 2).await
}

#[tokio::test]
async fn line_171_flushall_under_load_loses_and_doubles_nothing() -> anyhow::Result<()> {
    under(Blow::FlushAll, 3).await
}

#[tokio::test]
async fn line_133_a_killed_postgres_loses_and_doubles_nothing() -> anyhow::Result<()> {
    under(Blow::Postgres, 2).await
}

/// Load on a hard budget, blows in the middle of it, and the books at the end.
async fn under(blow: Blow, times: u32) -> anyhow::Result<()> {
    let stack = match blow {
        Blow::Postgres => Stack::builder().gateways(2).own_postgres(),
        Blow::Redis | Blow::RedisWithFiles | Blow::FlushAll => {
            Stack::builder().gateways(2).own_redis()
        }
        Blow::Projector => Stack::builder().gateways(2),
    };
    let mut stack = stack.start().await?;
    let tenant = stack.tenant().await?;
    let (key, plain) = (tenant.key().await?, tenant.key().await?);
    let budget = tenant.key_budget(&key, 1_000_000_000_000).await?;
    for _ in 0..times {
        spell(&mut stack, &[&key, &plain], &blow).await?;
        recovered(&stack, &tenant, &key).await?;
    }
    let accounted = assert_accounted(&stack).await?;
    let window = wait_until("a complete reclaim", Duration::from_secs(15), async || {
        tenant.reclaimed(&budget).await
    })
    .await?;
    let spent: i64 = accounted
        .records
        .iter()
        .filter(|record| record.key_id == key.id)
        .map(|record| record.cost_nanos)
        .sum();
    assert_eq!((window.settled, window.held), (spent, 0));
    assert_invariants(&stack.postgres).await
}

/// Load for some hundred calls with the blow in the middle.
async fn spell(stack: &mut Stack, keys: &[&Key], blow: &Blow) -> anyhow::Result<()> {
    let load = Load::new();
    // The blow needs the servers, the load the rest of the stack.
    let (mut own_postgres, mut own_redis) = (stack.own_postgres.take(), stack.own_redis.take());
    let projector_dies = matches!(blow, Blow::Projector);
    {
        let (stack, load) = (&*stack, &load);
        let strike = async {
            reach(load, 60).await?;
            match blow {
                Blow::Projector => stack.kill(Service::Projector(0)).await?,
                Blow::Redis | Blow::RedisWithFiles => {
                    if let Some(redis) = &mut own_redis {
                        redis.kill().await?;
                    }
                }
                Blow::FlushAll => {
                    redis::cmd("FLUSHALL")
                        .query_async::<()>(&mut stack.redis().await?)
                        .await?;
                }
                Blow::Postgres => {
                    if let Some(postgres) = &mut own_postgres {
                        postgres.kill().await?;
                    }
                }
            }
            // Traffic goes on meanwhile: from snapshot, leases and journal.
            reach(load, load.answered() + 30).await?;
            match blow {
                Blow::Projector | Blow::FlushAll => {}
                Blow::Redis => {
                    if let Some(redis) = &mut own_redis {
                        redis.start().await?;
                    }
                }
                Blow::RedisWithFiles => {
                    if let Some(redis) = &mut own_redis {
                        redis.wipe_files()?;
                        redis.start().await?;
                    }
                }
                Blow::Postgres => {
                    if let Some(postgres) = &mut own_postgres {
                        postgres.start().await?;
                    }
                }
            }
            load.stop();
            anyhow::Ok(())
        };
        let ended = tokio::join!(
            strike,
            load.call_on(stack, keys, 0),
            load.call_on(stack, keys, 1),
            load.call_on(stack, keys, 2)
        );
        ended.0?;
    }
    (stack.own_postgres, stack.own_redis) = (own_postgres, own_redis);
    if projector_dies {
        stack.restart(Service::Projector(0)).await?;
    }
    Ok(())
}

async fn reach(load: &Load, answered: u32) -> anyhow::Result<()> {
    let reached = wait_until(
        format!("{answered} answered calls"),
        Duration::from_secs(20),
        async || {
            anyhow::ensure!(load.answered() >= answered, "{}", load.answered());
            Ok(())
        },
    );
    let reached = reached.await;
    if reached.is_err() {
        load.stop();
    }
    reached
}

/// Healthy again without a hand: a management write, a call on each gateway, its record.
async fn recovered(stack: &Stack, tenant: &Tenant, key: &Key) -> anyhow::Result<()> {
    wait_until("a management write", Duration::from_secs(20), async || {
        let body = serde_json::json!({ "name": odock_tests::tenant::unique("after") });
        let made = tenant
            .admin
            .post(&tenant.path("/teams?wait=all"), &body)
            .await?
            .expect(201)?;
        anyhow::ensure!(made["receipt"]["complete"] == true, "{made}");
        Ok(())
    })
    .await?;
    for gateway in stack.gateways() {
        let answer = wait_until("a call", Duration::from_secs(10), async || {
            let answer = gateway
                .chat(&key.secret, &say("demo-fast", "after"))
                .await?;
            answer.expect(200)?;
            Ok(answer)
        })
        .await?;
        let path = tenant.path(&format!(
            "/usage/{}",
            answer.header("x-odock-usage-id").unwrap_or_default()
        ));
        wait_until("its record", Duration::from_secs(10), async || {
            tenant.admin.read(&path).await
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn line_171_a_postgres_set_back_to_an_older_copy_gets_its_usage_again() -> anyhow::Result<()>
{
    let mut stack = Stack::builder().own_postgres().start().await?;
    let tenant = stack.tenant().await?;
    let (key, plain) = (tenant.key().await?, tenant.key().await?);
    let budget = tenant.key_budget(&key, 1_000_000_000).await?;
    let call = async |stack: &Stack, key: &Key, times: u32| {
        for _ in 0..times {
            stack
                .gateway(0)?
                .chat(&key.secret, &say("demo-fast", "hi"))
                .await?
                .expect(200)?;
        }
        anyhow::Ok(())
    };
    call(&stack, &key, 10).await?;
    assert_accounted(&stack).await?;
    let copy = stack.data_dir.with_extension("copy");
    let Some(mut server) = stack.own_postgres.take() else {
        anyhow::bail!("no server")
    };
    server.stop().await?;
    server.copy_files(&copy)?;
    server.start().await?;
    recovered(&stack, &tenant, &key).await?;
    call(&stack, &key, 10).await?;
    assert_accounted(&stack).await?;

    server.stop().await?;
    server.restore_files(&copy)?;
    std::fs::remove_dir_all(&copy)?;
    call(&stack, &plain, 5).await?;
    server.start().await?;
    let accounted = assert_accounted(&stack).await?;
    assert!(accounted.records.len() >= 26, "{}", accounted.records.len());
    stack.own_postgres = Some(server);
    let window = wait_until("a complete reclaim", Duration::from_secs(20), async || {
        tenant.reclaimed(&budget).await
    })
    .await?;
    let spent: i64 = accounted
        .records
        .iter()
        .filter(|record| record.key_id == key.id)
        .map(|record| record.cost_nanos)
        .sum();
    assert_eq!((window.settled, window.held), (spent, 0));
    recovered(&stack, &tenant, &key).await?;
    assert_invariants(&stack.postgres).await
}
