//! What the projector itself decides in a transaction: one entry of the log with all of it, written by the task that
//! decided. A replay applies it and never decides again.

use odock_events::{
    clock::Timestamp,
    codec::Entry,
    envelope::{EntityRef, Envelope, Meta},
    ids::{EventId, OrganisationId},
    kind::Event,
    ledger::books::Account,
    payload::account::{AccountId, AccountSpec},
};
use sqlx::PgConnection;

use crate::{
    error::ProjectorError,
    projections::{
        event::EventRows,
        event_log::{self, LogRow, Source},
    },
};

/// An event of the projector's own about a rule or a gateway.
pub(crate) fn decided(
    entity: EntityRef,
    organisation_id: Option<OrganisationId>,
    causation_id: Option<EventId>,
    at: Timestamp,
    event: Event,
) -> Envelope {
    Envelope {
        meta: Meta {
            organisation_id,
            causation_id,
            ..Meta::new(entity, 0, at)
        },
        event,
    }
}

/// An account as an event carries it.
pub(crate) fn spec_of(id: AccountId, account: &Account) -> AccountSpec {
    AccountSpec {
        id,
        organisation_id: account.organisation_id,
        owner: account.owner.clone(),
        unit: account.unit,
        mode: account.mode,
        limit: account.limit,
        window_end: account.window_end,
        rollover: account.rollover,
        thresholds: account.thresholds,
    }
}

/// Writes the entry, at its position, into the log and for people.
pub(crate) async fn write(
    connection: &mut PgConnection,
    envelopes: &[Envelope],
    position: i64,
    recorded_at: Timestamp,
) -> Result<(), ProjectorError> {
    let entry = Entry::of(None, None, None, envelopes)?;
    event_log::insert(
        connection,
        LogRow {
            position,
            source: Source::Projector,
            boundary: None,
            boundary_version: None,
            config_version: None,
            command_id: None,
            recorded_at,
            body: &entry.to_bytes()?,
        },
    )
    .await?;
    let mut events = EventRows::default();
    events.push_all(position, envelopes, &entry.events);
    events.write(connection).await?;
    Ok(())
}
