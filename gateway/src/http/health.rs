//! Whether the gateway lives, may take traffic, and what of its dependencies it sees: `/v1/health` for the container,
//! `/v1/ready` for balancers, `/v1/healthz` for people, `/metrics` for Prometheus.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use sqlx::PgPool;

use super::{body::AnswerBody, json};
use crate::{
    error::{Code, GatewayError},
    snapshot::cell::StalePolicy,
    state::Gateway,
};

/// What `/v1/healthz` asks; nothing on the request path touches them.
pub(crate) struct Dependencies {
    pub(crate) postgres: PgPool,
    pub(crate) redis: redis::Client,
}

pub(crate) fn alive() -> Response<AnswerBody> {
    json::ok(&Alive { status: "ok" })
}

pub(crate) fn ready(gateway: &Gateway) -> Result<Response<AnswerBody>, GatewayError> {
    if gateway.shutdown.stop.is_cancelled() {
        return Err(GatewayError::from(Code::ShuttingDown));
    }
    let now = gateway.books.clock.now();
    let closed = gateway.snapshot.policy == StalePolicy::Close && gateway.snapshot.is_stale(now);
    if !gateway.snapshot.is_loaded() || closed {
        return Err(GatewayError::from(Code::ConfigStale));
    }
    if !gateway.books.journal.is_writable() {
        return Err(GatewayError::from(Code::JournalUnavailable));
    }
    Ok(alive())
}

pub(crate) async fn dependencies(gateway: &Gateway) -> Response<AnswerBody> {
    let asked = &gateway.dependencies;
    let (postgres, redis) = tokio::join!(
        tokio::time::timeout(PATIENCE, asked.postgres_answers()),
        tokio::time::timeout(PATIENCE, asked.redis_answers()),
    );
    let (postgres, redis) = (postgres.unwrap_or(false), redis.unwrap_or(false));
    let healthy = postgres && redis;
    let status = if healthy {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    json::with_status(
        status,
        &Health {
            status: word(healthy),
            postgres: word(postgres),
            redis: word(redis),
            journal: word(gateway.books.journal.is_writable()),
            config_version: gateway.snapshot.version(),
            config_age_ms: gateway.snapshot.age(gateway.books.clock.now()).as_millis() as u64,
        },
    )
}

pub(crate) fn metrics(gateway: &Gateway) -> Result<Response<AnswerBody>, GatewayError> {
    if !gateway.settings.prometheus {
        return Err(GatewayError::from(Code::NotFound));
    }
    let text = gateway.books.metrics.render();
    let mut response = Response::new(AnswerBody::whole(Bytes::from(text)));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

impl Dependencies {
    async fn postgres_answers(&self) -> bool {
        sqlx::query("SELECT 1")
            .execute(&self.postgres)
            .await
            .is_ok()
    }

    async fn redis_answers(&self) -> bool {
        let Ok(mut connection) = self.redis.get_multiplexed_async_connection().await else {
            return false;
        };
        redis::cmd("PING")
            .query_async::<String>(&mut connection)
            .await
            .is_ok()
    }
}

fn word(up: bool) -> &'static str {
    if up { "ok" } else { "down" }
}

#[derive(Serialize)]
struct Alive {
    status: &'static str,
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    postgres: &'static str,
    redis: &'static str,
    journal: &'static str,
    config_version: u64,
    config_age_ms: u64,
}

const PATIENCE: Duration = Duration::from_secs(1);
