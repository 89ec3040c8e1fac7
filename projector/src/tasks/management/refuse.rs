//! Refusing a command: why, in words of the admin API, and the `command.rejected` that the log keeps of it.

use odock_events::{
    codec::Entry,
    envelope::{EntityRef, Envelope, Meta},
    kind::Event,
    payload::command::CommandRejected,
    state::fold::FoldError,
};
use sqlx::PgConnection;

use super::Place;
use crate::{
    error::ProjectorError,
    projections::{
        command::{self, Outcome},
        event::EventRows,
        event_log::{self, LogRow, Source},
    },
};

/// Why a command is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// A code of the admin API.
    pub(crate) code: &'static str,
    pub(crate) detail: String,
}

impl Refusal {
    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self {
            code: "conflict",
            detail: detail.into(),
        }
    }

    pub(super) fn repeated() -> Self {
        Self::conflict("the command has an outcome already")
    }

    /// A refusal by a constraint or by what Postgres cannot store; any other error is handed back.
    pub(super) fn of_database(
        error: ProjectorError,
        deletes: bool,
    ) -> Result<Self, ProjectorError> {
        let ProjectorError::Database(sqlx::Error::Database(database)) = &error else {
            return Err(error);
        };
        let code = database.code().unwrap_or_default();
        let constraint = database.constraint().unwrap_or_default();
        Ok(match (code.as_ref(), constraint) {
            ("23505", "organisation_name_taken" | "provider_name_taken" | "model_name_taken") => {
                Self {
                    code: "name_taken",
                    detail: "another one has this name".into(),
                }
            }
            ("23505", "membership_taken" | "model_grant_taken" | "api_key_secret_taken") => {
                Self::conflict("there is such a one already")
            }
            ("23503", _) if deletes => Self {
                code: "in_use",
                detail: "something still refers to it".into(),
            },
            ("23503", _) => Self::conflict("it refers to something that does not exist"),
            // Wrong data, a broken constraint, or more than an index can hold.
            (code, constraint)
                if ["22", "23", "54"]
                    .iter()
                    .any(|class| code.starts_with(class)) =>
            {
                Self::conflict(format!("it cannot be stored ({code} {constraint})"))
            }
            _ => return Err(error),
        })
    }
}

impl From<FoldError> for Refusal {
    fn from(error: FoldError) -> Self {
        Self::conflict(error.to_string())
    }
}

/// Writes the refusal at its place. A repeated command keeps the outcome that it has.
pub(super) async fn write(
    connection: &mut PgConnection,
    entry: &Entry,
    refusal: &Refusal,
    boundary_version: Option<u64>,
    repeated: bool,
    place: &Place,
) -> Result<(), ProjectorError> {
    let Some(command_id) = entry.command_id else {
        return Err(ProjectorError::Foreign {
            table: "event_log",
            value: format!("a command without an id before position {}", place.position),
        });
    };
    let rejected = CommandRejected {
        command_id,
        boundary: entry.boundary,
        code: refusal.code.to_owned(),
        detail: refusal.detail.clone(),
    };
    let envelope = Envelope {
        meta: Meta {
            organisation_id: entry.boundary,
            command_id: Some(command_id),
            ..Meta::new(EntityRef::from(command_id), 0, place.recorded_at)
        },
        event: Event::CommandRejected(rejected),
    };
    let own_id = (!repeated).then_some(command_id);
    let logged = Entry::of(
        own_id,
        entry.boundary,
        None,
        std::slice::from_ref(&envelope),
    )?;
    event_log::insert(
        connection,
        LogRow {
            position: place.position,
            source: Source::Projector,
            boundary: entry.boundary,
            boundary_version,
            config_version: None,
            command_id: own_id,
            recorded_at: place.recorded_at,
            body: &logged.to_bytes()?,
        },
    )
    .await?;
    let mut events = EventRows::default();
    events.push_all(
        place.position,
        std::slice::from_ref(&envelope),
        &logged.events,
    );
    events.write(connection).await?;
    if !repeated {
        let outcome = Outcome::Rejected {
            code: refusal.code,
            detail: refusal.detail.clone(),
        };
        command::insert(
            connection,
            command_id,
            &outcome,
            place.position,
            place.recorded_at,
        )
        .await?;
    }
    Ok(())
}
