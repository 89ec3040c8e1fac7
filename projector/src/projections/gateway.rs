//! Table `gateway`: gateways by their journal's identity, as their own events and those about them tell.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use odock_events::{
    clock::Timestamp,
    envelope::Envelope,
    ids::{GatewayId, ReclaimId},
    kind::Event,
};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::error::ProjectorError;

#[derive(Clone, Debug, FromRow)]
pub(crate) struct GatewayRow {
    id: Uuid,
    epoch: i64,
    nonce: String,
    state: String,
    last_seq: i64,
    opened_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
    last_reclaim_id: Option<Uuid>,
    pub(crate) stated_generation: i64,
}

impl GatewayRow {
    fn opened(id: GatewayId) -> Self {
        Self {
            id: id.0,
            epoch: 0,
            nonce: String::new(),
            state: "open".into(),
            last_seq: 0,
            opened_at: DateTime::default(),
            ended_at: None,
            last_reclaim_id: None,
            stated_generation: 0,
        }
    }

    fn end(&mut self, state: &str, at: Timestamp) {
        self.state = state.into();
        self.ended_at = Some(at.to_datetime());
    }
}

/// The rows that a transaction's events are about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gateways {
    pub(crate) rows: BTreeMap<GatewayId, GatewayRow>,
    changed: BTreeSet<GatewayId>,
}

/// Whether a call for idle parts is the projector's own, made for one account, rather than an operator's.
pub(crate) fn is_own_reclaim(id: ReclaimId) -> bool {
    id.0.get_version_num() == 8
}

/// A new id for the projector's own calls: told from an operator's by its version.
pub(crate) fn own_reclaim() -> ReclaimId {
    let bytes = *ReclaimId::generate().0.as_bytes();
    ReclaimId(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

impl Gateways {
    pub(crate) async fn load(
        connection: &mut PgConnection,
        ids: &BTreeSet<GatewayId>,
    ) -> Result<Self, ProjectorError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let rows: Vec<GatewayRow> = sqlx::query_as(
            "SELECT id, epoch, nonce, state, last_seq, opened_at, ended_at, last_reclaim_id,
                 stated_generation
             FROM gateway WHERE id = ANY($1)",
        )
        .bind(&ids)
        .fetch_all(connection)
        .await?;
        let rows = rows
            .into_iter()
            .map(|row| (GatewayId(row.id), row))
            .collect();
        Ok(Self {
            rows,
            changed: BTreeSet::new(),
        })
    }

    /// Whether it is neither closed nor lost.
    pub(crate) fn is_open(&self, id: GatewayId) -> bool {
        self.rows.get(&id).is_some_and(|row| row.state == "open")
    }

    /// A gateway's stream has come this far.
    pub(crate) fn reached(&mut self, id: GatewayId, seq: u64) {
        self.change(id, |row| row.last_seq = row.last_seq.max(seq as i64));
    }

    /// Applies one event; most are not about a gateway's own row.
    pub(crate) fn apply(&mut self, envelope: &Envelope) {
        let at = envelope.meta.occurred_at;
        match &envelope.event {
            Event::GatewayOpened(opened) => {
                let id = opened.gateway_id;
                self.rows
                    .entry(id)
                    .or_insert_with(|| GatewayRow::opened(id));
                self.change(id, |row| {
                    row.epoch = opened.epoch as i64;
                    row.nonce = opened.nonce.replace('\0', "\u{fffd}");
                    row.state = "open".into();
                    row.opened_at = at.to_datetime();
                    row.ended_at = None;
                });
            }
            Event::GatewayClosed(closed) => {
                self.change(closed.gateway_id, |row| row.end("closed", at));
            }
            Event::GatewayLost(lost) => self.change(lost.gateway_id, |row| row.end("lost", at)),
            Event::LeaseReturned(returned) => {
                if let Some(id) = returned.reclaim_id.filter(|id| !is_own_reclaim(*id)) {
                    self.change(returned.gateway_id, |row| row.last_reclaim_id = Some(id.0));
                }
            }
            Event::LeaseStated(stated) => self.change(stated.gateway_id, |row| {
                row.stated_generation = row.stated_generation.max(stated.generation as i64);
            }),
            Event::OrganisationCreated(_)
            | Event::OrganisationUpdated(_)
            | Event::OrganisationDeleted(_)
            | Event::TeamCreated(_)
            | Event::TeamUpdated(_)
            | Event::TeamDeleted(_)
            | Event::UserCreated(_)
            | Event::UserUpdated(_)
            | Event::UserDeleted(_)
            | Event::MembershipCreated(_)
            | Event::MembershipUpdated(_)
            | Event::MembershipDeleted(_)
            | Event::ProviderCreated(_)
            | Event::ProviderUpdated(_)
            | Event::ProviderDeleted(_)
            | Event::ProviderKeyCreated(_)
            | Event::ProviderKeyUpdated(_)
            | Event::ProviderKeyRevoked(_)
            | Event::ProviderKeyDeleted(_)
            | Event::ModelCreated(_)
            | Event::ModelUpdated(_)
            | Event::ModelDeleted(_)
            | Event::KeyCreated(_)
            | Event::KeyUpdated(_)
            | Event::KeyRevoked(_)
            | Event::KeyUnrevoked(_)
            | Event::KeyRotated(_)
            | Event::KeyDeleted(_)
            | Event::GrantCreated(_)
            | Event::GrantDeleted(_)
            | Event::BudgetCreated(_)
            | Event::BudgetUpdated(_)
            | Event::BudgetDeleted(_)
            | Event::QuotaCreated(_)
            | Event::QuotaUpdated(_)
            | Event::QuotaDeleted(_)
            | Event::OverlayCreated(_)
            | Event::OverlayUpdated(_)
            | Event::OverlayDeleted(_)
            | Event::UsageFinished(_)
            | Event::LeaseGranted(_)
            | Event::WindowClosed(_)
            | Event::WindowCarried(_)
            | Event::RaiseEnded(_)
            | Event::ThresholdCrossed(_)
            | Event::BudgetBreached(_)
            | Event::LogGap(_)
            | Event::CommandRejected(_) => {}
        }
    }

    pub(crate) async fn write(self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        for id in &self.changed {
            let Some(row) = self.rows.get(id) else {
                continue;
            };
            sqlx::query(
                "INSERT INTO gateway (id, epoch, nonce, state, last_seq, opened_at, ended_at,
                     last_reclaim_id, stated_generation)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
                 ON CONFLICT (id) DO UPDATE SET epoch = EXCLUDED.epoch, nonce = EXCLUDED.nonce,
                     state = EXCLUDED.state, last_seq = EXCLUDED.last_seq,
                     opened_at = EXCLUDED.opened_at, ended_at = EXCLUDED.ended_at,
                     last_reclaim_id = EXCLUDED.last_reclaim_id,
                     stated_generation = EXCLUDED.stated_generation",
            )
            .bind(row.id)
            .bind(row.epoch)
            .bind(&row.nonce)
            .bind(&row.state)
            .bind(row.last_seq)
            .bind(row.opened_at)
            .bind(row.ended_at)
            .bind(row.last_reclaim_id)
            .bind(row.stated_generation)
            .execute(&mut *connection)
            .await?;
        }
        Ok(())
    }

    fn change(&mut self, id: GatewayId, change: impl FnOnce(&mut GatewayRow)) {
        if let Some(row) = self.rows.get_mut(&id) {
            change(row);
            self.changed.insert(id);
        }
    }
}
