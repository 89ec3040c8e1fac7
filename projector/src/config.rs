//! The projector's settings. Read once at start by the binary.

use std::{path::PathBuf, str::FromStr as _, time::Duration};

use odock_events::settings::{Setting, Settings, SettingsError};
use sqlx::postgres::PgConnectOptions;

/// Every variable that the projector knows.
pub const SETTINGS: &[Setting] = &[
    Setting::new("POSTGRES_DSN", "where Postgres is: postgres://user:password@host:port/database; not behind PgBouncer's transaction pooling")
        .required()
        .secret(),
    Setting::new("REDIS_URL", "where Redis is: redis://host:port or redis+unix:///path").required().secret(),
    Setting::new("READY_FILE", "a file that is written when the projector is up and when it becomes active"),
    Setting::new("PROJECTOR_ID", "the name of this projector in status and logs; by default its process id"),
    Setting::new("PROJECTOR_BATCH", "usage events that one transaction takes at most").default("2000"),
    Setting::new("PROJECTOR_LINGER", "how long few usage events wait for more before they are written")
        .default("20ms"),
];

/// What `run` needs.
#[derive(Clone)]
pub struct Config {
    pub postgres: PgConnectOptions,
    pub redis_url: String,
    pub ready_file: Option<PathBuf>,
    pub id: String,
    /// Usage events that one transaction takes at most.
    pub batch: usize,
    pub linger: Duration,
}

impl Config {
    pub fn from_settings(settings: &Settings) -> Result<Self, SettingsError> {
        let dsn = settings.text("POSTGRES_DSN")?;
        let postgres = PgConnectOptions::from_str(&dsn)
            .map_err(|_| SettingsError::one("POSTGRES_DSN", "is no Postgres URL"))?;
        let batch: usize = settings.parse("PROJECTOR_BATCH")?;
        if !(1..=100_000).contains(&batch) {
            return Err(SettingsError::one(
                "PROJECTOR_BATCH",
                "expected 1 to 100000",
            ));
        }
        let linger = settings.duration("PROJECTOR_LINGER")?;
        if linger > Duration::from_millis(500) {
            return Err(SettingsError::one(
                "PROJECTOR_LINGER",
                "expected at most 500ms",
            ));
        }
        Ok(Self {
            postgres: with_timeouts(postgres),
            redis_url: settings.text("REDIS_URL")?,
            ready_file: settings.optional_path("READY_FILE")?,
            id: settings
                .optional("PROJECTOR_ID")?
                .unwrap_or_else(|| std::process::id().to_string()),
            batch,
            linger,
        })
    }
}

/// A statement that waits for ever would be a projector that does nothing and looks alive.
fn with_timeouts(options: PgConnectOptions) -> PgConnectOptions {
    options.application_name("odock-projector").options([
        ("statement_timeout", "60s"),
        ("lock_timeout", "10s"),
        ("idle_in_transaction_session_timeout", "60s"),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::from_pairs(pairs, SETTINGS).unwrap()
    }

    const STORES: [(&str, &str); 2] = [
        ("POSTGRES_DSN", "postgres://u@h/d"),
        ("REDIS_URL", "redis://h:1"),
    ];

    #[test]
    fn the_stores_are_enough() {
        let config = Config::from_settings(&settings(&STORES)).unwrap();
        assert_eq!(config.batch, 2000);
        assert_eq!(config.linger, Duration::from_millis(20));
        assert_eq!(config.id, std::process::id().to_string());
    }

    #[test]
    fn a_wrong_value_is_refused_by_name() {
        for (name, value) in [
            ("PROJECTOR_BATCH", "0"),
            ("PROJECTOR_LINGER", "2s"),
            ("POSTGRES_DSN", "nonsense"),
        ] {
            let pairs = [&STORES[..], &[(name, value)]].concat();
            let error = Config::from_settings(&settings(&pairs)).err().unwrap();
            assert_eq!(error.problems[0].name, name);
        }
    }
}
