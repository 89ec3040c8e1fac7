//! What budgets and quotas have in common: whose they may be, their windows, and what a window comes to.

use odock_events::{
    ledger::rule::Rule,
    payload::{
        budget::Owner, key::KeyBody, model::ModelBody, provider::ProviderBody, team::TeamBody,
        user::UserBody,
    },
};

use super::crud::Resource;
use crate::{
    call::Call,
    command::snapshot::Snapshot,
    error::{ApiError, Code},
    page::{Filter, ListQuery, ListSpec, Takes},
    queries::{account, entity},
    reply::Reply,
    shape,
};

/// The filters of a list of rules.
pub(crate) const FILTERS: &[Filter] = &[
    Filter::NAME,
    Filter::new("owner_id", "owner_id = ", Takes::Id("")),
    Filter::new("owner_type", "owner_kind = ", Takes::Text),
    Filter::new("period", "body ->> 'period' = ", Takes::Text),
    Filter::new("mode", "body ->> 'mode' = ", Takes::Text),
    Filter::new("metric", "body ->> 'metric' = ", Takes::Text),
    Filter::new("active", "(body ->> 'active')::boolean = ", Takes::Flag),
];

/// Those of a list of windows.
pub(crate) const WINDOWS: ListSpec = ListSpec {
    searchable: false,
    filters: &[
        // Of rules that count each by itself: the end user, or the tag as `name=value`.
        Filter::new("owner", "owner_id = ", Takes::Text),
        Filter::new("closed", "closed = ", Takes::Flag),
        Filter::new("from", "window_start >= ", Takes::Time),
        Filter::new("to", "window_start < ", Takes::Time),
    ],
};

/// Whether the organisation has who is to own a rule. Tags and end users are whoever calls say they are.
pub(crate) async fn is_known(at: &mut Snapshot<'_>, owner: &Owner) -> Result<bool, ApiError> {
    match owner {
        Owner::Organisation { id } => Ok(*id == at.organisation()?),
        Owner::Team { id } => at.has::<TeamBody>(*id).await,
        Owner::User { id } => at.has::<UserBody>(*id).await,
        Owner::Key { id } => at.has::<KeyBody>(*id).await,
        Owner::Model { id } => at.has::<ModelBody>(*id).await,
        Owner::Provider { id } => at.has::<ProviderBody>(*id).await,
        Owner::Tag { .. } | Owner::EndUser { .. } => Ok(true),
    }
}

/// `GET …/{id}/windows`: those that have seen something, the newest first unless asked otherwise.
pub(crate) async fn windows<B: Resource>(call: Call) -> Result<Reply, ApiError> {
    let query = ListQuery::read(&call, &WINDOWS)?;
    let rule = find::<B>(&call).await?;
    let mut connection = call.app.pool.acquire().await?;
    Ok(query.reply(account::list(&mut connection, &rule, &query).await?))
}

/// `GET …/{id}/projection`.
pub(crate) async fn projection<B: Resource>(call: Call) -> Result<Reply, ApiError> {
    let rule = find::<B>(&call).await?;
    if rule.owner().is_each() {
        let detail = "each is counted by itself: look at its windows instead";
        return Err(ApiError::new(Code::Conflict, detail));
    }
    let Some(window) = rule.window_at(call.now) else {
        let detail = "it has no window now: it has not begun, or has ended";
        return Err(ApiError::new(Code::Conflict, detail));
    };
    let mut connection = call.app.pool.acquire().await?;
    let id = rule.id().uuid();
    let accounts = account::of_windows(&mut connection, &[(id, window.start)]).await?;
    let account = accounts.get(&id).copied().unwrap_or_default();
    let view = shape::rule::projection(&rule, window, &account, call.now);
    Ok(Reply::new(http::StatusCode::OK, view))
}

async fn find<B: Resource>(call: &Call) -> Result<Rule, ApiError> {
    let organisation = call.organisation()?;
    let id: B::Id = call.path_id(B::ID, B::NOUN)?;
    let mut connection = call.app.pool.acquire().await?;
    let row = entity::find::<B>(&mut connection, organisation, id).await?;
    let rule = row.and_then(|row| Rule::of_row(B::into_entity(row)));
    rule.ok_or_else(|| ApiError::not_found(B::NOUN))
}
