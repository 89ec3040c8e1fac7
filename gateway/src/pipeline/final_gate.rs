//! The request and its model are known: the model's limits, the output that is asked for, and tokens a minute.

use super::grant::Granted;
use crate::{error::GatewayError, limits::gates::Origin, state::Gateway};

/// A call that every limit has room for.
pub(crate) struct Limited {
    pub(crate) granted: Granted,
    /// The most output tokens that policies let it have.
    pub(crate) output_cap: Option<u64>,
}

pub(crate) async fn pass(gateway: &Gateway, mut granted: Granted) -> Result<Limited, GatewayError> {
    let mut receipts = std::mem::take(&mut granted.origin.limits);
    let from = &granted.origin;
    let origin = Origin {
        peer: from.peer,
        headers: &from.head.headers,
        snapshot: &from.caller.snapshot,
        key: &from.caller.entry.key,
        now: from.received_at,
    };
    let output_cap = gateway
        .books
        .limits
        .last(&origin, &granted.model, &granted.request, &mut receipts)
        .await?;
    granted.origin.limits = receipts;
    Ok(Limited {
        granted,
        output_cap,
    })
}
