//! What events say about an account: enough to open it from nothing, so that a fold needs no look-up.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::budget::{BudgetMode, BudgetOwner};
use crate::{
    clock::Timestamp,
    ids::{BudgetId, OrganisationId, ParseIdError},
    units::NanoUsd,
};

/// One window of one budget. As text `bud_…@<start in Unix seconds>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AccountId {
    pub budget: BudgetId,
    pub window_start: Timestamp,
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.budget, self.window_start.seconds())
    }
}

impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for AccountId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let error = ParseIdError {
            prefix: BudgetId::PREFIX,
        };
        let (budget, start) = text.split_once('@').ok_or_else(|| error.clone())?;
        let seconds: i64 = start.parse().map_err(|_| error.clone())?;
        let micros = seconds.checked_mul(1_000_000).ok_or(error)?;
        Ok(Self {
            budget: budget.parse()?,
            window_start: Timestamp(micros),
        })
    }
}

/// An account as the one who names it knew it at that moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountSpec {
    pub id: AccountId,
    pub organisation_id: OrganisationId,
    pub owner: BudgetOwner,
    pub unit: Unit,
    pub mode: BudgetMode,
    pub limit: NanoUsd,
    /// `None`: the window never ends (period `total`).
    pub window_end: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    Nanos,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_id_reads_back() {
        let id = AccountId {
            budget: BudgetId::generate(),
            window_start: Timestamp(-86_400_000_000),
        };
        assert_eq!(id.to_string().parse::<AccountId>().unwrap(), id);
        assert!("bud_x@1".parse::<AccountId>().is_err());
    }
}
