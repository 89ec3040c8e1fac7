//! The children of ours: the settings file and the command line of each.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use nix::sys::signal::Signal;
use odock_events::settings::Setting;

use super::{
    child::{ChildPlan, ReadyWhen},
    data_dir::{DataDir, ProviderKeyFiles},
    files, programs,
};
use crate::demo::DEFAULT_KEY;

/// What all services of one run share.
pub(crate) struct Shared<'a> {
    pub(crate) dir: &'a DataDir,
    pub(crate) program: PathBuf,
    pub(crate) log_level: String,
    pub(crate) postgres_url: String,
    pub(crate) redis_url: String,
    pub(crate) provider_keys: ProviderKeyFiles,
}

impl Shared<'_> {
    pub(crate) fn gateway(&self, number: usize, addr: SocketAddr) -> anyhow::Result<ChildPlan> {
        let name = format!("gateway-{number}");
        let home = self.dir.root().join(&name);
        files::make_private_dir(&home)?;
        let settings = [
            ("HTTP_HOST", addr.ip().to_string()),
            ("HTTP_PORT", addr.port().to_string()),
            ("JOURNAL_DIR", show(&home.join("journal"))),
            ("SNAPSHOT_FILE", show(&home.join("snapshot.bin"))),
            (
                "PROVIDER_KEY_ENCRYPTION_KEY_ID",
                self.provider_keys.key_id.clone(),
            ),
            (
                "PROVIDER_KEY_ENCRYPTION_PRIVATE_KEY_FILE",
                show(&self.provider_keys.private),
            ),
            ("SHUTDOWN_GRACE", "10s".to_owned()),
            ("UPSTREAM_ALLOW_PRIVATE_ADDRESSES", "true".to_owned()),
        ];
        self.service("gateway", &name, settings.into(), odock_gateway::SETTINGS)
    }

    pub(crate) fn projector(&self, number: usize) -> anyhow::Result<ChildPlan> {
        let name = format!("projector-{number}");
        self.service("projector", &name, Vec::new(), odock_projector::SETTINGS)
    }

    pub(crate) fn admin(&self, addr: SocketAddr, token: &str) -> anyhow::Result<ChildPlan> {
        let settings = [
            ("ADMIN_HTTP_HOST", addr.ip().to_string()),
            ("ADMIN_HTTP_PORT", addr.port().to_string()),
            ("ADMIN_BOOTSTRAP_TOKEN", token.to_owned()),
            (
                "PROVIDER_KEY_ENCRYPTION_KEY_ID",
                self.provider_keys.key_id.clone(),
            ),
            (
                "PROVIDER_KEY_ENCRYPTION_PUBLIC_KEY_FILE",
                show(&self.provider_keys.public),
            ),
            ("SUBJECT_KEY_FILE", show(&self.dir.subject_key()?)),
            ("UPSTREAM_ALLOW_PRIVATE_ADDRESSES", "true".to_owned()),
        ];
        self.service("admin", "admin-1", settings.into(), odock_admin::SETTINGS)
    }

    pub(crate) fn demo(&self, addr: SocketAddr) -> ChildPlan {
        let ready = self.ready_file("demo");
        let arguments = [
            "demo-upstream".into(),
            "--addr".into(),
            addr.to_string().into(),
            "--data-dir".into(),
            self.dir.root().join("demo").into_os_string(),
            "--key".into(),
            DEFAULT_KEY.into(),
            "--ready-file".into(),
            ready.clone().into_os_string(),
        ];
        self.plan("demo", arguments.into(), ready, &[], Duration::from_secs(5))
    }

    /// Writes the settings of one service to `run/<name>.toml` and says how to run it. What is not in that file may come from
    /// the environment of `up`, and so may what a person may want otherwise there ([`OVERRIDABLE`]).
    fn service(
        &self,
        command: &str,
        name: &str,
        mut settings: Vec<(&str, String)>,
        table: &[Setting],
    ) -> anyhow::Result<ChildPlan> {
        let ready = self.ready_file(name);
        settings.extend([
            ("POSTGRES_DSN", self.postgres_url.clone()),
            ("REDIS_URL", self.redis_url.clone()),
            ("READY_FILE", show(&ready)),
        ]);
        let file = self.dir.run().join(name).with_extension("toml");
        let written = settings.iter().map(|(name, value)| (*name, value.as_str()));
        let text: toml::Table = written
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        files::replace(&file, text.to_string().as_bytes())
            .with_context(|| format!("write {}", file.display()))?;
        let others: Vec<&str> = table
            .iter()
            .map(|setting| setting.name)
            .filter(|name| {
                let fixed = settings.iter().any(|(written, _)| written == name);
                !fixed || OVERRIDABLE.contains(name)
            })
            .collect();
        let arguments = [command.into(), "--config".into(), file.into_os_string()];
        Ok(self.plan(name, arguments.into(), ready, &others, SERVICE_GRACE))
    }

    fn plan(
        &self,
        name: &str,
        mut arguments: Vec<OsString>,
        ready: PathBuf,
        variables: &[&str],
        grace: Duration,
    ) -> ChildPlan {
        arguments.push("--parent-pipe".into());
        let mut environment = programs::basic_environment();
        environment.extend(programs::pass_on(&["RUST_LOG", "RUST_BACKTRACE"]));
        environment.extend(programs::pass_on(variables));
        environment.push(("LOG_LEVEL".into(), self.log_level.clone().into()));
        ChildPlan {
            name: name.to_owned(),
            program: self.program.clone(),
            arguments,
            environment,
            user: None,
            ready: ReadyWhen::Writes(ready),
            stop_signal: Signal::SIGTERM,
            grace,
            log: self.dir.logs().join(name).with_extension("log"),
        }
    }

    fn ready_file(&self, name: &str) -> PathBuf {
        self.dir.run().join(name).with_extension("ready.json")
    }
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

/// The demo provider is on loopback, so private addresses are allowed unless the environment says otherwise.
const OVERRIDABLE: &[&str] = &["UPSTREAM_ALLOW_PRIVATE_ADDRESSES", "SHUTDOWN_GRACE"];
/// Longer than the gateway's own grace.
const SERVICE_GRACE: Duration = Duration::from_secs(20);
