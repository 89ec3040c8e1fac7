//! The rules of the management API, one resource a file: from the rows as they stand and what is asked for to the events
//! that follow, or to why not. Pure: rows, time and ids come in as arguments.

pub(crate) mod address;
pub(crate) mod base_url;
pub(crate) mod budget;
pub(crate) mod catalogue;
pub(crate) mod check;
pub(crate) mod grant;
pub(crate) mod key;
pub(crate) mod membership;
pub(crate) mod model;
pub(crate) mod organisation;
pub(crate) mod overlay;
pub(crate) mod provider;
pub(crate) mod provider_key;
pub(crate) mod quota;
pub(crate) mod rule;
pub(crate) mod team;
pub(crate) mod time;
pub(crate) mod user;

use odock_events::{
    envelope::{EntityRef, Envelope},
    kind::Event,
    state::EntityRow,
};

use crate::{
    command::{Decision, answer::Answer, stamp::Stamp},
    error::{ApiError, Code},
};

/// One new entity.
pub(crate) fn created(
    stamp: &Stamp,
    entity: impl Into<EntityRef>,
    event: Event,
) -> Result<Decision, ApiError> {
    one(None, stamp.envelope(entity, 1, event))
}

/// The next version of an entity.
pub(crate) fn changed(
    stamp: &Stamp,
    before: EntityRow,
    event: Event,
) -> Result<Decision, ApiError> {
    let envelope = stamp.envelope(before.entity(), before.version() + 1, event);
    one(Some(before), envelope)
}

/// One event about one entity; the answer is what the fold makes of it.
pub(crate) fn one(before: Option<EntityRow>, envelope: Envelope) -> Result<Decision, ApiError> {
    let answer = Answer::of(before, &envelope)?;
    Ok(Decision::new(vec![envelope], answer))
}

/// All is as asked already.
pub(crate) fn unchanged(row: EntityRow) -> Decision {
    Decision::new(Vec::new(), Answer::Changed(Box::new(row)))
}

/// Deletes unless something refers to it.
pub(crate) fn deleted(
    stamp: &Stamp,
    before: EntityRow,
    referrer: Option<String>,
    event: Event,
) -> Result<Decision, ApiError> {
    if let Some(referrer) = referrer {
        let noun = before.entity().kind.name();
        let detail = format!("{referrer} still refers to this {}", noun.replace('_', " "));
        return Err(ApiError::new(Code::InUse, detail));
    }
    changed(stamp, before, event)
}

/// Refuses a stale `If-Match`.
pub(crate) fn check_version(version: u64, expected: Option<u64>) -> Result<(), ApiError> {
    match expected {
        Some(expected) if expected != version => {
            let detail = format!("it is at version {version}, not {expected}");
            Err(ApiError::new(Code::VersionMismatch, detail))
        }
        Some(_) | None => Ok(()),
    }
}

pub(crate) fn name_taken(name: &str) -> ApiError {
    ApiError::field(Code::NameTaken, "/name", format!("`{name}` is taken"))
}

/// A reference to something that is not in this organisation, whether it is anywhere or not.
pub(crate) fn no_such(field: &str, noun: &str) -> ApiError {
    ApiError::invalid(
        field,
        format!("there is no such {noun} in this organisation"),
    )
}

#[cfg(test)]
pub(crate) mod testing {
    //! Rows for the unit tests of rules.

    use odock_events::{
        ids::OrganisationId,
        state::{EntityRow, Row},
    };
    use uuid::Uuid;

    use crate::{
        command::{Decision, answer::Answer, stamp::Stamp},
        queries::entity::Stored,
    };

    pub(crate) fn row<B: Stored>(stamp: &Stamp, body: B) -> Row<B::Id, B> {
        Row {
            id: Uuid::now_v7().into(),
            organisation_id: stamp.organisation_id.unwrap_or(OrganisationId(Uuid::nil())),
            version: 3,
            created_at: stamp.now,
            updated_at: stamp.now,
            body,
        }
    }

    /// The row after a decision with one event.
    pub(crate) fn after<B: Stored>(decision: &Decision) -> Row<B::Id, B> {
        match &decision.answer {
            Answer::Created(row) | Answer::Changed(row) | Answer::Rotated(row) => {
                B::of(EntityRow::clone(row)).unwrap()
            }
            Answer::Deleted(_) | Answer::Batch { .. } | Answer::Models { .. } => {
                panic!("{:?}", decision.answer)
            }
        }
    }

    pub(crate) fn kinds(decision: &Decision) -> Vec<&'static str> {
        decision
            .envelopes
            .iter()
            .map(|envelope| envelope.kind().name())
            .collect()
    }
}
