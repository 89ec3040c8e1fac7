//! The admin's settings. Read once at start by the binary.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr as _,
};

use odock_events::{
    personal::SubjectKeys,
    seal::PublicKey,
    settings::{Setting, Settings, SettingsError},
};
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::PgConnectOptions;

/// Every variable that the admin knows.
pub const SETTINGS: &[Setting] = &[
    Setting::new("ADMIN_HTTP_HOST", "the address that the admin listens on").default("127.0.0.1"),
    Setting::new(
        "ADMIN_HTTP_PORT",
        "the port that the admin listens on; 0 takes any free one",
    )
    .default("8081"),
    Setting::new(
        "POSTGRES_DSN",
        "where Postgres is: postgres://user:password@host:port/database",
    )
    .required()
    .secret(),
    Setting::new("POSTGRES_MAX_OPEN", "connections to Postgres at most").default("20"),
    Setting::new(
        "REDIS_URL",
        "where Redis is: redis://host:port or redis+unix:///path",
    )
    .required()
    .secret(),
    Setting::new(
        "ADMIN_BOOTSTRAP_TOKEN",
        "the token of the first administrator: adm_ and at least 32 characters",
    )
    .required()
    .secret(),
    Setting::new(
        "PROVIDER_KEY_ENCRYPTION_KEY_ID",
        "the id that the public key must have; by default it is not checked",
    ),
    Setting::new(
        "PROVIDER_KEY_ENCRYPTION_PUBLIC_KEY_FILE",
        "the RSA public key (SPKI in PEM) that provider keys are sealed with",
    )
    .required(),
    Setting::new(
        "SUBJECT_KEY_FILE",
        "the master key of personal data: 64 hex digits",
    )
    .required(),
    Setting::new(
        "UPSTREAM_ALLOW_PRIVATE_ADDRESSES",
        "whether a provider's base URL may name a private address",
    )
    .default("false"),
    Setting::new(
        "READY_FILE",
        "a file that is written when the admin listens: {\"pid\",\"addr\"}",
    ),
];

/// What `run` needs.
pub struct Config {
    pub address: SocketAddr,
    pub postgres: PgConnectOptions,
    pub postgres_max_open: u32,
    pub redis_url: String,
    pub bootstrap_token: SecretString,
    pub sealing_key: PublicKey,
    pub subject_keys: SubjectKeys,
    pub allow_private_addresses: bool,
    pub ready_file: Option<PathBuf>,
}

impl Config {
    /// Reads the two key files, too, so that a wrong one stops the start and not a request.
    pub fn from_settings(settings: &Settings) -> Result<Self, SettingsError> {
        let host: IpAddr = settings.parse("ADMIN_HTTP_HOST")?;
        let dsn = settings.text("POSTGRES_DSN")?;
        let postgres = PgConnectOptions::from_str(&dsn)
            .map_err(|_| SettingsError::one("POSTGRES_DSN", "is no Postgres URL"))?;
        let postgres_max_open: u32 = settings.parse("POSTGRES_MAX_OPEN")?;
        if postgres_max_open < 2 {
            return Err(SettingsError::one(
                "POSTGRES_MAX_OPEN",
                "expected at least 2",
            ));
        }
        Ok(Self {
            address: SocketAddr::new(host, settings.parse("ADMIN_HTTP_PORT")?),
            postgres: postgres.application_name("odock-admin"),
            postgres_max_open,
            redis_url: settings.text("REDIS_URL")?,
            bootstrap_token: bootstrap_token(settings)?,
            sealing_key: sealing_key(settings)?,
            subject_keys: subject_keys(settings)?,
            allow_private_addresses: settings.flag("UPSTREAM_ALLOW_PRIVATE_ADDRESSES")?,
            ready_file: settings.optional_path("READY_FILE")?,
        })
    }
}

