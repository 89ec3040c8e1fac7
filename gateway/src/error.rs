//! `GatewayError`: every way in which the gateway itself refuses or fails a call, and the only renderer of such an
//! answer. Steps return it, `http::router` renders it. Modules below have their own small `thiserror` enums; they
//! become a `GatewayError` at the step that knows what the caller may be told. docs/ERRORS.md is held against [`Code`].

use std::{borrow::Cow, error::Error, fmt};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use odock_events::{
    clock::Timestamp,
    ids::{BudgetId, QuotaId},
};
use serde::Serialize;

use crate::{
    http::body::AnswerBody,
    limits::denial::{self, LimitDenial},
};

/// Whose fault it is: decides the log level and the metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Client,
    Upstream,
    Internal,
}

macro_rules! codes {
    ($($variant:ident, $name:literal, $status:literal, $origin:ident, $meaning:literal;)*) => {
        /// The closed set of codes: field `code` of an answer, metric label and log field.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $($variant),* }

        impl Code {
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name on the wire.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            #[must_use]
            pub const fn status_number(self) -> u16 {
                match self { $(Self::$variant => $status),* }
            }

            #[must_use]
            pub const fn origin(self) -> Origin {
                match self { $(Self::$variant => Origin::$origin),* }
            }

            /// What docs/ERRORS.md says about it, and the public message where a step has nothing better to say.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning),* }
            }
        }
    };
}

codes! {
    InvalidRequestBody, "invalid_request_body", 400, Client, "the body is not a JSON object that this endpoint can read";
    InvalidRequest, "invalid_request", 400, Client, "the request breaks a rule of HTTP or of this endpoint";
    ModelNotFound, "model_not_found", 400, Client, "the organisation has no model of this name";
    ProviderNotConfigured, "provider_not_configured", 400, Client, "the model's provider does not exist";
    ProviderApiKeyNotConfigured, "provider_api_key_not_configured", 400, Client, "the model's provider key does not exist or cannot be opened";
    ProviderTypeUnsupported, "provider_type_unsupported", 400, Client, "this endpoint cannot reach a provider of this type";
    ProviderNotAllowed, "provider_not_allowed", 400, Client, "the provider's address is not allowed";
    CostUnbounded, "cost_unbounded", 400, Client, "a hard budget applies and the call has no price or no upper bound: set what the message names, such as `pricing` or a bound in `config` on the model, or `max_tokens` on the call";
    Unauthorized, "unauthorized", 401, Client, "no valid API key was given";
    ApiKeyExpired, "api_key_expired", 401, Client, "the API key has expired";
    ApiKeyRevoked, "api_key_revoked", 401, Client, "the API key has been revoked";
    BudgetExceeded, "budget_exceeded", 402, Client, "a budget has too little left for this call";
    ModelNotAllowed, "model_not_allowed", 403, Client, "the API key has no grant for this model";
    ProviderDisabled, "provider_disabled", 403, Client, "the model's provider is disabled";
    ProviderApiKeyRevoked, "provider_api_key_revoked", 403, Client, "the model's provider key has been revoked";
    NotFound, "not_found", 404, Client, "there is nothing at this path";
    MethodNotAllowed, "method_not_allowed", 405, Client, "this path does not answer this method";
    RequestTimeout, "request_timeout", 408, Client, "the request did not arrive in time";
    RequestTooLarge, "request_too_large", 413, Client, "the body is larger than this endpoint takes";
    UnsupportedMediaType, "unsupported_media_type", 415, Client, "the body must be uncompressed application/json";
    RateLimitExceeded, "rate_limit_exceeded", 429, Client, "a policy takes no calls from this address, or cannot be read";
    PayloadTooLarge, "payload_too_large", 429, Client, "the body is larger than a policy allows";
    PayloadSizeUnknown, "payload_size_unknown", 429, Client, "a policy limits the body's length and the request does not say it: send `Content-Length`";
    MaxTokensExceeded, "max_tokens_exceeded", 429, Client, "more output tokens are asked for than a policy allows";
    ConcurrencyExceeded, "concurrency_exceeded", 429, Client, "as many calls as a policy allows are under way";
    BurstExceeded, "burst_exceeded", 429, Client, "too many calls came at once";
    RpsExceeded, "rps_exceeded", 429, Client, "the calls of this second are used up";
    RpmExceeded, "rpm_exceeded", 429, Client, "the calls of this minute are used up";
    TpmExceeded, "tpm_exceeded", 429, Client, "the tokens of this minute are used up";
    QuotaExceeded, "quota_exceeded", 429, Client, "a quota has too little left for this call";
    TooManyEndUsers, "too_many_end_users", 429, Client, "a budget or quota that counts each tag value or end user by itself counts too many already";
    HeadersTooLarge, "headers_too_large", 431, Client, "the header section is larger than 16 KiB or 100 fields";
    InternalError, "internal_error", 500, Internal, "the gateway failed";
    UpstreamError, "upstream_error", 502, Upstream, "the provider failed or gave an answer that cannot be used";
    UpstreamUnreachable, "upstream_unreachable", 502, Upstream, "the provider could not be reached";
    UpstreamTimeout, "upstream_timeout", 504, Upstream, "the provider did not answer in time";
    BudgetUnavailable, "budget_unavailable", 503, Internal, "there was no answer on whether the budget allows this call";
    ConfigStale, "config_stale", 503, Internal, "the gateway's configuration is too old to decide this call";
    JournalUnavailable, "journal_unavailable", 503, Internal, "the gateway cannot record usage, so it does not call";
    Overloaded, "overloaded", 503, Internal, "the gateway has too much to do";
    ShuttingDown, "shutting_down", 503, Internal, "the gateway is stopping";
    ModelAccessUnavailable, "model_access_unavailable", 503, Internal, "the grants of this key cannot be read now";
    ModelLookupUnavailable, "model_lookup_unavailable", 503, Internal, "the model cannot be looked up now";
}

