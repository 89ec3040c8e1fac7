//! What every event carries beside its payload. Stream, seq and position stand beside the bytes, never in them.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    ids::{
        BudgetId, CommandId, EventId, GatewayId, GrantId, KeyId, MembershipId, ModelId,
        OrganisationId, OverlayId, ProviderId, ProviderKeyId, QuotaId, TeamId, UsageId, UserId,
    },
    kind::{Event, Kind},
    personal::Sealed,
};

/// One fact, decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    pub meta: Meta,
    pub event: Event,
}

impl Envelope {
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.event.kind()
    }
}

/// Everything about a fact but its payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    pub id: EventId,
    pub entity: EntityRef,
    /// Rises by one with each event of the entity; 0 where the entity has no versions (usage, gateways, accounts).
    pub entity_version: u64,
    pub occurred_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation_id: Option<OrganisationId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team_id: Option<TeamId>,
    pub actor: Actor,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<Actor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change_ref: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
    /// The request that started it all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causation_id: Option<EventId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The configuration that decided it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_version: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_version: Option<u32>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub estimated: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_false(flag: &bool) -> bool {
    !*flag
}

impl Meta {
    /// The plain case: a new event id, by the system, about `entity`; the rest is set by struct update.
    #[must_use]
    pub fn new(entity: EntityRef, entity_version: u64, occurred_at: Timestamp) -> Self {
        Self {
            id: EventId::generate(),
            entity,
            entity_version,
            occurred_at,
            organisation_id: None,
            team_id: None,
            actor: Actor::System,
            on_behalf_of: None,
            reason: None,
            change_ref: None,
            command_id: None,
            correlation_id: None,
            causation_id: None,
            traceparent: None,
            config_version: None,
            price_version: None,
            estimated: false,
        }
    }
}

/// Who did it. An address is personal and therefore ciphertext.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Actor {
    User {
        id: UserId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ip: Option<Sealed>,
    },
    Key {
        id: KeyId,
    },
    /// A token or a service account, by its name.
    Service {
        name: String,
    },
    System,
}

impl fmt::Display for Actor {
    /// As lists filter it: `user_…`, `key_…`, `service:<name>`, `system`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User { id, .. } => id.fmt(f),
            Self::Key { id } => id.fmt(f),
            Self::Service { name } => write!(f, "service:{name}"),
            Self::System => f.write_str("system"),
        }
    }
}

macro_rules! entities {
    ($($variant:ident($id:ty) = $name:literal;)*) => {
        /// What an event is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum EntityKind { $($variant),* }

        impl EntityKind {
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name on the wire.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
        }

        impl EntityRef {
            /// The id with its prefix.
            #[must_use]
            pub fn id_text(&self) -> String {
                match self.kind { $(EntityKind::$variant => <$id>::to_string(&<$id>::from(self.id))),* }
            }
        }

        $(
            impl From<Uuid> for $id {
                fn from(id: Uuid) -> Self { Self(id) }
            }
            impl From<$id> for EntityRef {
                fn from(id: $id) -> Self { Self { kind: EntityKind::$variant, id: id.0 } }
            }
        )*
    };
}

/// An entity by kind and id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntityRef {
    #[serde(rename = "type")]
    pub kind: EntityKind,
    pub id: Uuid,
}

impl fmt::Debug for EntityRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id_text())
    }
}

entities! {
    Organisation(OrganisationId) = "organisation";
    Team(TeamId) = "team";
    User(UserId) = "user";
    Membership(MembershipId) = "membership";
    Provider(ProviderId) = "provider";
    ProviderKey(ProviderKeyId) = "provider_key";
    Model(ModelId) = "model";
    Key(KeyId) = "key";
    Grant(GrantId) = "grant";
    Budget(BudgetId) = "budget";
    Quota(QuotaId) = "quota";
    Overlay(OverlayId) = "overlay";
    Usage(UsageId) = "usage";
    Gateway(GatewayId) = "gateway";
    Command(CommandId) = "command";
}
