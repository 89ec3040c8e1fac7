//! From a command's events to rows: what they change is staged in memory by the pure fold and then written. The
//! management task and the rebuild do the same thing here.

use std::collections::BTreeMap;

use odock_events::{
    clock::Timestamp,
    codec::Entry,
    envelope::{EntityKind, EntityRef, Envelope},
    kind::{Event, Source as EventSource},
    ledger::{books::Books, rule::Rule},
    state::{
        EntityRow,
        config::{ConfigChange, ConfigDelta},
        fold::{self, Change},
    },
};
use sqlx::PgConnection;
use uuid::Uuid;

use super::refuse::Refusal;
use crate::{
    error::ProjectorError,
    projections::{
        api_key_rotation, boundary, config_delta, entity,
        event::EventRows,
        event_log::{self, LogRow, Source},
        money::{self, Money},
        price_version,
    },
    relay::CommittedDelta,
};

/// One entry of the stream, read.
pub(crate) struct Incoming {
    pub(crate) bytes: Vec<u8>,
    pub(crate) entry: Entry,
    pub(crate) envelopes: Vec<Envelope>,
}

/// The rows that a transaction's commands are about, as they stand after those folded so far.
pub(crate) struct State {
    pub(crate) boundaries: BTreeMap<Uuid, u64>,
    rows: BTreeMap<EntityRef, EntityRow>,
    pub(crate) money: Money,
}

/// What one command changes, not yet written.
pub(crate) struct Staged {
    /// Beside the index of the event that made it.
    changes: Vec<(usize, Change)>,
}

impl Staged {
    pub(crate) fn deletes(&self) -> bool {
        self.changes
            .iter()
            .any(|(_, change)| matches!(change, Change::Delete(_)))
    }
}

impl State {
    /// Loads what the events are about; rules and their accounts are locked, in this order.
    pub(crate) async fn lock(
        connection: &mut PgConnection,
        incoming: &[Incoming],
    ) -> Result<Self, ProjectorError> {
        let mut ids: BTreeMap<EntityKind, Vec<Uuid>> = BTreeMap::new();
        for envelope in incoming.iter().flat_map(|incoming| &incoming.envelopes) {
            if envelope.kind().source() == EventSource::Management {
                ids.entry(envelope.meta.entity.kind)
                    .or_default()
                    .push(envelope.meta.entity.id);
            }
        }
        let mut rules = Vec::new();
        for kind in [EntityKind::Budget, EntityKind::Quota] {
            if let Some(ids) = ids.get(&kind) {
                entity::lock_rules(connection, kind, ids).await?;
                rules.extend_from_slice(ids);
            }
        }
        let mut books = Books::default();
        if !rules.is_empty() {
            books.accounts = money::lock_open_accounts(connection, &rules).await?;
        }
        let mut rows = BTreeMap::new();
        for (kind, ids) in &ids {
            for row in entity::load(connection, *kind, ids).await? {
                rows.insert(row.entity(), row);
            }
        }
        let boundaries: Vec<Uuid> = incoming
            .iter()
            .map(|incoming| boundary::id_of(incoming.entry.boundary))
            .collect();
        Ok(Self {
            boundaries: boundary::load(connection, &boundaries).await?,
            rows,
            money: Money::of(books),
        })
    }

    /// Refuses a command that was decided on another version of its boundary than the one before it.
    pub(crate) fn check_version(&self, entry: &Entry) -> Result<(), Refusal> {
        let current = self.boundaries.get(&boundary::id_of(entry.boundary));
        match (current, entry.expected_version) {
            (Some(current), Some(expected)) if *current == expected => Ok(()),
            (Some(current), Some(expected)) => Err(Refusal::conflict(format!(
                "the organisation is at version {current}, the command expects {expected}"
            ))),
            (None, _) => Err(Refusal::conflict("the organisation does not exist")),
            (_, None) => Err(Refusal::conflict("the command names no version")),
        }
    }

    /// Folds the command's events over the rows, without changing any yet.
    pub(crate) fn stage(&self, incoming: &Incoming) -> Result<Staged, Refusal> {
        let mut staged = Staged {
            changes: Vec::with_capacity(incoming.envelopes.len()),
        };
        let mut overlay: BTreeMap<EntityRef, Option<EntityRow>> = BTreeMap::new();
        for (index, envelope) in incoming.envelopes.iter().enumerate() {
            check_boundary(&incoming.entry, envelope)?;
            let entity = envelope.meta.entity;
            let current = match overlay.get(&entity) {
                Some(row) => row.clone(),
                None => self.rows.get(&entity).cloned(),
            };
            let change = fold::apply(current, envelope)?;
            match &change {
                Change::Put(row) => {
                    overlay.insert(row.entity(), Some(row.as_ref().clone()));
                }
                Change::Delete(entity) => {
                    overlay.insert(*entity, None);
                }
                Change::Nothing => {}
            }
            staged.changes.push((index, change));
        }
        Ok(staged)
    }

    /// Takes over what a command changed, once its rows are written. `index` is its place in the transaction.
    pub(crate) fn merge(&mut self, index: usize, incoming: &Incoming, staged: Staged) {
        let entry = &incoming.entry;
        let version = entry.expected_version.map_or(0, |version| version + 1);
        self.boundaries
            .insert(boundary::id_of(entry.boundary), version);
        for (event, change) in staged.changes {
            match change {
                Change::Put(row) => {
                    if let Some(envelope) = incoming.envelopes.get(event) {
                        self.note(index, envelope, &row);
                    }
                    self.rows.insert(row.entity(), *row);
                }
                Change::Delete(entity) => {
                    self.rows.remove(&entity);
                }
                Change::Nothing => {}
            }
        }
    }

