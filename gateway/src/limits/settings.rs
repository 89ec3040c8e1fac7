//! What of the gateway's configuration is about limits, read once at start. Called by `config`.

use std::sync::Arc;

use odock_events::{
    payload::JsonObject,
    policy::{Network, ParseNetworkError, Policy},
    settings::{Settings, SettingsError},
};

use super::{
    address::TrustedProxies,
    scope::{ScopeId, ScopePolicy},
};

#[derive(Clone, Debug, Default)]
pub struct LimitSettings {
    /// `RATELIMIT_GLOBAL_POLICY`: for every call.
    pub global: Option<Arc<ScopePolicy>>,
    pub proxies: TrustedProxies,
}

impl LimitSettings {
    /// Reads the variables that are about limits.
    pub fn from_settings(settings: &Settings) -> Result<Self, SettingsError> {
        let name = "RATELIMIT_GLOBAL_POLICY";
        let global = settings
            .optional(name)?
            .map(|text| global_policy(&text).map_err(|message| SettingsError::one(name, message)))
            .transpose()?
            .flatten();
        let name = "HTTP_TRUSTED_PROXY_CIDRS";
        let given = settings.optional(name)?.unwrap_or_default();
        let networks = given
            .split(',')
            .map(str::trim)
            .filter(|text| !text.is_empty());
        let networks: Vec<Network> = networks
            .map(str::parse)
            .collect::<Result<_, ParseNetworkError>>()
            .map_err(|error| SettingsError::one(name, error.to_string()))?;
        let trusts = settings.flag("HTTP_TRUST_PROXY_HEADERS")?;
        if trusts && networks.is_empty() {
            let message = "is required when HTTP_TRUST_PROXY_HEADERS is true";
            return Err(SettingsError::one(name, message));
        }
        let proxies = TrustedProxies(if trusts { networks } else { Vec::new() });
        Ok(Self { global, proxies })
    }
}

fn global_policy(text: &str) -> Result<Option<Arc<ScopePolicy>>, String> {
    let envelope: JsonObject =
        serde_json::from_str(text).map_err(|error| format!("must be a JSON object: {error}"))?;
    let policy = Policy::read(&envelope).map_err(|faults| {
        let faults: Vec<String> = faults
            .iter()
            .map(|fault| format!("{} {}", fault.pointer, fault.message))
            .collect();
        faults.join("; ")
    })?;
    let scope = ScopeId::GLOBAL;
    Ok((!policy.is_empty()).then(|| {
        Arc::new(ScopePolicy {
            scope,
            policy: Some(policy),
        })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SETTINGS;

    fn limits(pairs: &[(&str, &str)]) -> Result<LimitSettings, SettingsError> {
        let given = [("POSTGRES_DSN", "postgres://p"), ("REDIS_URL", "redis://r")];
        let pairs = given.iter().chain(pairs);
        let pairs = pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        LimitSettings::from_settings(&Settings::from_pairs(pairs, SETTINGS)?)
    }

    #[test]
    fn limits_of_all_calls_and_trusted_proxies_are_read_once() {
        let set = limits(&[
            (
                "RATELIMIT_GLOBAL_POLICY",
                r#"{"ratelimit":{"requests":{"per_second":7}}}"#,
            ),
            ("HTTP_TRUST_PROXY_HEADERS", "true"),
            ("HTTP_TRUSTED_PROXY_CIDRS", "10.0.0.0/8, ::1"),
        ])
        .unwrap();
        let policy = set.global.unwrap().policy.clone().unwrap();
        assert_eq!(policy.requests_per_second.unwrap().amount, 7);
        assert_eq!(set.proxies.0.len(), 2);
        let nothing = limits(&[
            ("RATELIMIT_GLOBAL_POLICY", "{}"),
            ("HTTP_TRUSTED_PROXY_CIDRS", "10.0.0.0/8"),
        ])
        .unwrap();
        assert!(nothing.global.is_none() && nothing.proxies.0.is_empty());
    }
}
