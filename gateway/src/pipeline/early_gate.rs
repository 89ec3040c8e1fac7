//! The key is known, the body is not read yet: the limits of organisation, team and key, and the global ones.

use std::net::IpAddr;

use http::request::Parts;
use hyper::body::Body as _;

use super::authenticate::{Authenticated, Caller, authenticate};
use crate::{
    error::GatewayError,
    limits::{gates::Origin, receipt::Receipts},
    state::Gateway,
};

/// A call that its key may make at this moment.
pub(crate) struct Passed {
    pub(crate) authenticated: Authenticated,
    pub(crate) limits: Receipts,
}

pub(crate) async fn pass(
    gateway: &Gateway,
    authenticated: Authenticated,
) -> Result<Passed, GatewayError> {
    let Authenticated {
        inbound, caller, ..
    } = &authenticated;
    let origin = Origin {
        peer: inbound.peer,
        headers: &inbound.head.headers,
        snapshot: &caller.snapshot,
        key: &caller.entry.key,
        now: inbound.received_at,
    };
    let length = inbound.body.size_hint().exact();
    let limits = gateway.books.limits.early(&origin, length).await?;
    Ok(Passed {
        authenticated,
        limits,
    })
}

/// The caller of a request that is no call: address rules hold for it, too.
pub(crate) async fn caller(
    gateway: &Gateway,
    head: &Parts,
    peer: IpAddr,
) -> Result<Caller, GatewayError> {
    let (limits, now) = (&gateway.books.limits, gateway.books.clock.now());
    limits.pre_auth(peer, &head.headers)?;
    let caller = authenticate(gateway, head, now).await?;
    limits.check_origin(&Origin {
        peer,
        headers: &head.headers,
        snapshot: &caller.snapshot,
        key: &caller.entry.key,
        now,
    })?;
    Ok(caller)
}
