//! The lossy messages between gateways and the projector. Any of them may be lost, doubled or late: totals make that
//! harmless, and whoever needs an answer asks again.

use serde::{Deserialize, Serialize};

use crate::{
    clock::Timestamp,
    ids::{GatewayId, ReclaimId},
    payload::account::{AccountId, AccountSpec},
};

/// On `{c}:asks`, to the grant task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AskMessage {
    /// A gateway needs money; names every account that is short.
    Ask(Ask),
    /// An operator calls all idle parts back: passed on to every live gateway.
    Reclaim { reclaim_id: ReclaimId },
    /// A gateway has started and wants the totals of its leases.
    Totals { gateway_id: GatewayId },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    pub gateway_id: GatewayId,
    pub accounts: Vec<AskAccount>,
}

/// One account of an ask, as granted totals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskAccount {
    pub account: AccountSpec,
    /// With this total the oldest waiting call fits. Not above what is granted already: a refill off the hot path.
    pub must: i64,
    /// With this total about ten seconds of spend fit.
    pub want: i64,
}

/// On `{c}:ctl:<gateway>`, to that gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlMessage {
    Leases {
        leases: Vec<ControlLease>,
    },
    /// Give back what is idle, of one account or of all, and answer with a `lease.returned` that carries the id.
    ReturnIdle {
        reclaim_id: ReclaimId,
        account: Option<AccountId>,
        /// Of that account, what this gateway has been granted in all. An answer that does not count a grant, because word of
        /// it came later, would let somebody else be denied while that grant lies idle.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        granted: Option<i64>,
    },
    /// Windows whose calls reserve nothing and that are full. Told when they fill, and again every few seconds.
    Full {
        accounts: Vec<FullAccount>,
    },
    /// Postgres went back: write a `lease.stated` with all totals for this generation.
    StateLeases {
        generation: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlLease {
    pub account: AccountId,
    /// The granted total; a smaller one than known is late and ignored.
    pub granted: i64,
    /// Idle parts go back at once while this holds.
    pub scarce: bool,
    /// The ask for this total cannot be met.
    pub denial: Option<Denial>,
}

/// Why there is no money, with the figures at that moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// The total that was asked for.
    pub must: i64,
    pub limit: i64,
    pub settled: i64,
    pub held: i64,
    /// Live holders that did not answer in time.
    pub silent: Vec<GatewayId>,
    pub resets_at: Option<Timestamp>,
    /// The rule counts each of so many by itself already that no further one is opened.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub too_many: bool,
}

/// A window that is full, with the figures at that moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FullAccount {
    pub account: AccountId,
    /// In from the window before, less what went on to the next.
    pub carried: i64,
    pub settled: i64,
    pub resets_at: Option<Timestamp>,
}

impl FullAccount {
    /// Whether it is still full under this limit: the message may be older than the limit.
    #[must_use]
    pub fn is_full(&self, limit: i64) -> bool {
        self.settled >= limit.saturating_add(self.carried)
    }
}

/// On `{c}:beat`, once a second, from the active projector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    pub generation: u64,
    pub config_version: u64,
    pub at: Timestamp,
}

/// A gateway's field in hash `{c}:<gen>:gateways`: written at every apply and each second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayPresence {
    pub gateway_id: GatewayId,
    pub epoch: u64,
    pub applied_version: u64,
    pub applied_at: Timestamp,
    pub heartbeat_at: Timestamp,
    /// Its policy beyond `max_stale` is `close`: it may be left out of receipts once it is that old.
    pub closes_when_stale: bool,
    pub max_stale_ms: u64,
}
