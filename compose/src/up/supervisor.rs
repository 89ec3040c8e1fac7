//! The children of one `odock up`: started one by one, ended stage by stage in the order in which they need one another.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    child::{self, ChildPlan, ChildState, Control},
    options::Restart,
    orphans::Watch,
};

/// Children that are ended together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// First: they ship what they still have.
    Gateways,
    Services,
    Projectors,
    /// Last: all others need them.
    Stores,
}

struct StageControl {
    stage: Stage,
    stop: CancellationToken,
    tasks: TaskTracker,
}

pub(crate) struct Supervisor {
    run_dir: PathBuf,
    restart: Restart,
    watch: Watch,
    stages: Vec<StageControl>,
    at_once: CancellationToken,
    pids: watch::Sender<BTreeMap<String, u32>>,
}

impl Supervisor {
    /// `watch` ends the children when this process is killed; `at_once` kills whatever is still ending.
    pub(crate) fn new(
        run_dir: PathBuf,
        restart: Restart,
        watch: Watch,
        at_once: CancellationToken,
    ) -> Self {
        let order = [
            Stage::Gateways,
            Stage::Services,
            Stage::Projectors,
            Stage::Stores,
        ];
        let stages = order.map(|stage| StageControl {
            stage,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        Self {
            run_dir,
            restart,
            watch,
            stages: stages.into(),
            at_once,
            pids: watch::Sender::new(BTreeMap::new()),
        }
    }

    /// The pid of each child by name; changes with each restart.
    pub(crate) fn pids(&self) -> watch::Receiver<BTreeMap<String, u32>> {
        self.pids.subscribe()
    }

    /// Starts a child without waiting for it.
    pub(crate) fn start(&self, when_to_end: Stage, plan: ChildPlan) -> Starting {
        let state = watch::Sender::new(ChildState::Starting);
        let starting = Starting {
            name: plan.name.clone(),
            log: plan.log.clone(),
            state: state.subscribe(),
        };
        let Some(group) = self.stages.iter().find(|group| group.stage == when_to_end) else {
            return starting;
        };
        let control = Control {
            run_dir: self.run_dir.clone(),
            stage: group.stage,
            watch: self.watch.clone(),
            restart: self.restart,
            stop: group.stop.clone(),
            stop_at_once: self.at_once.clone(),
            state,
            pids: self.pids.clone(),
        };
        group.tasks.spawn(child::keep_running(plan, control));
        starting
    }

    /// Ends all children, in order.
    pub(crate) async fn stop(&self) {
        for group in &self.stages {
            group.stop.cancel();
            group.tasks.close();
            group.tasks.wait().await;
        }
    }
}

/// A child that was told to start.
pub(crate) struct Starting {
    name: String,
    log: PathBuf,
    state: watch::Receiver<ChildState>,
}

impl Starting {
    /// Returns when the child is ready; fails when it dies more than `tolerated` times before, or takes too long.
    pub(crate) async fn until_ready(mut self, tolerated: u32) -> anyhow::Result<()> {
        let decided = self.state.wait_for(|state| match state {
            ChildState::Starting => false,
            ChildState::Ready { .. } => true,
            ChildState::Died { times, .. } => *times > tolerated,
        });
        let state = tokio::time::timeout(START_TIMEOUT, decided)
            .await
            .with_context(|| {
                format!(
                    "{} is not ready after {START_TIMEOUT:?}{}",
                    self.name,
                    tail(&self.log)
                )
            })?
            .with_context(|| format!("{} was not started", self.name))?
            .clone();
        match state {
            ChildState::Ready { .. } | ChildState::Starting => Ok(()),
            ChildState::Died { why, .. } => bail!("{} {why}{}", self.name, tail(&self.log)),
        }
    }
}

/// The end of a log, for the person who has to find out why.
pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.len().saturating_sub(TAIL_LINES);
    let lines = lines.get(last..).unwrap_or_default().join("\n    ");
    format!("\n  the end of {}:\n    {lines}", log.display())
}

const START_TIMEOUT: Duration = Duration::from_secs(60);
const TAIL_LINES: usize = 12;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use nix::sys::signal::Signal;

