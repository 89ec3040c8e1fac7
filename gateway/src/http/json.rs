//! Small JSON answers of the endpoints that are not a provider's.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use super::body::AnswerBody;

pub(crate) fn ok(body: &impl Serialize) -> Response<AnswerBody> {
    with_status(StatusCode::OK, body)
}

pub(crate) fn with_status(status: StatusCode, body: &impl Serialize) -> Response<AnswerBody> {
    // Strings, numbers and lists of ours: this cannot fail.
    let bytes = serde_json::to_vec(body).unwrap_or_default();
    let mut response = Response::new(AnswerBody::whole(Bytes::from(bytes)));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
