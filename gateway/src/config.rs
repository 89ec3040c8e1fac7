//! The gateway's configuration: every variable with its default and meaning, read into valid types once at start.
//! `odock gateway` and `odock check-config` read the table; `startup` takes the [`Config`].

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use odock_events::settings::{Setting, Settings, SettingsError};
use secrecy::SecretString;

use crate::{
    http::{
        connection::ConnectionCaps, framing::HeadLimits, guarded_io::ClientTimeouts,
        inbound::BodyLimits, server::TransportSettings,
    },
    limits::LimitSettings,
    provider::{address::AddressRule, client::UpstreamLimits},
    snapshot::{KeyCap, cell::StalePolicy},
};

/// Every variable the gateway knows.
pub const SETTINGS: &[Setting] = &[
    Setting::new("HTTP_HOST", "address to listen on").default("0.0.0.0"),
    Setting::new("HTTP_PORT", "port to listen on; 0 takes any free one").default("8080"),
    Setting::new(
        "HTTP_READ_TIMEOUT",
        "longest time for a request's header section",
    )
    .default("10s"),
    Setting::new(
        "HTTP_WRITE_TIMEOUT",
        "longest time without a byte of an answer being taken",
    )
    .default("60s"),
    Setting::new(
        "HTTP_IDLE_TIMEOUT",
        "longest time a connection stays open without a request",
    )
    .default("60s"),
    Setting::new(
        "HTTP_BODY_TIMEOUT",
        "longest silence within a request's body",
    )
    .default("10s"),
    Setting::new(
        "HTTP_BODY_MIN_RATE",
        "least bytes a second of a request's body",
    )
    .default("512"),
    Setting::new("HTTP_MAX_BODY_BYTES", "largest request body").default("10485760"),
    Setting::new("HTTP_MAX_HEADER_BYTES", "largest header section").default("16384"),
    Setting::new("HTTP_MAX_CONNECTIONS", "most client connections in all").default("32768"),
    Setting::new(
        "HTTP_MAX_CONNECTIONS_PER_IP",
        "most client connections from one address (IPv6: one /64)",
    )
    .default("16384"),
    Setting::new(
        "HTTP_MAX_CONCURRENT_REQUESTS",
        "most calls at a time; 0: as many as there are connections",
    )
    .default("0"),
    Setting::new(
        "HTTP_TRUST_PROXY_HEADERS",
        "take a caller's address from X-Forwarded-For, else Forwarded, where a trusted proxy sends it",
    )
    .default("false"),
    Setting::new(
        "HTTP_TRUSTED_PROXY_CIDRS",
        "the proxies that are trusted: addresses and blocks, separated by commas",
    ),
    Setting::new(
        "RATELIMIT_GLOBAL_POLICY",
        "limits of all calls together: the policies envelope as JSON",
    ),
    Setting::new("HTTP_ENABLE_TLS", "serve TLS").default("false"),
    Setting::new("HTTP_TLS_CERT_FILE", "PEM file with the certificate chain"),
    Setting::new("HTTP_TLS_KEY_FILE", "PEM file with the private key"),
    Setting::new("POSTGRES_DSN", "the permanent record, postgres://...")
        .required()
        .secret(),
    Setting::new("POSTGRES_MAX_OPEN", "most connections to Postgres").default("25"),
    Setting::new("REDIS_URL", "the streams, redis://...")
        .required()
        .secret(),
    Setting::new(
        "JOURNAL_DIR",
        "directory of the journal; it is the gateway's identity",
    )
    .default("journal"),
    Setting::new(
        "JOURNAL_STRICT",
        "wait for the disk before each upstream call",
    )
    .default("false"),
    Setting::new(
        "SNAPSHOT_FILE",
        "where the last configuration is kept for a start without Postgres",
    )
    .default("snapshot.bin"),
    Setting::new(
        "CONFIG_MAX_STALE",
        "age of the configuration from which CONFIG_STALE_POLICY holds",
    )
    .default("60s"),
    Setting::new("CONFIG_STALE_POLICY", "known_keys_only, continue or close")
        .default("known_keys_only"),
    Setting::new(
        "KEY_CACHE_MAX",
        "keys kept in memory; while there are more, others are looked up in Postgres when they are used",
    )
    .default("1000000"),
    Setting::new(
        "PROVIDER_KEY_ENCRYPTION_KEY_ID",
        "id of the key pair that provider keys are sealed for",
    ),
    Setting::new(
        "PROVIDER_KEY_ENCRYPTION_PRIVATE_KEY",
        "its private key, PEM",
    )
    .secret(),
    Setting::new(
        "PROVIDER_KEY_ENCRYPTION_PRIVATE_KEY_FILE",
        "file with its private key, PEM",
    ),
    Setting::new(
        "PROVIDER_KEY_DECRYPT_CACHE_TTL",
        "how long an opened provider key stays in memory",
    )
    .default("5m"),
    Setting::new(
        "UPSTREAM_ALLOW_PRIVATE_ADDRESSES",
        "let providers have private addresses",
    )
    .default("false"),
    Setting::new(
        "UPSTREAM_CA_FILE",
        "PEM file with roots to trust beside the built-in ones",
    ),
    Setting::new(
        "UPSTREAM_CONNECT_TIMEOUT",
        "longest time to connect to a provider",
    )
    .default("10s"),
    Setting::new(
        "UPSTREAM_IDLE_TIMEOUT",
        "longest silence within a provider's answer",
    )
    .default("60s"),
    Setting::new("OBSERVABILITY_PROMETHEUS_ENABLED", "serve /metrics").default("true"),
    Setting::new("OBSERVABILITY_OTEL_EXPORTER", "otlphttp, or none").default("none"),
    Setting::new("OBSERVABILITY_OTEL_ENDPOINT", "collector to send spans to")
        .default("http://localhost:4318"),
    Setting::new("OBSERVABILITY_SERVICE_NAME", "service.name of the spans")
        .default("odock-gateway"),
    Setting::new(
        "OBSERVABILITY_SAMPLE_RATE",
        "share of calls whose spans are sent, 0 to 1",
    )
    .default("0.1"),
    Setting::new(
        "SHUTDOWN_GRACE",
        "how long running calls may take after SIGTERM",
    )
    .default("30s"),
    Setting::new(
        "READY_FILE",
        "file written when the gateway listens: {\"pid\",\"addr\"}",
    ),
    Setting::new("GATEWAY_WORKER_THREADS", "threads; 0: one for each core").default("0"),
];

