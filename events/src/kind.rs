//! Every kind of event: its wire name, the schema version that is written today, and its payload. Adding a line here
//! fails to compile wherever a kind must be handled.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::codec;
use crate::payload::{
    Nothing,
    budget::BudgetBody,
    command::CommandRejected,
    gateway::{GatewayClosed, GatewayLost, GatewayOpened, LogGap},
    grant::GrantBody,
    key::{KeyBody, KeyRotated},
    lease::{
        BudgetBreached, LeaseGranted, LeaseReturned, LeaseStated, RaiseEnded, WindowCarried,
        WindowClosed,
    },
    model::ModelBody,
    organisation::OrganisationBody,
    overlay::OverlayBody,
    provider::{ProviderBody, ProviderKeyBody},
    quota::QuotaBody,
    team::{MembershipBody, TeamBody},
    threshold::ThresholdCrossed,
    usage::UsageFinished,
    user::UserBody,
};

macro_rules! kinds {
    ($($variant:ident $payload:ty, $wire:literal, $schema:literal, $source:ident;)*) => {
        /// The name of a fact.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind { $($variant),* }

        /// A fact with what it says.
        #[derive(Clone, Debug, PartialEq)]
        #[expect(clippy::large_enum_variant, reason = "usage, the largest, is by far the most frequent")]
        pub enum Event { $($variant($payload)),* }

        impl Kind {
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name on the wire: `<noun>.<past tense>`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $wire),* }
            }

            /// The schema version that is written today.
            #[must_use]
            pub fn schema(self) -> u16 {
                match self { $(Self::$variant => $schema),* }
            }

            #[must_use]
            pub fn source(self) -> Source {
                match self { $(Self::$variant => Source::$source),* }
            }

            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($wire => Some(Self::$variant),)* _ => None }
            }
        }

        impl Event {
            #[must_use]
            pub fn kind(&self) -> Kind {
                match self { $(Self::$variant(_) => Kind::$variant),* }
            }

            /// The payload as `MessagePack` with named fields.
            pub(crate) fn pack(&self) -> Result<Vec<u8>, rmp_serde::encode::Error> {
                match self { $(Self::$variant(payload) => codec::pack_named(payload, TYPICAL_PAYLOAD)),* }
            }

            /// Reads a payload of today's schema.
            pub(crate) fn unpack(kind: Kind, bytes: &[u8]) -> Result<Self, rmp_serde::decode::Error> {
                Ok(match kind { $(Kind::$variant => Self::$variant(rmp_serde::from_slice(bytes)?)),* })
            }

            /// The payload as JSON, for people and for the admin API.
            pub fn to_json(&self) -> Result<serde_json::Value, serde_json::Error> {
                match self { $(Self::$variant(payload) => serde_json::to_value(payload)),* }
            }
        }
    };
}

/// Who writes a kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Admin, through the management stream.
    Management,
    /// A gateway, through its usage stream.
    Gateway,
    /// The projector, straight into the log, in the transaction that decided it.
    Projector,
}

kinds! {
    OrganisationCreated OrganisationBody, "organisation.created", 1, Management;
    OrganisationUpdated OrganisationBody, "organisation.updated", 1, Management;
    OrganisationDeleted Nothing, "organisation.deleted", 1, Management;
    TeamCreated TeamBody, "team.created", 1, Management;
    TeamUpdated TeamBody, "team.updated", 1, Management;
    TeamDeleted Nothing, "team.deleted", 1, Management;
    UserCreated UserBody, "user.created", 1, Management;
    UserUpdated UserBody, "user.updated", 1, Management;
    UserDeleted Nothing, "user.deleted", 1, Management;
    MembershipCreated MembershipBody, "membership.created", 1, Management;
    MembershipUpdated MembershipBody, "membership.updated", 1, Management;
    MembershipDeleted Nothing, "membership.deleted", 1, Management;
    ProviderCreated ProviderBody, "provider.created", 1, Management;
    ProviderUpdated ProviderBody, "provider.updated", 1, Management;
    ProviderDeleted Nothing, "provider.deleted", 1, Management;
    ProviderKeyCreated ProviderKeyBody, "provider_key.created", 1, Management;
    ProviderKeyUpdated ProviderKeyBody, "provider_key.updated", 1, Management;
    ProviderKeyRevoked Nothing, "provider_key.revoked", 1, Management;
    ProviderKeyDeleted Nothing, "provider_key.deleted", 1, Management;
    ModelCreated ModelBody, "model.created", 2, Management;
    ModelUpdated ModelBody, "model.updated", 2, Management;
    ModelDeleted Nothing, "model.deleted", 1, Management;
    KeyCreated KeyBody, "key.created", 1, Management;
    KeyUpdated KeyBody, "key.updated", 1, Management;
    KeyRevoked Nothing, "key.revoked", 1, Management;
    KeyUnrevoked Nothing, "key.unrevoked", 1, Management;
    KeyRotated KeyRotated, "key.rotated", 1, Management;
    KeyDeleted Nothing, "key.deleted", 1, Management;
    GrantCreated GrantBody, "grant.created", 1, Management;
    GrantDeleted Nothing, "grant.deleted", 1, Management;
    BudgetCreated BudgetBody, "budget.created", 2, Management;
    BudgetUpdated BudgetBody, "budget.updated", 2, Management;
    BudgetDeleted Nothing, "budget.deleted", 1, Management;
    QuotaCreated QuotaBody, "quota.created", 1, Management;
    QuotaUpdated QuotaBody, "quota.updated", 1, Management;
    QuotaDeleted Nothing, "quota.deleted", 1, Management;
    OverlayCreated OverlayBody, "overlay.created", 1, Management;
    OverlayUpdated OverlayBody, "overlay.updated", 1, Management;
    OverlayDeleted Nothing, "overlay.deleted", 1, Management;
    GatewayOpened GatewayOpened, "gateway.opened", 1, Gateway;
    UsageFinished UsageFinished, "usage.finished", 3, Gateway;
    LeaseReturned LeaseReturned, "lease.returned", 2, Gateway;
    LeaseStated LeaseStated, "lease.stated", 2, Gateway;
    GatewayClosed GatewayClosed, "gateway.closed", 1, Gateway;
    LeaseGranted LeaseGranted, "lease.granted", 2, Projector;
    WindowClosed WindowClosed, "window.closed", 2, Projector;
    WindowCarried WindowCarried, "window.carried", 1, Projector;
    RaiseEnded RaiseEnded, "raise.ended", 1, Projector;
    ThresholdCrossed ThresholdCrossed, "threshold.crossed", 1, Projector;
    BudgetBreached BudgetBreached, "budget.breached", 2, Projector;
    GatewayLost GatewayLost, "gateway.lost", 1, Projector;
    LogGap LogGap, "log.gap", 1, Projector;
    CommandRejected CommandRejected, "command.rejected", 1, Projector;
}

/// A usage record, the most frequent payload, takes a little less.
const TYPICAL_PAYLOAD: usize = 1_536;

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::from_name(&name)
            .ok_or_else(|| de::Error::custom(format_args!("unknown kind of event `{name}`")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_past_tense_and_lead_back_to_their_kind() {
        for kind in Kind::ALL {
            let (noun, verb) = kind.name().split_once('.').unwrap();
            assert!(!noun.is_empty());
            assert!(
                verb.ends_with('d') || verb == "lost" || verb == "gap",
                "{verb}"
            );
            assert_eq!(Kind::from_name(kind.name()), Some(*kind));
        }
    }
}
