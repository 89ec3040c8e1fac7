//! The management task: admins' commands in their order, each accepted into the tables or refused with a reason. One
//! entry of the stream is one command, one position of the log, and if accepted one configuration version.

use std::collections::BTreeSet;

use odock_events::{
    clock::Timestamp,
    codec::{DecodeError, Entry},
    envelope::Envelope,
    log::{ManagementEntry, reader::StreamReader},
};
use sqlx::{Connection as _, PgConnection};
use tokio::time::Instant;
use uuid::Uuid;

use self::{
    fold::{Accepted, Incoming, State},
    refuse::Refusal,
};
use crate::{
    checkpoint::{self, MANAGEMENT, Move},
    error::{ProjectorError, WentBack},
    head,
    projections::{
        boundary,
        command::{self, Outcome},
    },
    relay::CommittedDelta,
    term::{BLOCK, Term},
};

pub(crate) mod fold;
mod refuse;

const BATCH: usize = 64;
const TRIM_EVERY: u64 = 64;

pub(crate) async fn run(term: Term) -> Result<(), ProjectorError> {
    let mut database = term.connect().await?;
    let mut reader = StreamReader::connect(&term.config.redis_url).await?;
    let mut cursor = checkpoint::open(&mut database, MANAGEMENT, term.generation).await?;
    loop {
        let entries = tokio::select! {
            () = term.stop.cancelled() => return Ok(()),
            entries = reader.management(term.generation, cursor, BATCH, BLOCK) => entries?,
        };
        let Some(last) = entries.last().map(|entry| entry.seq) else {
            continue;
        };
        let incoming = decode(cursor, &entries)?;
        let began = Instant::now();
        let batch = Batch {
            generation: term.generation,
            recorded_at: term.clock.now(),
            cursor,
            last,
        };
        let committed = batch.project(&mut database, &incoming).await?;
        tracing::debug!(
            entries = incoming.len(),
            position = committed.position,
            duration_us = began.elapsed().as_micros() as u64,
            "management entries committed"
        );
        for delta in committed.deltas {
            // A full queue is no loss: the relay then reads the table.
            let _ = term.signals.deltas.try_send(delta);
        }
        term.signals.committed(committed.position);
        if last / TRIM_EVERY > cursor / TRIM_EVERY {
            term.log.trim_management(term.generation, last).await?;
        }
        cursor = last;
    }
}

/// The entries, which must follow the cursor without a hole and be readable: nothing here may be skipped.
fn decode(cursor: u64, entries: &[ManagementEntry]) -> Result<Vec<Incoming>, ProjectorError> {
    let mut incoming = Vec::with_capacity(entries.len());
    for (expected, entry) in (cursor + 1..).zip(entries) {
        if entry.seq != expected {
            return Err(ProjectorError::Estranged {
                what: format!(
                    "management entry {expected} is missing before {}",
                    entry.seq
                ),
                went_back: WentBack::Postgres,
            });
        }
        let read = |bytes: &[u8]| -> Result<(Entry, Vec<Envelope>), DecodeError> {
            let entry = Entry::from_bytes(bytes)?;
            let envelopes = entry.envelopes()?;
            Ok((entry, envelopes))
        };
        let (read, envelopes) =
            read(&entry.bytes).map_err(|source| ProjectorError::Unreadable {
                seq: entry.seq,
                source,
            })?;
        incoming.push(Incoming {
            bytes: entry.bytes.clone(),
            entry: read,
            envelopes,
        });
    }
    Ok(incoming)
}

/// What one transaction did.
struct Committed {
    position: i64,
    deltas: Vec<CommittedDelta>,
}

/// One transaction's frame.
struct Batch {
    generation: u64,
    recorded_at: Timestamp,
    cursor: u64,
    last: u64,
}

