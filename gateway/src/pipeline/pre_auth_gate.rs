//! Before anybody looks at who calls: from where a call comes, by the global policy.

use tokio::sync::mpsc::OwnedPermit;

use super::{
    admit::{Admitted, Inbound},
    open_call::Unfinished,
};
use crate::{error::GatewayError, state::Gateway};

/// A call from an address that calls are taken from.
pub(crate) struct Addressed {
    pub(crate) inbound: Inbound,
    pub(crate) place: OwnedPermit<Unfinished>,
}

pub(crate) fn pass(gateway: &Gateway, admitted: Admitted) -> Result<Addressed, GatewayError> {
    let Admitted { inbound, place } = admitted;
    gateway
        .books
        .limits
        .pre_auth(inbound.peer, &inbound.head.headers)?;
    Ok(Addressed { inbound, place })
}
