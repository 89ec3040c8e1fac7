//! `/api/v1/commands/{id}`: what became of a command that was answered 202.

use odock_events::{
    codec::Entry,
    ids::CommandId,
    log::{keys::Plane, reader::StreamReader},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    app::AppState,
    call::Call,
    error::ApiError,
    queries::{command, status},
    reply::Reply,
};

/// `pending`: it is in the stream or under way. `unknown`: nobody has it; it may have been lost or never sent.
#[derive(Serialize, ToSchema)]
pub(crate) struct CommandView {
    #[schema(value_type = String)]
    command_id: CommandId,
    /// `done`, `rejected`, `pending` or `unknown`.
    status: String,
    position: Option<i64>,
    config_version: Option<i64>,
    /// Why it was rejected.
    code: Option<String>,
    detail: Option<String>,
}

pub(crate) async fn get(call: Call) -> Result<Reply, ApiError> {
    let id: CommandId = call.path_id("id", "command")?;
    let row = find(&call.app, id).await?;
    // It may have been committed while the stream was searched.
    let (row, pending) = match row {
        Some(row) => (Some(row), false),
        None if is_pending(&call.app, id).await => (find(&call.app, id).await?, true),
        None => (find(&call.app, id).await?, false),
    };
    let view = match row {
        Some(row) => CommandView {
            command_id: id,
            status: row.outcome,
            position: Some(row.position),
            config_version: row.config_version,
            code: row.code,
            detail: row.detail,
        },
        None => CommandView {
            command_id: id,
            status: if pending { "pending" } else { "unknown" }.to_owned(),
            position: None,
            config_version: None,
            code: None,
            detail: None,
        },
    };
    Reply::ok(&view)
}

async fn find(app: &AppState, id: CommandId) -> Result<Option<command::CommandRow>, ApiError> {
    let mut connection = app.pool.acquire().await?;
    Ok(command::find(&mut connection, id).await?)
}

/// Entries that the projector has not read yet are few.
const ENTRIES: usize = 10_000;

async fn is_pending(app: &AppState, id: CommandId) -> bool {
    app.waiting.holds(id) || in_stream(app, id).await.unwrap_or(false)
}

async fn in_stream(app: &AppState, id: CommandId) -> Result<bool, anyhow::Error> {
    let Some(generation) = app.log.generation(Plane::Management).await? else {
        return Ok(false);
    };
    let mut connection = app.pool.acquire().await?;
    let after = status::management_checkpoint(&mut connection).await?;
    drop(connection);
    let mut reader = StreamReader::connect(&app.redis_url).await?;
    let entries = reader
        .management(
            generation,
            after,
            ENTRIES,
            std::time::Duration::from_millis(1),
        )
        .await?;
    let is_it =
        |bytes: &[u8]| Entry::from_bytes(bytes).is_ok_and(|entry| entry.command_id == Some(id));
    Ok(entries.iter().any(|entry| is_it(&entry.bytes)))
}
