//! Replaying the log: its rows in the order of their positions, in runs of one kind, through the functions that live
//! uses. Called by `rebuild`.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use odock_events::{
    clock::Timestamp,
    codec::Entry,
    ids::{GatewayId, OrganisationId},
    kind::Event,
};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::{
    error::ProjectorError,
    projections::{
        boundary,
        event::EventRows,
        gateway::Gateways,
        money::{Money, Touched},
        usage::ensure_partitions,
        usage_batch::decompress,
    },
    tasks::{
        management::fold::{Accepted, Incoming, State},
        usage::{batch::Batch, fold},
    },
};

/// Positions read at once: one transaction, with at most some ten thousand events in memory.
const PAGE: i64 = 64;
/// Usage events folded at once.
const LONGEST_RUN: usize = 20_000;

/// One row of the log.
enum Item {
    Management(Logged),
    Decided(Logged),
    Usage {
        recorded_at: Timestamp,
        batch: Batch,
    },
}

struct Logged {
    boundary: Option<OrganisationId>,
    boundary_version: Option<u64>,
    config_version: u64,
    recorded_at: Timestamp,
    incoming: Incoming,
}

type LogColumns = (
    i64,
    String,
    Option<Uuid>,
    Option<i64>,
    Option<i64>,
    DateTime<Utc>,
    Vec<u8>,
);
type BatchColumns = (i64, Uuid, i64, i64, DateTime<Utc>, Vec<u8>);

/// Folds everything up to `head` and returns the number of usage events.
pub(super) async fn to(connection: &mut PgConnection, head: i64) -> Result<u64, ProjectorError> {
    let mut replay = Replay {
        day: None,
        usage_events: 0,
    };
    let mut after = 0;
    while after < head {
        let until = (after + PAGE).min(head);
        let items = read(connection, after, until).await?;
        replay.make_partitions(connection, &items).await?;
        let mut transaction = connection.begin().await?;
        replay.fold(&mut transaction, items).await?;
        transaction.commit().await?;
        after = until;
    }
    Ok(replay.usage_events)
}

async fn read(
    connection: &mut PgConnection,
    after: i64,
    until: i64,
) -> Result<BTreeMap<i64, Item>, ProjectorError> {
    let mut items = BTreeMap::new();
    let logged: Vec<LogColumns> = sqlx::query_as(
        "SELECT position, source, boundary, boundary_version, config_version, recorded_at, body
             FROM event_log WHERE position > $1 AND position <= $2",
    )
    .bind(after)
    .bind(until)
    .fetch_all(&mut *connection)
    .await?;
    for (position, source, boundary, boundary_version, config_version, recorded_at, body) in logged
    {
        let unreadable = |source| ProjectorError::Unreadable {
            seq: position as u64,
            source,
        };
        let entry = Entry::from_bytes(&body).map_err(unreadable)?;
        let envelopes = entry.envelopes().map_err(unreadable)?;
        let logged = Logged {
            boundary: boundary.map(OrganisationId),
            boundary_version: boundary_version.map(|version| version as u64),
            config_version: config_version.unwrap_or(0) as u64,
            recorded_at: Timestamp::from_datetime(recorded_at),
            incoming: Incoming {
                bytes: body,
                entry,
                envelopes,
            },
        };
        let of_management = source == "management";
        items.insert(
            position,
            if of_management {
                Item::Management(logged)
            } else {
                Item::Decided(logged)
            },
        );
    }
    let batches: Vec<BatchColumns> = sqlx::query_as(
        "SELECT position, gateway_id, first_seq, last_seq, recorded_at, body
         FROM usage_batch WHERE position > $1 AND position <= $2",
    )
    .bind(after)
    .bind(until)
    .fetch_all(connection)
    .await?;
    for (position, gateway, first, last, recorded_at, body) in batches {
        let packed = decompress(&body)?;
        let batch = Batch::read(GatewayId(gateway), first as u64, last as u64, packed);
        let recorded_at = Timestamp::from_datetime(recorded_at);
        items.insert(position, Item::Usage { recorded_at, batch });
    }
    Ok(items)
}

struct Replay {
    day: Option<NaiveDate>,
    usage_events: u64,
}

/// Consecutive rows of one kind.
enum Run {
    Management(Vec<Logged>),
    Decided(Vec<Logged>),
    Usage {
        day: NaiveDate,
        events: usize,
        batches: Vec<Batch>,
    },
}

impl Run {
    fn of(item: Item) -> Self {
        match item {
            Item::Management(logged) => Self::Management(vec![logged]),
            Item::Decided(logged) => Self::Decided(vec![logged]),
            Item::Usage { recorded_at, batch } => Self::Usage {
                day: fold::day_of(recorded_at),
                events: batch.events.len(),
                batches: vec![batch],
            },
        }
    }

