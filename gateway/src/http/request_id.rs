//! The label of a request: the client's own if it is harmless, else ours. Nothing is deduplicated by it.

use http::{HeaderMap, HeaderName, HeaderValue};

const LONGEST: usize = 128;
pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The client's `x-request-id` if it matches `[A-Za-z0-9._-]{1,128}`.
pub(crate) fn of_client(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers
        .get(HEADER)
        .filter(|value| is_harmless(value.as_bytes()))
}

fn is_harmless(bytes: &[u8]) -> bool {
    (1..=LONGEST).contains(&bytes.len())
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// A fresh label of 32 hex digits.
pub(crate) fn fresh(id: uuid::Uuid) -> HeaderValue {
    let mut buffer = uuid::Uuid::encode_buffer();
    let text = id.simple().encode_lower(&mut buffer);
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_labels_are_taken_over() {
        for (label, taken) in [
            ("abc-1.2_Z", true),
            ("", false),
            ("a b", false),
            ("a/b", false),
            (&"x".repeat(128), true),
            (&"x".repeat(129), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, HeaderValue::from_str(label).unwrap());
            assert_eq!(of_client(&headers).is_some(), taken, "{label}");
        }
    }

    #[test]
    fn a_fresh_label_is_32_hex_digits() {
        let label = fresh(uuid::Uuid::now_v7());
        assert_eq!(label.len(), 32);
        assert!(label.as_bytes().iter().all(u8::is_ascii_hexdigit));
    }
}
