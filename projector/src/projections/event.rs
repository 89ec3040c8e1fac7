//! Table `event`: every event but `usage.finished`, one row each, for people.

use odock_events::envelope::Envelope;
use serde_bytes::ByteBuf;
use sqlx::PgConnection;

use crate::copy::CopyRows;

const COLUMNS: i16 = 12;

/// Rows of one transaction.
#[derive(Debug)]
pub(crate) struct EventRows(CopyRows);

impl Default for EventRows {
    fn default() -> Self {
        Self(CopyRows::new(COLUMNS))
    }
}

impl EventRows {
    /// Adds the event that is `ordinal`th of the entry at `position`; `body` is its bytes as stored.
    pub(crate) fn push(&mut self, position: i64, ordinal: usize, envelope: &Envelope, body: &[u8]) {
        let meta = &envelope.meta;
        let row = &mut self.0;
        row.row();
        row.bigint(position);
        row.integer(ordinal as i32);
        row.uuid(meta.id.0);
        row.text(envelope.kind().name());
        row.text(meta.entity.kind.name());
        row.uuid(meta.entity.id);
        row.bigint(meta.entity_version as i64);
        row.time(meta.occurred_at);
        row.optional(meta.organisation_id, |row, id| row.uuid(id.0));
        row.text(&meta.actor.to_string());
        row.optional(meta.reason.as_deref(), CopyRows::text);
        row.bytes(body);
    }

    /// Adds all events of the entry at `position`.
    pub(crate) fn push_all(&mut self, position: i64, envelopes: &[Envelope], bodies: &[ByteBuf]) {
        for (ordinal, (envelope, body)) in envelopes.iter().zip(bodies).enumerate() {
            self.push(position, ordinal, envelope, body);
        }
    }

    pub(crate) async fn write(self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        self.0
            .send(
                connection,
                "COPY event (position, ordinal, id, kind, entity_kind, entity_id, entity_version,
                     occurred_at, organisation_id, actor, reason, body)
                 FROM STDIN (FORMAT binary)",
            )
            .await?;
        Ok(())
    }
}
