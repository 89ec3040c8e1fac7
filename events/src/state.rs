//! The fold of management state: what an entity is after an event. Used by the projector (tables and config rows),
//! by admin (what it decides on) and by every gateway (its snapshot).

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    envelope::{EntityKind, EntityRef},
    ids::{
        BudgetId, GrantId, KeyId, MembershipId, ModelId, OrganisationId, OverlayId, ProviderId,
        ProviderKeyId, QuotaId, TeamId, UserId,
    },
    payload::{
        budget::BudgetBody,
        grant::GrantBody,
        key::KeyBody,
        model::ModelBody,
        organisation::OrganisationBody,
        overlay::OverlayBody,
        provider::{ProviderBody, ProviderKeyBody},
        quota::QuotaBody,
        team::{MembershipBody, TeamBody},
        user::UserBody,
    },
};

pub mod config;
pub mod fold;

/// An entity as of one version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row<I, B> {
    pub id: I,
    pub organisation_id: OrganisationId,
    pub version: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub body: B,
}

pub type Organisation = Row<OrganisationId, OrganisationBody>;
pub type Team = Row<TeamId, TeamBody>;
pub type User = Row<UserId, UserBody>;
pub type Membership = Row<MembershipId, MembershipBody>;
pub type Provider = Row<ProviderId, ProviderBody>;
pub type ProviderKey = Row<ProviderKeyId, ProviderKeyBody>;
pub type Model = Row<ModelId, ModelBody>;
pub type Key = Row<KeyId, KeyBody>;
pub type Grant = Row<GrantId, GrantBody>;
pub type Budget = Row<BudgetId, BudgetBody>;
pub type Quota = Row<QuotaId, QuotaBody>;
pub type Overlay = Row<OverlayId, OverlayBody>;

macro_rules! entity_rows {
    ($($variant:ident),*) => {
        /// An entity of any kind that management events fold into.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum EntityRow { $($variant($variant)),* }

        impl EntityRow {
            #[must_use]
            pub fn entity(&self) -> EntityRef {
                match self { $(Self::$variant(row) => row.id.into()),* }
            }

            #[must_use]
            pub fn organisation_id(&self) -> OrganisationId {
                match self { $(Self::$variant(row) => row.organisation_id),* }
            }

            #[must_use]
            pub fn version(&self) -> u64 {
                match self { $(Self::$variant(row) => row.version),* }
            }

            #[must_use]
            pub fn created_at(&self) -> Timestamp {
                match self { $(Self::$variant(row) => row.created_at),* }
            }

            #[must_use]
            pub fn updated_at(&self) -> Timestamp {
                match self { $(Self::$variant(row) => row.updated_at),* }
            }

            /// The body as its table keeps it.
            pub fn body_json(&self) -> Result<serde_json::Value, serde_json::Error> {
                match self { $(Self::$variant(row) => serde_json::to_value(&row.body)),* }
            }

            /// A row as its table keeps it. Kinds that have no table (usage, gateways, commands) are an error.
            pub fn from_parts(kind: EntityKind, parts: RowParts) -> Result<Self, RowError> {
                match kind {
                    $(EntityKind::$variant => Ok(Self::$variant(Row {
                        id: parts.id.into(),
                        organisation_id: parts.organisation_id,
                        version: parts.version,
                        created_at: parts.created_at,
                        updated_at: parts.updated_at,
                        body: serde_json::from_value(parts.body)?,
                    })),)*
                    EntityKind::Usage | EntityKind::Gateway | EntityKind::Command => {
                        Err(RowError::NoTable(kind))
                    }
                }
            }
        }

        $(
            impl From<$variant> for EntityRow {
                fn from(row: $variant) -> Self { Self::$variant(row) }
            }
        )*
    };
}

entity_rows!(
    Organisation,
    Team,
    User,
    Membership,
    Provider,
    ProviderKey,
    Model,
    Key,
    Grant,
    Budget,
    Quota,
    Overlay
);

/// The columns of a row in its table.
#[derive(Clone, Debug)]
pub struct RowParts {
    pub id: Uuid,
    pub organisation_id: OrganisationId,
    pub version: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub body: serde_json::Value,
}

#[derive(Debug, thiserror::Error)]
pub enum RowError {
    #[error("the body of a row does not read: {0}")]
    Body(#[from] serde_json::Error),
    #[error("{0:?} has no table of its own")]
    NoTable(EntityKind),
}
