//! The flags of `odock up`.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, ValueEnum};

/// Run everything on this machine: stores, services, a demo provider and a tenant with a key.
///
/// Starts a private Postgres and a private Redis (unless URLs are given), migrates, starts the services as child
/// processes and keeps them running, seeds a demo organisation whose key has a budget of 10 USD, and prints a call that
/// works. Ctrl-C stops all of it; the data stays.
#[derive(Args, Clone, Debug)]
pub(crate) struct UpOptions {
    /// Journal, snapshots, logs, keys and ready.json; mode 0700.
    #[arg(
        long,
        env = "ODOCK_DATA_DIR",
        default_value = ".odock",
        value_name = "DIRECTORY"
    )]
    pub(crate) data_dir: PathBuf,
    /// Address of gateway and admin.
    #[arg(
        long,
        env = "HTTP_HOST",
        default_value = "127.0.0.1",
        value_name = "ADDRESS"
    )]
    pub(crate) host: IpAddr,
    /// Port of the first gateway; 0 takes any free one [default: 8080, or the next free one].
    #[arg(long, env = "HTTP_PORT", value_name = "PORT")]
    pub(crate) gateway_port: Option<u16>,
    /// Port of the admin API; 0 takes any free one [default: 8081, or the next free one].
    #[arg(long, env = "ADMIN_HTTP_PORT", value_name = "PORT")]
    pub(crate) admin_port: Option<u16>,
    /// Port of the demo provider; 0 takes any free one [default: 8082, or the next free one].
    #[arg(long, env = "DEMO_HTTP_PORT", value_name = "PORT")]
    pub(crate) demo_port: Option<u16>,
    /// How many gateways.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64), value_name = "N")]
    pub(crate) gateways: u8,
    /// How many projectors; all but one stand by.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=8), value_name = "N")]
    pub(crate) projectors: u8,
    /// Use this Postgres instead of a private one.
    #[arg(long, env = "POSTGRES_DSN", hide_env_values = true, value_name = "URL")]
    pub(crate) postgres_url: Option<String>,
    /// Use this Redis instead of a private one.
    #[arg(long, env = "REDIS_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) redis_url: Option<String>,
    /// No demo provider and no seeded tenant.
    #[arg(long)]
    pub(crate) no_demo: bool,
    /// Whether a child that died is started again.
    #[arg(long, value_enum, default_value_t = Restart::Always)]
    pub(crate) restart: Restart,
    /// Log level of the services; `RUST_LOG` wins.
    #[arg(long, env = "LOG_LEVEL", default_value = "info")]
    pub(crate) log_level: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Restart {
    Always,
    /// A dead child stays dead; `odock gateway --config <data-dir>/run/gateway-1.toml` starts it by hand.
    Never,
}

/// What the person asked for cannot be done as asked: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UsageError(pub(crate) String);
