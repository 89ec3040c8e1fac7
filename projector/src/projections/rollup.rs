//! Tables `usage_hourly` and `usage_daily`: sums over calls, grouped before they are added, so that a batch touches
//! each row once. Pages read these and never scan `usage`.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use odock_events::{
    clock::Timestamp,
    ids::OrganisationId,
    payload::usage::{UsageFinished, UsageStatus},
};
use sqlx::PgConnection;
use uuid::Uuid;

const HOUR_MICROS: i64 = 3_600_000_000;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group<T> {
    organisation: Uuid,
    time: T,
    api_key: Uuid,
    model_id: Uuid,
    model: String,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    requests: i64,
    errors: i64,
    input_tokens: i64,
    output_tokens: i64,
    cost_nanos: i64,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.input_tokens += other.input_tokens;
        self.output_tokens += other.output_tokens;
        self.cost_nanos += other.cost_nanos;
    }
}

/// Sums of one transaction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rollups {
    hours: BTreeMap<Group<Timestamp>, Sums>,
}

impl Rollups {
    pub(crate) fn add(&mut self, organisation: OrganisationId, usage: &UsageFinished) {
        let hour = usage.started_at.0 - usage.started_at.0.rem_euclid(HOUR_MICROS);
        let key = Group {
            organisation: organisation.0,
            time: Timestamp(hour),
            api_key: usage.key_id.0,
            model_id: usage.model_id.0,
            model: usage.model.replace('\0', "\u{fffd}"),
        };
        let tokens = &usage.tokens;
        self.hours.entry(key).or_default().add(&Sums {
            requests: 1,
            errors: i64::from(is_error(usage.status)),
            input_tokens: (tokens.input + tokens.cached_input + tokens.cache_write) as i64,
            output_tokens: (tokens.output + tokens.reasoning) as i64,
            cost_nanos: usage.cost.0,
        });
    }

    pub(crate) async fn write(self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.hours.is_empty() {
            return Ok(());
        }
        let mut days: BTreeMap<Group<NaiveDate>, Sums> = BTreeMap::new();
        for (key, sums) in &self.hours {
            let key = Group {
                organisation: key.organisation,
                time: key.time.to_datetime().date_naive(),
                api_key: key.api_key,
                model_id: key.model_id,
                model: key.model.clone(),
            };
            days.entry(key).or_default().add(sums);
        }
        write_hours(connection, &self.hours).await?;
        write_days(connection, &days).await
    }
}

/// Whether a call counts among the errors: not when the client hung up on it.
fn is_error(status: UsageStatus) -> bool {
    match status {
        UsageStatus::UpstreamError | UsageStatus::Timeout | UsageStatus::Interrupted => true,
        UsageStatus::Completed | UsageStatus::ClientClosed => false,
    }
}

macro_rules! bind_sums {
    ($query:expr, $rows:expr, $times:expr) => {{
        let keys = || $rows.keys();
        let sums = |value: fn(&Sums) -> i64| -> Vec<i64> { $rows.values().map(value).collect() };
        $query
            .bind(keys().map(|key| key.organisation).collect::<Vec<Uuid>>())
            .bind($times)
            .bind(keys().map(|key| key.api_key).collect::<Vec<Uuid>>())
            .bind(keys().map(|key| key.model_id).collect::<Vec<Uuid>>())
            .bind(keys().map(|key| key.model.clone()).collect::<Vec<String>>())
            .bind(sums(|sums| sums.requests))
            .bind(sums(|sums| sums.errors))
            .bind(sums(|sums| sums.input_tokens))
            .bind(sums(|sums| sums.output_tokens))
            .bind(sums(|sums| sums.cost_nanos))
    }};
}

async fn write_hours(
    connection: &mut PgConnection,
    hours: &BTreeMap<Group<Timestamp>, Sums>,
) -> Result<(), sqlx::Error> {
    let query = sqlx::query(
        "INSERT INTO usage_hourly AS kept (organisation_id, hour, key_id, model_id, model, requests,
             errors, input_tokens, output_tokens, cost_nanos)
         SELECT new.organisation_id, new.at, new.key_id, new.model_id, new.model, new.requests,
             new.errors, new.input_tokens, new.output_tokens, new.cost_nanos
         FROM unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::uuid[], $5::text[],
             $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[])
             AS new (organisation_id, at, key_id, model_id, model, requests, errors, input_tokens,
                 output_tokens, cost_nanos)
         ON CONFLICT (organisation_id, hour, key_id, model_id, model) DO UPDATE SET
             requests = kept.requests + EXCLUDED.requests,
             errors = kept.errors + EXCLUDED.errors,
             input_tokens = kept.input_tokens + EXCLUDED.input_tokens,
             output_tokens = kept.output_tokens + EXCLUDED.output_tokens,
             cost_nanos = kept.cost_nanos + EXCLUDED.cost_nanos",
    );
    let times: Vec<DateTime<Utc>> = hours.keys().map(|key| key.time.to_datetime()).collect();
    bind_sums!(query, hours, times).execute(connection).await?;
    Ok(())
}

async fn write_days(
    connection: &mut PgConnection,
    days: &BTreeMap<Group<NaiveDate>, Sums>,
) -> Result<(), sqlx::Error> {
    let query = sqlx::query(
        "INSERT INTO usage_daily AS kept (organisation_id, day, key_id, model_id, model, requests,
             errors, input_tokens, output_tokens, cost_nanos)
         SELECT new.organisation_id, new.at, new.key_id, new.model_id, new.model, new.requests,
             new.errors, new.input_tokens, new.output_tokens, new.cost_nanos
         FROM unnest($1::uuid[], $2::date[], $3::uuid[], $4::uuid[], $5::text[],
             $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[])
             AS new (organisation_id, at, key_id, model_id, model, requests, errors, input_tokens,
                 output_tokens, cost_nanos)
         ON CONFLICT (organisation_id, day, key_id, model_id, model) DO UPDATE SET
             requests = kept.requests + EXCLUDED.requests,
             errors = kept.errors + EXCLUDED.errors,
             input_tokens = kept.input_tokens + EXCLUDED.input_tokens,
             output_tokens = kept.output_tokens + EXCLUDED.output_tokens,
             cost_nanos = kept.cost_nanos + EXCLUDED.cost_nanos",
    );
    let times: Vec<NaiveDate> = days.keys().map(|key| key.time).collect();
    bind_sums!(query, days, times).execute(connection).await?;
    Ok(())
}
