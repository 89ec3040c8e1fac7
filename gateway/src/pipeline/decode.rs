//! What is asked for: the body, read whole and checked, as its dialect understands it.

use http::{HeaderValue, request::Parts};
use odock_events::clock::Timestamp;
use tokio::sync::mpsc::OwnedPermit;

use super::{
    admit::Inbound,
    authenticate::{Authenticated, Caller},
    early_gate::Passed,
    open_call::Unfinished,
};
use crate::{
    dialect::openai_chat::request::ChatRequest,
    error::{Code, GatewayError},
    http::inbound,
    limits::receipt::Receipts,
    state::Gateway,
};

/// What of a request stays the same to its end.
pub(crate) struct Origin {
    pub(crate) head: Box<Parts>,
    pub(crate) request_id: HeaderValue,
    pub(crate) id: uuid::Uuid,
    pub(crate) received_at: Timestamp,
    pub(crate) caller: Caller,
    pub(crate) place: OwnedPermit<Unfinished>,
    pub(crate) peer: std::net::IpAddr,
    pub(crate) limits: Receipts,
}

/// Both on the heap, as they go from step to step: a future that holds them by value is moved with them.
pub(crate) struct Decoded {
    pub(crate) origin: Box<Origin>,
    pub(crate) request: Box<ChatRequest>,
}

pub(crate) async fn decode(gateway: &Gateway, passed: Passed) -> Result<Decoded, GatewayError> {
    let Passed {
        authenticated,
        limits,
    } = passed;
    let Authenticated {
        inbound,
        place,
        caller,
    } = authenticated;
    let Inbound {
        head,
        body,
        request_id,
        id,
        received_at,
        peer,
    } = inbound;
    inbound::check_media_type(&head.headers)?;
    let body = inbound::read_body(body, gateway.settings.body).await?;
    let request = ChatRequest::parse(body)
        .map_err(|error| GatewayError::new(Code::InvalidRequestBody, error.to_string()))?;
    let origin = Origin {
        head,
        request_id,
        id,
        received_at,
        caller,
        place,
        peer,
        limits,
    };
    Ok(Decoded {
        origin: Box::new(origin),
        request: Box::new(request),
    })
}