    use super::{
        super::{child::ReadyWhen, process},
        *,
    };

    /// A shell that writes its ready file and then waits for the end of its input.
    fn plan(dir: &Path, script: &str) -> ChildPlan {
        let ready = dir.join("child.ready.json");
        let script = script.replace("READY", &ready.display().to_string());
        ChildPlan {
            name: "child".to_owned(),
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: Vec::new(),
            user: None,
            ready: ReadyWhen::Writes(ready),
            stop_signal: Signal::SIGTERM,
            grace: Duration::from_millis(300),
            log: dir.join("child.log"),
        }
    }

    const OBEDIENT: &str = r#"echo "{\"pid\":$$}" > READY; read line"#;
    const STUBBORN: &str =
        r#"trap '' TERM; echo "{\"pid\":$$}" > READY; while :; do sleep 0.05; done"#;

    fn supervisor(dir: &Path, restart: Restart) -> Supervisor {
        let watch = Watch::nobody();
        Supervisor::new(dir.to_owned(), restart, watch, CancellationToken::new())
    }

    async fn pid_other_than(
        pids: &mut watch::Receiver<BTreeMap<String, u32>>,
        old: Option<u32>,
    ) -> u32 {
        let found = pids.wait_for(|pids| pids.get("child").is_some_and(|pid| Some(*pid) != old));
        let found = tokio::time::timeout(Duration::from_secs(10), found)
            .await
            .unwrap();
        found.unwrap()["child"]
    }

    #[tokio::test]
    async fn a_killed_child_comes_back_and_a_stubborn_one_is_killed_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let supervisor = supervisor(dir.path(), Restart::Always);
        let mut pids = supervisor.pids();
        let started = supervisor.start(Stage::Services, plan(dir.path(), STUBBORN));
        started.until_ready(0).await.unwrap();
        let first = pid_other_than(&mut pids, None).await;
        process::send(first, Signal::SIGKILL).unwrap();
        let second = pid_other_than(&mut pids, Some(first)).await;
        assert!(process::is_running(second));
        supervisor.stop().await;
        assert!(!process::is_running(second));
    }

    #[tokio::test]
    async fn with_never_a_dead_child_stays_dead_until_somebody_starts_it() {
        let dir = tempfile::tempdir().unwrap();
        let supervisor = supervisor(dir.path(), Restart::Never);
        let mut pids = supervisor.pids();
        let started = supervisor.start(Stage::Gateways, plan(dir.path(), OBEDIENT));
        started.until_ready(0).await.unwrap();
        let first = pid_other_than(&mut pids, None).await;
        process::send(first, Signal::SIGKILL).unwrap();
        let me = format!("{{\"pid\":{}}}", std::process::id());
        fs::write(dir.path().join("child.ready.json"), me).unwrap();
        let second = pid_other_than(&mut pids, Some(first)).await;
        assert_eq!(second, std::process::id());
        supervisor.stop().await;
    }

    #[tokio::test]
    async fn a_child_that_dies_at_once_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let supervisor = supervisor(dir.path(), Restart::Always);
        let started = supervisor.start(Stage::Stores, plan(dir.path(), "echo no luck; exit 3"));
        let error = started.until_ready(1).await.unwrap_err().to_string();
        assert!(
            error.contains("no luck") && error.contains("exit status: 3"),
            "{error}"
        );
        supervisor.stop().await;
    }

    #[tokio::test]
    async fn a_child_is_ready_when_it_takes_connections() {
        let dir = tempfile::tempdir().unwrap();
        let supervisor = supervisor(dir.path(), Restart::Always);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr: SocketAddr = listener.local_addr().unwrap();
        let mut plan = plan(dir.path(), "read line");
        plan.ready = ReadyWhen::Connects(addr);
        supervisor
            .start(Stage::Stores, plan)
            .until_ready(0)
            .await
            .unwrap();
        supervisor.stop().await;
    }
}
