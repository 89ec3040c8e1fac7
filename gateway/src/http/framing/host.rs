//! What a `Host` field may say (RFC 9112 3.2, RFC 3986 3.2.2): two proxies that read it differently would not agree on
//! whose request it is. Asked by `framing`.

/// A name or address with an optional port, and nothing else. An empty one is refused: our scheme always has a host.
pub(super) fn is_valid(value: &[u8]) -> bool {
    let (host, port) = match value.strip_prefix(b"[") {
        Some(rest) => {
            let Some(end) = rest.iter().position(|byte| *byte == b']') else {
                return false;
            };
            let (address, port) = rest.split_at(end);
            let is_address = std::str::from_utf8(address)
                .is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok());
            if !is_address {
                return false;
            }
            (address, port.get(1..).unwrap_or_default())
        }
        None => value.split_at(
            value
                .iter()
                .position(|byte| *byte == b':')
                .unwrap_or(value.len()),
        ),
    };
    !host.is_empty() && (value.starts_with(b"[") || is_name(host)) && is_port(port)
}

fn is_port(port: &[u8]) -> bool {
    match port.split_first() {
        None => true,
        Some((b':', digits)) => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        Some(_) => false,
    }
}

/// Unreserved characters, sub-delimiters and percent-encoded bytes.
fn is_name(mut name: &[u8]) -> bool {
    while let Some((byte, rest)) = name.split_first() {
        name = match byte {
            b'%' => match rest {
                [high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    rest
                }
                _ => return false,
            },
            byte if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte) => rest,
            _ => return false,
        };
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_a_port_or_without() {
        for fine in [
            "a",
            "localhost:8080",
            "127.0.0.1:1",
            "[::1]",
            "[2001:db8::1]:443",
            "a_b.example",
            "a:",
            "%41.example",
        ] {
            assert!(is_valid(fine.as_bytes()), "{fine}");
        }
        for wrong in [
            "", ":80", "a b", "a/b", "a@b", "a:80:80", "a:b", "a:123456", "http://a", "[::1",
            "::1", "[::1]a", "[x]", "a\u{e9}", "%4", "%zz", "a,b c", "a\\b", "a?b", "a#b",
        ] {
            assert!(!is_valid(wrong.as_bytes()), "{wrong}");
        }
    }
}
