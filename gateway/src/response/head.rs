//! The headers of an answer: the upstream's that may cross, and ours.

use std::fmt::Display;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::{pipeline::start::StartedCall, provider::headers};

/// Makes the upstream's headers the caller's. The request id is the router's to set.
pub(crate) fn complete(headers: &mut HeaderMap, started: &StartedCall) {
    headers::strip_from_upstream(headers);
    headers.reserve(OURS);
    if let Ok(model) = HeaderValue::from_bytes(started.model.body.name.as_bytes()) {
        headers.insert(MODEL, model);
    }
    let provider = started.target.provider.body.kind.name();
    headers.insert(PROVIDER, HeaderValue::from_static(provider));
    headers.insert(ATTEMPTS, HeaderValue::from_static("1"));
    insert(headers, USAGE_ID, started.usage_id);
    if let Some(limits) = started.open.limits() {
        limits.write_headers(headers);
    }
}

pub(crate) fn insert_cost(headers: &mut HeaderMap, nanos: i64) {
    headers.insert(COST, HeaderValue::from(nanos));
}

/// Seconds, if the upstream says so in seconds.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<u32> {
    headers
        .get(header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: impl Display) {
    if let Ok(value) = HeaderValue::from_str(&value.to_string()) {
        headers.insert(name, value);
    }
}

const OURS: usize = 6;
const MODEL: HeaderName = HeaderName::from_static("x-odock-model");
const PROVIDER: HeaderName = HeaderName::from_static("x-odock-provider");
const ATTEMPTS: HeaderName = HeaderName::from_static("x-odock-attempts");
const USAGE_ID: HeaderName = HeaderName::from_static("x-odock-usage-id");
const COST: HeaderName = HeaderName::from_static("x-odock-cost-nanos");