    fn note(&mut self, index: usize, envelope: &Envelope, row: &EntityRow) {
        match row {
            EntityRow::Organisation(row) if row.version == 1 => {
                self.boundaries.insert(row.id.0, 0);
            }
            EntityRow::Budget(_) | EntityRow::Quota(_) => {
                if let Some(rule) = Rule::of_row(row.clone()) {
                    let meta = &envelope.meta;
                    self.money
                        .change_rule(index, &rule, meta.occurred_at, meta.id.0);
                }
            }
            EntityRow::Organisation(_)
            | EntityRow::Team(_)
            | EntityRow::User(_)
            | EntityRow::Membership(_)
            | EntityRow::Provider(_)
            | EntityRow::ProviderKey(_)
            | EntityRow::Model(_)
            | EntityRow::Key(_)
            | EntityRow::Grant(_)
            | EntityRow::Overlay(_) => {}
        }
    }
}

/// An organisation's command speaks of that organisation alone, the platform's of organisations alone.
fn check_boundary(entry: &Entry, envelope: &Envelope) -> Result<(), Refusal> {
    if envelope.kind().source() != EventSource::Management {
        return Err(Refusal::conflict(format!(
            "{} is no command's event",
            envelope.kind().name()
        )));
    }
    let platform = envelope.meta.entity.kind == EntityKind::Organisation;
    let own = match entry.boundary {
        None => platform,
        Some(organisation) => envelope.meta.organisation_id == Some(organisation),
    };
    if own {
        Ok(())
    } else {
        Err(Refusal::conflict(
            "an event lies outside the command's boundary",
        ))
    }
}

/// An accepted command with where it lands.
pub(crate) struct Accepted<'a> {
    pub(crate) position: i64,
    pub(crate) config_version: u64,
    pub(crate) recorded_at: Timestamp,
    pub(crate) incoming: &'a Incoming,
}

impl Accepted<'_> {
    /// Writes the derived rows.
    pub(crate) async fn write(
        &self,
        connection: &mut PgConnection,
        staged: &Staged,
    ) -> Result<CommittedDelta, ProjectorError> {
        let mut changes = Vec::with_capacity(staged.changes.len());
        for (index, change) in &staged.changes {
            match change {
                Change::Put(row) => {
                    entity::put(connection, row, self.position).await?;
                    self.write_beside(connection, *index, row).await?;
                    changes.push(ConfigChange::Put(row.clone()));
                }
                Change::Delete(entity) => {
                    entity::delete(connection, *entity).await?;
                    changes.push(ConfigChange::Delete(*entity));
                }
                Change::Nothing => {}
            }
        }
        let entry = &self.incoming.entry;
        let version = entry.expected_version.map_or(0, |version| version + 1);
        boundary::set(connection, boundary::id_of(entry.boundary), version).await?;
        let mut events = EventRows::default();
        events.push_all(self.position, &self.incoming.envelopes, &entry.events);
        events.write(connection).await?;
        self.write_delta(connection, changes).await
    }

    /// What goes beside an entity's own row.
    async fn write_beside(
        &self,
        connection: &mut PgConnection,
        index: usize,
        row: &EntityRow,
    ) -> Result<(), ProjectorError> {
        match row {
            EntityRow::Organisation(organisation) if organisation.version == 1 => {
                boundary::set(connection, organisation.id.0, 0).await?;
            }
            EntityRow::Model(model) => {
                price_version::insert(connection, model, self.position).await?;
            }
            EntityRow::Key(key) => {
                if let Some(envelope) = self.incoming.envelopes.get(index)
                    && let Event::KeyRotated(rotated) = &envelope.event
                {
                    let (meta, organisation) = (&envelope.meta, key.organisation_id);
                    api_key_rotation::insert(
                        connection,
                        meta,
                        organisation,
                        rotated,
                        self.position,
                    )
                    .await?;
                }
            }
            EntityRow::Organisation(_)
            | EntityRow::Team(_)
            | EntityRow::User(_)
            | EntityRow::Membership(_)
            | EntityRow::Provider(_)
            | EntityRow::ProviderKey(_)
            | EntityRow::Grant(_)
            | EntityRow::Budget(_)
            | EntityRow::Quota(_)
            | EntityRow::Overlay(_) => {}
        }
        Ok(())
    }

    async fn write_delta(
        &self,
        connection: &mut PgConnection,
        changes: Vec<ConfigChange>,
    ) -> Result<CommittedDelta, ProjectorError> {
        let delta = ConfigDelta {
            version: self.config_version,
            position: self.position as u64,
            command_id: self.incoming.entry.command_id,
            committed_at: self.recorded_at,
            changes,
        };
        let body = delta.to_bytes()?;
        config_delta::insert(connection, &delta, &body).await?;
        Ok(CommittedDelta {
            version: delta.version,
            body,
        })
    }

    /// Writes the log's own row: the entry's bytes as they came.
    pub(crate) async fn log(&self, connection: &mut PgConnection) -> Result<(), ProjectorError> {
        let entry = &self.incoming.entry;
        let row = LogRow {
            position: self.position,
            source: Source::Management,
            boundary: entry.boundary,
            boundary_version: entry.expected_version.map(|version| version + 1),
            config_version: Some(self.config_version),
            command_id: entry.command_id,
            recorded_at: self.recorded_at,
            body: &self.incoming.bytes,
        };
        event_log::insert(connection, row).await?;
        Ok(())
    }
}
