//! Starts a program so that it never outlives who needs it: a small shell between holds one end of a pipe, or watches
//! the test runner, and ends the program with it. Called for every process the harness starts.

use std::{
    fs::File,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use nix::{
    sys::signal::{self, Signal},
    unistd::{self, Pid},
};

use crate::wait::wait_for;

/// Who needs the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The value that [`start`] returns: dropped, the program ends.
    Caller,
    /// The test runner: the program serves other tests of the same run.
    Runner,
}

/// What to start.
#[derive(Debug)]
pub struct Program {
    pub path: PathBuf,
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// Its output; `<log>.pid` holds its pid.
    pub log: PathBuf,
    /// Sent when its time is over.
    pub stop_signal: Signal,
    /// Removed after its end, unless a file `keep` lies in it.
    pub remove: Option<PathBuf>,
    /// Run as the user nobody when this is root.
    pub unprivileged: bool,
}

/// A running program of [`Owner::Caller`].
#[derive(Debug)]
pub struct Kept {
    keeper: Child,
    pid_file: PathBuf,
}

impl Kept {
    /// The pid of the program itself.
    pub async fn pid(&self) -> anyhow::Result<u32> {
        wait_for("the program's pid", Duration::from_secs(5), async || {
            let text = std::fs::read_to_string(&self.pid_file).ok()?;
            text.trim().parse().ok()
        })
        .await
    }

    /// Ends the program in order and waits for it.
    pub async fn stop(mut self, deadline: Duration) -> anyhow::Result<()> {
        drop(self.keeper.stdin.take());
        wait_for("the end of the program", deadline, async || {
            self.keeper.try_wait().ok().flatten()
        })
        .await?;
        Ok(())
    }
}

/// Starts a program; its end is its owner's.
pub fn start(program: &Program, owner: Owner) -> anyhow::Result<Kept> {
    let pid_file = program.log.with_extension("pid");
    // That of an earlier program with the same log is not this one's.
    if pid_file.exists() {
        std::fs::remove_file(&pid_file)?;
    }
    let log =
        File::create(&program.log).with_context(|| format!("write {}", program.log.display()))?;
    let mut command = Command::new("/bin/sh");
    command.args(["-c", KEEPER, "keeper"]);
    command.arg(match owner {
        Owner::Caller => "0".to_owned(),
        Owner::Runner => unistd::getppid().to_string(),
    });
    command.arg(program.stop_signal.as_str().trim_start_matches("SIG"));
    command.arg(program.remove.as_deref().unwrap_or_else(|| Path::new("")));
    command.arg(&pid_file);
    if program.unprivileged && unistd::geteuid().is_root() {
        command.args([
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
        ]);
    }
    command.arg(&program.path).args(&program.arguments);
    command.envs(
        program
            .environment
            .iter()
            .map(|(name, value)| (name, value)),
    );
    command.current_dir("/").process_group(0);
    command.stdin(match owner {
        Owner::Caller => Stdio::piped(),
        Owner::Runner => Stdio::null(),
    });
    command.stdout(log.try_clone()?).stderr(log);
    let keeper = command.spawn().context("start the keeper of a program")?;
    Ok(Kept { keeper, pid_file })
}

/// Sends a signal to a process; it is no error that it is gone.
pub fn send(pid: u32, signal: Signal) {
    let _gone = signal::kill(Pid::from_raw(pid.cast_signed()), signal);
}

/// Whether a process is there and not only waiting to be collected.
pub fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| {
        let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
        !state.starts_with(['Z', 'X'])
    })
}

/// The memory of a process that is not swapped out.
pub fn resident_kib(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("how much memory process {pid} has"))
}

/// SIGKILL, and back when the process is gone.
pub async fn kill(pid: u32) -> anyhow::Result<()> {
    send(pid, Signal::SIGKILL);
    wait_gone(pid, Duration::from_secs(5)).await
}

pub async fn wait_gone(pid: u32, deadline: Duration) -> anyhow::Result<()> {
    wait_for(format!("the end of process {pid}"), deadline, async || {
        (!is_alive(pid)).then_some(())
    })
    .await
}

/// Arguments: the runner's pid or 0, the stop signal, a directory to remove or nothing, the pid file, the command.
const KEEPER: &str = r#"
runner=$1 signal=$2 remove=$3 pid_file=$4
shift 4
"$@" </dev/null &
child=$!
trap '' INT TERM HUP
echo "$child" >"$pid_file.new" && mv "$pid_file.new" "$pid_file"
if [ "$runner" = 0 ]; then read -r _; else
    while kill -0 "$runner" && kill -0 "$child"; do sleep 0.3; done 2>/dev/null
fi
kill -s "$signal" "$child" 2>/dev/null
(sleep 20; kill -s KILL "$child") >/dev/null 2>&1 &
killer=$!
wait "$child"
status=$?
kill -s KILL "$killer" 2>/dev/null
if [ -n "$remove" ] && [ ! -e "$remove/keep" ] && [ -z "$ODOCK_TESTS_KEEP" ]; then rm -rf "$remove"; fi
exit "$status"
"#;
