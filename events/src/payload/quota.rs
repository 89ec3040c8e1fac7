//! Quotas: rules like budgets that count something else than money, or money per owner beside the budgets.

use serde::{Deserialize, Serialize};

use super::{
    account::Unit,
    budget::{BudgetMode, Owner, Period, Raise},
    threshold::Thresholds,
};
use crate::clock::Timestamp;

/// `quota.created`, `quota.updated`. Owner, metric, period, time zone and start never change: they define the windows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaBody {
    pub name: Option<String>,
    pub owner: Owner,
    pub metric: Metric,
    /// In the metric's unit; 0 refuses all.
    pub limit: i64,
    pub period: Period,
    /// IANA name.
    pub timezone: String,
    pub start_at: Option<Timestamp>,
    pub end_at: Option<Timestamp>,
    pub active: bool,
    pub rollover: bool,
    pub thresholds: Thresholds,
    pub raise: Option<Raise>,
}

/// What a quota counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    Requests,
    Tokens,
    TokensIn,
    TokensOut,
    Errors,
    /// Nano-USD.
    Cost,
    LatencyMs,
}

impl Metric {
    #[must_use]
    pub fn unit(self) -> Unit {
        match self {
            Self::Requests => Unit::Requests,
            Self::Tokens => Unit::Tokens,
            Self::TokensIn => Unit::TokensIn,
            Self::TokensOut => Unit::TokensOut,
            Self::Errors => Unit::Errors,
            Self::Cost => Unit::Nanos,
            Self::LatencyMs => Unit::LatencyMs,
        }
    }

    /// Errors and time are known only afterwards; all else has an upper bound that a call reserves.
    #[must_use]
    pub fn mode(self) -> BudgetMode {
        match self {
            Self::Errors | Self::LatencyMs => BudgetMode::Postpaid,
            Self::Requests | Self::Tokens | Self::TokensIn | Self::TokensOut | Self::Cost => {
                BudgetMode::Hard
            }
        }
    }

    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cost => "cost",
            other => other.unit().name(),
        }
    }
}
