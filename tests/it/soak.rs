//! Steady load with a store away for minutes (`make soak`); in `make test`, where `ODOCK_SOAK_SECONDS` is not set, the
//! store is away for twenty seconds.

mod load;
mod memory;
mod outage;

use std::time::Duration;

use self::outage::{Away, outage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak_redis_down() -> anyhow::Result<()> {
    // Fifteen minutes where Postgres is away for ten.
    let seen = outage(Away::Redis, length().map(|length| length * 3 / 2));
    println!("{}", Box::pin(seen).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak_postgres_down() -> anyhow::Result<()> {
    let seen = outage(Away::Postgres, length());
    println!("{}", Box::pin(seen).await?);
    Ok(())
}

/// `None`: short.
fn length() -> Option<Duration> {
    let (_, given) = std::env::vars().find(|(name, _)| name == "ODOCK_SOAK_SECONDS")?;
    given.parse().ok().map(Duration::from_secs)
}
