//! What a command's answer says: the row after it, or that it is gone. Made by the rule's own fold, or read back from the
//! log when another request with the same command id did it.

use http::{StatusCode, header};
use odock_events::{
    codec::Entry,
    envelope::{EntityRef, Envelope},
    ids::GrantId,
    kind::Event,
    secret_key::SecretKey,
    state::{
        EntityRow,
        fold::{self, Change},
    },
};
use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::{
    call::Call,
    error::ApiError,
    queries::{entity, event_log},
    reply::Reply,
    shape::views,
};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Created(Box<EntityRow>),
    Changed(Box<EntityRow>),
    /// As `Changed`, and a secret was made with it.
    Rotated(Box<EntityRow>),
    Deleted(EntityRef),
    Batch {
        created: Vec<EntityRow>,
        deleted: Vec<GrantId>,
    },
    /// Models of an import, or with new prices.
    Models {
        created: Vec<EntityRow>,
        updated: Vec<EntityRow>,
        /// Entries of the catalogue that were there already.
        skipped: Vec<String>,
    },
}

impl Answer {
    /// The row that `envelope` makes of `before`.
    pub(crate) fn of(before: Option<EntityRow>, envelope: &Envelope) -> Result<Self, ApiError> {
        let creates = before.is_none();
        match fold::apply(before, envelope).map_err(ApiError::internal)? {
            Change::Put(row) if creates => Ok(Self::Created(row)),
            Change::Put(row) if matches!(envelope.event, Event::KeyRotated(_)) => {
                Ok(Self::Rotated(row))
            }
            Change::Put(row) => Ok(Self::Changed(row)),
            Change::Delete(entity) => Ok(Self::Deleted(entity)),
            Change::Nothing => Err(ApiError::internal("an event of a command changes nothing")),
        }
    }

    /// The answer without receipt and positions.
    pub(crate) async fn reply(
        self,
        call: &Call,
        secret: Option<SecretKey>,
    ) -> Result<Reply, ApiError> {
        match self {
            Self::Created(row) => {
                let location = views::location(&row);
                let version = row.version();
                let shows_secret = matches!(*row, EntityRow::Key(_));
                let body = with_secret(
                    views::one(&call.app, *row, call.now).await?,
                    shows_secret,
                    secret,
                );
                let reply = Reply::new(StatusCode::CREATED, body).etag(version);
                Ok(reply.header(header::LOCATION, &location))
            }
            Self::Changed(row) => {
                let version = row.version();
                let body = views::one(&call.app, *row, call.now).await?;
                Ok(Reply::new(StatusCode::OK, body).etag(version))
            }
            Self::Rotated(row) => {
                let version = row.version();
                let body = with_secret(views::one(&call.app, *row, call.now).await?, true, secret);
                Ok(Reply::new(StatusCode::OK, body).etag(version))
            }
            Self::Deleted(entity) => {
                let body = json!({ "id": entity.id_text(), "deleted": true });
                Ok(Reply::new(StatusCode::OK, body))
            }
            Self::Batch { created, deleted } => {
                let created = views::many(&call.app, created, call.now).await?;
                Ok(Reply::new(
                    StatusCode::OK,
                    json!({ "created": created, "deleted": deleted }),
                ))
            }
            Self::Models {
                created,
                updated,
                skipped,
            } => {
                let created = views::many(&call.app, created, call.now).await?;
                let updated = views::many(&call.app, updated, call.now).await?;
                Ok(Reply::new(
                    StatusCode::OK,
                    json!({ "created": created, "updated": updated, "skipped": skipped }),
                ))
            }
        }
    }
}

/// The secret stands in the answer that made it, null when that answer is told again.
fn with_secret(mut body: Value, shows_secret: bool, secret: Option<SecretKey>) -> Value {
    if let Some(members) = body.as_object_mut().filter(|_| shows_secret) {
        let secret = secret.map_or(Value::Null, |secret| {
            Value::String(secret.expose().to_owned())
        });
        members.insert("secret".to_owned(), secret);
    }
    body
}

/// The answer of the command at a position of the log.
pub(crate) async fn from_log(
    connection: &mut PgConnection,
    position: i64,
    batch: bool,
) -> Result<Answer, ApiError> {
    let body = event_log::body(connection, position).await?;
    let body = body.ok_or_else(|| ApiError::internal("a command's entry is not in the log"))?;
    let entry = Entry::from_bytes(&body).map_err(ApiError::internal)?;
    let envelopes = entry.envelopes().map_err(ApiError::internal)?;
    if batch {
        let of_models = |envelope: &Envelope| {
            matches!(
                envelope.event,
                Event::ModelCreated(_) | Event::ModelUpdated(_)
            )
        };
        return if envelopes.first().is_some_and(of_models) {
            models_of(connection, &envelopes).await
        } else {
            Ok(batch_of(&envelopes))
        };
    }
    let Some(envelope) = envelopes.first() else {
        return Err(ApiError::internal("a command's entry has no event"));
    };
    if envelope.meta.entity_version == 1 {
        return Answer::of(None, envelope);
    }
    if is_deletion(&envelope.event) {
        return Ok(Answer::Deleted(envelope.meta.entity));
    }
    // A change is told by the row as it stands now; it may have changed since.
    let row = entity::find_any(connection, envelope.meta.entity).await?;
    let row = row.ok_or_else(|| ApiError::not_found(envelope.meta.entity.kind.name()))?;
    let rotated = matches!(envelope.event, Event::KeyRotated(_));
    Ok(if rotated {
        Answer::Rotated(Box::new(row))
    } else {
        Answer::Changed(Box::new(row))
    })
}

fn batch_of(envelopes: &[Envelope]) -> Answer {
    let mut created = Vec::new();
    let mut deleted = Vec::new();
    for envelope in envelopes {
        if let Ok(Answer::Created(row)) = Answer::of(None, envelope) {
            created.push(*row);
        } else {
            deleted.push(GrantId(envelope.meta.entity.id));
        }
    }
    Answer::Batch { created, deleted }
}

/// Changed models are told by their rows as they stand now; what was skipped left no trace.
async fn models_of(
    connection: &mut PgConnection,
    envelopes: &[Envelope],
) -> Result<Answer, ApiError> {
    let (mut created, mut updated) = (Vec::new(), Vec::new());
    for envelope in envelopes {
        if let Ok(Answer::Created(row)) = Answer::of(None, envelope)
            && envelope.meta.entity_version == 1
        {
            created.push(*row);
        } else if let Some(row) = entity::find_any(connection, envelope.meta.entity).await? {
            updated.push(row);
        }
    }
    Ok(Answer::Models {
        created,
        updated,
        skipped: Vec::new(),
    })
}

fn is_deletion(event: &Event) -> bool {
    event.kind().name().ends_with(".deleted")
}