/// Valid settings.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: SocketAddr,
    pub transport: TransportSettings,
    pub body: BodyLimits,
    pub max_concurrent_requests: usize,
    pub limits: LimitSettings,
    pub tls: Option<TlsFiles>,
    pub postgres: PostgresSettings,
    pub redis_url: SecretString,
    pub journal_dir: PathBuf,
    pub journal_strict: bool,
    pub snapshot: SnapshotSettings,
    pub provider_keys: ProviderKeySettings,
    pub upstream: UpstreamSettings,
    pub observability: ObservabilitySettings,
    pub shutdown_grace: Duration,
    pub ready_file: Option<PathBuf>,
    /// `None`: one for each core.
    pub worker_threads: Option<usize>,
}

#[derive(Clone, Debug)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

#[derive(Clone, Debug)]
pub struct PostgresSettings {
    pub dsn: SecretString,
    pub max_open: u32,
}

#[derive(Clone, Debug)]
pub struct SnapshotSettings {
    pub file: PathBuf,
    pub key_cap: KeyCap,
    pub max_stale: Duration,
    pub stale_policy: StalePolicy,
}

#[derive(Clone, Debug)]
pub struct ProviderKeySettings {
    /// `None`: provider keys cannot be opened here.
    pub key_pair: Option<KeyPair>,
    pub decrypt_cache_ttl: Duration,
}

#[derive(Clone, Debug)]
pub struct KeyPair {
    pub key_id: String,
    pub private_key_pem: SecretString,
}

#[derive(Clone, Debug)]
pub struct UpstreamSettings {
    pub limits: UpstreamLimits,
    pub address_rule: AddressRule,
    pub extra_roots: Option<PathBuf>,
}

#[derive(Clone, Debug)]
pub struct ObservabilitySettings {
    pub prometheus: bool,
    /// `None`: no spans are sent.
    pub otlp: Option<OtlpSettings>,
}

#[derive(Clone, Debug)]
pub struct OtlpSettings {
    pub endpoint: String,
    pub service_name: String,
    pub sample_rate: f64,
}

