//! An admin that knows only the management stream: it makes events, appends them as one command and waits for what
//! becomes of it.

use std::collections::BTreeMap;

use odock_events::{
    codec::Entry,
    envelope::{EntityRef, Envelope, Meta},
    examples,
    ids::{BudgetId, CommandId, KeyId, OrganisationId, TeamId},
    kind::{Event, Kind},
    log::{ManagementAppend, ManagementAppended},
    payload::{
        Nothing,
        budget::{BudgetBody, BudgetMode, Owner, Period, USD},
        organisation::{OrganisationBody, OrganisationStatus},
        team::TeamBody,
        threshold::Thresholds,
    },
    units::NanoUsd,
};

use sqlx::PgConnection;
use tokio::time::Instant;

use super::{DEADLINE, POLL, World};

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) result: String,
    pub(crate) code: Option<String>,
    pub(crate) position: i64,
    pub(crate) config_version: Option<i64>,
}

/// Keeps the version of each boundary, as an admin knows it from the tables.
#[derive(Default)]
pub(crate) struct Admin {
    pub(crate) versions: BTreeMap<Option<OrganisationId>, u64>,
}

impl Admin {
    /// Appends a command and waits for its outcome; appends it again, as an admin does, when another generation is opened
    /// meanwhile: what was in the stream and not in Postgres was never accepted.
    pub(crate) async fn send(
        &mut self,
        world: &mut World,
        boundary: Option<OrganisationId>,
        envelopes: &[Envelope],
    ) -> Outcome {
        let version = self.versions.get(&boundary).copied().unwrap_or(0);
        let id = CommandId::generate();
        self.versions.insert(boundary, version + 1);
        let entry = Entry::of(Some(id), boundary, Some(version), envelopes).unwrap();
        let deadline = Instant::now() + DEADLINE;
        loop {
            let generation = world.generation().await;
            let appended = try_append(world, generation, &entry).await;
            while world.generation().await == generation {
                if let Some(outcome) = find_outcome(&mut world.database, id).await {
                    return outcome;
                }
                assert!(
                    Instant::now() < deadline,
                    "no outcome of {id}, {appended:?}"
                );
                tokio::time::sleep(POLL).await;
            }
        }
    }

    pub(crate) async fn organisation(&mut self, world: &mut World, name: &str) -> OrganisationId {
        let id = OrganisationId::generate();
        let outcome = self
            .send(world, None, &[organisation_created(id, name)])
            .await;
        assert_eq!(outcome.result, "done", "{outcome:?}");
        id
    }

    /// A hard budget of one organisation-wide window without end.
    pub(crate) async fn budget(
        &mut self,
        world: &mut World,
        organisation: OrganisationId,
        amount: i64,
    ) -> BudgetId {
        self.budget_of(world, organisation, budget_body(organisation, amount))
            .await
    }

    pub(crate) async fn budget_of(
        &mut self,
        world: &mut World,
        organisation: OrganisationId,
        body: BudgetBody,
    ) -> BudgetId {
        let id = BudgetId::generate();
        let event = Event::BudgetCreated(body);
        let outcome = self
            .send(
                world,
                Some(organisation),
                &[about(id.into(), 1, organisation, event)],
            )
            .await;
        assert_eq!(outcome.result, "done", "{outcome:?}");
        id
    }
}

pub(crate) fn budget_body(organisation: OrganisationId, amount: i64) -> BudgetBody {
    BudgetBody {
        name: None,
        owner: Owner::Organisation { id: organisation },
        period: Period::Total,
        amount_nanos: NanoUsd(amount),
        mode: BudgetMode::Hard,
        timezone: "UTC".into(),
        start_at: None,
        end_at: None,
        active: true,
        rollover: false,
        thresholds: Thresholds::default(),
        raise: None,
        currency: USD.into(),
    }
}

/// Appends, and again until a generation is open; the stream must take it.
pub(crate) async fn append(
    world: &World,
    id: CommandId,
    boundary: Option<OrganisationId>,
    expected_version: u64,
    envelopes: &[Envelope],
) {
    let entry = Entry::of(Some(id), boundary, Some(expected_version), envelopes).unwrap();
    append_entry(world, &entry).await;
}

pub(crate) async fn append_entry(world: &World, entry: &Entry) {
    let generation = world.generation().await;
    let appended = try_append(world, generation, entry).await;
    assert!(
        matches!(appended, ManagementAppended::Ok { .. }),
        "{appended:?}"
    );
}

async fn try_append(world: &World, generation: u64, entry: &Entry) -> ManagementAppended {
    let bytes = entry.to_bytes().unwrap();
    let append = ManagementAppend {
        generation,
        boundary: entry.boundary,
        expected_version: entry.expected_version.unwrap_or(0),
        bytes: &bytes,
    };
    world.log.append_management(&append).await.unwrap()
}

pub(crate) async fn outcome_of(world: &mut World, id: CommandId) -> Outcome {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(outcome) = find_outcome(&mut world.database, id).await {
            return outcome;
        }
        assert!(Instant::now() < deadline, "no outcome of {id}");
        tokio::time::sleep(POLL).await;
    }
}

async fn find_outcome(database: &mut PgConnection, id: CommandId) -> Option<Outcome> {
    let row: Option<(String, Option<String>, i64, Option<i64>)> =
        sqlx::query_as("SELECT outcome, code, position, config_version FROM command WHERE id = $1")
            .bind(id.0)
            .fetch_optional(database)
            .await
            .unwrap();
    row.map(|(result, code, position, config_version)| Outcome {
        result,
        code,
        position,
        config_version,
    })
}

/// An event about an entity, made now.
pub(crate) fn about(
    entity: EntityRef,
    version: u64,
    organisation: OrganisationId,
    event: Event,
) -> Envelope {
    let meta = Meta {
        organisation_id: Some(organisation),
        ..Meta::new(entity, version, examples::AT)
    };
    Envelope { meta, event }
}

pub(crate) fn organisation_created(id: OrganisationId, name: &str) -> Envelope {
    let body = OrganisationBody {
        name: name.into(),
        contact: None,
        branding: serde_json::Map::new(),
        policies: serde_json::Map::new(),
        status: OrganisationStatus::Active,
    };
    about(id.into(), 1, id, Event::OrganisationCreated(body))
}

pub(crate) fn team_created(organisation: OrganisationId, id: TeamId, name: &str) -> Envelope {
    let body = TeamBody {
        name: name.into(),
        policies: serde_json::Map::new(),
    };
    about(id.into(), 1, organisation, Event::TeamCreated(body))
}

pub(crate) fn team_deleted(organisation: OrganisationId, id: TeamId, version: u64) -> Envelope {
    about(
        id.into(),
        version,
        organisation,
        Event::TeamDeleted(Nothing {}),
    )
}

/// A key of a team.
pub(crate) fn key_created(organisation: OrganisationId, id: KeyId, team: TeamId) -> Envelope {
    let mut envelope = examples::of_kind(Kind::KeyCreated);
    if let Event::KeyCreated(body) = &mut envelope.event {
        body.team_id = Some(team);
        body.secret_sha256 = odock_events::units::Sha256Digest::of(id.0.as_bytes());
    }
    about(id.into(), 1, organisation, envelope.event)
}
