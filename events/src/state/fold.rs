//! One event, one entity: the row before, the row after. Pure: no clock, no look-up, no second entity.

use super::{EntityRow, Row};
use crate::{
    envelope::{EntityRef, Envelope},
    ids::OrganisationId,
    kind::Event,
};

/// What an event does to its entity.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Put(Box<EntityRow>),
    Delete(EntityRef),
    /// Not a management event: no entity row changes.
    Nothing,
}

/// Why an event does not apply. The projector refuses the command that carried it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    #[error("{entity:?} exists already")]
    Exists { entity: EntityRef },
    #[error("{entity:?} does not exist")]
    Missing { entity: EntityRef },
    #[error("{entity:?} is at version {actual}, the event expects {expected} before it")]
    Version {
        entity: EntityRef,
        expected: u64,
        actual: u64,
    },
    #[error("{entity:?}: the event has no organisation or another one")]
    Organisation { entity: EntityRef },
    #[error("{entity:?}: the event is about another kind of entity")]
    Kind { entity: EntityRef },
}

/// Applies `envelope` to the row of its entity, `None` when there is none.
pub fn apply(current: Option<EntityRow>, envelope: &Envelope) -> Result<Change, FoldError> {
    Step { current, envelope }.run()
}

struct Step<'a> {
    current: Option<EntityRow>,
    envelope: &'a Envelope,
}

macro_rules! created {
    ($step:expr, $variant:ident, $body:expr) => {{
        let organisation_id = $step.creates()?;
        let meta = &$step.envelope.meta;
        Ok(Change::Put(Box::new(EntityRow::$variant(Row {
            id: meta.entity.id.into(),
            organisation_id,
            version: 1,
            created_at: meta.occurred_at,
            updated_at: meta.occurred_at,
            body: $body.clone(),
        }))))
    }};
}

macro_rules! changed {
    ($step:expr, $variant:ident, |$row:ident| $change:expr) => {{
        let entity = $step.envelope.meta.entity;
        match $step.existing()? {
            EntityRow::$variant(mut $row) => {
                $change;
                $row.version = $step.envelope.meta.entity_version;
                $row.updated_at = $step.envelope.meta.occurred_at;
                Ok(Change::Put(Box::new(EntityRow::$variant($row))))
            }
            _ => Err(FoldError::Kind { entity }),
        }
    }};
}

impl Step<'_> {
    fn run(mut self) -> Result<Change, FoldError> {
        let event = &self.envelope.event;
        match event {
            Event::OrganisationCreated(body) => created!(self, Organisation, body),
            Event::TeamCreated(body) => created!(self, Team, body),
            Event::UserCreated(body) => created!(self, User, body),
            Event::MembershipCreated(body) => created!(self, Membership, body),
            Event::ProviderCreated(body) => created!(self, Provider, body),
            Event::ProviderKeyCreated(body) => created!(self, ProviderKey, body),
            Event::ModelCreated(body) => created!(self, Model, body),
            Event::KeyCreated(body) => created!(self, Key, body),
            Event::GrantCreated(body) => created!(self, Grant, body),
            Event::BudgetCreated(body) => created!(self, Budget, body),
            Event::QuotaCreated(body) => created!(self, Quota, body),
            Event::OverlayCreated(body) => created!(self, Overlay, body),
            Event::OrganisationUpdated(body) => {
                changed!(self, Organisation, |row| row.body = body.clone())
            }
            Event::TeamUpdated(body) => changed!(self, Team, |row| row.body = body.clone()),
            Event::UserUpdated(body) => changed!(self, User, |row| row.body = body.clone()),
            Event::MembershipUpdated(body) => {
                changed!(self, Membership, |row| row.body = body.clone())
            }
            Event::ProviderUpdated(body) => changed!(self, Provider, |row| row.body = body.clone()),
            Event::ProviderKeyUpdated(body) => {
                changed!(self, ProviderKey, |row| row.body = body.clone())
            }
            Event::ProviderKeyRevoked(_) => {
                changed!(self, ProviderKey, |row| row.body.revoked = true)
            }
            Event::ModelUpdated(body) => changed!(self, Model, |row| row.body = body.clone()),
            Event::KeyUpdated(body) => changed!(self, Key, |row| row.body = body.clone()),
            Event::KeyRevoked(_) => changed!(self, Key, |row| row.body.revoked = true),
            Event::KeyUnrevoked(_) => changed!(self, Key, |row| row.body.revoked = false),
            Event::KeyRotated(rotated) => changed!(self, Key, |row| {
                row.body.secret_sha256 = rotated.secret_sha256;
                row.body.key_preview.clone_from(&rotated.key_preview);
                row.body.expires_at = rotated.expires_at;
                row.body.rotation_count = row.body.rotation_count.saturating_add(1);
                row.body.last_rotated_at = Some(self.envelope.meta.occurred_at);
            }),
            Event::BudgetUpdated(body) => changed!(self, Budget, |row| row.body = body.clone()),
            Event::QuotaUpdated(body) => changed!(self, Quota, |row| row.body = body.clone()),
            Event::OverlayUpdated(body) => changed!(self, Overlay, |row| row.body = body.clone()),
            Event::OrganisationDeleted(_)
            | Event::TeamDeleted(_)
            | Event::UserDeleted(_)
            | Event::MembershipDeleted(_)
            | Event::ProviderDeleted(_)
            | Event::ProviderKeyDeleted(_)
            | Event::ModelDeleted(_)
            | Event::KeyDeleted(_)
            | Event::GrantDeleted(_)
            | Event::BudgetDeleted(_)
            | Event::QuotaDeleted(_)
            | Event::OverlayDeleted(_) => {
                self.existing()?;
                Ok(Change::Delete(self.envelope.meta.entity))
            }
            Event::GatewayOpened(_)
            | Event::UsageFinished(_)
            | Event::LeaseReturned(_)
            | Event::LeaseStated(_)
            | Event::GatewayClosed(_)
            | Event::LeaseGranted(_)
            | Event::WindowClosed(_)
            | Event::WindowCarried(_)
            | Event::RaiseEnded(_)
            | Event::ThresholdCrossed(_)
            | Event::BudgetBreached(_)
            | Event::GatewayLost(_)
            | Event::LogGap(_)
            | Event::CommandRejected(_) => Ok(Change::Nothing),
        }
    }

    /// The organisation of a new entity, which must not exist and starts at version 1.
    fn creates(&self) -> Result<OrganisationId, FoldError> {
        let meta = &self.envelope.meta;
        let entity = meta.entity;
        if self.current.is_some() {
            return Err(FoldError::Exists { entity });
        }
        if meta.entity_version != 1 {
            return Err(FoldError::Version {
                entity,
                expected: meta.entity_version,
                actual: 0,
            });
        }
        meta.organisation_id
            .ok_or(FoldError::Organisation { entity })
    }

    /// The row as it stands, if the event is its next one.
    fn existing(&mut self) -> Result<EntityRow, FoldError> {
        let meta = &self.envelope.meta;
        let entity = meta.entity;
        let row = self.current.take().ok_or(FoldError::Missing { entity })?;
        if row.entity() != entity {
            return Err(FoldError::Kind { entity });
        }
        if meta.organisation_id != Some(row.organisation_id()) {
            return Err(FoldError::Organisation { entity });
        }
        if meta.entity_version != row.version() + 1 {
            return Err(FoldError::Version {
                entity,
                expected: meta.entity_version.saturating_sub(1),
                actual: row.version(),
            });
        }
        Ok(row)
    }
}
