//! The admin's own probes, and what describes its API.

use http::StatusCode;
use odock_events::log::keys::Plane;
use serde_json::json;

use crate::{call::Call, error::ApiError, openapi, reply::Reply, router};

/// The process answers; nothing is touched.
pub(crate) async fn health(_: Call) -> Result<Reply, ApiError> {
    std::future::ready(Ok(Reply::new(StatusCode::OK, json!({ "status": "ok" })))).await
}

/// Whether changes can be taken: Postgres answers and a generation of the log is open.
pub(crate) async fn ready(call: Call) -> Result<Reply, ApiError> {
    let postgres = sqlx::query("SELECT 1")
        .execute(&call.app.pool)
        .await
        .is_ok();
    let log = call.app.log.generation(Plane::Management).await;
    let redis = log.is_ok();
    let open = log.is_ok_and(|generation| generation.is_some());
    let word = |good: bool| if good { "ok" } else { "down" };
    let body = json!({
        "status": word(postgres && open), "postgres": word(postgres), "redis": word(redis), "log": word(open),
    });
    let status = if postgres && open {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    Ok(Reply::new(status, body))
}

pub(crate) async fn openapi(_: Call) -> Result<Reply, ApiError> {
    std::future::ready(Ok(Reply::new(
        StatusCode::OK,
        openapi::document(&router::table()),
    )))
    .await
}

/// What a browser seals provider keys with.
pub(crate) async fn encryption_key(call: Call) -> Result<Reply, ApiError> {
    let key = &call.app.sealing_key;
    let body = json!({
        "key_id": key.key_id(), "alg": "RSA-OAEP-256", "public_key_pem": key.to_pem(),
    });
    std::future::ready(Ok(Reply::new(StatusCode::OK, body))).await
}
