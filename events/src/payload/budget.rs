//! Budgets: rules from which accounts are made, one account a window. Quotas share their owners, periods and modes.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::threshold::Thresholds;
use crate::{
    clock::Timestamp,
    ids::{KeyId, ModelId, OrganisationId, ProviderId, TeamId, UserId},
    units::NanoUsd,
};

/// `budget.created`, `budget.updated`. Owner, period, time zone and start never change: they define the windows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetBody {
    pub name: Option<String>,
    pub owner: Owner,
    pub period: Period,
    pub amount_nanos: NanoUsd,
    pub mode: BudgetMode,
    /// IANA name.
    pub timezone: String,
    pub start_at: Option<Timestamp>,
    pub end_at: Option<Timestamp>,
    pub active: bool,
    /// What a window leaves goes on to the next one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rollover: bool,
    #[serde(default, skip_serializing_if = "Thresholds::is_default")]
    pub thresholds: Thresholds,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raise: Option<Raise>,
    /// Three letters: what people read amounts in. Settled is in nano-USD always.
    #[serde(default = "usd", skip_serializing_if = "is_usd")]
    pub currency: String,
}

/// What the currency is unless it is said.
pub const USD: &str = "USD";

fn usd() -> String {
    USD.to_owned()
}

fn is_usd(currency: &String) -> bool {
    currency == USD
}

/// More than the limit, for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raise {
    /// On top of the limit, in its unit.
    pub amount: i64,
    /// The limit is what it was from then on.
    pub until: Timestamp,
}

impl Raise {
    /// The limit that holds at `now`.
    #[must_use]
    pub fn limit_at(raise: Option<Self>, limit: i64, now: Timestamp) -> i64 {
        let amount = raise.filter(|raise| now < raise.until);
        limit.saturating_add(amount.map_or(0, |raise| raise.amount))
    }
}

/// Whose calls a rule counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Owner {
    Organisation {
        id: OrganisationId,
    },
    Team {
        id: TeamId,
    },
    User {
        id: UserId,
    },
    Key {
        id: KeyId,
    },
    /// Calls to the model, whoever makes them.
    Model {
        id: ModelId,
    },
    Provider {
        id: ProviderId,
    },
    /// Calls that carry the tag with this value; without a value, each value by itself.
    Tag {
        name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<String>,
    },
    /// Calls for this end user; without an id, each end user by itself.
    EndUser {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
    },
}

impl Owner {
    pub const KINDS: [&'static str; 8] = [
        "organisation",
        "team",
        "user",
        "key",
        "model",
        "provider",
        "tag",
        "end_user",
    ];

    /// The name of its type on the wire.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Organisation { .. } => "organisation",
            Self::Team { .. } => "team",
            Self::User { .. } => "user",
            Self::Key { .. } => "key",
            Self::Model { .. } => "model",
            Self::Provider { .. } => "provider",
            Self::Tag { .. } => "tag",
            Self::EndUser { .. } => "end_user",
        }
    }

    /// The owner's id as text: of a tag `name` or `name=value`, of an end user the name, or nothing for each of them.
    #[must_use]
    pub fn id_text(&self) -> String {
        match self {
            Self::Organisation { id } => id.to_string(),
            Self::Team { id } => id.to_string(),
            Self::User { id } => id.to_string(),
            Self::Key { id } => id.to_string(),
            Self::Model { id } => id.to_string(),
            Self::Provider { id } => id.to_string(),
            Self::Tag { name, value: None } => name.clone(),
            Self::Tag {
                name,
                value: Some(value),
            } => format!("{name}={value}"),
            Self::EndUser { id } => id.clone().unwrap_or_default(),
        }
    }

    /// Back from `kind` and `id_text`; a tag's name holds no `=`.
    #[must_use]
    pub fn from_text(kind: &str, id: &str) -> Option<Self> {
        Some(match kind {
            "organisation" => Self::Organisation {
                id: id.parse().ok()?,
            },
            "team" => Self::Team {
                id: id.parse().ok()?,
            },
            "user" => Self::User {
                id: id.parse().ok()?,
            },
            "key" => Self::Key {
                id: id.parse().ok()?,
            },
            "model" => Self::Model {
                id: id.parse().ok()?,
            },
            "provider" => Self::Provider {
                id: id.parse().ok()?,
            },
            "tag" => match id.split_once('=') {
                Some((name, value)) => Self::Tag {
                    name: name.to_owned(),
                    value: Some(value.to_owned()),
                },
                None => Self::Tag {
                    name: id.to_owned(),
                    value: None,
                },
            },
            "end_user" => Self::EndUser {
                id: (!id.is_empty()).then(|| id.to_owned()),
            },
            _ => return None,
        })
    }

    /// What rules are looked up by: the id of what has one, else a digest of the name within the organisation.
    #[must_use]
    pub fn lookup(&self, organisation: OrganisationId) -> Uuid {
        match self {
            Self::Organisation { id } => id.0,
            Self::Team { id } => id.0,
            Self::User { id } => id.0,
            Self::Key { id } => id.0,
            Self::Model { id } => id.0,
            Self::Provider { id } => id.0,
            Self::Tag { name, value } => {
                let value = value.as_deref().map_or("", |value| value);
                let kind = if self.is_each() { "each tag" } else { "tag" };
                digest(&[
                    organisation.0.as_bytes(),
                    kind.as_bytes(),
                    name.as_bytes(),
                    value.as_bytes(),
                ])
            }
            Self::EndUser { id: None } => digest(&[organisation.0.as_bytes(), b"each end user"]),
            Self::EndUser { id: Some(id) } => {
                digest(&[organisation.0.as_bytes(), b"end user", id.as_bytes()])
            }
        }
    }

    /// Whether each value or end user is counted by itself.
    #[must_use]
    pub fn is_each(&self) -> bool {
        matches!(
            self,
            Self::Tag { value: None, .. } | Self::EndUser { id: None }
        )
    }

    /// The one of a rule that counts each by itself, and the subject of its accounts.
    #[must_use]
    pub fn one(&self, name: &str) -> (Self, Uuid) {
        let owner = match self {
            Self::Tag {
                name: tag,
                value: None,
            } => Self::Tag {
                name: tag.clone(),
                value: Some(name.to_owned()),
            },
            Self::EndUser { id: None } => Self::EndUser {
                id: Some(name.to_owned()),
            },
            whole => return (whole.clone(), Uuid::nil()),
        };
        (owner, digest(&[b"subject", name.as_bytes()]))
    }
}

