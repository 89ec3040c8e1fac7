//! `…/usage`: records of calls, and sums over them from the rollups.

use odock_events::{clock::Timestamp, ids::UsageId};
use serde_json::json;

use super::crud::require_organisation;
use crate::{
    call::Call,
    error::{ApiError, Code},
    page::{Filter, ListQuery, ListSpec, Takes},
    queries::{
        rollup::{self, GroupBy},
        usage,
    },
    reply::Reply,
};

/// The records that a budget or quota has counted.
const COUNTED: &str =
    "id IN (SELECT reference FROM ledger_entry WHERE kind = 'settle' AND rule_id = ";

pub(crate) const LIST: ListSpec = ListSpec {
    searchable: false,
    filters: &[
        Filter::new("from", "started_at >= ", Takes::Time),
        Filter::new("to", "started_at < ", Takes::Time),
        Filter::new("request_id", "request_id = ", Takes::Text),
        Filter::new("key_id", "key_id = ", Takes::Id("key")),
        Filter::new("team_id", "team_id = ", Takes::Id("team")),
        Filter::new("user_id", "user_id = ", Takes::Id("user")),
        Filter::new("model", "model = ", Takes::Text),
        Filter::new("model_id", "model_id = ", Takes::Id("mdl")),
        Filter::new("provider", "provider = ", Takes::Text),
        Filter::new("provider_id", "provider_id = ", Takes::Id("prov")),
        Filter::new("status", "status = ", Takes::Text),
        Filter::new("estimated", "estimated = ", Takes::Flag),
        Filter::new("budget_id", COUNTED, Takes::Within("bud")),
        Filter::new("quota_id", COUNTED, Takes::Within("quo")),
        Filter::new("end_user", "more ->> 'end_user' = ", Takes::Text),
        Filter::new("gateway_id", "gateway_id = ", Takes::Id("gw")),
    ],
};

pub(crate) async fn list(call: Call) -> Result<Reply, ApiError> {
    let organisation = call.organisation()?;
    let query = ListQuery::read(&call, &LIST)?;
    let mut connection = call.app.pool.acquire().await?;
    require_organisation(&mut connection, organisation).await?;
    let rows = usage::list(&mut connection, organisation, &query).await?;
    Ok(query.reply(rows))
}

pub(crate) async fn get(call: Call) -> Result<Reply, ApiError> {
    let organisation = call.organisation()?;
    let id: UsageId = call.path_id("id", "usage record")?;
    let mut connection = call.app.pool.acquire().await?;
    let record = usage::find(&mut connection, organisation, id).await?;
    Ok(Reply::new(
        http::StatusCode::OK,
        record.ok_or_else(|| ApiError::not_found("usage record"))?,
    ))
}

/// Days and hours in UTC; `from` and `to` are rounded down to the hour, as that is what is summed.
pub(crate) async fn summary(call: Call) -> Result<Reply, ApiError> {
    let organisation = call.organisation()?;
    for (name, _) in &call.query {
        if !matches!(name.as_str(), "group_by" | "from" | "to") {
            let field = format!("?{name}");
            return Err(ApiError::field(
                Code::UnknownField,
                field,
                "is not known here",
            ));
        }
    }
    let group_by = match call.parameter("group_by") {
        None | Some("day") => GroupBy::Day,
        Some("key") => GroupBy::Key,
        Some("model") => GroupBy::Model,
        Some(_) => return Err(ApiError::invalid("?group_by", "expected day, key or model")),
    };
    let (from, to) = (time(&call, "from")?, time(&call, "to")?);
    let mut connection = call.app.pool.acquire().await?;
    require_organisation(&mut connection, organisation).await?;
    let data = rollup::summary(&mut connection, organisation, group_by, from, to).await?;
    Ok(Reply::new(http::StatusCode::OK, json!({ "data": data })))
}

fn time(call: &Call, name: &str) -> Result<Option<Timestamp>, ApiError> {
    let Some(text) = call.parameter(name) else {
        return Ok(None);
    };
    // A date alone is its first moment in UTC.
    let moment = text
        .parse()
        .or_else(|_| format!("{text}T00:00:00Z").parse());
    moment
        .map(Some)
        .map_err(|_| ApiError::invalid(format!("?{name}"), "expected an RFC 3339 time"))
}