impl Batch {
    async fn project(
        &self,
        database: &mut PgConnection,
        incoming: &[Incoming],
    ) -> Result<Committed, ProjectorError> {
        let mut transaction = database.begin().await?;
        let step = Move {
            stream: MANAGEMENT.into(),
            from: self.cursor,
            to: self.last,
        };
        checkpoint::advance(&mut transaction, self.generation, &mut [step]).await?;
        let mut known = self.known_commands(&mut transaction, incoming).await?;
        let mut state = State::lock(&mut transaction, incoming).await?;
        let config_before = head::lock_config(&mut transaction).await?;
        let before = head::take_positions(&mut transaction, incoming.len()).await?;
        let mut deltas = Vec::new();
        for (index, incoming) in incoming.iter().enumerate() {
            let place = Place {
                index,
                position: before + 1 + index as i64,
                config_version: config_before + 1 + deltas.len() as u64,
                recorded_at: self.recorded_at,
            };
            let repeated = incoming
                .entry
                .command_id
                .is_some_and(|id| !known.insert(id.0));
            deltas.extend(
                place
                    .project(&mut transaction, &mut state, incoming, repeated)
                    .await?,
            );
        }
        head::set_config(&mut transaction, config_before + deltas.len() as u64).await?;
        state.money.write(&mut transaction, before).await?;
        transaction.commit().await?;
        Ok(Committed {
            position: before + incoming.len() as i64,
            deltas,
        })
    }

    async fn known_commands(
        &self,
        connection: &mut PgConnection,
        incoming: &[Incoming],
    ) -> Result<BTreeSet<Uuid>, ProjectorError> {
        let ids: Vec<Uuid> = incoming
            .iter()
            .filter_map(|i| Some(i.entry.command_id?.0))
            .collect();
        Ok(command::known(connection, &ids)
            .await?
            .into_iter()
            .collect())
    }
}

/// Where one entry lands.
struct Place {
    index: usize,
    position: i64,
    config_version: u64,
    recorded_at: Timestamp,
}

impl Place {
    /// Accepts the entry and returns its configuration delta, or writes why it is refused.
    async fn project(
        &self,
        connection: &mut PgConnection,
        state: &mut State,
        incoming: &Incoming,
        repeated: bool,
    ) -> Result<Option<CommittedDelta>, ProjectorError> {
        match self.accept(connection, state, incoming, repeated).await? {
            Ok(delta) => Ok(Some(delta)),
            Err(refusal) => {
                self.refuse(connection, state, incoming, repeated, refusal)
                    .await?;
                Ok(None)
            }
        }
    }

    async fn accept(
        &self,
        connection: &mut PgConnection,
        state: &mut State,
        incoming: &Incoming,
        repeated: bool,
    ) -> Result<Result<CommittedDelta, Refusal>, ProjectorError> {
        if repeated {
            return Ok(Err(Refusal::repeated()));
        }
        let staged = match state
            .check_version(&incoming.entry)
            .and_then(|()| state.stage(incoming))
        {
            Ok(staged) => staged,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let accepted = Accepted {
            position: self.position,
            config_version: self.config_version,
            recorded_at: self.recorded_at,
            incoming,
        };
        let mut savepoint = connection.begin().await?;
        let written = async {
            let delta = accepted.write(&mut savepoint, &staged).await?;
            accepted.log(&mut savepoint).await?;
            if let Some(id) = incoming.entry.command_id {
                let outcome = Outcome::Done {
                    config_version: self.config_version,
                };
                command::insert(
                    &mut savepoint,
                    id,
                    &outcome,
                    self.position,
                    self.recorded_at,
                )
                .await?;
            }
            Ok::<_, ProjectorError>(delta)
        }
        .await;
        match written {
            Ok(delta) => {
                savepoint.commit().await?;
                state.merge(self.index, incoming, staged);
                Ok(Ok(delta))
            }
            Err(error) => {
                savepoint.rollback().await?;
                Refusal::of_database(error, staged.deletes()).map(Err)
            }
        }
    }

    /// Writes `command.rejected` in the entry's place. An entry with the right version uses it up all the same, as it
    /// did in the stream.
    async fn refuse(
        &self,
        connection: &mut PgConnection,
        state: &mut State,
        incoming: &Incoming,
        repeated: bool,
        refusal: Refusal,
    ) -> Result<(), ProjectorError> {
        let entry = &incoming.entry;
        let version = state
            .check_version(entry)
            .ok()
            .and(entry.expected_version)
            .map(|v| v + 1);
        tracing::info!(
            code = refusal.code,
            detail = %refusal.detail,
            position = self.position,
            "a command was refused"
        );
        refuse::write(connection, entry, &refusal, version, repeated, self).await?;
        if let Some(version) = version {
            boundary::set(connection, boundary::id_of(entry.boundary), version).await?;
            state
                .boundaries
                .insert(boundary::id_of(entry.boundary), version);
        }
        Ok(())
    }
}
