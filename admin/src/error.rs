//! Every refusal and failure of the management API: one code each, shown as `application/problem+json`. Domain rules,
//! queries and routes all return [`ApiError`]; it is logged once, where it becomes an answer.

use std::fmt::Display;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

macro_rules! codes {
    ($($variant:ident $wire:literal $status:ident $title:literal;)*) => {
        /// What went wrong, as clients tell it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Code { $($variant),* }

        impl Code {
            #[cfg(test)]
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant),*];

            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$variant => $wire),* }
            }

            pub(crate) fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status),* }
            }

            pub(crate) fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),* }
            }
        }
    };
}

codes! {
    InvalidBody "invalid_body" BAD_REQUEST "The body is not a JSON object that can be read";
    InvalidCursor "invalid_cursor" BAD_REQUEST "The cursor does not belong to this list";
    Unauthorized "unauthorized" UNAUTHORIZED "No valid admin token was given";
    Forbidden "forbidden" FORBIDDEN "The token does not allow this";
    NotFound "not_found" NOT_FOUND "There is no such thing here";
    MethodNotAllowed "method_not_allowed" METHOD_NOT_ALLOWED "This path does not answer this method";
    RequestTimeout "request_timeout" REQUEST_TIMEOUT "The request did not arrive in time";
    Conflict "conflict" CONFLICT "Another one like it exists, or it changed meanwhile";
    NameTaken "name_taken" CONFLICT "Another one has this name";
    InUse "in_use" CONFLICT "Something still refers to it";
    KeyRevoked "key_revoked" CONFLICT "The key is revoked";
    VersionMismatch "version_mismatch" PRECONDITION_FAILED "It has another version by now";
    BodyTooLarge "body_too_large" PAYLOAD_TOO_LARGE "The body is larger than 1 MiB";
    ValidationFailed "validation_failed" UNPROCESSABLE_ENTITY "A field has a value that is not allowed";
    UnknownField "unknown_field" UNPROCESSABLE_ENTITY "There is no such field";
    IdempotencyKeyReused "idempotency_key_reused" UNPROCESSABLE_ENTITY "The idempotency key was used for another request";
    IfMatchRequired "if_match_required" PRECONDITION_REQUIRED "The header If-Match is required";
    InternalError "internal_error" INTERNAL_SERVER_ERROR "The admin failed";
    LogUnavailable "log_unavailable" SERVICE_UNAVAILABLE "The log does not take changes now; nothing was changed";
}

/// One wrong member: a JSON pointer into the body, or the name of a header or query parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct FieldError {
    #[schema(example = "/owner/id")]
    pub(crate) field: String,
    pub(crate) message: String,
}

/// A refusal with what the caller may know, and a cause that only the log gets.
#[derive(Debug, thiserror::Error)]
#[error("{}: {detail}", code.name())]
pub(crate) struct ApiError {
    pub(crate) code: Code,
    pub(crate) detail: String,
    pub(crate) fields: Vec<FieldError>,
    pub(crate) cause: Option<String>,
}

