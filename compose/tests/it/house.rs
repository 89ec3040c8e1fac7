//! A running `odock up` on a data directory of its own. Ends with the value, whatever the test left.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

pub(crate) struct House {
    pub(crate) dir: PathBuf,
    up: Child,
    owner: Option<tempfile::TempDir>,
    /// As root the stores lie elsewhere.
    stores: PathBuf,
}

impl House {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let owned = tempfile::tempdir().unwrap();
        let dir = owned.path().join("data");
        let mut house = Self::start_in(&dir, arguments);
        house.owner = Some(owned);
        house
    }

    /// On the data directory of an earlier one.
    pub(crate) fn start_in(dir: &Path, arguments: &[&str]) -> Self {
        let mut up = command(dir, arguments)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let own = u64::from(up.id());
        let ready = dir.join("ready.json");
        wait(Duration::from_secs(90), "ready.json", || {
            assert!(
                up.try_wait().unwrap().is_none(),
                "up ended before it was ready"
            );
            read(&ready).is_some_and(|ready| ready["pids"]["up"].as_u64() == Some(own))
        });
        let postgres = read(&ready).unwrap()["pids"]["postgres"].to_string();
        let cluster = fs::read_link(format!("/proc/{postgres}/cwd")).unwrap();
        Self {
            dir: dir.to_owned(),
            up,
            owner: None,
            stores: cluster.parent().unwrap().to_owned(),
        }
    }

    pub(crate) fn ready(&self) -> Value {
        read(&self.dir.join("ready.json")).unwrap()
    }

    /// The pid at this place of `ready.json`'s `pids`.
    pub(crate) fn pid(&self, at: &str) -> u32 {
        let ready = self.ready();
        let pid = ready["pids"].pointer(at).and_then(Value::as_u64);
        u32::try_from(pid.unwrap_or_else(|| panic!("no {at} in {ready}"))).unwrap()
    }

    /// Kills a child and waits for the pid of its successor.
    pub(crate) fn kill_and_wait_for_another(&self, at: &str) -> u32 {
        let old = self.pid(at);
        send(old, Signal::SIGKILL);
        wait(Duration::from_secs(30), at, || self.pid(at) != old);
        self.pid(at)
    }

    /// Every pid in `ready.json` but that of `up`.
    pub(crate) fn children(&self) -> Vec<u32> {
        let pids = self.ready()["pids"].as_object().unwrap().clone();
        let children = pids.into_iter().filter(|(name, _)| name != "up");
        children
            .flat_map(|(_, pid)| pid.as_array().cloned().unwrap_or_else(|| vec![pid]))
            .map(|pid| u32::try_from(pid.as_u64().unwrap()).unwrap())
            .collect()
    }

    pub(crate) fn signal(&mut self, signal: Signal) -> ExitStatus {
        send(self.up.id(), signal);
        let mut ended = None;
        wait(Duration::from_secs(60), "the end of up", || {
            ended = self.up.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap()
    }

    /// Hands over the data directory's owner, so that another `up` can use it.
    pub(crate) fn keep_data(&mut self) -> Option<tempfile::TempDir> {
        self.owner.take()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if self.up.try_wait().unwrap().is_none() {
            send(self.up.id(), Signal::SIGTERM);
            let _ = self.up.wait();
        }
        if self.stores.starts_with("/var/lib/odock") && self.owner.is_some() {
            let _ = fs::remove_dir_all(&self.stores);
        }
    }
}

/// `odock up` with any free ports.
pub(crate) fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_odock"));
    command.arg("up").arg("--data-dir").arg(dir).args(arguments);
    for flag in ["--gateway-port", "--admin-port", "--demo-port"] {
        if !arguments.contains(&flag) {
            command.args([flag, "0"]);
        }
    }
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

pub(crate) fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

/// Running, and not only waiting to be reaped.
pub(crate) fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

pub(crate) fn wait(limit: Duration, what: &str, mut until: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !until() {
        assert!(begun.elapsed() < limit, "{what}: not within {limit:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn read(path: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
