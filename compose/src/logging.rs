//! Logs of the services: JSON lines on standard error, filtered by `RUST_LOG` or else `LOG_LEVEL`.
//! Called once by each command that runs a service.

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

/// `level` is a level (`info`) or a list of directives (`info,odock_gateway=debug`).
pub(crate) fn start_logging(level: &str) -> anyhow::Result<()> {
    let filter = match EnvFilter::try_from_default_env() {
        Ok(filter) => filter,
        Err(_) => EnvFilter::try_new(level).with_context(|| format!("LOG_LEVEL `{level}`"))?,
    };
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init()
        .map_err(|error| anyhow::anyhow!("start logging: {error}"))
}
