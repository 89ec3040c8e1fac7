//! Budgets: rules from which accounts are made, one account a window.

use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    ids::{KeyId, OrganisationId, TeamId, UserId},
    units::NanoUsd,
};

/// `budget.created`, `budget.updated`. Owner, period, time zone and start never change: they define the windows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetBody {
    pub name: Option<String>,
    pub owner: BudgetOwner,
    pub period: Period,
    pub amount_nanos: NanoUsd,
    pub mode: BudgetMode,
    /// IANA name.
    pub timezone: String,
    pub start_at: Option<Timestamp>,
    pub end_at: Option<Timestamp>,
    pub active: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum BudgetOwner {
    Organisation { id: OrganisationId },
    Team { id: TeamId },
    User { id: UserId },
    Key { id: KeyId },
}

impl BudgetOwner {
    /// `organisation`, `team`, `user` or `key`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Organisation { .. } => "organisation",
            Self::Team { .. } => "team",
            Self::User { .. } => "user",
            Self::Key { .. } => "key",
        }
    }

    /// The owner's id as text.
    #[must_use]
    pub fn id_text(&self) -> String {
        match self {
            Self::Organisation { id } => id.to_string(),
            Self::Team { id } => id.to_string(),
            Self::User { id } => id.to_string(),
            Self::Key { id } => id.to_string(),
        }
    }
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
}

impl BudgetMode {
    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hard => "hard",
            Self::Soft => "soft",
            Self::Elastic => "elastic",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Hard, Self::Soft, Self::Elastic]
            .into_iter()
            .find(|mode| mode.name() == name)
    }

    /// Whether a call that does not fit is refused.
    #[must_use]
    pub fn refuses(self) -> bool {
        match self {
            Self::Hard | Self::Elastic => true,
            Self::Soft => false,
        }
    }
}
