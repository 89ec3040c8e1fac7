//! Waiting for a condition with a deadline. Every wait of every test goes through here.

use std::{
    fmt::Display,
    future::Future,
    time::{Duration, Instant},
};

use anyhow::Context as _;

/// Asks `probe` until it gives something, or fails after `deadline` naming what was waited for.
pub async fn wait_for<T>(
    what: impl Display,
    deadline: Duration,
    mut probe: impl AsyncFnMut() -> Option<T>,
) -> anyhow::Result<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(found) = probe().await {
            return Ok(found);
        }
        anyhow::ensure!(Instant::now() < end, "{what}: not within {deadline:?}");
        tokio::time::sleep(BETWEEN_PROBES).await;
    }
}

/// As [`wait_for`], for a probe that says why it is not there yet; the last reason is part of the failure.
pub async fn wait_until<T>(
    what: impl Display,
    deadline: Duration,
    mut probe: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let end = Instant::now() + deadline;
    loop {
        let why = match probe().await {
            Ok(found) => return Ok(found),
            Err(why) => why,
        };
        if Instant::now() >= end {
            return Err(why).with_context(|| format!("{what}: not within {deadline:?}"));
        }
        tokio::time::sleep(BETWEEN_PROBES).await;
    }
}

/// A future that must end in time.
pub async fn within<T>(
    what: impl Display,
    deadline: Duration,
    future: impl Future<Output = T>,
) -> anyhow::Result<T> {
    tokio::time::timeout(deadline, future)
        .await
        .with_context(|| format!("{what}: not within {deadline:?}"))
}

const BETWEEN_PROBES: Duration = Duration::from_millis(10);
