//! `odock demo-upstream`: the stub provider as a process of its own. Started by `odock up` and by tests and benches.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

use crate::{
    demo::{self, DemoOptions},
    service::{self, ProcessOptions, Wishes},
    terminal::say,
    up::files,
};

/// Run the demo provider: an OpenAI-compatible stub with an exact ledger of what reached it.
#[derive(Args)]
pub(crate) struct DemoUpstreamOptions {
    /// Where to listen; port 0 takes any free one.
    #[arg(long, default_value = "127.0.0.1:8082", value_name = "ADDRESS")]
    addr: SocketAddr,
    /// Where the ledger lies; it outlives restarts.
    #[arg(long, default_value = ".odock/demo", value_name = "DIRECTORY")]
    data_dir: PathBuf,
    /// The bearer key that callers must have.
    #[arg(long, default_value = demo::DEFAULT_KEY)]
    key: String,
    /// A file written when it listens: `{"pid","addr"}`.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    #[command(flatten)]
    process: ProcessOptions,
}

pub(crate) fn run(options: DemoUpstreamOptions) -> anyhow::Result<()> {
    let DemoUpstreamOptions {
        addr,
        data_dir,
        key,
        ready_file,
        process,
    } = options;
    let demo = DemoOptions {
        addr,
        data_dir,
        key,
    };
    service::run_service(&process, &Wishes::default(), |stop| {
        demo::run(demo, stop, move |bound| {
            say(format_args!("the demo provider listens on http://{bound}"));
            if let Some(path) = ready_file {
                let state = serde_json::json!({ "pid": std::process::id(), "addr": bound });
                if let Err(error) = files::replace(&path, state.to_string().as_bytes()) {
                    tracing::error!(%error, "the ready file could not be written");
                }
            }
        })
    })
}
