//! Rate limits and gates, on real processes: what is refused, with which words, and that it is exact across gateways.

mod exact;
mod gates;
mod global;
mod scopes;
mod slots;

use std::time::Duration;

use odock_tests::{Tenant, tenant::Key, wait::wait_for};
use serde_json::{Map, Value, json};

/// Gives a key these policies; every gateway has them when this returns.
pub(crate) async fn limit_key(tenant: &Tenant, key: &Key, policies: Value) -> anyhow::Result<()> {
    let path = tenant.path(&format!("/keys/{}", key.id));
    let body = json!({ "policies": policies });
    tenant.admin.change(&path, &body).await.map(drop)
}

/// Limits of requests alone.
pub(crate) fn requests(limits: Value) -> Value {
    let limits = Map::from_iter([("requests".to_owned(), limits)]);
    json!({ "ratelimit": limits })
}

/// Waits, by Redis' clock, until so much of the minute lies ahead: what follows stays in one window.
pub(crate) async fn early_in_a_minute(
    mut redis: redis::aio::MultiplexedConnection,
    ahead: Duration,
) -> anyhow::Result<i64> {
    let latest = 60 - i64::try_from(ahead.as_secs())?;
    let mut minute = 0;
    wait_for("a young minute", Duration::from_secs(61), async || {
        let time: (i64, i64) = redis::cmd("TIME").query_async(&mut redis).await.ok()?;
        minute = time.0 / 60;
        (time.0 % 60 < latest).then_some(())
    })
    .await?;
    Ok(minute)
}

/// The minute of Redis' clock.
pub(crate) async fn minute_of(mut redis: redis::aio::MultiplexedConnection) -> anyhow::Result<i64> {
    let time: (i64, i64) = redis::cmd("TIME").query_async(&mut redis).await?;
    Ok(time.0 / 60)
}
