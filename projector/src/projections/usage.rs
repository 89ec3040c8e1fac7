//! Table `usage`: one row a call, in the partition of the day on which it was recorded.

use std::borrow::Cow;

use chrono::NaiveDate;
use odock_events::{envelope::Meta, ids::OrganisationId, payload::usage::UsageFinished};
use serde::Serialize;
use sqlx::PgConnection;

use crate::{
    copy::{CopyRows, without_nul},
    error::ProjectorError,
};

const COLUMNS: i16 = 32;

/// Rows of one transaction.
#[derive(Debug)]
pub(crate) struct UsageRows(CopyRows);

impl Default for UsageRows {
    fn default() -> Self {
        Self(CopyRows::new(COLUMNS))
    }
}

/// One call and where its record came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) recorded_on: NaiveDate,
    pub(crate) seq: u64,
    pub(crate) organisation_id: OrganisationId,
    pub(crate) meta: &'a Meta,
    pub(crate) usage: &'a UsageFinished,
}

impl UsageRows {
    pub(crate) fn push(&mut self, call: Call<'_>) -> Result<(), ProjectorError> {
        let Call {
            recorded_on,
            seq,
            organisation_id,
            meta,
            usage,
        } = call;
        let more = more(usage)?;
        let row = &mut self.0;
        row.row();
        row.date(recorded_on);
        row.uuid(usage.gateway_id.0);
        row.bigint(seq as i64);
        row.uuid(usage.usage_id.0);
        row.text(&usage.request_id);
        row.uuid(organisation_id.0);
        row.optional(meta.team_id, |row, id| row.uuid(id.0));
        row.optional(usage.user_id, |row, id| row.uuid(id.0));
        row.uuid(usage.key_id.0);
        row.uuid(usage.model_id.0);
        row.uuid(usage.provider_id.0);
        row.text(&usage.model);
        row.text(&usage.slug);
        row.text(&usage.provider);
        row.text(&usage.route);
        row.boolean(usage.stream);
        row.text(usage.status.name());
        row.smallint(usage.http_status.cast_signed());
        row.boolean(meta.estimated);
        row.bigint(usage.tokens.input as i64);
        row.bigint(usage.tokens.cached_input as i64);
        row.bigint(usage.tokens.cache_write as i64);
        row.bigint(usage.tokens.output as i64);
        row.bigint(usage.tokens.reasoning as i64);
        row.bigint(usage.cost.0);
        row.integer(meta.price_version.unwrap_or(0).cast_signed());
        row.bigint(meta.config_version.unwrap_or(0) as i64);
        row.time(usage.started_at);
        row.optional(usage.first_byte_at, CopyRows::time);
        row.time(usage.finished_at);
        row.bigint(usage.latency_ms as i64);
        row.json(&more);
        Ok(())
    }

    pub(crate) async fn write(self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        self.0
            .send(
                connection,
                "COPY usage (recorded_on, gateway_id, seq, id, request_id, organisation_id, team_id,
                     user_id, key_id, model_id, provider_id, model, slug, provider, route, stream,
                     status, http_status, estimated, input_tokens, cached_input_tokens,
                     cache_write_tokens, output_tokens, reasoning_tokens, cost_nanos, price_version,
                     config_version, started_at, first_byte_at, finished_at, latency_ms, more)
                 FROM STDIN (FORMAT binary)",
            )
            .await?;
        Ok(())
    }
}

/// Makes the partition of a day, and of the next so that midnight finds it there. Outside of any batch: it locks the
/// whole table.
pub(crate) async fn ensure_partitions(
    connection: &mut PgConnection,
    day: NaiveDate,
) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT ensure_usage_partition($1), ensure_usage_partition($1 + 1)")
        .bind(day)
        .execute(connection)
        .await?;
    Ok(())
}

/// What has no column of its own, as JSON.
fn more(usage: &UsageFinished) -> Result<Vec<u8>, ProjectorError> {
    #[derive(Serialize)]
    struct More<'a> {
        breakdown: &'a odock_events::pricing::CostBreakdown,
        accounts: &'a [odock_events::payload::usage::AccountUse],
        attempts: &'a [odock_events::payload::usage::Attempt],
        details: &'a odock_events::payload::usage::TokenDetails,
        units: &'a Option<odock_events::payload::usage::Units>,
        // Left out where there is nothing to say, so that rows of records without them stay what they were.
        #[serde(skip_serializing_if = "Option::is_none")]
        pieces: Option<&'a odock_events::pricing::Pieces>,
        #[serde(skip_serializing_if = "Option::is_none")]
        service_tier: Option<odock_events::pricing::ServiceTier>,
        tags: &'a std::collections::BTreeMap<String, String>,
        end_user: &'a Option<String>,
        provider_request_id: &'a Option<String>,
        trace_id: &'a Option<String>,
    }
    let more = More {
        breakdown: &usage.breakdown,
        accounts: &usage.accounts,
        attempts: &usage.attempts,
        details: &usage.details,
        units: &usage.units,
        pieces: (!usage.pieces.is_empty()).then_some(&usage.pieces),
        service_tier: (!usage.service_tier.is_standard()).then_some(usage.service_tier),
        tags: &usage.tags,
        end_user: &usage.end_user,
        provider_request_id: &usage.provider_request_id,
        trace_id: &usage.trace_id,
    };
    let json = serde_json::to_vec(&more)?;
    // Postgres stores no NUL in jsonb either, and the text of one is rare enough to look twice.
    if json.windows(6).any(|window| window == b"\\u0000") {
        return Ok(serde_json::to_vec(&clean(serde_json::from_slice(&json)?))?);
    }
    Ok(json)
}

fn clean(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::String(text) => Value::String(clean_text(&text).into_owned()),
        Value::Array(values) => Value::Array(values.into_iter().map(clean).collect()),
        Value::Object(members) => Value::Object(
            members
                .into_iter()
                .map(|(name, value)| (clean_text(&name).into_owned(), clean(value)))
                .collect(),
        ),
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

fn clean_text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(without_nul(text))
    } else {
        Cow::Borrowed(text)
    }
}