/// The first half of a SHA-256 over the parts, each with its length before it.
fn digest(parts: &[&[u8]]) -> Uuid {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let whole: [u8; 32] = hash.finalize().into();
    let mut half = [0; 16];
    half.copy_from_slice(&whole[..16]);
    Uuid::from_bytes(half)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    Daily,
    Weekly,
    Monthly,
    Quarterly,
    Total,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetMode {
    /// Never overspent: calls reserve their upper bound and are refused when it does not fit.
    Hard,
    /// Never refuses; usage is counted.
    Soft,
    /// Streams reserve a chunk at a time and are cut when the next one does not fit; other calls reserve as under a
    /// hard one. Overspent by no more than what an upstream still makes between the refusal and its end.
    Elastic,
    /// Known only afterwards: calls reserve nothing, and are refused once the window is full. Quotas of errors and latency.
    Postpaid,
}

impl BudgetMode {
    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hard => "hard",
            Self::Soft => "soft",
            Self::Elastic => "elastic",
            Self::Postpaid => "postpaid",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Hard, Self::Soft, Self::Elastic, Self::Postpaid]
            .into_iter()
            .find(|mode| mode.name() == name)
    }

    /// Whether a call reserves, and is refused when that does not fit.
    #[must_use]
    pub fn reserves(self) -> bool {
        match self {
            Self::Hard | Self::Elastic => true,
            Self::Soft | Self::Postpaid => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_read_back_from_their_text() {
        let owners = [
            Owner::Key {
                id: KeyId::generate(),
            },
            Owner::Provider {
                id: ProviderId::generate(),
            },
            Owner::Tag {
                name: "project".into(),
                value: Some("a=b".into()),
            },
            Owner::Tag {
                name: "project".into(),
                value: None,
            },
            Owner::EndUser {
                id: Some("alice".into()),
            },
            Owner::EndUser { id: None },
        ];
        for owner in owners {
            assert!(Owner::KINDS.contains(&owner.kind()));
            assert_eq!(
                Owner::from_text(owner.kind(), &owner.id_text()),
                Some(owner)
            );
        }
    }

    #[test]
    fn names_are_looked_up_within_their_organisation_and_not_mixed_up() {
        let organisation = OrganisationId::generate();
        let tag = |name: &str, value: Option<&str>| Owner::Tag {
            name: name.into(),
            value: value.map(str::to_owned),
        };
        let all = [
            tag("a", None),
            tag("a", Some("")),
            tag("a", Some("b")),
            tag("ab", Some("")),
            Owner::EndUser { id: None },
            Owner::EndUser {
                id: Some("a".into()),
            },
        ];
        let mut keys: Vec<Uuid> = all.iter().map(|owner| owner.lookup(organisation)).collect();
        keys.extend(
            all.iter()
                .map(|owner| owner.lookup(OrganisationId::generate())),
        );
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 2 * all.len());
    }

    #[test]
    fn a_raise_ends_at_its_time() {
        let raise = Some(Raise {
            amount: 5,
            until: Timestamp(100),
        });
        assert_eq!(Raise::limit_at(raise, 10, Timestamp(99)), 15);
        assert_eq!(Raise::limit_at(raise, 10, Timestamp(100)), 10);
        assert_eq!(Raise::limit_at(None, 10, Timestamp(0)), 10);
    }
}
