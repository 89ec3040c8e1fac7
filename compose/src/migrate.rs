//! `odock migrate`: brings the database to this binary's schema. Also run by `odock up` before its services start.

use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use sqlx::{Connection as _, PgConnection};

use crate::terminal::say;

/// Bring the database to this version's schema.
///
/// Forward only, and safe to repeat or to run from several places at once: one at a time does the work.
#[derive(Args)]
pub(crate) struct MigrateOptions {
    /// postgres://user:password@host:port/database
    #[arg(long, env = "POSTGRES_DSN", hide_env_values = true, value_name = "URL")]
    postgres_url: String,
}

pub(crate) fn run(options: &MigrateOptions) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(migrate(&options.postgres_url))?;
    say("the database has this version's schema");
    Ok(())
}

/// Applies what the database has not yet.
pub(crate) async fn migrate(postgres_url: &str) -> anyhow::Result<()> {
    let connecting = PgConnection::connect(postgres_url);
    let mut connection = tokio::time::timeout(CONNECT_TIMEOUT, connecting)
        .await
        .context("connect to Postgres")?
        .context("connect to Postgres")?;
    sqlx::migrate!("../migrations")
        .run(&mut connection)
        .await
        .context("migrate the database")?;
    connection.close().await.context("close the connection")
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
