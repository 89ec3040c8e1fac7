//! A provider's base URL: checked where it is set, so that no request ever has to wonder. Names are resolved and checked
//! again by the gateway that connects.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use odock_events::payload::provider::ProviderType;

use super::address;

const LENGTH_MAX: usize = 500;

/// Where a type of provider is, if there is one place.
pub(crate) fn default_for(kind: ProviderType) -> Option<&'static str> {
    match kind {
        ProviderType::OpenAi => Some("https://api.openai.com/v1"),
        ProviderType::Anthropic => Some("https://api.anthropic.com"),
        ProviderType::Google => Some("https://generativelanguage.googleapis.com"),
        ProviderType::Vllm => Some("http://localhost:8000/v1"),
        ProviderType::Mistral => Some("https://api.mistral.ai/v1"),
        ProviderType::HuggingFace => Some("https://router.huggingface.co/v1"),
        ProviderType::AzureOpenAi | ProviderType::Custom => None,
    }
}

/// Why a text is no base URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UrlError {
    #[error("must begin with https:// or http://")]
    Scheme,
    #[error(
        "must be at most {LENGTH_MAX} visible ASCII characters, without spaces, quotes or backslashes"
    )]
    Characters,
    #[error("must not hold a user name or a password")]
    UserInfo,
    #[error("must not have a query or a fragment")]
    Query,
    #[error("its host is neither a DNS name nor an address in the usual form")]
    Host,
    #[error("its port is not between 1 and 65535")]
    Port,
    #[error("its path must have no empty, `.` or `..` segments")]
    Path,
    #[error("names a private address; UPSTREAM_ALLOW_PRIVATE_ADDRESSES would allow it")]
    Private,
}

/// The URL without slashes at its end, its scheme and host in lower case.
pub(crate) fn normalise(text: &str, allow_private: bool) -> Result<String, UrlError> {
    let usable = |byte: u8| byte.is_ascii_graphic() && !b"\"'<>\\^`{|}".contains(&byte);
    if text.len() > LENGTH_MAX || !text.bytes().all(usable) {
        return Err(UrlError::Characters);
    }
    let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
    let scheme = scheme.to_ascii_lowercase();
    if scheme != "https" && scheme != "http" {
        return Err(UrlError::Scheme);
    }
    if rest.contains(['?', '#']) {
        return Err(UrlError::Query);
    }
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    if authority.contains('@') {
        return Err(UrlError::UserInfo);
    }
    let (host, port) = split_port(authority)?;
    let host = host.to_ascii_lowercase();
    if !is_public_host(&host)? && !allow_private {
        return Err(UrlError::Private);
    }
    let path = path.trim_end_matches('/');
    if path
        .split('/')
        .skip(1)
        .any(|segment| matches!(segment, "" | "." | ".."))
    {
        return Err(UrlError::Path);
    }
    Ok(format!("{scheme}://{host}{port}{path}"))
}

/// Host, and `:port` or nothing.
fn split_port(authority: &str) -> Result<(&str, String), UrlError> {
    let (host, port) = if authority.starts_with('[') {
        let end = authority.find(']').ok_or(UrlError::Host)? + 1;
        let (host, rest) = authority.split_at(end);
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return Err(UrlError::Host),
        }
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    let Some(port) = port else {
        return Ok((host, String::new()));
    };
    let number: u16 = port.parse().map_err(|_| UrlError::Port)?;
    if number == 0 || !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err(UrlError::Port);
    }
    Ok((host, format!(":{number}")))
}

/// Whether a host may be reached from outside, as far as its text tells.
fn is_public_host(host: &str) -> Result<bool, UrlError> {
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or(UrlError::Host)?;
        let v6: Ipv6Addr = inner.parse().map_err(|_| UrlError::Host)?;
        return Ok(address::is_public(IpAddr::V6(v6)));
    }
    let labels: Vec<&str> = host.split('.').collect();
    let last = labels.last().copied().unwrap_or_default();
    // A last label that is a number makes resolvers read an address, in forms that hide which: 127.1, 0x7f000001.
    if last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") {
        let v4: Ipv4Addr = host.parse().map_err(|_| UrlError::Host)?;
        return Ok(address::is_public(IpAddr::V4(v4)));
    }
    if host.len() > 253 || !labels.iter().all(|label| is_label(label)) {
        return Err(UrlError::Host);
    }
    Ok(!matches!(last, "localhost" | "local" | "internal"))
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_urls_lose_their_last_slash_only() {
        for (text, expected) in [
            ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
            (
                "HTTPS://API.Example.com:8443",
                "https://api.example.com:8443",
            ),
            ("http://1.1.1.1/a/b", "http://1.1.1.1/a/b"),
            (
                "https://[2606:4700::1111]:443/v1",
                "https://[2606:4700::1111]:443/v1",
            ),
        ] {
            assert_eq!(normalise(text, false).as_deref(), Ok(expected));
        }
        for kind in ProviderType::ALL {
            if let Some(url) = default_for(kind) {
                assert_eq!(normalise(url, true).as_deref(), Ok(url));
            }
        }
    }

    #[test]
    fn private_hosts_need_the_setting() {
        for text in [
            "http://localhost:8000",
            "http://a.localhost",
            "http://127.0.0.1/v1",
            "http://[::1]:80",
            "http://10.1.2.3",
            "http://[::ffff:10.0.0.1]",
            "http://169.254.169.254/latest",
            "http://vault.internal",
        ] {
            assert_eq!(normalise(text, false), Err(UrlError::Private), "{text}");
            assert!(normalise(text, true).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_hides_its_host_is_never_taken() {
        for (text, expected) in [
            ("ftp://example.com", UrlError::Scheme),
            ("file:///etc/passwd", UrlError::Scheme),
            ("example.com", UrlError::Scheme),
            ("https://user:pw@example.com", UrlError::UserInfo),
            ("https://example.com@127.0.0.1", UrlError::UserInfo),
            ("https://example.com/?a=b", UrlError::Query),
            ("https://example.com#a", UrlError::Query),
            ("https://example.com.", UrlError::Host),
            ("https://", UrlError::Host),
            ("https:///v1", UrlError::Host),
            ("http://2130706433", UrlError::Host),
            ("http://0x7f000001", UrlError::Host),
            ("http://0x7f.1", UrlError::Host),
            ("http://127.1", UrlError::Host),
            ("http://0177.0.0.1", UrlError::Host),
            ("http://exa%6dple.com", UrlError::Host),
            ("http://[::1", UrlError::Host),
            ("http://[fe80::1%25eth0]", UrlError::Host),
            ("https://example.com:0", UrlError::Port),
            ("https://example.com:99999", UrlError::Port),
            ("https://example.com:+80", UrlError::Port),
            ("https://example.com/a//b", UrlError::Path),
            ("https://example.com/../b", UrlError::Path),
            ("https://exämple.com", UrlError::Characters),
            ("https://example.com/a b", UrlError::Characters),
            ("https://example.com\\@127.0.0.1", UrlError::Characters),
            ("https://example.com\r\nX: y", UrlError::Characters),
        ] {
            assert_eq!(normalise(text, true), Err(expected), "{text}");
        }
    }
}
