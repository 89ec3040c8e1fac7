//! `odock gateway`, `odock projector`, `odock admin`: reads the settings, starts the runtime, and runs one service until it
//! is told to stop.

use std::{future::Future, path::PathBuf};

use anyhow::Context as _;
use clap::Args;
use odock_events::settings::{Setting, Settings, SettingsError};
use odock_gateway::config::OtlpSettings;
use tokio::runtime;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    logging,
    signals::{self, Stop},
};

#[derive(Args)]
#[command(
    after_help = "Settings come from environment variables over the file; `odock check-config --document` lists them."
)]
pub(crate) struct ServiceOptions {
    /// A flat TOML file whose keys are the variables' own names.
    #[arg(long, env = "ODOCK_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) process: ProcessOptions,
}

/// What every process of ours takes.
#[derive(Args, Clone)]
pub(crate) struct ProcessOptions {
    /// error, warn, info, debug, trace, or a list of directives; `RUST_LOG` wins.
    #[arg(long, env = "LOG_LEVEL", default_value = "info")]
    pub(crate) log_level: String,
    /// Stop when standard input ends.
    #[arg(long, hide = true)]
    pub(crate) parent_pipe: bool,
}

pub(crate) fn run_gateway(options: &ServiceOptions) -> anyhow::Result<()> {
    let config = read_config(
        options,
        odock_gateway::SETTINGS,
        odock_gateway::Config::from_settings,
    )?;
    let wishes = Wishes {
        threads: config.worker_threads,
        spans: config.observability.otlp.clone(),
    };
    run_service(&options.process, &wishes, |stop| {
        odock_gateway::run(config, stop)
    })
}

pub(crate) fn run_projector(options: &ServiceOptions) -> anyhow::Result<()> {
    let config = read_config(
        options,
        odock_projector::SETTINGS,
        odock_projector::Config::from_settings,
    )?;
    run_service(&options.process, &Wishes::default(), |stop| {
        odock_projector::run(config, stop)
    })
}

pub(crate) fn run_admin(options: &ServiceOptions) -> anyhow::Result<()> {
    let config = read_config(
        options,
        odock_admin::SETTINGS,
        odock_admin::Config::from_settings,
    )?;
    run_service(&options.process, &Wishes::default(), |stop| {
        odock_admin::run(config, stop)
    })
}

fn read_config<C>(
    options: &ServiceOptions,
    table: &'static [Setting],
    read: impl FnOnce(&Settings) -> Result<C, SettingsError>,
) -> anyhow::Result<C> {
    let settings = Settings::load(options.config.as_deref(), table)?;
    Ok(read(&settings)?)
}

/// What a service wants of its process beside the common options.
#[derive(Default)]
pub(crate) struct Wishes {
    /// `None`: one thread for each core.
    pub(crate) threads: Option<usize>,
    pub(crate) spans: Option<OtlpSettings>,
}

/// Runs `start` until it ends by itself or a signal, or the end of the parent, cancels its token. A second signal ends the
/// process at once: what it leaves behind is what a kill leaves behind.
pub(crate) fn run_service<F, E>(
    process: &ProcessOptions,
    wishes: &Wishes,
    start: impl FnOnce(CancellationToken) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = Result<(), E>>,
    anyhow::Error: From<E>,
{
    let mut builder = runtime::Builder::new_multi_thread();
    if let Some(threads) = wishes.threads {
        builder.worker_threads(threads);
    }
    let runtime = builder.enable_all().build().context("start the runtime")?;
    let exporting = {
        let _on_runtime = runtime.enter();
        logging::start_logging(&process.log_level, wishes.spans.as_ref())?
    };
    let ended = runtime.block_on(async {
        let tasks = TaskTracker::new();
        let stop = Stop::on_signals(&tasks).context("listen for signals")?;
        if process.parent_pipe {
            signals::stop_with_parent(stop.in_order.clone());
        }
        tokio::select! {
            ended = Box::pin(start(stop.in_order.clone())) => Ok(ended?),
            () = stop.at_once.cancelled() => std::process::exit(1),
        }
    });
    if let Some(exporting) = exporting {
        exporting.finish();
    }
    if let Err(error) = &ended {
        tracing::error!(%error, "the service ended with an error");
    }
    ended
}
