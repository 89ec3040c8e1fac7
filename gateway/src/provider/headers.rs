//! Which headers cross the gateway. Towards the upstream a short list; towards the client everything but what belongs
//! to the connection, to the gateway, or to the provider's account.

use http::{HeaderMap, HeaderName, header};

/// The client's headers that an upstream may see.
pub(crate) fn copy_to_upstream(from: &HeaderMap, to: &mut HeaderMap) {
    for (name, value) in from {
        if is_for_upstream(name) {
            to.append(name.clone(), value.clone());
        }
    }
}

fn is_for_upstream(name: &HeaderName) -> bool {
    *name == header::ACCEPT
        || *name == header::CONTENT_TYPE
        || *name == header::USER_AGENT
        || name.as_str().starts_with("openai-")
}

/// Takes out of an upstream's answer what ends at the gateway: hop-by-hop headers, those that `Connection` names, the
/// length (it is ours to say), cookies, and names that only the gateway may use.
pub(crate) fn strip_from_upstream(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in &named {
        headers.remove(name);
    }
    for name in &ENDS_HERE {
        headers.remove(name);
    }
    let ours: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-odock-"))
        .cloned()
        .collect();
    for name in &ours {
        headers.remove(name);
    }
}

const ENDS_HERE: [HeaderName; 13] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::CONTENT_LENGTH,
    header::SET_COOKIE,
    HeaderName::from_static("x-request-id"),
    header::ALT_SVC,
    header::STRICT_TRANSPORT_SECURITY,
];

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn an_upstream_sees_only_the_listed_headers() {
        let mut to = HeaderMap::new();
        let from = map(&[
            ("authorization", "Bearer sk_x"),
            ("x-api-key", "sk_x"),
            ("cookie", "a=b"),
            ("x-forwarded-for", "192.0.2.1"),
            ("x-internal-user", "root"),
            ("accept-encoding", "gzip"),
            ("openai-organization", "org"),
            ("openai-beta", "x=1"),
            ("accept", "text/event-stream"),
            ("content-type", "application/json"),
            ("user-agent", "sdk"),
        ]);
        copy_to_upstream(&from, &mut to);
        let mut names: Vec<&str> = to.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "accept",
                "content-type",
                "openai-beta",
                "openai-organization",
                "user-agent"
            ]
        );
    }

    #[test]
    fn what_belongs_to_the_hop_or_to_us_does_not_come_back() {
        let mut headers = map(&[
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
            ("set-cookie", "a=b"),
            ("x-odock-cost-nanos", "0"),
            ("x-request-id", "theirs"),
            ("retry-after", "3"),
            ("openai-processing-ms", "12"),
        ]);
        strip_from_upstream(&mut headers);
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["openai-processing-ms", "retry-after"]);
    }
}