impl ApiError {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            fields: Vec::new(),
            cause: None,
        }
    }

    pub(crate) fn field(code: Code, field: impl Into<String>, message: impl Into<String>) -> Self {
        let (field, message) = (field.into(), message.into());
        let mut error = Self::new(code, format!("{field}: {message}"));
        error.fields.push(FieldError { field, message });
        error
    }

    /// One member with a value that is not allowed.
    pub(crate) fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::field(Code::ValidationFailed, field, message)
    }

    /// The same answer whether it never was, is gone, or is another tenant's.
    pub(crate) fn not_found(noun: &str) -> Self {
        Self::new(Code::NotFound, format!("there is no such {noun}"))
    }

    pub(crate) fn log_unavailable(cause: impl Display) -> Self {
        let mut error = Self::new(Code::LogUnavailable, "nothing was changed; try again");
        error.cause = Some(cause.to_string());
        error
    }

    pub(crate) fn internal(cause: impl Display) -> Self {
        let mut error = Self::new(Code::InternalError, "the admin failed; its log says why");
        error.cause = Some(cause.to_string());
        error
    }

    /// The answer; failures of ours are logged here and nowhere else.
    pub(crate) fn into_reply(self, request_id: &str) -> Response {
        let status = self.code.status();
        if status.is_server_error() {
            let cause = self.cause.as_deref().unwrap_or("unknown");
            tracing::warn!(
                code = self.code.name(),
                request_id,
                cause,
                "a request failed"
            );
        }
        let problem = Problem {
            kind: format!("urn:odock:problem:{}", self.code.name()),
            title: self.code.title().to_owned(),
            status: status.as_u16(),
            code: self.code.name().to_owned(),
            detail: self.detail,
            request_id: request_id.to_owned(),
            errors: self.fields,
        };
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if self.code == Code::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.code == Code::LogUnavailable {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<sqlx::Error> for ApiError {
    /// Postgres that cannot be reached is the log being away; anything else is our failure.
    fn from(error: sqlx::Error) -> Self {
        if is_away(&error) {
            Self::log_unavailable(error)
        } else {
            Self::internal(error)
        }
    }
}

/// Whether Postgres is away rather than displeased: no connection, no answer, shutting down, no place.
fn is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(database) => database.code().is_some_and(|code| {
            ["57", "53", "08"]
                .iter()
                .any(|class| code.starts_with(class))
        }),
        _ => false,
    }
}

/// RFC 9457.
#[derive(Serialize, ToSchema)]
pub(crate) struct Problem {
    #[serde(rename = "type")]
    kind: String,
    title: String,
    status: u16,
    #[schema(example = "validation_failed")]
    code: String,
    detail: String,
    request_id: String,
    errors: Vec<FieldError>,
}

/// Collects what is wrong with a body, so that one answer names all of it.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<FieldError>);

impl Faults {
    pub(crate) fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(FieldError {
            field: field.into(),
            message: message.into(),
        });
    }

    /// Takes the fields of a refusal over; one without fields is handed back.
    pub(crate) fn take<T>(&mut self, result: Result<T, ApiError>) -> Result<Option<T>, ApiError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.code == Code::ValidationFailed && !error.fields.is_empty() => {
                self.0.extend(error.fields);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) fn finish(self) -> Result<(), ApiError> {
        let Some(first) = self.0.first() else {
            return Ok(());
        };
        let mut error = ApiError::new(
            Code::ValidationFailed,
            format!("{}: {}", first.field, first.message),
        );
        error.fields = self.0;
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_snake_case_and_unique() {
        for (index, code) in Code::ALL.iter().enumerate() {
            assert!(
                code.name()
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b == b'_')
            );
            assert!(
                Code::ALL
                    .iter()
                    .skip(index + 1)
                    .all(|other| other.name() != code.name())
            );
            assert!(code.status().is_client_error() || code.status().is_server_error());
        }
    }

    #[test]
    fn the_table_of_errors_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/ERRORS.md");
        let text = std::fs::read_to_string(path).unwrap();
        let (_, rest) = text.split_once("<!-- admin:begin -->\n").unwrap();
        let (table, _) = rest.split_once("<!-- admin:end -->").unwrap();
        let mut expected = String::from("| status | code | when |\n|---|---|---|\n");
        for code in Code::ALL {
            let status = code.status().as_u16();
            let row = format!("| {status} | `{}` | {} |\n", code.name(), code.title());
            expected.push_str(&row);
        }
        assert_eq!(table, expected, "docs/ERRORS.md, between the admin marks");
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let mut faults = Faults::default();
        faults.add("/name", "is required");
        faults.add("/amount_nanos", "must not be negative");
        let error = faults.finish().unwrap_err();
        assert_eq!(error.fields.len(), 2);
        assert_eq!(error.code, Code::ValidationFailed);
        assert!(Faults::default().finish().is_ok());
    }
}
