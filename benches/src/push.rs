//! How long a change takes from the admin's answer to every gateway: `?wait=all`, many times.

use std::{io::Write as _, time::Instant};

use hdrhistogram::Histogram;
use serde_json::json;

use crate::stack::Stack;

/// Makes `count` keys one after another, each waiting for all gateways, and prints the distribution.
pub async fn run(stack: &Stack, count: usize) -> anyhow::Result<()> {
    let mut plain = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?;
    let mut applied = plain.clone();
    for number in 0..count {
        let body = json!({"type": "organisation", "name": format!("push-{number}")});
        let began = Instant::now();
        stack.post("keys", body.clone()).await?;
        plain.saturating_record(u64::try_from(began.elapsed().as_micros())?);
        let began = Instant::now();
        let answer = stack.post("keys?wait=all", body).await?;
        applied.saturating_record(u64::try_from(began.elapsed().as_micros())?);
        let complete = answer
            .pointer("/receipt/complete")
            .and_then(serde_json::Value::as_bool);
        anyhow::ensure!(complete == Some(true), "an incomplete receipt: {answer}");
    }
    let mut out = std::io::stdout().lock();
    for (name, times) in [
        ("committed", plain),
        ("committed and applied on all gateways", applied),
    ] {
        writeln!(
            out,
            "mutation {name}: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms ({count} mutations)",
            times.value_at_quantile(0.5) as f64 / 1e3,
            times.value_at_quantile(0.99) as f64 / 1e3,
            times.max() as f64 / 1e3,
        )?;
    }
    Ok(())
}
