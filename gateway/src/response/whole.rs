//! Answers that are read whole before their first header goes out, so that the headers can say what they cost.

use bytes::Bytes;
use http::Response;
use hyper::body::Incoming;
use odock_events::payload::usage::{AttemptOutcome, UsageStatus};

use super::{failed, head, new_name};
use crate::{
    dialect::openai_chat::answer::{Answer, read_answer, splice_model},
    error::{Code, GatewayError},
    http::body::AnswerBody,
    pipeline::{
        call::{ending_of, revoked},
        live::CutOff,
        record::{Ending, Produced},
        start::StartedCall,
    },
    state::Gateway,
};

/// A completion: what it used is read out of it, its model gets the caller's name for it back.
pub(crate) async fn completion(
    gateway: &Gateway,
    started: StartedCall,
    answer: Response<Incoming>,
) -> Result<Response<AnswerBody>, GatewayError> {
    let (mut parts, body) = answer.into_parts();
    let status = parts.status.as_u16();
    let (started, body) = read(gateway, started, status, body).await?;
    let read = match read_answer(&body) {
        Ok(read) if !read.is_error => read,
        Ok(_) => {
            return Err(unusable(
                started,
                status,
                "an error with a status of success",
            ));
        }
        Err(error) => return Err(unusable(started, status, &error.to_string())),
    };
    let produced = produced(&read);
    head::complete(&mut parts.headers, &started);
    head::insert_cost(&mut parts.headers, started.open.cost(produced).0);
    let body = match (new_name(&started), &read.model_place) {
        (Some(name), Some(place)) => splice_model(&body, place, name),
        (None, _) | (_, None) => body,
    };
    started.open.finish(Ending {
        status: UsageStatus::Completed,
        outcome: AttemptOutcome::Success,
        upstream_status: Some(status),
        http_status: status,
        produced,
        provider_request_id: read.id,
    });
    let mut response = Response::new(AnswerBody::whole(body));
    *response.status_mut() = parts.status;
    *response.headers_mut() = parts.headers;
    Ok(response)
}

/// The upstream's refusal of the caller's request, passed on as it is.
pub(crate) async fn refusal(
    gateway: &Gateway,
    started: StartedCall,
    answer: Response<Incoming>,
) -> Result<Response<AnswerBody>, GatewayError> {
    let (mut parts, body) = answer.into_parts();
    let status = parts.status;
    let (started, body) = read(gateway, started, status.as_u16(), body).await?;
    head::complete(&mut parts.headers, &started);
    head::insert_cost(&mut parts.headers, 0);
    started.open.finish(failed(status, status.as_u16()));
    let mut response = Response::new(AnswerBody::whole(body));
    *response.status_mut() = status;
    *response.headers_mut() = parts.headers;
    Ok(response)
}

async fn read(
    gateway: &Gateway,
    started: StartedCall,
    status: u16,
    body: Incoming,
) -> Result<(StartedCall, Bytes), GatewayError> {
    let reading = gateway.client.read_whole(body);
    match started.live.unless_cut(reading).await {
        Err(CutOff) => Err(revoked(started, Some(status))),
        Ok(Ok(body)) => Ok((started, body)),
        Ok(Err(failure)) => {
            let ending = ending_of(&failure, Some(status), Produced::Counted { output: 0 });
            started.open.finish(ending);
            Err(GatewayError::from(failure.code()).with_cause(failure))
        }
    }
}

/// A success that is none: what was used is not known.
fn unusable(started: StartedCall, status: u16, why: &str) -> GatewayError {
    started.open.finish(Ending {
        status: UsageStatus::UpstreamError,
        outcome: AttemptOutcome::UpstreamError,
        upstream_status: Some(status),
        http_status: Code::UpstreamError.status_number(),
        produced: Produced::Counted { output: 0 },
        provider_request_id: None,
    });
    GatewayError::from(Code::UpstreamError).with_cause(format!("unusable answer: {why}"))
}

fn produced(answer: &Answer) -> Produced {
    answer.usage.map_or_else(
        || Produced::Counted {
            output: answer.estimated_output_tokens(),
        },
        Produced::Reported,
    )
}
