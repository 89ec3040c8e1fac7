//! One record for each call that reached for an upstream: who, what, how many tokens, what it cost, which accounts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::account::AccountSpec;
use crate::{
    clock::Timestamp,
    ids::{AttemptId, GatewayId, KeyId, ModelId, ProviderId, UsageId, UserId},
    pricing::{Billed, CostBreakdown, Pieces, ServiceTier, TokenUsage},
    units::NanoUsd,
};

pub use crate::pricing::{TokenDetails, Units};

/// `usage.finished`, in the gateway's stream. Organisation, team, versions and the `estimated` flag are in the envelope.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UsageFinished {
    pub usage_id: UsageId,
    /// The client's label; nothing is deduplicated by it.
    pub request_id: String,
    pub gateway_id: GatewayId,
    pub key_id: KeyId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    pub model_id: ModelId,
    pub model: String,
    pub slug: String,
    pub provider_id: ProviderId,
    /// The provider's type on the wire, such as `custom`.
    pub provider: String,
    pub route: String,
    pub stream: bool,
    pub status: UsageStatus,
    pub http_status: u16,
    pub tokens: TokenUsage,
    #[serde(default, skip_serializing_if = "TokenDetails::is_empty")]
    pub details: TokenDetails,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units: Option<Units>,
    /// What is billed by the piece beside `units`: searches, images that went in.
    #[serde(default, skip_serializing_if = "Pieces::is_empty")]
    pub pieces: Pieces,
    /// The tier that the upstream says it served the call by.
    #[serde(default, skip_serializing_if = "ServiceTier::is_standard")]
    pub service_tier: ServiceTier,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_user: Option<String>,
    pub cost: NanoUsd,
    pub breakdown: CostBreakdown,
    /// What it reserved on, in the order it reserved. Only these are settled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<AccountUse>,
    pub attempts: Vec<Attempt>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_request_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    pub started_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte_at: Option<Timestamp>,
    pub finished_at: Timestamp,
    pub latency_ms: u64,
}

impl UsageFinished {
    /// Everything in it that has a price.
    #[must_use]
    pub fn billed(&self) -> Billed<'_> {
        Billed {
            tokens: &self.tokens,
            details: &self.details,
            units: self.units.as_ref(),
            pieces: &self.pieces,
            service_tier: self.service_tier,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageStatus {
    Completed,
    ClientClosed,
    UpstreamError,
    Timeout,
    /// The gateway died; its journal settled the call.
    Interrupted,
}

impl UsageStatus {
    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::ClientClosed => "client_closed",
            Self::UpstreamError => "upstream_error",
            Self::Timeout => "timeout",
            Self::Interrupted => "interrupted",
        }
    }
}

/// One account that the call reserved on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountUse {
    pub account: AccountSpec,
    /// R taken from the lease, in the account's unit; 0 for a soft account.
    pub reserved: i64,
}

/// One call to an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// What the upstream saw as `X-Client-Request-Id`.
    pub id: AttemptId,
    pub model: String,
    pub provider: String,
    pub reserved: NanoUsd,
    pub outcome: AttemptOutcome,
    /// The upstream's HTTP status, if it gave one.
    pub status: Option<u16>,
    pub cost_nanos: NanoUsd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    Success,
    ClientClosed,
    UpstreamError,
    Unreachable,
    Timeout,
    Interrupted,
}
