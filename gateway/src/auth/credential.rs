//! Finds the API key of a request in the four places where one may stand, and checks its form before anything is
//! hashed. Whatever is wrong, the caller hears the same.

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue, Uri, header};
use odock_events::secret_key::SecretKey;
use subtle::ConstantTimeEq as _;

use crate::error::{Code, GatewayError};

/// The key that the request carries: the first of the four places that has one, and no other place says otherwise.
pub(crate) fn find(headers: &HeaderMap, uri: &Uri) -> Result<SecretKey, GatewayError> {
    let unauthorized = || GatewayError::from(Code::Unauthorized);
    let mut first: Option<Cow<'_, [u8]>> = None;
    for candidate in from_headers(headers)
        .map(Cow::Borrowed)
        .chain(from_query(uri))
    {
        match &first {
            None => first = Some(candidate),
            Some(first) if bool::from(first.as_ref().ct_eq(candidate.as_ref())) => {}
            Some(_) => return Err(unauthorized()),
        }
    }
    first
        .and_then(|bytes| SecretKey::parse(&bytes))
        .ok_or_else(unauthorized)
}

/// Every value counts, also of a header that is there twice.
fn from_headers(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let authorization = headers.get_all(header::AUTHORIZATION).iter();
    let authorization = authorization.map(|value| without_scheme(value.as_bytes()));
    let named = ["x-api-key", "x-goog-api-key"].into_iter();
    let named = named
        .flat_map(|name| headers.get_all(name))
        .map(HeaderValue::as_bytes);
    authorization.chain(named)
}

/// What stands behind `Bearer`. With another scheme nothing is left, which is no key.
fn without_scheme(value: &[u8]) -> &[u8] {
    match value.split_at_checked("Bearer ".len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(b"Bearer ") => rest.trim_ascii(),
        _ => b"",
    }
}

fn from_query(uri: &Uri) -> impl Iterator<Item = Cow<'_, [u8]>> {
    let pairs = uri.query().unwrap_or_default().split('&');
    pairs
        .filter_map(|pair| pair.strip_prefix("key="))
        .map(percent_decoded)
}

fn percent_decoded(text: &str) -> Cow<'_, [u8]> {
    if !text.contains('%') {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        let escaped = tail.first_chunk::<2>().filter(|_| *byte == b'%');
        let value = escaped
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(value.unwrap_or(*byte));
        rest = if value.is_some() {
            tail.get(2..).unwrap_or_default()
        } else {
            tail
        };
    }
    Cow::Owned(decoded)
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        headers
    }

    fn uri(query: &str) -> Uri {
        format!("http://gateway/v1/models?{query}").parse().unwrap()
    }

    #[test]
    fn each_of_the_four_places_is_read() {
        let key = SecretKey::generate();
        let text = key.expose();
        let escaped = format!("key=%{:02x}{}", text.as_bytes()[0], &text[1..]);
        for (headers, uri) in [
            (
                headers(&[("authorization", &format!("Bearer {text}"))]),
                uri(""),
            ),
            (
                headers(&[("authorization", &format!("bearer  {text}"))]),
                uri(""),
            ),
            (headers(&[("x-api-key", text)]), uri("")),
            (headers(&[("x-goog-api-key", text)]), uri("")),
            (headers(&[]), uri(&format!("a=b&key={text}"))),
            (headers(&[]), uri(&escaped)),
            (
                headers(&[("x-api-key", text), ("x-goog-api-key", text)]),
                uri(""),
            ),
        ] {
            assert_eq!(
                find(&headers, &uri).unwrap().expose(),
                text,
                "{headers:?} {uri}"
            );
        }
    }

    #[test]
    fn absent_malformed_and_contradicting_keys_get_one_answer() {
        let one = SecretKey::generate();
        let other = SecretKey::generate();
        let (one, other) = (one.expose(), other.expose());
        let bearer = format!("Bearer {one}");
        let bad = format!("{}x", &one[..51]);
        let refused = [
            (headers(&[]), uri("")),
            (headers(&[("authorization", one)]), uri("")),
            (
                headers(&[("authorization", &format!("Basic {one}"))]),
                uri(""),
            ),
            (
                headers(&[("authorization", "Bearer "), ("x-api-key", one)]),
                uri(""),
            ),
            (
                headers(&[("authorization", &bearer), ("x-api-key", other)]),
                uri(""),
            ),
            (
                headers(&[("authorization", &bearer), ("x-api-key", "")]),
                uri(""),
            ),
            (
                headers(&[("authorization", &bearer)]),
                uri(&format!("key={other}")),
            ),
            (
                headers(&[("x-api-key", one), ("x-api-key", other)]),
                uri(""),
            ),
            (headers(&[("x-api-key", &bad)]), uri("")),
            (headers(&[("x-api-key", "' OR 1=1 --")]), uri("")),
            (headers(&[]), uri("key=%zz%0")),
        ];
        let mut bodies = refused.map(|(headers, uri)| {
            let error = find(&headers, &uri).unwrap_err();
            assert_eq!(error.code(), Code::Unauthorized);
            error.body(crate::error::Dialect::OpenAi)
        });
        bodies.sort();
        assert_eq!(bodies.first(), bodies.last());
    }

    proptest! {
        #[test]
        fn any_bytes_get_a_401(bytes in proptest::collection::vec(any::<u8>(), 0..200), query in "[!-~]{0,60}") {
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                headers.insert(header::AUTHORIZATION, value);
            }
            let uri: Uri = format!("http://g/?key={query}").parse().unwrap_or_default();
            prop_assert_eq!(find(&headers, &uri).unwrap_err().code(), Code::Unauthorized);
        }
    }
}
