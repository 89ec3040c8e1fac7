//! Leases: the parts of accounts that gateways hold. Messages carry totals that only grow, never amounts, so a lost,
//! doubled or late one does no harm.

use serde::{Deserialize, Serialize};

use super::account::{AccountId, AccountSpec};
use crate::ids::{GatewayId, ReclaimId, UsageId};

/// The three totals of one lease, in the account's unit. Open is what is left of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseTotals {
    pub granted: i64,
    pub settled: i64,
    pub returned: i64,
}

impl LeaseTotals {
    #[must_use]
    pub fn open(&self) -> i64 {
        self.granted - self.settled - self.returned
    }
}

/// `lease.granted`: decided by the projector in the transaction that wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseGranted {
    pub gateway_id: GatewayId,
    pub account: AccountSpec,
    /// The new total.
    pub granted: i64,
}

/// `lease.returned`, in the gateway's stream: what it gives back, as totals, after every `usage.finished` before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseReturned {
    pub gateway_id: GatewayId,
    /// The call that this answers; also sent when nothing was idle.
    pub reclaim_id: Option<ReclaimId>,
    pub leases: Vec<ReturnedLease>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReturnedLease {
    pub account: AccountId,
    pub returned: i64,
}

/// `lease.stated`, in the gateway's stream: all its totals, after Postgres went back to an older state. The larger
/// granted total counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseStated {
    pub gateway_id: GatewayId,
    /// The generation that asked for it.
    pub generation: u64,
    pub leases: Vec<StatedLease>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatedLease {
    pub account: AccountSpec,
    pub totals: LeaseTotals,
}

/// `window.closed`: 60 s after its end. No grant from it any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowClosed {
    pub account: AccountId,
}

/// `window.carried`: what was free in a closed window goes on to the one after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowCarried {
    pub from: AccountId,
    pub to: AccountSpec,
    /// In the accounts' unit.
    pub amount: i64,
}

/// `raise.ended`: a temporary raise is over, the account's limit is what its rule says without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaiseEnded {
    pub account: AccountId,
    /// In the account's unit.
    pub limit: i64,
}

/// `budget.breached`: a call cost more than its reservation; the excess went to the account directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetBreached {
    pub account: AccountId,
    pub usage_id: UsageId,
    /// Cost above the reservation, in the account's unit.
    pub excess: i64,
}
