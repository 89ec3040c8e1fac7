//! Which process a pid was: a pid with its start time and the boot it belongs to. `up` notes it for each child, so that the
//! next `up` on the same data directory ends what a killed one left, and never a stranger that got the same number.

use std::{fs, io, path::Path, time::Duration};

use anyhow::bail;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::{Instant, sleep};

use super::files;

/// Notes that `pid` is the child of this name, and says who it is.
pub(crate) fn note(run_dir: &Path, name: &str, pid: u32) -> io::Result<String> {
    let identity = identity(pid)?;
    files::replace(&pid_file(run_dir, name), identity.as_bytes())?;
    Ok(identity)
}

pub(crate) fn forget(run_dir: &Path, name: &str) -> io::Result<()> {
    files::remove(&pid_file(run_dir, name))
}

/// Is there a process with this pid, other than one that has ended and waits to be reaped?
pub(crate) fn is_running(pid: u32) -> bool {
    read_stat(pid).is_ok_and(|stat| stat.state != "Z" && stat.state != "X")
}

/// The process that was noted, if its number still belongs to it.
pub(crate) fn who_is(noted: &str) -> Option<u32> {
    let pid: u32 = noted.split_whitespace().next()?.parse().ok()?;
    identity(pid).is_ok_and(|now| now == noted).then_some(pid)
}

/// Ends every child that a killed `up` left and that `end-orphans` has not ended yet, and removes what an earlier run
/// noted of its children.
pub(crate) async fn end_leftovers(run_dir: &Path) -> anyhow::Result<()> {
    let mut leftovers = Vec::new();
    for entry in fs::read_dir(run_dir)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "pid") {
            files::remove(&path)?;
            continue;
        }
        let noted = fs::read_to_string(&path)?;
        match who_is(&noted) {
            Some(pid) => leftovers.push((path, pid)),
            None => files::remove(&path)?,
        }
    }
    for (_, pid) in &leftovers {
        // SIGINT is Postgres' fast shutdown; to all others it is what SIGTERM is.
        send(*pid, Signal::SIGINT)?;
    }
    for (path, pid) in leftovers {
        wait_until_gone(pid).await?;
        files::remove(&path)?;
    }
    Ok(())
}

/// Sends a signal; a process that is already gone is no error.
pub(crate) fn send(pid: u32, signal: Signal) -> nix::Result<()> {
    match kill(Pid::from_raw(pid.cast_signed()), signal) {
        Err(nix::errno::Errno::ESRCH) | Ok(()) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn wait_until_gone(pid: u32) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut killed = false;
    while is_running(pid) {
        if begun.elapsed() > PATIENCE && !killed {
            send(pid, Signal::SIGKILL)?;
            killed = true;
        }
        if begun.elapsed() > 2 * PATIENCE {
            bail!("process {pid}, left by an earlier `odock up`, does not end");
        }
        sleep(POLL).await;
    }
    Ok(())
}

fn pid_file(run_dir: &Path, name: &str) -> std::path::PathBuf {
    run_dir.join(name).with_extension("pid")
}

fn identity(pid: u32) -> io::Result<String> {
    let stat = read_stat(pid)?;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(format!("{pid} {} {}", stat.started, boot.trim()))
}

struct Stat {
    state: String,
    /// In clock ticks since boot.
    started: String,
}

fn read_stat(pid: u32) -> io::Result<Stat> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the name in parentheses, and may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let field = |index: usize| fields.split_whitespace().nth(index).map(str::to_owned);
    match (field(0), field(19)) {
        (Some(state), Some(started)) => Ok(Stat { state, started }),
        _ => Err(io::Error::from(io::ErrorKind::InvalidData)),
    }
}

const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[tokio::test]
    async fn a_leftover_is_ended_and_a_stranger_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let start = || Command::new("sleep").arg("600").spawn().unwrap();
        let (mut left, mut stranger) = (start(), start());
        note(dir.path(), "left", left.id()).unwrap();
        note(dir.path(), "stranger", stranger.id()).unwrap();
        let path = pid_file(dir.path(), "stranger");
        let noted = fs::read_to_string(&path).unwrap();
        let (pid, _) = noted.split_once(' ').unwrap();
        fs::write(&path, format!("{pid} 1 another-boot")).unwrap();
        end_leftovers(dir.path()).await.unwrap();
        assert!(!is_running(left.id()));
        assert!(is_running(stranger.id()));
        assert!(fs::read_dir(dir.path()).unwrap().next().is_none());
        stranger.kill().unwrap();
        stranger.wait().unwrap();
        left.wait().unwrap();
    }
}
