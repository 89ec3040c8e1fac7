//! The checker of CONTRACT.md 5: what the demo provider's own ledger says against the usage records, call by call.
//! Every test that kills, wipes or cuts something ends with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::Deserialize;
use sqlx::{PgPool, Row as _, types::Json};

use crate::{
    client::{Demo, LedgerRow},
    stack::Stack,
    tenant::{FEE_NANOS, INPUT_NANOS, OUTPUT_NANOS},
    wait::wait_until,
};

/// One usage record with its single attempt, as the tables hold it.
#[derive(Clone, Debug)]
pub struct Record {
    pub id: String,
    pub key_id: String,
    pub slug: String,
    pub status: String,
    pub estimated: bool,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cost_nanos: i64,
    pub attempts: Vec<Attempt>,
    /// It reserved on a hard account.
    pub hard: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Attempt {
    pub id: String,
    pub reserved: i64,
    pub cost_nanos: i64,
}

/// What was compared, for what a test still wants to say about it.
#[derive(Clone, Debug, Default)]
pub struct Accounted {
    pub rows: Vec<LedgerRow>,
    pub records: Vec<Record>,
}

impl Accounted {
    pub fn with_status(&self, status: &str) -> Vec<&Record> {
        self.records
            .iter()
            .filter(|record| record.status == status)
            .collect()
    }

    pub fn cost(&self) -> i64 {
        self.records.iter().map(|record| record.cost_nanos).sum()
    }
}

/// Waits until every call has ended and is recorded, and holds CONTRACT.md 5 against all of them. Models of the demo
/// provider must carry its own prices.
pub async fn assert_accounted(stack: &Stack) -> anyhow::Result<Accounted> {
    wait_until("every call accounted for", DEADLINE, async || {
        let accounted = read(&stack.demo, &stack.postgres).await?;
        compare(&accounted)?;
        Ok(accounted)
    })
    .await
}

async fn read(demo: &Demo, postgres: &PgPool) -> anyhow::Result<Accounted> {
    let records = sqlx::query(
        "SELECT replace(id::text, '-', '') AS id, replace(key_id::text, '-', '') AS key_id, slug,
                status, estimated, input_tokens + cached_input_tokens + cache_write_tokens AS input,
                output_tokens + reasoning_tokens AS output, cost_nanos, more -> 'attempts' AS attempts,
                more::text LIKE '%\"mode\": \"hard\"%' AS hard
         FROM usage",
    )
    .fetch_all(postgres)
    .await?;
    let records = records.iter().map(|row| {
        let Json(attempts) = row.try_get("attempts")?;
        Ok(Record {
            id: format!("use_{}", row.try_get::<String, _>("id")?),
            key_id: format!("key_{}", row.try_get::<String, _>("key_id")?),
            slug: row.try_get("slug")?,
            status: row.try_get("status")?,
            estimated: row.try_get("estimated")?,
            input_tokens: row.try_get::<i64, _>("input")?.cast_unsigned(),
            output_tokens: row.try_get::<i64, _>("output")?.cast_unsigned(),
            cost_nanos: row.try_get("cost_nanos")?,
            attempts,
            hard: row.try_get("hard")?,
        })
    });
    let records = records.collect::<anyhow::Result<_>>()?;
    Ok(Accounted {
        rows: demo.rows(0).await?,
        records,
    })
}

fn compare(accounted: &Accounted) -> anyhow::Result<()> {
    let mut rows = BTreeMap::new();
    for row in &accounted.rows {
        let attempt = row.client_request_id.as_deref();
        let attempt =
            attempt.ok_or_else(|| anyhow::anyhow!("a call without an attempt: {row:?}"))?;
        anyhow::ensure!(row.finished_at.is_some(), "still running: {row:?}");
        anyhow::ensure!(
            rows.insert(attempt, row).is_none(),
            "the attempt came twice: {row:?}"
        );
    }
    let mut seen = BTreeSet::new();
    for record in &accounted.records {
        anyhow::ensure!(
            !record.attempts.is_empty(),
            "a record without an attempt: {record:?}"
        );
        for attempt in &record.attempts {
            anyhow::ensure!(
                seen.insert(attempt.id.as_str()),
                "recorded twice: {record:?}"
            );
            match rows.get(attempt.id.as_str()) {
                Some(row) => compare_one(record, row)?,
                None => anyhow::ensure!(
                    WITHOUT_ROW.contains(&record.status.as_str()),
                    "it did not reach the upstream: {record:?}"
                ),
            }
        }
        compare_interrupted(record)?;
    }
    let unrecorded: Vec<_> = rows
        .iter()
        .filter(|(attempt, _)| !seen.contains(*attempt))
        .collect();
    anyhow::ensure!(
        unrecorded.is_empty(),
        "calls without a record: {unrecorded:?}"
    );
    Ok(())
}

fn compare_one(record: &Record, row: &LedgerRow) -> anyhow::Result<()> {
    let about = || format!("\n{record:?}\n{row:?}");
    if !record.estimated && row.outcome == "completed" {
        anyhow::ensure!(
            record.input_tokens == row.prompt_tokens,
            "input differs: {}",
            about()
        );
        anyhow::ensure!(
            record.output_tokens == row.completion_tokens,
            "output differs: {}",
            about()
        );
        anyhow::ensure!(record.cost_nanos == price(row), "cost differs: {}", about());
    }
    if record.status == "client_closed" {
        anyhow::ensure!(
            record.output_tokens <= row.completion_tokens,
            "more than the upstream wrote: {}",
            about()
        );
    }
    Ok(())
}

/// The whole reservation under a hard budget.
fn compare_interrupted(record: &Record) -> anyhow::Result<()> {
    if record.status == "interrupted" && record.hard {
        let reserved: i64 = record.attempts.iter().map(|attempt| attempt.reserved).sum();
        anyhow::ensure!(
            record.cost_nanos == reserved,
            "not the reservation: {record:?}"
        );
        anyhow::ensure!(record.estimated, "not estimated: {record:?}");
    }
    Ok(())
}

fn price(row: &LedgerRow) -> i64 {
    if row.model.starts_with("demo-fee") {
        return FEE_NANOS;
    }
    row.prompt_tokens.cast_signed() * INPUT_NANOS
        + row.completion_tokens.cast_signed() * OUTPUT_NANOS
}

const WITHOUT_ROW: [&str; 4] = ["interrupted", "client_closed", "timeout", "upstream_error"];
/// More than a lease's repetition, a new generation and a re-send take together on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);
