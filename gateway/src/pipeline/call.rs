//! The one attempt at the upstream: the caller's bytes with the few edits that must be, and the answer's head.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use odock_events::payload::{
    provider::ProviderType,
    usage::{AttemptOutcome, UsageStatus},
};

use super::{
    record::{Ending, Produced},
    start::StartedCall,
};
use crate::{
    dialect::openai_chat::request::{Edits, LimitField},
    error::{Code, GatewayError},
    provider::{client::UpstreamFailure, headers},
    state::Gateway,
};

/// A call whose upstream has begun to answer.
pub(crate) struct Called {
    pub(crate) started: StartedCall,
    pub(crate) answer: Response<Incoming>,
}

pub(crate) async fn call(
    gateway: &Gateway,
    mut started: StartedCall,
) -> Result<Called, GatewayError> {
    if started
        .open
        .limits()
        .is_some_and(|limits| !limits.still_hold())
    {
        return Err(too_late(started));
    }
    let provider = started.target.provider.body.kind;
    let first_byte = Duration::from_millis(started.target.provider.body.timeout_ms);
    let request = request(&started);
    let began = Instant::now();
    let sent = gateway.client.send(request, first_byte);
    let Ok(outcome) = started.live.unless_cut(sent).await else {
        return Err(revoked(started, None));
    };
    let metrics = &gateway.books.metrics;
    match outcome {
        Ok(answer) => {
            let outcome = if answer.status().is_server_error() {
                AttemptOutcome::UpstreamError
            } else {
                AttemptOutcome::Success
            };
            metrics.called_provider(provider, began.elapsed(), outcome);
            started.open.answered();
            Ok(Called { started, answer })
        }
        Err(failure) => {
            let ending = ending_of(&failure, None, Produced::Counted { output: 0 });
            metrics.called_provider(provider, began.elapsed(), ending.outcome);
            started.open.finish(ending);
            Err(GatewayError::from(failure.code()).with_cause(failure))
        }
    }
}

/// The end of a call whose key was revoked before its answer was whole. The gateway hung up on the upstream, as a caller
/// would have.
pub(crate) fn revoked(started: StartedCall, upstream_status: Option<u16>) -> GatewayError {
    started.open.finish(Ending {
        status: UsageStatus::ClientClosed,
        outcome: AttemptOutcome::ClientClosed,
        upstream_status,
        http_status: Code::ApiKeyRevoked.status_number(),
        produced: Produced::Counted { output: 0 },
        provider_request_id: None,
    });
    GatewayError::from(Code::ApiKeyRevoked)
}

/// The gateway stood still for so long that the call's slot may be another's by now.
fn too_late(started: StartedCall) -> GatewayError {
    started.open.finish(Ending {
        status: UsageStatus::UpstreamError,
        outcome: AttemptOutcome::Unreachable,
        upstream_status: None,
        http_status: Code::ConcurrencyExceeded.status_number(),
        produced: Produced::Nothing,
        provider_request_id: None,
    });
    GatewayError::from(Code::ConcurrencyExceeded).with_retry_after(1)
}

fn request(started: &StartedCall) -> Request<Full<Bytes>> {
    let body = started.request.upstream_body(&Edits {
        slug: &started.model.body.slug,
        inject_max_tokens: started.output_cap,
        limit_field: limit_field(started.target.provider.body.kind),
        ask_for_usage: true,
    });
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = started.target.uri.clone();
    let to = request.headers_mut();
    headers::copy_to_upstream(&started.head.headers, to);
    if !to.contains_key(header::CONTENT_TYPE) {
        to.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
    }
    to.insert(header::AUTHORIZATION, started.authorization.clone());
    if let Ok(attempt) = HeaderValue::from_str(&started.attempt_id.to_string()) {
        to.insert(CLIENT_REQUEST_ID, attempt);
    }
    request
}

/// How a call ends that the upstream failed, with what there was until then.
pub(crate) fn ending_of(
    failure: &UpstreamFailure,
    upstream_status: Option<u16>,
    so_far: Produced,
) -> Ending {
    let (status, outcome, produced) = match failure {
        UpstreamFailure::Unreachable(_) | UpstreamFailure::AddressRefused => (
            UsageStatus::UpstreamError,
            AttemptOutcome::Unreachable,
            Produced::Nothing,
        ),
        UpstreamFailure::ConnectTimeout(_) => (
            UsageStatus::Timeout,
            AttemptOutcome::Timeout,
            Produced::Nothing,
        ),
        UpstreamFailure::Timeout(_) => (UsageStatus::Timeout, AttemptOutcome::Timeout, so_far),
        UpstreamFailure::Broken(_) | UpstreamFailure::TooLarge(_) => (
            UsageStatus::UpstreamError,
            AttemptOutcome::UpstreamError,
            so_far,
        ),
    };
    Ending {
        status,
        outcome,
        upstream_status,
        http_status: failure.code().status_number(),
        produced,
        provider_request_id: None,
    }
}

/// Newer models of OpenAI refuse the old field, other servers may not know the new one.
fn limit_field(provider: ProviderType) -> LimitField {
    match provider {
        ProviderType::OpenAi | ProviderType::AzureOpenAi => LimitField::MaxCompletionTokens,
        ProviderType::Anthropic
        | ProviderType::Google
        | ProviderType::Vllm
        | ProviderType::Mistral
        | ProviderType::HuggingFace
        | ProviderType::Custom => LimitField::MaxTokens,
    }
}

const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-client-request-id");
