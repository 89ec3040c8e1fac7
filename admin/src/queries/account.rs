//! Table `account`: what the windows of budgets and quotas have settled and held.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use odock_events::{
    clock::Timestamp,
    ledger::{rule::Rule, window::Window},
    payload::budget::Owner,
};
use serde_json::Value;
use sqlx::{FromRow, PgConnection, QueryBuilder};
use uuid::Uuid;

use crate::{
    error::ApiError,
    page::{ListQuery, Place},
    shape,
};

#[derive(Clone, Copy, Debug, Default, FromRow)]
pub(crate) struct AccountRow {
    pub(crate) held: i64,
    pub(crate) settled: i64,
    /// In, less out.
    pub(crate) carried: i64,
    pub(crate) crossed: i16,
}

/// The accounts of these windows, by rule: of rules that count everything together. A window without an account has spent
/// nothing.
pub(crate) async fn of_windows(
    connection: &mut PgConnection,
    windows: &[(Uuid, Timestamp)],
) -> Result<HashMap<Uuid, AccountRow>, sqlx::Error> {
    let rules: Vec<Uuid> = windows.iter().map(|(rule, _)| *rule).collect();
    let starts: Vec<DateTime<Utc>> = windows
        .iter()
        .map(|(_, start)| start.to_datetime())
        .collect();
    let rows: Vec<(Uuid, i64, i64, i64, i16)> = sqlx::query_as(
        "SELECT a.rule_id, a.held, a.settled, a.carried_in - a.carried_out, a.crossed
         FROM unnest($1::uuid[], $2::timestamptz[]) AS wanted (rule_id, window_start)
         JOIN account a USING (rule_id, window_start)
         WHERE a.subject = '00000000-0000-0000-0000-000000000000'",
    )
    .bind(rules)
    .bind(starts)
    .fetch_all(connection)
    .await?;
    let of = |(rule, held, settled, carried, crossed)| {
        let account = AccountRow {
            held,
            settled,
            carried,
            crossed,
        };
        (rule, account)
    };
    Ok(rows.into_iter().map(of).collect())
}

#[derive(FromRow)]
struct ListedRow {
    subject: Uuid,
    window_start: DateTime<Utc>,
    window_end: Option<DateTime<Utc>>,
    owner_kind: String,
    owner_id: String,
    limit_amount: i64,
    closed: bool,
    #[sqlx(flatten)]
    account: AccountRow,
}

/// The windows of a rule that have seen something, by their beginning.
pub(crate) async fn list(
    connection: &mut PgConnection,
    rule: &Rule,
    query: &ListQuery,
) -> Result<Vec<(Place, Value)>, ApiError> {
    let mut sql = QueryBuilder::new(
        "SELECT subject, window_start, window_end, owner_kind, owner_id, limit_amount, closed, held,
             settled, carried_in - carried_out AS carried, crossed
         FROM account WHERE rule_id = ",
    );
    sql.push_bind(rule.id().uuid());
    query.push_filters(&mut sql);
    if let Some(Place { key, tie }) = query.after {
        sql.push(" AND (window_start, subject)")
            .push(query.order.beyond())
            .push("(");
        sql.push_bind(Timestamp(key).to_datetime())
            .push(", ")
            .push_bind(tie)
            .push(")");
    }
    let direction = query.order.direction();
    sql.push(" ORDER BY window_start")
        .push(direction)
        .push(", subject")
        .push(direction);
    sql.push(" LIMIT ").push_bind(query.rows());
    let rows: Vec<ListedRow> = sql.build_query_as().fetch_all(connection).await?;
    rows.into_iter()
        .map(|row| {
            let window = Window {
                start: Timestamp::from_datetime(row.window_start),
                end: row.window_end.map(Timestamp::from_datetime),
            };
            let place = Place {
                key: window.start.0,
                tie: row.subject,
            };
            let owner = Owner::from_text(&row.owner_kind, &row.owner_id);
            let owner =
                owner.ok_or_else(|| ApiError::internal("an account's owner does not read"))?;
            let (unit, limit) = (rule.unit(), row.limit_amount);
            let view = shape::rule::listed(unit, &owner, window, limit, row.closed, &row.account);
            Ok((place, view))
        })
        .collect()
}
