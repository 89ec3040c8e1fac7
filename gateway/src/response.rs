//! From the upstream's answer to the caller's: headers, the model's own name, and the end of the call. Last step of
//! `pipeline`.

use http::{HeaderMap, Response, StatusCode, header};
use hyper::body::Incoming;
use odock_events::payload::usage::{AttemptOutcome, UsageStatus};

use crate::{
    dialect::openai_chat::stream::{StreamOptions, StreamReader},
    error::{Code, GatewayError},
    http::body::AnswerBody,
    pipeline::{
        call::Called,
        record::{Ending, Produced},
        start::StartedCall,
    },
    provider::client::Silence,
    state::Gateway,
};

pub(crate) mod head;
pub(crate) mod stream;
pub(crate) mod whole;

use self::stream::{AnswerStream, StreamParts, TopUps};

pub(crate) async fn answer(
    gateway: &Gateway,
    called: Called,
) -> Result<Response<AnswerBody>, GatewayError> {
    let Called { started, answer } = called;
    let status = answer.status();
    if status.is_success() {
        if started.request.stream && is_event_stream(answer.headers()) {
            return Ok(stream(gateway, started, answer));
        }
        return whole::completion(gateway, started, answer).await;
    }
    if PASSED_THROUGH.contains(&status) {
        return whole::refusal(gateway, started, answer).await;
    }
    let retry_after = head::retry_after(answer.headers());
    started
        .open
        .finish(failed(status, Code::UpstreamError.status_number()));
    let message = format!("the provider answered with status {}", status.as_u16());
    let error = GatewayError::new(Code::UpstreamError, message);
    Err(retry_after.map_or_else(
        || error,
        |seconds| GatewayError::from(Code::UpstreamError).with_retry_after(seconds),
    ))
}

/// An upstream that refused or failed by its own word used nothing.
fn failed(upstream_status: StatusCode, http_status: u16) -> Ending {
    Ending {
        status: UsageStatus::UpstreamError,
        outcome: AttemptOutcome::UpstreamError,
        upstream_status: Some(upstream_status.as_u16()),
        http_status,
        produced: Produced::Nothing,
        provider_request_id: None,
    }
}

fn stream(
    gateway: &Gateway,
    started: StartedCall,
    answer: Response<Incoming>,
) -> Response<AnswerBody> {
    let (mut parts, upstream) = answer.into_parts();
    head::complete(&mut parts.headers, &started);
    let body = AnswerStream::new(StreamParts {
        upstream,
        upstream_status: parts.status.as_u16(),
        silence: Silence::new(gateway.client.idle()),
        reader: StreamReader::new(StreamOptions {
            client_asked_usage: started.request.include_usage,
            model_name: new_name(&started).map(str::to_owned),
        }),
        choices: u64::from(started.request.choices),
        top_ups: started.more.map(|more| {
            let money = std::sync::Arc::clone(started.open.money());
            Box::new(TopUps::new(*more, money))
        }),
        call: started.open,
        shutdown: gateway.shutdown.cut.clone(),
        live: started.live,
        metrics: std::sync::Arc::clone(&gateway.books.metrics),
    });
    let mut response = Response::new(AnswerBody::stream(Box::pin(body)));
    *response.status_mut() = parts.status;
    *response.headers_mut() = parts.headers;
    response
}

/// The name to put over the upstream's, if it differs from what the upstream was asked for.
fn new_name(started: &StartedCall) -> Option<&str> {
    let model = &started.model.body;
    (model.name != model.slug).then_some(model.name.as_str())
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| {
        value
            .as_bytes()
            .get(..EVENT_STREAM.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(EVENT_STREAM))
    })
}

const EVENT_STREAM: &[u8] = b"text/event-stream";

/// The upstream's own words to the caller about the caller's request.
const PASSED_THROUGH: [StatusCode; 6] = [
    StatusCode::BAD_REQUEST,
    StatusCode::NOT_FOUND,
    StatusCode::CONFLICT,
    StatusCode::PAYLOAD_TOO_LARGE,
    StatusCode::UNPROCESSABLE_ENTITY,
    StatusCode::TOO_MANY_REQUESTS,
];
