//! `make bench`: starts the stub, nginx and a real stack, and prints what they cost.

use std::{net::SocketAddr, time::Instant};

use clap::{Parser, Subcommand};
use odock_benches::{
    micro, push,
    scenario::{self, Effort},
    stack::{self, Stack},
    stub, targets, throughput,
};

/// Measures Odock. Figures are medians of rounds; targets run in turn.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
    /// Rounds of each scenario.
    #[arg(long, global = true, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each run.
    #[arg(long, global = true, default_value_t = 3)]
    seconds: u64,
}

#[derive(Subcommand, Clone, Copy, PartialEq, Eq)]
enum What {
    /// Everything.
    All,
    /// The gateway against nginx.
    Gateway,
    /// CPU of all parts per governed request, the projector, a rebuild.
    System,
    /// The rules of money alone, without processes.
    Micro,
    /// A change until all gateways have applied it.
    Push,
    /// The stub upstream alone.
    #[command(hide = true)]
    Stub { addr: SocketAddr },
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let What::Stub { addr } = arguments.what {
        return stub::serve(addr);
    }
    if matches!(arguments.what, What::All | What::Micro) {
        micro::run(arguments.rounds)?;
    }
    if arguments.what == What::Micro {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let odock = stack::odock()?;
    let (_stub, authority) = targets::stub()?;
    let began = Instant::now();
    let gateways = if arguments.what == What::Push { 2 } else { 1 };
    let stack = runtime.block_on(Stack::start(&odock, gateways, &authority))?;
    std::io::Write::write_fmt(
        &mut std::io::stdout(),
        format_args!(
            "odock up with a fresh database: ready in {:.1} s\n\n",
            began.elapsed().as_secs_f64()
        ),
    )?;
    let all = arguments.what == What::All;
    if all || arguments.what == What::Gateway {
        let effort = Effort {
            rounds: arguments.rounds,
            seconds: arguments.seconds,
        };
        scenario::run(&stack, &authority, effort)?;
    }
    if all || arguments.what == What::System {
        throughput::system(&stack, arguments.seconds.max(5))?;
        throughput::rebuild(&odock, &stack)?;
    }
    if all || arguments.what == What::Push {
        runtime.block_on(push::run(&stack, 200))?;
    }
    Ok(())
}
