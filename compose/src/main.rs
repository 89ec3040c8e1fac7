//! The `odock` binary: puts the parts together. `odock up` runs all of them on one machine; the other commands are the
//! parts themselves, as `up` starts them and as a deployment runs them.

mod check_config;
mod demo;
mod demo_upstream;
mod doctor;
mod explain;
mod logging;
mod migrate;
mod private_postgres;
mod private_redis;
mod rebuild;
mod service;
mod signals;
mod terminal;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One gateway for LLM traffic whose money is exact.
#[derive(Parser)]
#[command(name = "odock", version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Up(up::UpOptions),
    /// Run a gateway alone, as a deployment does: the data plane.
    Gateway(service::ServiceOptions),
    /// Run a projector alone, as a deployment does: turns the streams into tables.
    Projector(service::ServiceOptions),
    /// Run the admin alone, as a deployment does: the management API.
    Admin(service::ServiceOptions),
    DemoUpstream(demo_upstream::DemoUpstreamOptions),
    Migrate(migrate::MigrateOptions),
    CheckConfig(check_config::CheckConfigOptions),
    Rebuild(rebuild::RebuildOptions),
    Doctor(doctor::DoctorOptions),
    Explain(explain::ExplainOptions),
    /// End what a killed `up` leaves.
    #[command(hide = true, name = up::orphans::COMMAND)]
    EndOrphans,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Up(options) => return up::run(options),
        Command::Gateway(options) => service::run_gateway(&options),
        Command::Projector(options) => service::run_projector(&options),
        Command::Admin(options) => service::run_admin(&options),
        Command::DemoUpstream(options) => demo_upstream::run(options),
        Command::Migrate(options) => migrate::run(&options),
        Command::CheckConfig(options) => check_config::run(&options),
        Command::Rebuild(options) => rebuild::run(&options),
        Command::Doctor(options) => doctor::run(&options),
        Command::Explain(options) => explain::run(&options),
        Command::EndOrphans => up::orphans::run(),
    };
    outcome.map_or_else(terminal::fail, |()| ExitCode::SUCCESS)
}
