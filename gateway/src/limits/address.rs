//! Where a call comes from: the peer of its connection, or, when the operator trusts the proxy that the peer is, the
//! right-most address in the forwarding headers that is not such a proxy.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, header::FORWARDED};
use odock_events::policy::Network;

/// The proxies whose word counts. Empty: nobody's.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(pub Vec<Network>);

impl TrustedProxies {
    /// The caller's address.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.trusts(client) {
            return client;
        }
        for hop in hops(headers) {
            // What comes before a hop that does not read was written by who knows whom.
            let Some(address) = hop else { break };
            client = address;
            if !self.trusts(client) {
                break;
            }
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.has(address))
    }
}

/// From the nearest to the farthest.
fn hops(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let (name, read): (_, fn(&str) -> Option<IpAddr>) = if headers.contains_key(&X_FORWARDED_FOR) {
        (X_FORWARDED_FOR, address)
    } else {
        (FORWARDED, forwarded)
    };
    let mut hops = Vec::new();
    for value in headers.get_all(name) {
        match value.to_str() {
            Ok(text) => hops.extend(text.split(',').map(|element| read(element.trim()))),
            Err(_) => hops.push(None),
        }
    }
    hops.reverse();
    hops
}

/// The `for` of one element of `Forwarded`.
fn forwarded(element: &str) -> Option<IpAddr> {
    let node = element.split(';').find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case("for").then_some(value)
    })?;
    address(node.trim_matches('"'))
}

/// An address, with or without brackets and a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None if text.matches(':').count() == 1 => text.split_once(':')?.0,
        None => text,
    };
    bare.parse::<IpAddr>().ok().map(|it| it.to_canonical())
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn client(peer: &str, given: &[(&'static str, &'static str)]) -> String {
        let proxies = ["10.0.0.0/8", "2001:db8:1::/48"].map(|text| text.parse().unwrap());
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, HeaderValue::from_static(value));
        }
        TrustedProxies(proxies.to_vec())
            .client(peer.parse().unwrap(), &headers)
            .to_string()
    }

    #[test]
    fn line_062_headers_count_only_from_a_trusted_peer() {
        let forged = [("x-forwarded-for", "198.51.100.1")];
        assert_eq!(client("192.0.2.9", &forged), "192.0.2.9");
        assert_eq!(client("10.0.0.1", &forged), "198.51.100.1");
        assert_eq!(client("::ffff:10.0.0.1", &forged), "198.51.100.1");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        let nobody = TrustedProxies::default();
        let headers =
            HeaderMap::from_iter([(X_FORWARDED_FOR, HeaderValue::from_static("198.51.100.1"))]);
        let peer = "10.0.0.1".parse().unwrap();
        assert_eq!(nobody.client(peer, &headers), peer);
    }

    #[test]
    fn line_062_the_right_most_that_is_no_proxy_counts() {
        for (given, expected) in [
            (
                ("x-forwarded-for", "203.0.113.5, 198.51.100.1"),
                "198.51.100.1",
            ),
            (
                ("x-forwarded-for", "203.0.113.5, 198.51.100.1, 10.3.3.3"),
                "198.51.100.1",
            ),
            (("x-forwarded-for", "10.9.9.9, 10.3.3.3"), "10.9.9.9"),
            (
                ("x-forwarded-for", "203.0.113.5, unknown, 10.3.3.3"),
                "10.3.3.3",
            ),
            (("x-forwarded-for", "198.51.100.1:4711"), "198.51.100.1"),
            (
                ("forwarded", "for=203.0.113.5, for=198.51.100.1;proto=https"),
                "198.51.100.1",
            ),
            (
                ("forwarded", "proto=http;For=\"[2001:db8:cafe::17]:4711\""),
                "2001:db8:cafe::17",
            ),
            (("forwarded", "for=_hidden, for=10.1.1.1"), "10.1.1.1"),
        ] {
            assert_eq!(client("10.0.0.1", &[given]), expected, "{given:?}");
        }
        let lines = [
            ("x-forwarded-for", "203.0.113.5"),
            ("x-forwarded-for", "198.51.100.1, 10.1.1.1"),
        ];
        assert_eq!(client("10.0.0.1", &lines), "198.51.100.1");
    }
}
