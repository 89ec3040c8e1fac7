//! The address of each provider, parsed once: a provider's base URL changes only with the provider's version. Asked by
//! `pipeline::grant`.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use http::Uri;
use odock_events::{ids::ProviderId, state::Provider};

use crate::error::{Code, GatewayError};

#[derive(Default)]
pub struct Targets {
    by_provider: Mutex<HashMap<ProviderId, (u64, Uri)>>,
}

impl Targets {
    /// `<base_url>/chat/completions`.
    pub(crate) fn chat_completions(&self, provider: &Provider) -> Result<Uri, GatewayError> {
        let mut targets = self
            .by_provider
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((version, uri)) = targets.get(&provider.id)
            && *version == provider.version
        {
            return Ok(uri.clone());
        }
        let uri = parse(&provider.body.base_url)?;
        if targets.len() >= MOST_REMEMBERED {
            targets.clear();
        }
        targets.insert(provider.id, (provider.version, uri.clone()));
        Ok(uri)
    }
}

/// Only http and https, without user name: what is connected to is what can be read.
fn parse(base_url: &str) -> Result<Uri, GatewayError> {
    let refused = || {
        GatewayError::new(
            Code::ProviderNotAllowed,
            "the provider's `base_url` is not usable",
        )
    };
    let uri: Uri = format!("{}/chat/completions", base_url.trim_end_matches('/'))
        .parse()
        .map_err(|_| refused())?;
    let scheme = uri
        .scheme_str()
        .is_some_and(|scheme| scheme == "http" || scheme == "https");
    let plain = uri
        .authority()
        .is_some_and(|authority| !authority.as_str().contains('@'));
    if scheme && plain {
        Ok(uri)
    } else {
        Err(refused())
    }
}

const MOST_REMEMBERED: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_web_addresses_are_called() {
        for (base, expected) in [
            (
                "https://api.openai.com/v1",
                Some("https://api.openai.com/v1/chat/completions"),
            ),
            (
                "http://127.0.0.1:8082/v1/",
                Some("http://127.0.0.1:8082/v1/chat/completions"),
            ),
            ("ftp://example.com", None),
            ("https://user:pass@example.com", None),
            ("/v1", None),
            ("https://exa mple.com", None),
            ("", None),
        ] {
            let found = parse(base).ok().map(|uri| uri.to_string());
            assert_eq!(found.as_deref(), expected, "{base}");
        }
    }
}
