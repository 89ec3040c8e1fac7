//! The life of a call, one step a line. Each step takes what the step before it made, so none can be left out, and a
//! step that ends the call returns the error that the caller gets. Called by `http::router`.

use http::Response;
use tracing::Instrument as _;

use crate::{
    error::GatewayError,
    http::body::AnswerBody,
    response,
    state::Gateway,
    telemetry::traces::{self, gate_span, step_span},
};

pub(crate) mod accounts;
pub(crate) mod admit;
pub(crate) mod authenticate;
pub mod bounds;
pub(crate) mod call;
pub(crate) mod closer;
pub(crate) mod decode;
pub(crate) mod early_gate;
pub(crate) mod elastic;
pub(crate) mod final_gate;
pub(crate) mod grant;
pub(crate) mod labels;
pub mod live;
pub mod open_call;
pub(crate) mod pre_auth_gate;
pub(crate) mod record;
pub(crate) mod reserve;
pub(crate) mod start;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub(crate) use self::admit::Inbound;

/// `POST /v1/chat/completions`.
pub(crate) async fn complete_chat(
    gateway: &Gateway,
    inbound: Inbound,
) -> Result<Response<AnswerBody>, GatewayError> {
    let admitted = admit::admit(gateway, inbound)?;
    let addressed = gate_span("pre_auth").in_scope(|| pre_auth_gate::pass(gateway, admitted))?;
    let authenticated = authenticate::call(gateway, addressed)
        .instrument(step_span("gateway.auth"))
        .await?;
    let passed = early_gate::pass(gateway, authenticated)
        .instrument(gate_span("early"))
        .await?;
    let decoded = decode::decode(gateway, passed)
        .instrument(step_span("gateway.request.decode"))
        .await?;
    let granted = step_span("gateway.route.resolve").in_scope(|| grant::grant(gateway, decoded))?;
    let limited = final_gate::pass(gateway, granted)
        .instrument(gate_span("final"))
        .await?;
    let reserved = reserve::reserve(gateway, limited)
        .instrument(step_span("gateway.budget.enforce"))
        .await?;
    let mut started = start::start(gateway, reserved)
        .instrument(step_span("gateway.publish.usage"))
        .await?;
    started.open.trace_in(traces::current());
    let called = call::call(gateway, started)
        .instrument(step_span("gateway.provider.call"))
        .await?;
    response::answer(gateway, called)
        .instrument(step_span("gateway.provider.stream"))
        .await
}