fn bootstrap_token(settings: &Settings) -> Result<SecretString, SettingsError> {
    const NAME: &str = "ADMIN_BOOTSTRAP_TOKEN";
    let token = settings
        .secret(NAME)?
        .ok_or_else(|| SettingsError::one(NAME, "is required"))?;
    let text = token.expose_secret();
    if text.starts_with("adm_") && text.len() >= 36 && text.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(token)
    } else {
        let message = "expected adm_ and at least 32 visible ASCII characters";
        Err(SettingsError::one(NAME, message))
    }
}

fn sealing_key(settings: &Settings) -> Result<PublicKey, SettingsError> {
    const NAME: &str = "PROVIDER_KEY_ENCRYPTION_PUBLIC_KEY_FILE";
    let key = PublicKey::from_pem(&read(settings, NAME)?)
        .map_err(|error| SettingsError::one(NAME, error.to_string()))?;
    match settings.optional("PROVIDER_KEY_ENCRYPTION_KEY_ID")? {
        Some(expected) if expected != key.key_id() => Err(SettingsError::one(
            "PROVIDER_KEY_ENCRYPTION_KEY_ID",
            format!(
                "found `{expected}`: the public key's id is {}",
                key.key_id()
            ),
        )),
        Some(_) | None => Ok(key),
    }
}

fn subject_keys(settings: &Settings) -> Result<SubjectKeys, SettingsError> {
    const NAME: &str = "SUBJECT_KEY_FILE";
    SubjectKeys::from_file(&read(settings, NAME)?)
        .map_err(|error| SettingsError::one(NAME, error.to_string()))
}

fn read(settings: &Settings, name: &'static str) -> Result<String, SettingsError> {
    let path = settings.path(name)?;
    fs::read_to_string(&path)
        .map_err(|error| SettingsError::one(name, format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(changes: &[(&str, &str)]) -> Result<Config, SettingsError> {
        let directory = tempfile::tempdir().unwrap();
        let (public, subject) = (
            directory.path().join("public.pem"),
            directory.path().join("subject"),
        );
        fs::write(
            &public,
            include_str!("../../events/src/seal/fixtures/webcrypto_public.pem"),
        )
        .unwrap();
        fs::write(&subject, SubjectKeys::generate_file().as_str()).unwrap();
        let token = format!("adm_{}", "x".repeat(40));
        let base = [
            ("POSTGRES_DSN", "postgres://u@h/d"),
            ("REDIS_URL", "redis://h:1"),
            ("ADMIN_BOOTSTRAP_TOKEN", &token),
            (
                "PROVIDER_KEY_ENCRYPTION_PUBLIC_KEY_FILE",
                public.to_str().unwrap(),
            ),
            ("SUBJECT_KEY_FILE", subject.to_str().unwrap()),
        ];
        let pairs = base
            .iter()
            .chain(changes)
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        Config::from_settings(&Settings::from_pairs(pairs, SETTINGS)?)
    }

    #[test]
    fn the_required_settings_are_enough() {
        let config = with(&[]).unwrap();
        assert_eq!(config.address.to_string(), "127.0.0.1:8081");
        assert!(!config.allow_private_addresses);
        assert_eq!(config.sealing_key.key_id().len(), 32);
    }

    #[test]
    fn a_weak_token_and_another_keys_id_are_refused_by_name() {
        for (name, value) in [
            ("ADMIN_BOOTSTRAP_TOKEN", "adm_short"),
            (
                "ADMIN_BOOTSTRAP_TOKEN",
                "a token that is long enough but has no prefix",
            ),
            (
                "PROVIDER_KEY_ENCRYPTION_KEY_ID",
                "00000000000000000000000000000000",
            ),
            ("POSTGRES_MAX_OPEN", "1"),
        ] {
            let error = with(&[(name, value)]).err().unwrap();
            assert_eq!(error.problems[0].name, name);
            assert!(!error.to_string().contains("adm_short"));
        }
    }
}
