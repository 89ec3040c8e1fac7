//! First step: whether the gateway takes a call at all, before it looks at who calls.

use http::{HeaderValue, request::Parts};
use hyper::body::Incoming;
use odock_events::clock::Timestamp;
use tokio::sync::mpsc::OwnedPermit;

use super::open_call::Unfinished;
use crate::{
    error::{Code, GatewayError},
    state::Gateway,
};

/// A request as it came in.
pub(crate) struct Inbound {
    /// On the heap, so that the steps pass on a pointer.
    pub(crate) head: Box<Parts>,
    pub(crate) body: Incoming,
    pub(crate) request_id: HeaderValue,
    /// The gateway's own id of the request: usage, attempt and label derive from it.
    pub(crate) id: uuid::Uuid,
    pub(crate) received_at: Timestamp,
    /// The other end of the connection.
    pub(crate) peer: std::net::IpAddr,
}

/// A call that has a place in the closer's queue, so that its end is sure to be written.
pub(crate) struct Admitted {
    pub(crate) inbound: Inbound,
    pub(crate) place: OwnedPermit<Unfinished>,
}

pub(crate) fn admit(gateway: &Gateway, inbound: Inbound) -> Result<Admitted, GatewayError> {
    if gateway.shutdown.stop.is_cancelled() {
        return Err(GatewayError::from(Code::ShuttingDown).with_retry_after(1));
    }
    let place = gateway.closer.clone().try_reserve_owned();
    let place = place.map_err(|_| GatewayError::from(Code::Overloaded).with_retry_after(1))?;
    Ok(Admitted { inbound, place })
}
