//! `…/events`: what happened in an organisation, personal fields in plain for whoever may read them.

use std::collections::HashMap;

use odock_events::{
    envelope::{EntityKind, Envelope},
    ids::UserId,
    kind::Event,
    personal::WrappedKey,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::crud::require_organisation;
use crate::{
    app::AppState,
    call::Call,
    error::ApiError,
    page::{Filter, ListQuery, ListSpec, Place, Takes},
    person,
    queries::{
        event::{self, EventRow},
        private,
    },
    reply::Reply,
};

pub(crate) const LIST: ListSpec = ListSpec {
    searchable: false,
    filters: &[
        Filter::new("kind", "kind = ", Takes::Text),
        Filter::new("entity_id", "entity_id = ", Takes::Id("")),
        Filter::new("actor", "actor = ", Takes::Text),
        Filter::new("from_position", "position >= ", Takes::Number),
        Filter::new("to_position", "position <= ", Takes::Number),
    ],
};

pub(crate) async fn list(call: Call) -> Result<Reply, ApiError> {
    let organisation = call.organisation()?;
    let query = ListQuery::read(&call, &LIST)?;
    let mut connection = call.app.pool.acquire().await?;
    require_organisation(&mut connection, organisation).await?;
    let rows = event::list(&mut connection, organisation, &query).await?;
    let subjects: Vec<Uuid> = rows
        .iter()
        .filter(|row| row.envelope.meta.entity.kind == EntityKind::User)
        .map(|row| row.envelope.meta.entity.id)
        .collect();
    let keys = private::subject_keys(&mut connection, &subjects).await?;
    drop(connection);
    let views: Result<Vec<(Place, Value)>, ApiError> = rows
        .iter()
        .map(|row| Ok((row.place(), view(&call.app, row, &keys)?)))
        .collect();
    Ok(query.reply(views?))
}

fn view(
    app: &AppState,
    row: &EventRow,
    keys: &HashMap<Uuid, WrappedKey>,
) -> Result<Value, ApiError> {
    let Envelope { meta, event } = &row.envelope;
    let mut payload = event.to_json().map_err(ApiError::internal)?;
    if let Event::UserCreated(body) | Event::UserUpdated(body) = event {
        let user = UserId(meta.entity.id);
        let person = person::open(&app.subject_keys, user, keys.get(&user.0), body);
        payload["email"] = json!(person.email);
        payload["name"] = json!(person.name);
    }
    Ok(json!({
        "position": row.position,
        "id": meta.id,
        "kind": row.envelope.kind(),
        "entity": {
            "type": meta.entity.kind,
            "id": meta.entity.id_text(),
            "version": meta.entity_version,
        },
        "occurred_at": meta.occurred_at,
        "actor": meta.actor.to_string(),
        "reason": meta.reason,
        "change_ref": meta.change_ref,
        "command_id": meta.command_id,
        "request_id": meta.correlation_id,
        "payload": payload,
    }))
}
