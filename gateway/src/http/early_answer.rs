//! Answers to requests that never become one: hyper answers what it cannot parse by itself, with an empty body. Here
//! such an answer gets the same shape as every other error. Used by `guarded_io` and by the accept loop.

use crate::{
    error::{Code, Dialect, GatewayError},
    http::request_id,
};

/// A whole HTTP/1.1 answer after which the connection is closed.
pub(crate) fn render(code: Code) -> Vec<u8> {
    let body = GatewayError::from(code).body(Dialect::OpenAi);
    let status = code.status();
    let reason = status.canonical_reason().unwrap_or_default();
    let label = request_id::fresh(uuid::Uuid::now_v7());
    let mut answer = format!(
        "HTTP/1.1 {} {reason}\r\ncontent-type: application/json\r\n{}: {}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        status.as_u16(),
        request_id::HEADER.as_str(),
        label.to_str().unwrap_or_default(),
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(&body);
    answer
}

/// What to write instead, if hyper is about to write an answer of its own. Ours all carry a request id.
pub(crate) fn instead_of(bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.len() > LONGEST_OF_HYPER || !bytes.starts_with(b"HTTP/1.1 4") {
        return None;
    }
    let text = std::str::from_utf8(bytes).ok()?;
    let own = text.ends_with("\r\n\r\n")
        && text.contains("content-length: 0\r\n")
        && !text.contains(request_id::HEADER.as_str());
    let status = text
        .get("HTTP/1.1 ".len().."HTTP/1.1 400".len())
        .filter(|_| own)?;
    Some(render(match status {
        "408" => Code::RequestTimeout,
        "413" => Code::RequestTooLarge,
        "414" | "431" => Code::HeadersTooLarge,
        _ => Code::InvalidRequest,
    }))
}

const LONGEST_OF_HYPER: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_and_has_the_body_of_its_error() {
        let text = String::from_utf8(render(Code::RequestTimeout)).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 408 Request Timeout\r\n"));
        assert_eq!(
            body.as_bytes(),
            GatewayError::from(Code::RequestTimeout).body(Dialect::OpenAi)
        );
        assert!(head.contains(&format!("content-length: {}", body.len())));
    }

    #[test]
    fn only_the_library_s_own_answers_are_replaced() {
        let own = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\ndate: x\r\n\r\n";
        assert!(
            String::from_utf8(instead_of(own).unwrap())
                .unwrap()
                .contains("headers_too_large")
        );
        let ours = b"HTTP/1.1 400 Bad Request\r\nx-request-id: a\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(instead_of(ours), None);
        assert_eq!(
            instead_of(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
            None
        );
    }
}
