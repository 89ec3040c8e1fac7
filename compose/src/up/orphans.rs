//! What ends the children of an `odock up` that was killed: a process beside it, `odock end-orphans`, that hears of each
//! child by its standard input. The kernel ends that input whatever happens to `up`. Services end by their own input as
//! well; a store does not, and neither does a service that stands still.

use std::{
    fs::OpenOptions,
    io::{self, BufRead as _, Write as _},
    os::unix::{fs::OpenOptionsExt as _, process::CommandExt as _},
    path::Path,
    process::{Child, Command, Stdio},
    str::FromStr as _,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::sys::signal::Signal;

use super::{process, programs, supervisor::Stage};
use crate::{signals::ORPHAN_GRACE, terminal::complain};

/// The name of the command, which nobody but `up` runs.
pub(crate) const COMMAND: &str = "end-orphans";

/// The process that watches over the children; the pipe to it is open for as long as `up` lives.
#[derive(Clone)]
pub(crate) struct Watch(Option<Arc<Mutex<Child>>>);

impl Watch {
    /// Starts the process.
    pub(crate) fn begin(program: &Path, log: &Path) -> anyhow::Result<Self> {
        let log = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(log)?;
        let child = Command::new(program)
            .arg(COMMAND)
            .env_clear()
            .envs(programs::basic_environment())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            // A group of its own: what ends `up` at a terminal must not end this.
            .process_group(0)
            .spawn()
            .context("start what watches over the children")?;
        Ok(Self(Some(Arc::new(Mutex::new(child)))))
    }

    /// Nobody watches.
    #[cfg(test)]
    pub(crate) fn nobody() -> Self {
        Self(None)
    }

    /// Names a child. One that cannot be named is ended by the next `up` on the data directory.
    pub(crate) fn name(&self, stage: Stage, stop_signal: Signal, identity: &str) {
        let Some(process) = &self.0 else { return };
        let orphan = Orphan {
            is_store: stage == Stage::Stores,
            stop_signal,
            identity: identity.to_owned(),
        };
        let mut process = process.lock().unwrap_or_else(PoisonError::into_inner);
        let told = process
            .stdin
            .as_mut()
            .map(|input| writeln!(input, "{}", orphan.to_line()));
        if let Some(Err(error)) = told {
            complain(format_args!(
                "a child outlives this process if it is killed: {error}"
            ));
        }
    }
}

/// `odock end-orphans`: waits for the end of `up`, then ends what it left.
pub(crate) fn run() -> anyhow::Result<()> {
    let lines = io::stdin().lock().lines();
    let named: Vec<Orphan> = lines
        .map_while(Result::ok)
        .filter_map(|line| Orphan::of_line(&line))
        .collect();
    let (stores, services): (Vec<_>, Vec<_>) =
        named.into_iter().partition(|orphan| orphan.is_store);
    // They give back what they hold, and need the stores for it.
    wait_until_gone(&services, ORPHAN_GRACE + BEYOND_GRACE);
    end(&services, |_| Signal::SIGKILL)?;
    end(&stores, |orphan| orphan.stop_signal)?;
    wait_until_gone(&stores, STORE_GRACE);
    end(&stores, |_| Signal::SIGKILL)
}

/// A child by who it is, not only by its number, which another process may have by now.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Orphan {
    is_store: bool,
    stop_signal: Signal,
    identity: String,
}

impl Orphan {
    fn to_line(&self) -> String {
        let kind = if self.is_store { STORE } else { SERVICE };
        format!("{kind} {} {}", self.stop_signal.as_str(), self.identity)
    }

    fn of_line(line: &str) -> Option<Self> {
        let (kind, rest) = line.split_once(' ')?;
        let (signal, identity) = rest.split_once(' ')?;
        Some(Self {
            is_store: kind == STORE,
            stop_signal: Signal::from_str(signal).ok()?,
            identity: identity.to_owned(),
        })
    }

    fn lives(&self) -> Option<u32> {
        process::who_is(&self.identity).filter(|pid| process::is_running(*pid))
    }
}

fn end(orphans: &[Orphan], signal: impl Fn(&Orphan) -> Signal) -> anyhow::Result<()> {
    for orphan in orphans {
        if let Some(pid) = orphan.lives() {
            process::send(pid, signal(orphan))?;
        }
    }
    Ok(())
}

fn wait_until_gone(orphans: &[Orphan], patience: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < patience && orphans.iter().any(|orphan| orphan.lives().is_some()) {
        thread::sleep(POLL);
    }
}

const STORE: &str = "store";
const SERVICE: &str = "service";
/// What a service that ends by itself may take beyond its grace on a busy machine.
const BEYOND_GRACE: Duration = Duration::from_secs(1);
/// A store writes what it has in memory.
const STORE_GRACE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_who_it_was() {
        let orphan = Orphan {
            is_store: true,
            stop_signal: Signal::SIGINT,
            identity: "7 123 a-boot".to_owned(),
        };
        assert_eq!(orphan.to_line(), "store SIGINT 7 123 a-boot");
        assert_eq!(Orphan::of_line(&orphan.to_line()), Some(orphan));
        assert_eq!(Orphan::of_line("store"), None);
        assert_eq!(Orphan::of_line("store SIGNONE 7 1 a-boot"), None);
    }
}
