//! One supervised process: spawned, watched until it is ready, started again when it dies, ended in order.
//! Run by `supervisor`.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    sync::watch,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{files, options::Restart, orphans, process, supervisor::Stage};
use crate::terminal::complain;

/// How to run one child.
pub(crate) struct ChildPlan {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// As root: the user it runs as.
    pub(crate) user: Option<u32>,
    pub(crate) ready: ReadyWhen,
    pub(crate) stop_signal: Signal,
    pub(crate) grace: Duration,
    pub(crate) log: PathBuf,
}

/// How a child is seen to be up.
#[derive(Clone)]
pub(crate) enum ReadyWhen {
    /// It writes this file, with its pid.
    Writes(PathBuf),
    /// It takes connections.
    Connects(SocketAddr),
}

/// How far a child is; the pid is that of the process that runs or ran last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChildState {
    Starting,
    Ready { pid: u32 },
    Died { times: u32, why: String },
}

/// Where a child's task tells what it does, and what tells it to stop.
pub(crate) struct Control {
    pub(crate) run_dir: PathBuf,
    pub(crate) stage: Stage,
    pub(crate) watch: orphans::Watch,
    pub(crate) restart: Restart,
    pub(crate) stop: CancellationToken,
    pub(crate) stop_at_once: CancellationToken,
    pub(crate) state: watch::Sender<ChildState>,
    pub(crate) pids: watch::Sender<BTreeMap<String, u32>>,
}

enum Ended {
    Stopped,
    Died { was_ready: bool, why: String },
}

/// Runs the child until it is stopped.
pub(crate) async fn keep_running(plan: ChildPlan, control: Control) {
    let mut pause = FIRST_PAUSE;
    let mut deaths = 0;
    loop {
        let ended = run_once(&plan, &control)
            .await
            .unwrap_or_else(|error| Ended::Died {
                was_ready: false,
                why: format!("could not be started: {error}"),
            });
        let Ended::Died { was_ready, why } = ended else {
            return;
        };
        deaths += 1;
        let never = control.restart == Restart::Never;
        let next = if never {
            "stays dead"
        } else {
            "is started again"
        };
        complain(format_args!("{} {why}; it {next}", plan.name));
        control
            .state
            .send_replace(ChildState::Died { times: deaths, why });
        if never {
            follow_by_hand(&plan, &control).await;
            return;
        }
        pause = if was_ready {
            FIRST_PAUSE
        } else {
            (pause * 2).min(LONGEST_PAUSE)
        };
        tokio::select! {
            () = control.stop.cancelled() => return,
            () = sleep(pause) => {}
        }
    }
}

async fn run_once(plan: &ChildPlan, control: &Control) -> io::Result<Ended> {
    if let ReadyWhen::Writes(path) = &plan.ready {
        files::remove(path)?;
    }
    let mut child = spawn(plan)?;
    // Open until the child ends, or this process does.
    let _pipe = child.stdin.take();
    let Some(pid) = child.id() else {
        return Ok(Ended::Died {
            was_ready: false,
            why: "ended at once".to_owned(),
        });
    };
    let identity = process::note(&control.run_dir, &plan.name, pid)?;
    control
        .watch
        .name(control.stage, plan.stop_signal, &identity);
    publish_pid(plan, control, pid);
    let was_ready = tokio::select! {
        () = control.stop.cancelled() => None,
        status = child.wait() => return Ok(died(false, status?)),
        () = wait_until_ready(&plan.ready, pid) => Some(()),
    };
    if was_ready.is_some() {
        control.state.send_replace(ChildState::Ready { pid });
        tokio::select! {
            () = control.stop.cancelled() => {}
            status = child.wait() => return Ok(died(true, status?)),
        }
    }
    end(plan, control, &mut child, pid).await?;
    process::forget(&control.run_dir, &plan.name)?;
    Ok(Ended::Stopped)
}

fn spawn(plan: &ChildPlan) -> io::Result<Child> {
    let log = open_log(&plan.log)?;
    let mut command = Command::new(&plan.program);
    command
        .args(&plan.arguments)
        .env_clear()
        .envs(plan.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        // A group of its own: Ctrl-C at the terminal reaches `up` only, which stops its children in order.
        .process_group(0)
        .kill_on_drop(true);
    if let Some(user) = plan.user {
        command.uid(user).gid(user).current_dir("/");
    }
    command.spawn()
}

/// Asks it to end, and kills it when it takes too long or the person asks twice.
async fn end(plan: &ChildPlan, control: &Control, child: &mut Child, pid: u32) -> io::Result<()> {
    process::send(pid, plan.stop_signal)?;
    let waited = tokio::select! {
        waited = tokio::time::timeout(plan.grace, child.wait()) => waited.ok(),
        () = control.stop_at_once.cancelled() => None,
    };
    if waited.is_none() {
        complain(format_args!(
            "{} did not end in time and is killed",
            plan.name
        ));
        child.start_kill()?;
        child.wait().await?;
    }
    Ok(())
}

/// After `--restart never`: somebody may start the child by hand, and `ready.json` then has its pid.
async fn follow_by_hand(plan: &ChildPlan, control: &Control) {
    let ReadyWhen::Writes(path) = &plan.ready else {
        return control.stop.cancelled().await;
    };
    loop {
        tokio::select! {
            () = control.stop.cancelled() => return,
            () = sleep(HAND_POLL) => {}
        }
        if let Some(pid) = read_ready_pid(path).filter(|pid| process::is_running(*pid)) {
            publish_pid(plan, control, pid);
        }
    }
}

async fn wait_until_ready(ready: &ReadyWhen, pid: u32) {
    loop {
        let is_ready = match ready {
            ReadyWhen::Writes(path) => read_ready_pid(path) == Some(pid),
            ReadyWhen::Connects(addr) => TcpStream::connect(addr).await.is_ok(),
        };
        if is_ready {
            return;
        }
        sleep(READY_POLL).await;
    }
}

/// The pid in a ready file: `{"pid":1,"addr":"127.0.0.1:8080"}`.
fn read_ready_pid(path: &Path) -> Option<u32> {
    let state: serde_json::Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    u32::try_from(state.get("pid")?.as_u64()?).ok()
}

fn publish_pid(plan: &ChildPlan, control: &Control, pid: u32) {
    control
        .pids
        .send_if_modified(|pids| pids.insert(plan.name.clone(), pid) != Some(pid));
}

fn died(was_ready: bool, status: ExitStatus) -> Ended {
    Ended::Died {
        was_ready,
        why: format!("ended ({status})"),
    }
}

fn open_log(path: &Path) -> io::Result<File> {
    if fs::metadata(path).is_ok_and(|log| log.len() > LONGEST_LOG) {
        fs::rename(path, path.with_extension("log.old"))?;
    }
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const READY_POLL: Duration = Duration::from_millis(10);
const HAND_POLL: Duration = Duration::from_millis(100);
const LONGEST_LOG: u64 = 16 << 20;