impl Code {
    #[must_use]
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.status_number()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// OpenAI's `type`.
    #[must_use]
    pub fn openai_type(self) -> &'static str {
        match self.status_number() {
            401 => "authentication_error",
            402 => "insufficient_quota",
            403 => "permission_error",
            429 => "rate_limit_error",
            status if status < 500 => "invalid_request_error",
            _ => "server_error",
        }
    }
}

/// What a denial by a budget or quota tells beside its code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleDenial {
    pub scope: DenialScope,
    #[serde(flatten)]
    pub figures: Figures,
    /// `None`: the window never ends.
    pub resets_at: Option<Timestamp>,
    /// Gateways that did not say what they could give back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub silent_gateways: Vec<String>,
}

/// Where a budget or quota stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Figures {
    Budget {
        budget_id: BudgetId,
        limit_nanos: i64,
        held_nanos: i64,
        settled_nanos: i64,
    },
    /// In the unit of the metric.
    Quota {
        quota_id: QuotaId,
        metric: &'static str,
        limit: i64,
        held: i64,
        settled: i64,
    },
}

/// Who owns the budget or quota, or has the limit that refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DenialScope {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub id: String,
}

/// The shape in which the caller expects an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    #[default]
    OpenAi,
}

/// A refusal or a failure: what the caller is told, and apart from it what went wrong inside.
#[derive(Debug)]
pub struct GatewayError {
    code: Code,
    message: Cow<'static, str>,
    denial: Option<Box<RuleDenial>>,
    limit: Option<Box<LimitDenial>>,
    retry_after_seconds: Option<u32>,
    allow: Option<&'static str>,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl GatewayError {
    #[must_use]
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        let message = message.into();
        Self {
            code,
            message,
            denial: None,
            limit: None,
            retry_after_seconds: None,
            allow: None,
            cause: None,
        }
    }

    /// A refusal by a budget or quota, with what it stands at.
    #[must_use]
    pub fn denied(code: Code, message: impl Into<Cow<'static, str>>, denial: RuleDenial) -> Self {
        Self {
            denial: Some(Box::new(denial)),
            ..Self::new(code, message)
        }
    }

    /// A refusal by a limit of a policy.
    #[must_use]
    pub(crate) fn limited(
        code: Code,
        message: impl Into<Cow<'static, str>>,
        denial: LimitDenial,
    ) -> Self {
        Self {
            retry_after_seconds: denial.retry_after,
            limit: Some(Box::new(denial)),
            ..Self::new(code, message)
        }
    }

    /// 405 with the methods that the path does answer.
    #[must_use]
    pub fn method_not_allowed(allow: &'static str) -> Self {
        Self {
            allow: Some(allow),
            ..Self::from(Code::MethodNotAllowed)
        }
    }

    /// What went wrong inside; logged, never shown.
    #[must_use]
    pub fn with_cause(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    #[must_use]
    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The body in the caller's dialect; also the last frame of a stream that broke.
    #[must_use]
    pub fn body(&self, dialect: Dialect) -> Bytes {
        match dialect {
            Dialect::OpenAi => self.openai_body(),
        }
    }

    /// The whole answer in the caller's dialect.
    #[must_use]
    pub fn to_response(&self, dialect: Dialect) -> Response<AnswerBody> {
        let mut response = Response::new(AnswerBody::whole(self.body(dialect)));
        *response.status_mut() = self.code.status();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if let Some(quota) = self.limit.as_ref().and_then(|limit| limit.quota) {
            denial::write_quota(&quota, headers);
        }
        let never = self
            .limit
            .as_ref()
            .is_some_and(|limit| limit.retry_after.is_none());
        if self.denial.is_some() || never {
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        response
    }

    /// One line at the boundary; the caller's own mistakes are no news.
    pub fn log(&self, request_id: &str) {
        let cause = self.cause.as_deref().map(tracing::field::display);
        let code = self.code.name();
        match self.code.origin() {
            Origin::Client => tracing::debug!(code, request_id, cause, "call refused"),
            Origin::Upstream => tracing::warn!(code, request_id, cause, "call failed upstream"),
            Origin::Internal => tracing::error!(code, request_id, cause, "call failed"),
        }
    }

    fn openai_body(&self) -> Bytes {
        let error = OpenAiError {
            message: &self.message,
            kind: self.code.openai_type(),
            param: None,
            code: self.code.name(),
            denial: self.denial.as_deref(),
            limit: self.limit.as_deref(),
        };
        // Only strings and integers: this cannot fail, and if it did, the status still tells.
        serde_json::to_vec(&OpenAiEnvelope { error })
            .map(Bytes::from)
            .unwrap_or_default()
    }
}

impl From<Code> for GatewayError {
    fn from(code: Code) -> Self {
        Self::new(code, code.meaning())
    }
}

impl fmt::Display for GatewayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.name(), self.message)
    }
}

