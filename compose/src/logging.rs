//! What services tell: logs as JSON lines on standard error, filtered by `RUST_LOG` or else `LOG_LEVEL`, and the gateway's
//! spans to a collector. Called once by each command that runs a service.

use anyhow::Context as _;
use odock_gateway::{
    config::OtlpSettings,
    telemetry::traces::{self, Exporting},
};
use tracing_subscriber::{
    EnvFilter, Layer as _,
    filter::{FilterExt as _, filter_fn},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// `level` is a level (`info`) or a list of directives (`info,odock_gateway=debug`). Must be called on a runtime; what it
/// returns sends the last spans.
pub(crate) fn start_logging(
    level: &str,
    spans: Option<&OtlpSettings>,
) -> anyhow::Result<Option<Exporting>> {
    let filter = match EnvFilter::try_from_default_env() {
        Ok(filter) => filter,
        Err(_) => EnvFilter::try_new(level).with_context(|| format!("LOG_LEVEL `{level}`"))?,
    };
    let (layer, exporting) = match spans {
        Some(settings) => {
            let (layer, exporting) = traces::layer(settings)?;
            (Some(layer), Some(exporting))
        }
        None => (None, None),
    };
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_writer(std::io::stderr)
        .with_filter(filter.and(filter_fn(|metadata| metadata.target() != traces::TARGET)));
    tracing_subscriber::registry()
        .with(layer)
        .with(lines)
        .try_init()
        .context("start logging")?;
    Ok(exporting)
}
