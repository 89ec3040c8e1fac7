//! Tables `usage_daily` and `usage_hourly`: sums over calls. Whole days come from the one, the hours at the ends of a span
//! from the other, so that a year costs a year of days.

use chrono::{DateTime, Days, NaiveDate, NaiveTime, Utc};
use odock_events::{
    clock::Timestamp,
    ids::{KeyId, OrganisationId},
};
use serde_json::{Value, json};
use sqlx::{FromRow, PgConnection, QueryBuilder};
use uuid::Uuid;

use crate::error::ApiError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupBy {
    Day,
    Key,
    Model,
}

#[derive(FromRow)]
struct SumsRow {
    day: Option<NaiveDate>,
    key_id: Option<Uuid>,
    model: Option<String>,
    requests: i64,
    input_tokens: i64,
    output_tokens: i64,
    cost_nanos: i64,
    errors: i64,
}

/// Groups of one answer at most.
const GROUPS_MAX: i64 = 10_000;

/// Sums over the hours that begin in `from .. to`, grouped.
pub(crate) async fn summary(
    connection: &mut PgConnection,
    organisation: OrganisationId,
    group_by: GroupBy,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
) -> Result<Vec<Value>, ApiError> {
    let span = Span::of(from, to);
    let mut sql = QueryBuilder::new("SELECT ");
    sql.push(match group_by {
        GroupBy::Day => "day, NULL::uuid AS key_id, NULL::text AS model",
        GroupBy::Key => "NULL::date AS day, key_id, NULL::text AS model",
        GroupBy::Model => "NULL::date AS day, NULL::uuid AS key_id, model",
    });
    // Sums of bigint are numeric in Postgres; a cast fails where one would leave 64 bits.
    sql.push(
        ", sum(requests)::bigint AS requests, sum(input_tokens)::bigint AS input_tokens,
           sum(output_tokens)::bigint AS output_tokens, sum(cost_nanos)::bigint AS cost_nanos,
           sum(errors)::bigint AS errors
         FROM (
             SELECT day, key_id, model, requests, input_tokens, output_tokens, cost_nanos, errors
             FROM usage_daily WHERE organisation_id = ",
    );
    sql.push_bind(organisation.0)
        .push(" AND day >= ")
        .push_bind(span.days.0);
    sql.push(" AND day < ").push_bind(span.days.1);
    for (begin, end) in span.ends {
        sql.push(
            " UNION ALL
             SELECT (hour AT TIME ZONE 'UTC')::date, key_id, model, requests, input_tokens,
                 output_tokens, cost_nanos, errors
             FROM usage_hourly WHERE organisation_id = ",
        );
        sql.push_bind(organisation.0)
            .push(" AND hour >= ")
            .push_bind(begin);
        sql.push(" AND hour < ").push_bind(end);
    }
    sql.push(") AS calls GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 LIMIT ")
        .push_bind(GROUPS_MAX);
    let rows: Vec<SumsRow> = sql.build_query_as().fetch_all(connection).await?;
    Ok(rows.iter().map(|row| sums(group_by, row)).collect())
}

/// A span of time as whole days, and the hours before and after them.
#[derive(Debug, PartialEq, Eq)]
struct Span {
    days: (NaiveDate, NaiveDate),
    ends: Vec<(DateTime<Utc>, DateTime<Utc>)>,
}

impl Span {
    fn of(from: Option<Timestamp>, to: Option<Timestamp>) -> Self {
        let from = from.map(|from| Timestamp(from.0 - from.0.rem_euclid(HOUR)).to_datetime());
        let to = to.map(Timestamp::to_datetime);
        let first_day = from.map_or_else(NaiveDate::default, day_from);
        let last_day = to.map_or(FAR_FUTURE, |to| to.date_naive());
        if let (Some(from), Some(to)) = (from, to)
            && first_day > last_day
        {
            // Within one day.
            return Self {
                days: (first_day, first_day),
                ends: vec![(from, to)],
            };
        }
        let before = from.map(|from| (from, midnight(first_day)));
        let after = to.map(|to| (midnight(last_day), to));
        let ends = before
            .into_iter()
            .chain(after)
            .filter(|(begin, end)| begin < end)
            .collect();
        Self {
            days: (first_day, last_day),
            ends,
        }
    }
}

/// The first day that begins at or after a moment.
fn day_from(moment: DateTime<Utc>) -> NaiveDate {
    let day = moment.date_naive();
    if moment.time() == NaiveTime::MIN {
        return day;
    }
    day.checked_add_days(Days::new(1)).unwrap_or(day)
}

fn midnight(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(NaiveTime::MIN).and_utc()
}

const HOUR: i64 = 3_600_000_000;
/// Later than any call and within what Postgres knows.
const FAR_FUTURE: NaiveDate = match NaiveDate::from_ymd_opt(9999, 12, 31) {
    Some(day) => day,
    None => NaiveDate::MAX,
};

fn sums(group_by: GroupBy, row: &SumsRow) -> Value {
    let mut view = json!({
        "requests": row.requests,
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens,
        "cost_nanos": row.cost_nanos,
        "errors": row.errors,
    });
    let (name, value) = match group_by {
        GroupBy::Day => ("day", json!(row.day.map(|day| day.to_string()))),
        GroupBy::Key => ("key_id", json!(row.key_id.map(KeyId))),
        GroupBy::Model => ("model", json!(&row.model)),
    };
    if let Some(members) = view.as_object_mut() {
        members.insert(name.to_owned(), value);
    }
    view
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(from: &str, to: &str) -> Span {
        let moment = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
        Span::of(moment(from), moment(to))
    }

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn hours(begin: &str, end: &str) -> (DateTime<Utc>, DateTime<Utc>) {
        (begin.parse().unwrap(), end.parse().unwrap())
    }

    #[test]
    fn whole_days_need_no_hours() {
        let whole = span("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z");
        assert_eq!(whole.days, (day("2026-11-01"), day("2026-12-01")));
        assert!(whole.ends.is_empty());
        assert!(span("", "").ends.is_empty());
    }

    #[test]
    fn the_ends_are_hours_and_nothing_is_counted_twice() {
        let cut = span("2026-11-01T10:30:00Z", "2026-11-03T02:00:00Z");
        assert_eq!(cut.days, (day("2026-11-02"), day("2026-11-03")));
        assert_eq!(
            cut.ends,
            [
                hours("2026-11-01T10:00:00Z", "2026-11-02T00:00:00Z"),
                hours("2026-11-03T00:00:00Z", "2026-11-03T02:00:00Z"),
            ]
        );
        let open = span("2026-11-01T10:30:00Z", "");
        assert_eq!(
            open.ends,
            [hours("2026-11-01T10:00:00Z", "2026-11-02T00:00:00Z")]
        );
        assert_eq!(open.days.0, day("2026-11-02"));
    }

    #[test]
    fn a_part_of_a_day_is_hours_only() {
        let part = span("2026-11-01T10:00:00Z", "2026-11-01T12:00:00Z");
        assert_eq!(part.days.0, part.days.1);
        assert_eq!(
            part.ends,
            [hours("2026-11-01T10:00:00Z", "2026-11-01T12:00:00Z")]
        );
        let two = span("2026-11-01T23:00:00Z", "2026-11-02T01:00:00Z");
        assert_eq!(two.days.0, two.days.1);
        assert_eq!(two.ends.len(), 2);
        let backwards = span("2026-11-05T01:00:00Z", "2026-11-02T01:00:00Z");
        assert!(backwards.ends.iter().all(|(begin, end)| begin >= end));
        assert!(backwards.days.0 >= backwards.days.1);
    }
}
