//! The answer of a route before it becomes HTTP.

use axum::response::{IntoResponse as _, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::Value;

use crate::error::ApiError;

pub(crate) const POSITION: HeaderName = HeaderName::from_static("x-odock-position");
pub(crate) const CONFIG_VERSION: HeaderName = HeaderName::from_static("x-odock-config-version");
pub(crate) const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Value,
}

impl Reply {
    pub(crate) fn new(status: StatusCode, body: Value) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body,
        }
    }

    pub(crate) fn ok(body: &impl Serialize) -> Result<Self, ApiError> {
        let body = serde_json::to_value(body).map_err(ApiError::internal)?;
        Ok(Self::new(StatusCode::OK, body))
    }

    /// Adds a header; a value that no header can hold is left out.
    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    pub(crate) fn etag(self, version: u64) -> Self {
        self.header(header::ETAG, &format!("\"{version}\""))
    }

    pub(crate) fn into_response(self) -> Response {
        let body = self.body.to_string();
        let json = (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        let mut response = (self.status, [json], body).into_response();
        response.headers_mut().extend(self.headers);
        response
    }
}
