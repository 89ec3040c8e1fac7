//! `Idempotency-Key`: the same request twice has one effect and one answer. The key stands for a command id; the answer
//! of a 2xx is kept for a day, without its secret. Called by [`crate::command::run`].

use std::time::Duration;

use http::{HeaderName, Method, StatusCode};
use odock_events::{clock::Timestamp, ids::CommandId, units::Sha256Digest};
use serde_json::{Value, json};

use crate::{
    call::Call,
    error::{ApiError, Code},
    queries::idempotency::{self, Slot},
    reply::Reply,
};

const KEY: &str = "idempotency-key";
const KEY_MAX: usize = 200;
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// What a request's idempotency key means.
pub(crate) enum Claim {
    /// There is none.
    None,
    /// This request acts under this command id.
    Ours(Claimed),
    /// It was answered before.
    Stored(Reply),
}

pub(crate) struct Claimed {
    key: String,
    token: Sha256Digest,
    pub(crate) command_id: CommandId,
}

/// Looks the key up and takes it if it is free.
pub(crate) async fn claim(call: &Call) -> Result<Claim, ApiError> {
    let (Some(key), Some(token)) = (key_of(call)?, call.principal.token()) else {
        return Ok(Claim::None);
    };
    let request = request_digest(call);
    let slot = Slot { token, key: &key };
    let mut connection = call.app.pool.acquire().await?;
    let fresh = CommandId::generate();
    idempotency::delete_old(&mut connection, &slot, oldest(call.now)).await?;
    if idempotency::insert(&mut connection, &slot, request, fresh, call.now).await? {
        return Ok(Claim::Ours(Claimed {
            key,
            token,
            command_id: fresh,
        }));
    }
    let Some(row) = idempotency::find(&mut connection, &slot).await? else {
        return Err(ApiError::log_unavailable(
            "an idempotency key vanished while it was read",
        ));
    };
    if row.request_sha256 != request.0 {
        let detail = "the key stands for another method, path or body";
        return Err(ApiError::new(Code::IdempotencyKeyReused, detail));
    }
    if let Some(reply) = stored(row.status, row.headers, row.body) {
        return Ok(Claim::Stored(reply));
    }
    Ok(Claim::Ours(Claimed {
        key,
        token,
        command_id: row.command_id,
    }))
}

/// Keeps a 2xx answer. A failure only means that the answer is told again from the log.
pub(crate) async fn keep(call: &Call, claimed: &Claimed, reply: &Reply) {
    // What is told in a 202 is what its command has become by then.
    if !reply.status.is_success() || reply.status == StatusCode::ACCEPTED {
        return;
    }
    let slot = Slot {
        token: claimed.token,
        key: &claimed.key,
    };
    let headers: serde_json::Map<String, Value> = reply
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.to_string(), json!(value.to_str().ok()?))))
        .collect();
    let status = reply.status.as_u16().cast_signed();
    let kept = idempotency::keep(
        &call.app.pool,
        &slot,
        status,
        headers.into(),
        kept_body(reply),
    );
    if let Err(error) = kept.await {
        tracing::warn!(%error, "an answer could not be kept for its idempotency key");
    }
}

/// Forgets what is older than a day; called now and then by a task.
pub(crate) async fn sweep(pool: &sqlx::PgPool, now: Timestamp) -> Result<(), sqlx::Error> {
    idempotency::sweep(pool, oldest(now)).await
}

fn oldest(now: Timestamp) -> Timestamp {
    Timestamp(now.0.saturating_sub(KEPT.as_micros() as i64))
}

fn key_of(call: &Call) -> Result<Option<String>, ApiError> {
    if call.method != Method::POST {
        return Ok(None);
    }
    let Some(value) = call.headers.get(KEY) else {
        return Ok(None);
    };
    let bytes = value.as_bytes();
    let visible = bytes.iter().all(u8::is_ascii_graphic);
    if !visible || !(1..=KEY_MAX).contains(&bytes.len()) {
        let message = format!("expected 1 to {KEY_MAX} visible ASCII characters");
        return Err(ApiError::invalid(KEY, message));
    }
    Ok(Some(String::from_utf8_lossy(bytes).into_owned()))
}

/// Lengths go first, so that no two requests give the same bytes.
fn request_digest(call: &Call) -> Sha256Digest {
    let head = format!("{} {} {}\n", call.method, call.path.len(), call.path);
    Sha256Digest::of(&[head.as_bytes(), &call.body].concat())
}

/// The body as it is kept: its secret gone. A user's name and address are kept in no plain text: such an answer is told
/// again from the log.
fn kept_body(reply: &Reply) -> Option<String> {
    let mut body = reply.body.clone();
    let members = body.as_object_mut()?;
    if members.contains_key("email") {
        return None;
    }
    if let Some(secret) = members.get_mut("secret") {
        *secret = Value::Null;
    }
    Some(body.to_string())
}

fn stored(status: Option<i16>, headers: Option<Value>, body: Option<String>) -> Option<Reply> {
    let status = StatusCode::from_u16(status?.cast_unsigned()).ok()?;
    let body = serde_json::from_str(&body?).ok()?;
    let mut reply = Reply::new(status, body);
    for (name, value) in headers?.as_object()? {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        reply = reply.header(name, value.as_str()?);
    }
    Some(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_without_secret_or_person() {
        let body = json!({ "id": "key_1", "secret": "sk_x" });
        let reply = Reply::new(StatusCode::CREATED, body).etag(1);
        let kept = kept_body(&reply).unwrap();
        let again = stored(Some(201), Some(json!({ "etag": "\"1\"" })), Some(kept)).unwrap();
        assert_eq!(again.status, StatusCode::CREATED);
        assert_eq!(again.body, json!({ "id": "key_1", "secret": null }));
        assert_eq!(again.headers, reply.headers);
        let person = Reply::new(StatusCode::CREATED, json!({ "email": "a@example.com" }));
        assert_eq!(kept_body(&person), None);
        assert!(stored(Some(201), Some(json!({})), None).is_none());
    }
}
