//! `odock rebuild`: folds the log from position 0 into tables of its own and compares them with the live ones, or puts
//! them in their place.

use anyhow::Context as _;
use clap::Args;
use odock_projector::rebuild::{self, Mode};

use crate::terminal::say;

/// Fold the log from its beginning and compare the result with the live tables.
///
/// Safe while everything runs: the live tables are read in one snapshot. Exit 1 when any table differs.
#[derive(Args)]
pub(crate) struct RebuildOptions {
    /// postgres://user:password@host:port/database
    #[arg(long, env = "POSTGRES_DSN", hide_env_values = true, value_name = "URL")]
    postgres_url: String,
    /// Compare and drop the rebuilt tables (the default).
    #[arg(long, conflicts_with = "replace")]
    verify: bool,
    /// Put the rebuilt tables in the live ones' place. Stop every projector before.
    #[arg(long)]
    replace: bool,
}

pub(crate) fn run(options: &RebuildOptions) -> anyhow::Result<()> {
    let mode = if options.replace {
        Mode::Replace
    } else {
        Mode::Verify
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let report = runtime.block_on(rebuild::run(&options.postgres_url, mode))?;
    say(&report);
    anyhow::ensure!(
        report.is_equal(),
        "the live tables are not what the log says"
    );
    Ok(())
}
