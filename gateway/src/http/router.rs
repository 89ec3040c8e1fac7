//! Paths and what answers them; the request id, metrics and errors of every answer. The handler of `http::server`.

use std::{net::IpAddr, sync::Arc, time::Instant};

use http::{HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use tracing::Instrument as _;

use super::{body::AnswerBody, connection::Connection, health, keys, models, request_id};
use crate::{
    error::{Code, Dialect, GatewayError},
    pipeline::{self, Inbound},
    state::Gateway,
    telemetry::{metrics::Route, traces},
};

/// Answers one request.
pub(crate) async fn answer(
    gateway: Arc<Gateway>,
    request: Request<Incoming>,
    connection: Arc<Connection>,
) -> Response<AnswerBody> {
    let began = Instant::now();
    let metrics = &gateway.books.metrics;
    let _in_flight = metrics.enter();
    let route = route(request.uri().path());
    let id = uuid::Uuid::now_v7();
    let label = request_id::of_client(request.headers()).cloned();
    let label = label.unwrap_or_else(|| request_id::fresh(id));
    let span = traces::request_span(route.path(), request.headers());
    let peer = connection.peer.ip();
    let outcome = dispatch(&gateway, route, request, (id, &label, peer))
        .instrument(span)
        .await;
    let mut response = outcome.unwrap_or_else(|error| {
        metrics.refused(error.code());
        error.log(label.to_str().unwrap_or_default());
        error.to_response(Dialect::OpenAi)
    });
    response.headers_mut().insert(request_id::HEADER, label);
    metrics.answered(route, response.status().as_u16(), began.elapsed());
    response
}

fn route(path: &str) -> Route {
    let routes = Route::ALL
        .into_iter()
        .filter(|route| *route != Route::Other);
    routes
        .into_iter()
        .find(|route| route.path() == path)
        .unwrap_or(Route::Other)
}

async fn dispatch(
    gateway: &Gateway,
    route: Route,
    request: Request<Incoming>,
    (id, label, peer): (uuid::Uuid, &HeaderValue, IpAddr),
) -> Result<Response<AnswerBody>, GatewayError> {
    let expected = match route {
        Route::ChatCompletions | Route::ValidateKey => Method::POST,
        Route::Models | Route::Health | Route::Ready | Route::Healthz | Route::Metrics => {
            Method::GET
        }
        Route::Other => return Err(GatewayError::from(Code::NotFound)),
    };
    if *request.method() != expected {
        let allow = if expected == Method::POST {
            "POST"
        } else {
            "GET"
        };
        return Err(GatewayError::method_not_allowed(allow));
    }
    let (head, body) = request.into_parts();
    match route {
        Route::ChatCompletions => {
            let received_at = gateway.books.clock.now();
            let request_id = label.clone();
            let inbound = Inbound {
                head: Box::new(head),
                body,
                request_id,
                id,
                received_at,
                peer,
            };
            pipeline::complete_chat(gateway, inbound).await
        }
        Route::Models => models::list(gateway, &head, peer).await,
        Route::ValidateKey => keys::validate(gateway, &head, peer).await,
        Route::Health => Ok(health::alive()),
        Route::Ready => health::ready(gateway),
        Route::Healthz => Ok(health::dependencies(gateway).await),
        Route::Metrics => health::metrics(gateway),
        Route::Other => Err(GatewayError::from(Code::NotFound)),
    }
}