impl Error for GatewayError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause
            .as_deref()
            .map(|cause| cause as &(dyn Error + 'static))
    }
}

#[derive(Serialize)]
struct OpenAiEnvelope<'a> {
    error: OpenAiError<'a>,
}

#[derive(Serialize)]
struct OpenAiError<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<&'static str>,
    code: &'static str,
    #[serde(flatten)]
    denial: Option<&'a RuleDenial>,
    #[serde(flatten)]
    limit: Option<&'a LimitDenial>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documented(code: Code) -> String {
        format!(
            "| {} | `{}` | {} |",
            code.status_number(),
            code.name(),
            code.meaning()
        )
    }

    #[test]
    fn the_document_lists_every_code_and_no_other() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/ERRORS.md");
        let text = std::fs::read_to_string(path).unwrap();
        let gateway = text.split("<!-- gateway:begin -->").nth(1).unwrap();
        let gateway = gateway.split("<!-- gateway:end -->").next().unwrap();
        let rows: Vec<&str> = gateway.lines().filter(|line| line.contains('`')).collect();
        let rows: Vec<&str> = rows
            .into_iter()
            .filter(|l| l.as_bytes().get(2).is_some_and(u8::is_ascii_digit))
            .collect();
        let expected: Vec<String> = Code::ALL.iter().copied().map(documented).collect();
        assert_eq!(rows, expected, "docs/ERRORS.md, between the gateway marks");
    }

    #[test]
    fn every_code_renders_for_openai_and_hides_its_cause() {
        for code in Code::ALL.iter().copied() {
            let error = GatewayError::from(code).with_cause("secret inside");
            let body: serde_json::Value =
                serde_json::from_slice(&error.body(Dialect::OpenAi)).unwrap();
            assert_eq!(body["error"]["code"], code.name());
            assert_eq!(body["error"]["param"], serde_json::Value::Null);
            assert!(!body["error"]["type"].as_str().unwrap().is_empty());
            assert!(!body.to_string().contains("secret inside"));
            assert_eq!(error.to_response(Dialect::OpenAi).status(), code.status());
        }
    }

    #[test]
    fn a_budget_denial_says_where_the_budget_stands() {
        let budget_id = BudgetId::generate();
        let denial = RuleDenial {
            scope: DenialScope {
                kind: "key",
                id: "key_1".to_owned(),
            },
            figures: Figures::Budget {
                budget_id,
                limit_nanos: 10,
                held_nanos: 3,
                settled_nanos: 7,
            },
            resets_at: None,
            silent_gateways: Vec::new(),
        };
        let error = GatewayError::denied(Code::BudgetExceeded, "no", denial);
        let body: serde_json::Value = serde_json::from_slice(&error.body(Dialect::OpenAi)).unwrap();
        assert_eq!(body["error"]["scope"]["type"], "key");
        assert_eq!(body["error"]["budget_id"], budget_id.to_string());
        assert_eq!(body["error"]["limit_nanos"], 10);
        assert_eq!(body["error"]["resets_at"], serde_json::Value::Null);
        let response = error.to_response(Dialect::OpenAi);
        assert_eq!(response.status(), 402);
        assert_eq!(response.headers()["x-should-retry"], "false");
    }
}
