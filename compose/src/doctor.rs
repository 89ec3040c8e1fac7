//! `odock doctor`: asks a database whether the design's invariants hold.

use anyhow::Context as _;
use clap::Args;
use odock_projector::check::{self, Depth};
use sqlx::{Connection as _, PgConnection};

use crate::terminal::say;

/// Check that the invariants hold in a database: seqs, positions, balances.
///
/// Reads one snapshot while everything runs. Exit 1 when one does not hold.
#[derive(Args)]
pub(crate) struct DoctorOptions {
    /// postgres://user:password@host:port/database
    #[arg(long, env = "POSTGRES_DSN", hide_env_values = true, value_name = "URL")]
    postgres_url: String,
    /// Leave out what reads every usage record.
    #[arg(long)]
    quick: bool,
}

pub(crate) fn run(options: &DoctorOptions) -> anyhow::Result<()> {
    let depth = if options.quick {
        Depth::Quick
    } else {
        Depth::Full
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let violations = runtime.block_on(async {
        let mut connection = PgConnection::connect(&options.postgres_url)
            .await
            .context("connect to Postgres")?;
        let mut violations = check::violations(&mut connection, depth)
            .await
            .context("ask the database")?;
        if depth == Depth::Full {
            let mispriced = check::mispriced(&mut connection).await;
            violations.extend(mispriced.context("price the usage records")?);
        }
        anyhow::Ok(violations)
    })?;
    for violation in &violations {
        say(format_args!("{}: {}", violation.invariant, violation.what));
    }
    anyhow::ensure!(
        violations.is_empty(),
        "{} violations of the invariants",
        violations.len()
    );
    say("every invariant holds");
    Ok(())
}
