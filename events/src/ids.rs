//! Identifiers: a prefix and a `UUIDv7`, one type per thing, so that a key's id cannot be passed for a team's.
//! Made by whoever owns the thing (admin for entities, a gateway for usage), read everywhere.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

/// Text that is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected `{prefix}_` followed by 32 lower-case hex digits")]
pub struct ParseIdError {
    pub prefix: &'static str,
}

fn parse(prefix: &'static str, text: &str) -> Result<Uuid, ParseIdError> {
    let error = ParseIdError { prefix };
    let hex = text
        .strip_prefix(prefix)
        .and_then(|rest| rest.strip_prefix('_'));
    let hex = hex.filter(|hex| {
        hex.len() == 32
            && hex
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    });
    hex.and_then(|hex| Uuid::try_parse(hex).ok()).ok_or(error)
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Uuid);

        impl $name {
            pub const PREFIX: &'static str = $prefix;

            /// A new id; the only place where ids of this kind come into being.
            #[must_use]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}"), self.0.simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse($prefix, text).map(Self)
            }
        }

        impl Serialize for $name {
            /// Text in JSON, 16 bytes in `MessagePack`.
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    serializer.serialize_bytes(self.0.as_bytes())
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(IdVisitor { prefix: $prefix }).map(Self)
            }
        }
    )*};
}

struct IdVisitor {
    prefix: &'static str,
}

impl de::Visitor<'_> for IdVisitor {
    type Value = Uuid;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "an id `{}_` with 32 hex digits, or its 16 bytes",
            self.prefix
        )
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Uuid, E> {
        parse(self.prefix, text).map_err(E::custom)
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Uuid, E> {
        Uuid::from_slice(bytes).map_err(E::custom)
    }
}

ids! {
    OrganisationId = "org";
    TeamId = "team";
    UserId = "user";
    MembershipId = "mem";
    KeyId = "key";
    ProviderId = "prov";
    ProviderKeyId = "pkey";
    ModelId = "mdl";
    GrantId = "grant";
    BudgetId = "bud";
    QuotaId = "quo";
    OverlayId = "ovl";
    UsageId = "use";
    /// One call to an upstream.
    AttemptId = "att";
    EventId = "evt";
    CommandId = "cmd";
    GatewayId = "gw";
    /// An envelope in the private table `sealed_secret`.
    SealedSecretId = "sec";
    /// A call for idle lease parts, answered by a `lease.returned` that names it.
    ReclaimId = "rcl";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_both_come_back() {
        let id = KeyId::generate();
        assert_eq!(id.to_string().parse::<KeyId>().unwrap(), id);
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::from_str::<KeyId>(&json).unwrap(), id);
        let packed = rmp_serde::to_vec_named(&id).unwrap();
        assert_eq!(packed.len(), 18);
        assert_eq!(rmp_serde::from_slice::<KeyId>(&packed).unwrap(), id);
    }

    #[test]
    fn another_kind_of_id_is_refused() {
        let text = TeamId::generate().to_string();
        assert!(text.parse::<KeyId>().is_err());
        assert!("key_0193".parse::<KeyId>().is_err());
        assert!(
            "key_ABCDEFABCDEFABCDEFABCDEFABCDEFAB"
                .parse::<KeyId>()
                .is_err()
        );
    }
}