impl Config {
    /// Reads the settings, or says everything that is wrong with the first group that does not hold.
    pub fn from_settings(settings: &Settings) -> Result<Self, SettingsError> {
        let host: std::net::IpAddr = settings.parse("HTTP_HOST")?;
        let workers: usize = settings.parse("GATEWAY_WORKER_THREADS")?;
        Ok(Self {
            listen: SocketAddr::new(host, settings.parse("HTTP_PORT")?),
            transport: transport(settings)?,
            body: BodyLimits {
                bytes: positive(settings, "HTTP_MAX_BODY_BYTES")?,
                idle: settings.duration("HTTP_BODY_TIMEOUT")?,
                least_rate: settings.parse("HTTP_BODY_MIN_RATE")?,
            },
            max_concurrent_requests: settings.parse("HTTP_MAX_CONCURRENT_REQUESTS")?,
            limits: LimitSettings::from_settings(settings)?,
            tls: tls(settings)?,
            postgres: PostgresSettings {
                dsn: required_secret(settings, "POSTGRES_DSN")?,
                max_open: settings.parse("POSTGRES_MAX_OPEN")?,
            },
            redis_url: required_secret(settings, "REDIS_URL")?,
            journal_dir: settings.path("JOURNAL_DIR")?,
            journal_strict: settings.flag("JOURNAL_STRICT")?,
            snapshot: SnapshotSettings {
                file: settings.path("SNAPSHOT_FILE")?,
                key_cap: KeyCap(positive(settings, "KEY_CACHE_MAX")?),
                max_stale: settings.duration("CONFIG_MAX_STALE")?,
                stale_policy: settings.parse("CONFIG_STALE_POLICY")?,
            },
            provider_keys: provider_keys(settings)?,
            upstream: upstream(settings)?,
            observability: observability(settings)?,
            shutdown_grace: settings.duration("SHUTDOWN_GRACE")?,
            ready_file: settings.optional_path("READY_FILE")?,
            worker_threads: Some(workers).filter(|workers| *workers > 0),
        })
    }
}

fn transport(settings: &Settings) -> Result<TransportSettings, SettingsError> {
    Ok(TransportSettings {
        timeouts: ClientTimeouts {
            head: settings.duration("HTTP_READ_TIMEOUT")?,
            idle: settings.duration("HTTP_IDLE_TIMEOUT")?,
            write: settings.duration("HTTP_WRITE_TIMEOUT")?,
        },
        head: HeadLimits {
            bytes: positive(settings, "HTTP_MAX_HEADER_BYTES")?,
            fields: HEADER_FIELDS,
        },
        caps: ConnectionCaps {
            total: positive(settings, "HTTP_MAX_CONNECTIONS")?,
            per_address: positive(settings, "HTTP_MAX_CONNECTIONS_PER_IP")?,
        },
    })
}

fn tls(settings: &Settings) -> Result<Option<TlsFiles>, SettingsError> {
    if !settings.flag("HTTP_ENABLE_TLS")? {
        return Ok(None);
    }
    let file = |name| {
        settings
            .optional_path(name)?
            .ok_or_else(|| SettingsError::one(name, "is required when HTTP_ENABLE_TLS is true"))
    };
    Ok(Some(TlsFiles {
        certificate: file("HTTP_TLS_CERT_FILE")?,
        key: file("HTTP_TLS_KEY_FILE")?,
    }))
}

fn provider_keys(settings: &Settings) -> Result<ProviderKeySettings, SettingsError> {
    let key_id = settings.optional("PROVIDER_KEY_ENCRYPTION_KEY_ID")?;
    let private_key = settings.secret_or_file(
        "PROVIDER_KEY_ENCRYPTION_PRIVATE_KEY",
        "PROVIDER_KEY_ENCRYPTION_PRIVATE_KEY_FILE",
    )?;
    let key_pair = match (key_id, private_key) {
        (Some(key_id), Some(private_key_pem)) => Some(KeyPair {
            key_id,
            private_key_pem,
        }),
        (None, None) => None,
        (Some(_), None) => {
            let message = "is required when PROVIDER_KEY_ENCRYPTION_KEY_ID is set";
            return Err(SettingsError::one(
                "PROVIDER_KEY_ENCRYPTION_PRIVATE_KEY",
                message,
            ));
        }
        (None, Some(_)) => {
            let message = "is required when PROVIDER_KEY_ENCRYPTION_PRIVATE_KEY is set";
            return Err(SettingsError::one(
                "PROVIDER_KEY_ENCRYPTION_KEY_ID",
                message,
            ));
        }
    };
    let decrypt_cache_ttl = settings.duration("PROVIDER_KEY_DECRYPT_CACHE_TTL")?;
    Ok(ProviderKeySettings {
        key_pair,
        decrypt_cache_ttl,
    })
}

fn upstream(settings: &Settings) -> Result<UpstreamSettings, SettingsError> {
    let private = settings.flag("UPSTREAM_ALLOW_PRIVATE_ADDRESSES")?;
    Ok(UpstreamSettings {
        limits: UpstreamLimits {
            connect: settings.duration("UPSTREAM_CONNECT_TIMEOUT")?,
            idle: settings.duration("UPSTREAM_IDLE_TIMEOUT")?,
            answer_bytes: LONGEST_ANSWER,
        },
        address_rule: if private {
            AddressRule::PrivateToo
        } else {
            AddressRule::PublicOnly
        },
        extra_roots: settings.optional_path("UPSTREAM_CA_FILE")?,
    })
}

