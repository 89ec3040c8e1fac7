//! The life of a gateway: its identity is its journal, its seq goes on across restarts.

use serde::{Deserialize, Serialize};

use crate::ids::GatewayId;

/// `gateway.opened`, in the gateway's stream: one start of the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayOpened {
    pub gateway_id: GatewayId,
    /// Rises by one at each start.
    pub epoch: u64,
    pub nonce: String,
    /// The identity that this one replaces (its journal was rolled back or copied); its leases are lost.
    pub predecessor: Option<GatewayId>,
    /// Power may have failed before the last records were on disk.
    pub tail_unproven: bool,
    pub version: String,
}

/// `gateway.closed`: a graceful end. Everything is shipped and returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayClosed {
    pub gateway_id: GatewayId,
    pub epoch: u64,
}

/// `gateway.lost`: by an operator's command or by a successor that names it, never by a timer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayLost {
    pub gateway_id: GatewayId,
    pub successor: Option<GatewayId>,
}

/// `log.gap`: seqs that are in no journal and no stream after a restore; they are gone and this says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogGap {
    pub gateway_id: GatewayId,
    pub first_seq: u64,
    pub last_seq: u64,
}
