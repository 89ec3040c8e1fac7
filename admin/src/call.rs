//! One request on its way to its handler: authenticated, authorized, its body read. [`serve`] is the adapter between axum
//! and every handler; handlers get a [`Call`] and give a [`Reply`].

use std::{collections::HashMap, str::FromStr, time::Duration};

use axum::{
    body::Body,
    extract::{FromRequestParts as _, RawPathParams},
    response::Response,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use odock_events::{clock::Timestamp, ids::OrganisationId};
use serde::de::DeserializeOwned;

use crate::{
    app::App,
    auth::{self, Access, Principal},
    body::{self, BODY_MAX},
    error::{ApiError, Code},
    reply::Reply,
    router::Handler,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
const READ_TIMEOUT: Duration = Duration::from_secs(15);

/// A request that its caller may make.
pub(crate) struct Call {
    pub(crate) app: App,
    pub(crate) principal: Principal,
    pub(crate) request_id: String,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) body: Bytes,
    pub(crate) now: Timestamp,
    path_ids: HashMap<String, String>,
}

/// From axum's request to its answer.
pub(crate) async fn serve(
    app: App,
    access: Access,
    handler: Handler,
    request: Request<Body>,
) -> Response {
    let request_id = request_id(request.headers());
    let answer = match admit(app, access, request, request_id.clone()).await {
        Ok(call) => answer(call, handler).await,
        Err(error) => Err(error),
    };
    let mut response = match answer {
        Ok(reply) => reply.into_response(),
        Err(error) => error.into_reply(&request_id),
    };
    finish(response.headers_mut(), &request_id);
    response
}

/// Reads are bounded here. What changes something has bounds of its own, as its answer must not depend on a clock that
/// knows nothing of the log.
async fn answer(call: Call, handler: Handler) -> Result<Reply, ApiError> {
    if call.method != Method::GET {
        return handler(call).await;
    }
    let answer = tokio::time::timeout(READ_TIMEOUT, handler(call)).await;
    answer.unwrap_or_else(|elapsed| Err(ApiError::log_unavailable(elapsed)))
}

/// Headers that every answer has.
pub(crate) fn finish(headers: &mut HeaderMap, request_id: &str) {
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, value);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
}

/// The client's own label if it is one, else a new one.
pub(crate) fn request_id(headers: &HeaderMap) -> String {
    let given = headers
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok());
    let usable = |text: &&str| {
        (1..=128).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    given
        .filter(usable)
        .map_or_else(|| uuid::Uuid::now_v7().simple().to_string(), str::to_owned)
}

/// Who, whether, then what: nothing of a body is read before the token is known.
async fn admit(
    app: App,
    access: Access,
    request: Request<Body>,
    request_id: String,
) -> Result<Call, ApiError> {
    let (mut parts, body) = request.into_parts();
    let principal = match access {
        Access::Public => Principal::Anonymous,
        Access::Needs(_) => app.credentials.authenticate(&parts.headers)?,
    };
    let path_ids = path_ids(&mut parts).await?;
    if let Access::Needs(permission) = access {
        let organisation = match path_ids.get("organisation_id") {
            Some(text) => Some(
                text.parse()
                    .map_err(|_| ApiError::not_found("organisation"))?,
            ),
            None => None,
        };
        auth::authorize(&principal, permission, organisation)?;
    }
    let query = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
        .map_err(|_| ApiError::invalid("?", "the query does not read"))?
        .0;
    let now = app.clock.now();
    Ok(Call {
        app,
        principal,
        request_id,
        method: parts.method,
        path: parts.uri.path().to_owned(),
        headers: parts.headers,
        query,
        body: read_body(body).await?,
        now,
        path_ids,
    })
}

async fn path_ids(parts: &mut Parts) -> Result<HashMap<String, String>, ApiError> {
    let params = RawPathParams::from_request_parts(parts, &())
        .await
        .map_err(|_| ApiError::not_found("thing"))?;
    Ok(params
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect())
}

async fn read_body(body: Body) -> Result<Bytes, ApiError> {
    let read = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_MAX).collect());
    match read.await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ApiError::new(
            Code::BodyTooLarge,
            format!("at most {BODY_MAX} bytes"),
        )),
        Ok(Err(_)) => Err(ApiError::new(Code::InvalidBody, "the body broke off")),
        Err(_) => Err(ApiError::new(
            Code::RequestTimeout,
            "the body did not arrive in time",
        )),
    }
}

impl Call {
    /// The organisation in the path.
    pub(crate) fn organisation(&self) -> Result<OrganisationId, ApiError> {
        self.path_id("organisation_id", "organisation")
    }

    /// An id in the path; text that is none names nothing.
    pub(crate) fn path_id<I: FromStr>(&self, name: &str, noun: &str) -> Result<I, ApiError> {
        let text = self.path_ids.get(name);
        text.and_then(|text| text.parse().ok())
            .ok_or_else(|| ApiError::not_found(noun))
    }

    /// The body as `T`.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        body::read(&self.body)
    }

    /// The first value of a query parameter.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// A header as text of at most `longest` bytes.
    pub(crate) fn text_header(
        &self,
        name: &'static str,
        longest: usize,
    ) -> Result<Option<String>, ApiError> {
        let Some(value) = self.headers.get(name) else {
            return Ok(None);
        };
        let text = std::str::from_utf8(value.as_bytes())
            .map_err(|_| ApiError::invalid(name, "is not UTF-8"))?;
        if text.len() > longest {
            return Err(ApiError::invalid(
                name,
                format!("is longer than {longest} bytes"),
            ));
        }
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }

    /// The version in `If-Match`, which only takes what `ETag` gave.
    pub(crate) fn if_match(&self) -> Result<Option<u64>, ApiError> {
        let Some(value) = self.headers.get(header::IF_MATCH) else {
            return Ok(None);
        };
        let version = value.to_str().ok().and_then(|text| {
            let text = text.trim();
            let text = text
                .strip_prefix('"')
                .and_then(|t| t.strip_suffix('"'))
                .unwrap_or(text);
            text.parse().ok()
        });
        // Anything else matches no version.
        version.map(Some).ok_or_else(|| {
            ApiError::new(
                Code::VersionMismatch,
                "If-Match takes the ETag of an answer, one version",
            )
        })
    }

    pub(crate) fn required_if_match(&self) -> Result<u64, ApiError> {
        self.if_match()?.ok_or_else(|| {
            ApiError::new(
                Code::IfMatchRequired,
                "give If-Match with the ETag of the last answer",
            )
        })
    }
}