fn observability(settings: &Settings) -> Result<ObservabilitySettings, SettingsError> {
    let sample_rate: f64 = settings.parse("OBSERVABILITY_SAMPLE_RATE")?;
    if !(0.0..=1.0).contains(&sample_rate) {
        return Err(SettingsError::one(
            "OBSERVABILITY_SAMPLE_RATE",
            "must be between 0 and 1",
        ));
    }
    let otlp = match settings.text("OBSERVABILITY_OTEL_EXPORTER")?.as_str() {
        "none" => None,
        "otlphttp" => Some(OtlpSettings {
            endpoint: settings.text("OBSERVABILITY_OTEL_ENDPOINT")?,
            service_name: settings.text("OBSERVABILITY_SERVICE_NAME")?,
            sample_rate,
        }),
        _ => {
            let message = "expected otlphttp or none";
            return Err(SettingsError::one("OBSERVABILITY_OTEL_EXPORTER", message));
        }
    };
    let prometheus = settings.flag("OBSERVABILITY_PROMETHEUS_ENABLED")?;
    Ok(ObservabilitySettings { prometheus, otlp })
}

fn positive(settings: &Settings, name: &'static str) -> Result<usize, SettingsError> {
    match settings.parse(name)? {
        0 => Err(SettingsError::one(name, "must be at least 1")),
        number => Ok(number),
    }
}

fn required_secret(settings: &Settings, name: &'static str) -> Result<SecretString, SettingsError> {
    settings
        .secret(name)?
        .ok_or_else(|| SettingsError::one(name, "is required"))
}

const HEADER_FIELDS: usize = 100;
const LONGEST_ANSWER: usize = 32 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Result<Config, SettingsError> {
        let given = [("POSTGRES_DSN", "postgres://p"), ("REDIS_URL", "redis://r")];
        let pairs = given.iter().chain(pairs);
        let pairs = pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::from_settings(&Settings::from_pairs(pairs, SETTINGS)?)
    }

    #[test]
    fn the_defaults_hold() {
        let config = config(&[]).unwrap();
        assert_eq!(config.listen, "0.0.0.0:8080".parse().unwrap());
        assert_eq!(config.body.bytes, 10 << 20);
        assert_eq!(config.transport.timeouts.head, Duration::from_secs(10));
        assert_eq!(config.snapshot.stale_policy, StalePolicy::KnownKeysOnly);
        assert_eq!(config.upstream.address_rule, AddressRule::PublicOnly);
        assert!(config.tls.is_none() && config.observability.otlp.is_none());
        assert!(!format!("{config:?}").contains("postgres://p"));
    }

    #[test]
    fn what_does_not_hold_is_named() {
        for (name, value) in [
            ("HTTP_PORT", "70000"),
            ("HTTP_READ_TIMEOUT", "soon"),
            ("HTTP_MAX_CONNECTIONS", "0"),
            ("CONFIG_STALE_POLICY", "maybe"),
            ("OBSERVABILITY_SAMPLE_RATE", "1.5"),
            ("OBSERVABILITY_OTEL_EXPORTER", "zipkin"),
            ("UPSTREAM_ALLOW_PRIVATE_ADDRESSES", "yes please"),
            ("RATELIMIT_GLOBAL_POLICY", "{"),
            (
                "RATELIMIT_GLOBAL_POLICY",
                r#"{"ratelimit":{"requests":{"per_hour":1}}}"#,
            ),
            ("HTTP_TRUSTED_PROXY_CIDRS", "10.0.0.0/8, everybody"),
        ] {
            let error = config(&[(name, value)]).unwrap_err();
            assert_eq!(error.problems[0].name, name);
        }
        let error = config(&[("HTTP_TRUST_PROXY_HEADERS", "true")]).unwrap_err();
        assert_eq!(error.problems[0].name, "HTTP_TRUSTED_PROXY_CIDRS");
        let error = config(&[("HTTP_ENABLE_TLS", "true")]).unwrap_err();
        assert_eq!(error.problems[0].name, "HTTP_TLS_CERT_FILE");
        let error = config(&[("PROVIDER_KEY_ENCRYPTION_KEY_ID", "k1")]).unwrap_err();
        assert_eq!(
            error.problems[0].name,
            "PROVIDER_KEY_ENCRYPTION_PRIVATE_KEY"
        );
        let error = config(&[("PROVIDER_KEY_ENCRYPTION_PRIVATE_KEY", "pem")]).unwrap_err();
        assert_eq!(error.problems[0].name, "PROVIDER_KEY_ENCRYPTION_KEY_ID");
    }

    #[test]
    fn every_setting_says_what_it_is_for() {
        assert!(SETTINGS.iter().all(|setting| !setting.doc.is_empty()));
    }
}