    /// Takes a further row, or gives it back when it begins another run.
    fn join(&mut self, item: Item) -> Option<Item> {
        match (self, item) {
            (Self::Management(run), Item::Management(logged))
            | (Self::Decided(run), Item::Decided(logged)) => {
                run.push(logged);
                None
            }
            (
                Self::Usage {
                    day,
                    events,
                    batches,
                },
                Item::Usage { recorded_at, batch },
            ) if *day == fold::day_of(recorded_at) && *events < LONGEST_RUN => {
                *events += batch.events.len();
                batches.push(batch);
                None
            }
            (_, item) => Some(item),
        }
    }
}

impl Replay {
    async fn make_partitions(
        &mut self,
        connection: &mut PgConnection,
        items: &BTreeMap<i64, Item>,
    ) -> Result<(), ProjectorError> {
        for item in items.values() {
            let Item::Usage { recorded_at, .. } = item else {
                continue;
            };
            let day = fold::day_of(*recorded_at);
            if self.day != Some(day) {
                ensure_partitions(connection, day).await?;
                self.day = Some(day);
            }
        }
        Ok(())
    }

    async fn fold(
        &mut self,
        connection: &mut PgConnection,
        items: BTreeMap<i64, Item>,
    ) -> Result<(), ProjectorError> {
        let mut run: Option<(i64, Run)> = None;
        for (position, item) in items {
            let rest = match &mut run {
                Some((_, run)) => run.join(item),
                None => Some(item),
            };
            if let Some(item) = rest
                && let Some((first, finished)) = run.replace((position, Run::of(item)))
            {
                self.fold_run(connection, first, finished).await?;
            }
        }
        match run {
            Some((first, run)) => self.fold_run(connection, first, run).await,
            None => Ok(()),
        }
    }

    /// Folds a run whose first row is at position `first`.
    async fn fold_run(
        &mut self,
        connection: &mut PgConnection,
        first: i64,
        run: Run,
    ) -> Result<(), ProjectorError> {
        match run {
            Run::Management(run) => fold_management(connection, first, run).await,
            Run::Decided(run) => fold_decided(connection, first, &run).await,
            Run::Usage {
                day,
                events,
                batches,
            } => {
                self.usage_events += events as u64;
                fold_usage(connection, first, day, &batches).await
            }
        }
    }
}

async fn fold_management(
    connection: &mut PgConnection,
    first: i64,
    run: Vec<Logged>,
) -> Result<(), ProjectorError> {
    let places: Vec<(u64, Timestamp)> = run
        .iter()
        .map(|logged| (logged.config_version, logged.recorded_at))
        .collect();
    let incoming: Vec<Incoming> = run.into_iter().map(|logged| logged.incoming).collect();
    let mut state = State::lock(connection, &incoming).await?;
    for (index, (incoming, (config_version, recorded_at))) in
        incoming.iter().zip(places).enumerate()
    {
        let position = first + index as i64;
        let staged = state
            .stage(incoming)
            .map_err(|refusal| ProjectorError::Foreign {
                table: "event_log",
                value: format!("position {position} does not fold: {}", refusal.detail),
            })?;
        let accepted = Accepted {
            position,
            config_version,
            recorded_at,
            incoming,
        };
        accepted.write(connection, &staged).await?;
        state.merge(index, incoming, staged);
    }
    state.money.write(connection, first - 1).await
}

/// What the projector decided, applied as it was recorded.
async fn fold_decided(
    connection: &mut PgConnection,
    first: i64,
    run: &[Logged],
) -> Result<(), ProjectorError> {
    let mut touched = Touched::default();
    let mut named = std::collections::BTreeSet::new();
    for envelope in run.iter().flat_map(|logged| &logged.incoming.envelopes) {
        fold::touch_event(envelope, &mut touched);
        if let Event::GatewayLost(lost) = &envelope.event {
            named.insert(lost.gateway_id);
        }
    }
    let mut money = Money::lock(connection, &touched).await?;
    let mut gateways = Gateways::load(connection, &named).await?;
    let mut events = EventRows::default();
    for (index, logged) in run.iter().enumerate() {
        for envelope in &logged.incoming.envelopes {
            gateways.apply(envelope);
            if let Err(error) = money.apply(index, envelope) {
                tracing::error!(%error, position = first + index as i64, "a decision does not apply");
            }
        }
        let Incoming {
            entry, envelopes, ..
        } = &logged.incoming;
        events.push_all(first + index as i64, envelopes, &entry.events);
        if let Some(version) = logged.boundary_version {
            boundary::set(connection, boundary::id_of(logged.boundary), version).await?;
        }
    }
    events.write(connection).await?;
    gateways.write(connection).await?;
    money.write(connection, first - 1).await
}

async fn fold_usage(
    connection: &mut PgConnection,
    first: i64,
    day: NaiveDate,
    batches: &[Batch],
) -> Result<(), ProjectorError> {
    fold::write_calls(connection, batches, day).await?;
    let mut touched = Touched::default();
    fold::touch(batches, &mut touched);
    let mut money = Money::lock(connection, &touched).await?;
    let mut gateways = Gateways::load(connection, &fold::gateways(batches)).await?;
    let folded = fold::apply(batches, 0, &mut money, &mut gateways);
    folded.write(connection, batches, first - 1).await?;
    gateways.write(connection).await?;
    money.write(connection, first - 1).await
}
