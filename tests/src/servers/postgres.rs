//! A Postgres server of the tests' own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Context as _;
use nix::{
    sys::signal::Signal,
    unistd::{self, Gid, Uid},
};
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use uuid::Uuid;

use crate::{
    keeper::{self, Kept, Owner, Program},
    place,
    wait::wait_until,
};

/// A running server, or one that was running.
#[derive(Debug)]
pub struct PostgresServer {
    at: At,
    kept: Option<Kept>,
}

/// Where it is: enough to use it from another process, or to start it again.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct At {
    home: PathBuf,
    port: u16,
}

impl PostgresServer {
    /// The one that all tests of a run share.
    pub async fn shared() -> anyhow::Result<Self> {
        let _lock = place::lock("postgres").await?;
        let note = place::run_dir()?.join("postgres.json");
        if let Ok(text) = fs::read(&note) {
            return Ok(Self {
                at: serde_json::from_slice(&text)?,
                kept: None,
            });
        }
        let at = make_cluster()?;
        launch(&at, Owner::Runner)?;
        let server = Self { at, kept: None };
        server.wait_ready().await?;
        fs::write(&note, serde_json::to_vec(&server.at)?)?;
        Ok(server)
    }

    /// One for a single test; it ends with the value.
    pub async fn own() -> anyhow::Result<Self> {
        let at = make_cluster()?;
        let mut server = Self { at, kept: None };
        server.start().await?;
        Ok(server)
    }

    /// A new empty database: its URL.
    pub async fn create_database(&self) -> anyhow::Result<String> {
        let name = format!("t{}", Uuid::now_v7().simple());
        let mut connection = PgConnection::connect(&self.url("postgres")).await?;
        // A name cannot be bound; this one is made of hex digits.
        let statement = ["CREATE DATABASE ", &name].concat();
        sqlx::query(AssertSqlSafe(statement))
            .execute(&mut connection)
            .await?;
        connection.close().await?;
        Ok(self.url(&name))
    }

    pub fn port(&self) -> u16 {
        self.at.port
    }

    /// Starts it again with the files it has.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        self.kept = Some(launch(&self.at, Owner::Caller)?);
        self.wait_ready().await?;
        place::give_up(&self.at.home)
    }

    /// SIGKILL to the server and all its backends: what a power cut leaves, but for the disk's cache.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        place::keep(&self.at.home)?;
        let kept = self
            .kept
            .take()
            .context("this server is not running, or is shared")?;
        let pid = kept.pid().await?;
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        keeper::send(pid, Signal::SIGKILL);
        for child in children.unwrap_or_default().split_whitespace() {
            let child = child.parse()?;
            keeper::send(child, Signal::SIGKILL);
            keeper::wait_gone(child, Duration::from_secs(10)).await?;
        }
        keeper::wait_gone(pid, Duration::from_secs(10)).await
    }

    /// Fast shutdown.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        place::keep(&self.at.home)?;
        let kept = self
            .kept
            .take()
            .context("this server is not running, or is shared")?;
        kept.stop(Duration::from_secs(20)).await
    }

    /// The files of a stopped server, copied aside.
    pub fn copy_files(&self, to: &Path) -> anyhow::Result<()> {
        run("cp", &["-a", text(&self.at.home.join("data"))?, text(to)?])
    }

    /// Puts copied files back in place of a stopped server's own.
    pub fn restore_files(&self, from: &Path) -> anyhow::Result<()> {
        let data = self.at.home.join("data");
        fs::remove_dir_all(&data)?;
        run("cp", &["-a", text(from)?, text(&data)?])
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.at.port)
    }

    async fn wait_ready(&self) -> anyhow::Result<()> {
        wait_until("Postgres", Duration::from_secs(30), async || {
            let connection = PgConnection::connect(&self.url("postgres")).await?;
            Ok(connection.close().await?)
        })
        .await
    }
}

fn launch(at: &At, owner: Owner) -> anyhow::Result<Kept> {
    let data = text(&at.home.join("data"))?.to_owned();
    // A killed server leaves this, and a process of another user may have its pid by now.
    drop(fs::remove_file(at.home.join("data/postmaster.pid")));
    let settings = [
        format!("port={}", at.port),
        "listen_addresses=127.0.0.1".to_owned(),
        "unix_socket_directories=".to_owned(),
        "max_connections=500".to_owned(),
        "shared_buffers=64MB".to_owned(),
        "jit=off".to_owned(),
    ];
    let mut arguments = vec!["-D".to_owned(), data];
    arguments.extend(
        settings
            .into_iter()
            .flat_map(|setting| ["-c".to_owned(), setting]),
    );
    keeper::start(
        &Program {
            path: bin()?.join("postgres"),
            arguments,
            environment: Vec::new(),
            log: at.home.join("postgres.log"),
            stop_signal: Signal::SIGINT,
            remove: Some(at.home.clone()),
            unprivileged: true,
        },
        owner,
    )
}

fn make_cluster() -> anyhow::Result<At> {
    let home = place::fresh_dir("postgres")?;
    let data = home.join("data");
    fs::create_dir(&data)?;
    let initdb = bin()?.join("initdb");
    let mut command = if unistd::geteuid().is_root() {
        let nobody = 65534;
        unistd::chown(
            &data,
            Some(Uid::from_raw(nobody)),
            Some(Gid::from_raw(nobody)),
        )?;
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(initdb);
        command
    } else {
        Command::new(initdb)
    };
    command.arg("-D").arg(&data);
    command.args([
        "-U",
        "postgres",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C",
        "--no-sync",
    ]);
    let output = command.current_dir("/").output().context("run initdb")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "initdb: {complaint}");
    Ok(At {
        home,
        port: place::free_port()?,
    })
}

/// The programs of the server on the `PATH`, else of the newest that Debian has installed.
fn bin() -> anyhow::Result<PathBuf> {
    if let Some(postgres) = place::on_path("postgres") {
        let bin = postgres.parent().map(Path::to_owned);
        return bin.context("the folder of postgres");
    }
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .context("no Postgres found: run `make setup`")?
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .collect();
    versions.sort_unstable();
    let newest = versions
        .pop()
        .context("no Postgres found: run `make setup`")?;
    Ok(newest.1.join("bin"))
}

fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let status = Command::new(program).args(arguments).status()?;
    anyhow::ensure!(status.success(), "{program} {arguments:?}: {status}");
    Ok(())
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a path that is not UTF-8")
}
