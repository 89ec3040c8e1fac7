//! What a caller is told about limits: the members of a denial, and the fields `RateLimit` and `RateLimit-Policy`.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;

use super::{
    book::{Denial, Quota},
    scope::{LimitKind, ScopeId},
};
use crate::error::{Code, DenialScope, GatewayError};

/// What a denial by a limit tells beside its code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct LimitDenial {
    pub(crate) scope: DenialScope,
    /// The limit's name.
    pub(crate) limit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) limit_value: Option<u64>,
    /// Seconds. `None`: the same call is never taken.
    pub(crate) retry_after: Option<u32>,
    #[serde(skip)]
    pub(crate) quota: Option<Quota>,
}

/// A counter had too little left.
pub(super) fn exceeded(denial: &Denial) -> GatewayError {
    let need = &denial.need;
    let (scope, limit) = (need.counter.scope, need.counter.limit);
    let retry_after = denial.retry_after_micros.map(seconds);
    let advice = match retry_after {
        Some(1) => "try again in 1 second".to_owned(),
        Some(seconds) => format!("try again in {seconds} seconds"),
        None => "a call of this size is never taken".to_owned(),
    };
    let message = format!(
        "the limit `{}` of this {} is reached ({}): {advice}",
        limit.name(),
        scope.kind.name(),
        need.limit,
    );
    GatewayError::limited(
        limit.code(),
        message,
        LimitDenial {
            scope: scope.shown(),
            limit: limit.name(),
            limit_value: Some(need.limit),
            retry_after,
            quota: Some(denial.quota),
        },
    )
}

/// A property of the call itself is not allowed: the same call never is.
pub(super) fn never(
    scope: &ScopeId,
    limit: LimitKind,
    code: Code,
    value: Option<u64>,
) -> GatewayError {
    let message = match (code, value) {
        (Code::PayloadSizeUnknown, Some(value)) => format!(
            "this {} takes at most {value} bytes, and the request does not say its length",
            scope.kind.name()
        ),
        (_, Some(value)) => format!(
            "the limit `{}` of this {} is {value}",
            limit.name(),
            scope.kind.name()
        ),
        (_, None) if limit == LimitKind::Ip => {
            format!(
                "this {} takes no calls from this address",
                scope.kind.name()
            )
        }
        (_, None) => format!("the policy of this {} cannot be read", scope.kind.name()),
    };
    GatewayError::limited(
        code,
        message,
        LimitDenial {
            scope: scope.shown(),
            limit: limit.name(),
            limit_value: value,
            retry_after: None,
            quota: None,
        },
    )
}

/// The fields of draft-ietf-httpapi-ratelimit-headers.
pub(crate) fn write_quota(quota: &Quota, headers: &mut HeaderMap) {
    let (scope, limit) = (quota.counter.scope.kind.name(), quota.counter.limit);
    let policy = match limit.window_seconds() {
        Some(window) => format!("\"{scope}:{}\";q={};w={window}", limit.name(), quota.limit),
        None => format!("\"{scope}:{}\";q={}", limit.name(), quota.limit),
    };
    let state = format!(
        "\"{scope}:{}\";r={};t={}",
        limit.name(),
        quota.remaining,
        seconds(quota.resets_after_micros)
    );
    for (name, text) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, state)] {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(name, value);
        }
    }
}

/// Rounded up, never 0: who comes back at once would be refused again.
fn seconds(micros: i64) -> u32 {
    let micros = u64::try_from(micros).unwrap_or(0);
    u32::try_from(micros.div_ceil(1_000_000).max(1)).unwrap_or(u32::MAX)
}

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
