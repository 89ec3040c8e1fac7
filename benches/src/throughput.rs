//! The whole system: CPU of gateway, Redis, projector and Postgres together per governed request, how far the projector
//! is behind while they come, and how fast the log is folded from its beginning.

use std::{
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use sqlx::{Connection as _, PgConnection, Row as _};

use crate::{
    load::{self, Load},
    process, scenario,
    stack::Stack,
    table::{Table, figure},
};

/// Loads the gateway for a while, waits until every record is in Postgres, and prints what each part used.
pub fn system(stack: &Stack, seconds: u64) -> anyhow::Result<()> {
    let parts = [
        ("gateway", stack.pid("/pids/gateway/0")?),
        ("projector", stack.pid("/pids/projector/0")?),
        ("redis", stack.pid("/pids/redis")?),
        ("postgres", stack.pid("/pids/postgres")?),
    ];
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let url = stack.text("/postgres_url")?;
    let before_rows = runtime.block_on(usage_rows(&url))?;
    let before: Vec<_> = parts
        .iter()
        .map(|(_, pid)| process::tree_usage(*pid))
        .collect();
    let began = Instant::now();
    let load = Load {
        authority: stack.gateway(0)?,
        path: "/v1/chat/completions".into(),
        bearer: Some(format!("Bearer {}", stack.key)),
        body: scenario::body("bench", false)?,
        stream: false,
        connections: 16,
        rate: None,
        warm_up: Duration::ZERO,
        measured: Duration::from_secs(seconds),
        pid: None,
    };
    let measured = load::run(&load)?;
    let loaded = began.elapsed();
    let rows = runtime.block_on(wait_settled(&url))? - before_rows;
    let behind = began.elapsed().saturating_sub(loaded);
    let mut table = Table::new(&["part", "CPU µs a request", "RSS MiB"]);
    let mut sum = 0.0;
    for ((name, pid), before) in parts.iter().zip(before) {
        let after = process::tree_usage(*pid);
        let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64() * 1e6 / rows.max(1) as f64;
        sum += cpu;
        table.row([
            (*name).to_owned(),
            figure(Some(cpu)),
            figure(Some(after.resident_kib as f64 / 1_024.0)),
        ]);
    }
    table.row(["together".into(), figure(Some(sum)), String::new()]);
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", table.render())?;
    writeln!(
        out,
        "{rows} governed requests at {:.0}/s; the last record was in Postgres {:.2} s after the last answer; \
         {:.0} usage events/s from stream to committed row",
        measured.per_second,
        behind.as_secs_f64(),
        rows as f64 / began.elapsed().as_secs_f64(),
    )?;
    Ok(())
}

/// Folds the whole log anew and prints events a second.
pub fn rebuild(odock: &Path, stack: &Stack) -> anyhow::Result<()> {
    let url = stack.text("/postgres_url")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let rows = runtime.block_on(usage_rows(&url))?;
    let began = Instant::now();
    let status = std::process::Command::new(odock)
        .args(["rebuild", "--verify"])
        .env("POSTGRES_DSN", &url)
        .env("LOG_LEVEL", "warn")
        .status()?;
    anyhow::ensure!(status.success(), "the rebuilt tables differ");
    let seconds = began.elapsed().as_secs_f64();
    writeln!(
        std::io::stdout(),
        "rebuild: {rows} usage events folded and compared in {seconds:.1} s, {:.0}/s; digests equal",
        rows as f64 / seconds
    )?;
    Ok(())
}

async fn usage_rows(url: &str) -> anyhow::Result<i64> {
    let mut connection = PgConnection::connect(url).await?;
    let row = sqlx::query("SELECT coalesce(sum(requests), 0)::bigint AS rows FROM usage_hourly")
        .fetch_one(&mut connection)
        .await?;
    Ok(row.try_get("rows")?)
}

/// Waits until the count has stood still for a second.
async fn wait_settled(url: &str) -> anyhow::Result<i64> {
    let mut last = usage_rows(url).await?;
    let mut since = Instant::now();
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = usage_rows(url).await?;
        if now != last {
            (last, since) = (now, Instant::now());
        } else if since.elapsed() > Duration::from_secs(1) {
            return Ok(now);
        }
    }
}
