//! What tells a process to stop: SIGINT, SIGTERM, SIGHUP, and for a child of `odock up` the end of its standard input,
//! which the kernel closes whatever happens to the parent.

use std::{
    io::{self, Read as _},
    process, thread,
    time::Duration,
};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Both are cancelled by signals: the first stops in order, the second at once.
#[derive(Clone)]
pub(crate) struct Stop {
    pub(crate) in_order: CancellationToken,
    pub(crate) at_once: CancellationToken,
}

impl Stop {
    /// Must be called on a runtime.
    pub(crate) fn on_signals(tasks: &TaskTracker) -> io::Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let stop = Self {
            in_order: CancellationToken::new(),
            at_once: CancellationToken::new(),
        };
        let told = stop.clone();
        tasks.spawn(async move {
            for token in [&told.in_order, &told.at_once] {
                any_of(&mut interrupt, &mut terminate, &mut hang_up).await;
                token.cancel();
            }
        });
        Ok(stop)
    }
}

async fn any_of(interrupt: &mut Signal, terminate: &mut Signal, hang_up: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
}

/// Cancels `stop` when standard input ends, and ends the process soon after: its parent is dead, and the next `odock up`
/// wants the ports, the journal and the ledger.
pub(crate) fn stop_with_parent(stop: CancellationToken) {
    thread::spawn(move || {
        let mut buffer = [0; 64];
        let mut input = io::stdin().lock();
        loop {
            match input.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        tracing::warn!("the parent process is gone, stopping");
        stop.cancel();
        thread::sleep(ORPHAN_GRACE);
        process::exit(1);
    });
}

/// How long an orphan may take; `up` waits longer than this for the children of its predecessor.
pub(crate) const ORPHAN_GRACE: Duration = Duration::from_secs(2);
