//! A Postgres of our own for `odock up`: found on this machine, initialised once, run as a supervised child on loopback.

use std::{
    ffi::OsString,
    fs,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use sqlx::{Connection as _, PgConnection};

use crate::up::{
    child::{ChildPlan, ReadyWhen},
    data_dir::{DataDir, StoreUser},
    files, ports, programs,
};

/// A cluster that is ready to be started, and where it will be.
pub(crate) struct PrivatePostgres {
    pub(crate) url: String,
    maintenance_url: String,
    plan: ChildPlan,
}

/// Initialises the cluster at first start and chooses a port. Blocks for about half a second then.
pub(crate) fn prepare(dir: &DataDir) -> anyhow::Result<PrivatePostgres> {
    let programs = find_programs()?;
    let cluster = dir.stores()?.join("postgres");
    let password = dir.password("postgres-password")?;
    if !cluster.join("PG_VERSION").exists() {
        initialise(&programs, &cluster, &password, dir.store_user)?;
    }
    let addr = ports::any_free(IpAddr::V4(Ipv4Addr::LOCALHOST))?.release();
    let url = |database| format!("postgres://{USER}:{password}@{addr}/{database}");
    let plan = ChildPlan {
        name: "postgres".to_owned(),
        program: programs.join("postgres"),
        arguments: server_arguments(&cluster, addr.port()),
        environment: programs::basic_environment(),
        user: dir.store_user.map(|user| user.id),
        ready: ReadyWhen::Connects(addr),
        // A fast shutdown: open sessions are ended, everything is on disk.
        stop_signal: Signal::SIGINT,
        grace: Duration::from_secs(20),
        log: dir.logs().join("postgres.log"),
    };
    Ok(PrivatePostgres {
        url: url(DATABASE),
        maintenance_url: url("postgres"),
        plan,
    })
}

impl PrivatePostgres {
    /// What the supervisor runs.
    pub(crate) fn into_plan(self) -> (ChildPlan, Database) {
        (
            self.plan,
            Database {
                url: self.url,
                maintenance_url: self.maintenance_url,
            },
        )
    }
}

/// The database inside the cluster.
pub(crate) struct Database {
    pub(crate) url: String,
    maintenance_url: String,
}

impl Database {
    /// Waits until the server answers (after a crash it replays its log first) and makes the database if it is not there.
    pub(crate) async fn make(&self) -> anyhow::Result<()> {
        let connected = tokio::time::timeout(RECOVERY, async {
            loop {
                match PgConnection::connect(&self.maintenance_url).await {
                    Ok(connection) => break connection,
                    Err(_) => tokio::time::sleep(POLL).await,
                }
            }
        });
        let mut connection = connected.await.context("Postgres does not answer")?;
        let found = sqlx::query("select 1 from pg_database where datname = $1")
            .bind(DATABASE)
            .fetch_optional(&mut connection)
            .await?;
        if found.is_none() {
            sqlx::query("create database odock")
                .execute(&mut connection)
                .await?;
        }
        Ok(connection.close().await?)
    }
}

fn server_arguments(cluster: &Path, port: u16) -> Vec<OsString> {
    let settings = [
        "listen_addresses=127.0.0.1".to_owned(),
        format!("port={port}"),
        // A socket's path is limited to 107 bytes and a data directory's is not.
        "unix_socket_directories=".to_owned(),
        "fsync=on".to_owned(),
        "synchronous_commit=on".to_owned(),
        "max_connections=300".to_owned(),
        "shared_buffers=128MB".to_owned(),
        "max_wal_size=1GB".to_owned(),
        "log_min_messages=warning".to_owned(),
    ];
    let mut arguments = vec!["-D".into(), cluster.as_os_str().to_owned()];
    for setting in settings {
        arguments.extend(["-c".into(), setting.into()]);
    }
    arguments
}

/// In a folder beside it, which is renamed at the end: a cluster is whole or not there.
fn initialise(
    programs: &Path,
    cluster: &Path,
    password: &str,
    user: Option<StoreUser>,
) -> anyhow::Result<()> {
    let fresh = cluster.with_extension("new");
    if fresh.exists() {
        fs::remove_dir_all(&fresh).with_context(|| format!("remove {}", fresh.display()))?;
    }
    let password_file = cluster.with_extension("password");
    files::replace(&password_file, password.as_bytes())?;
    if let Some(user) = user {
        chown(&password_file, Some(user.id), Some(user.id))?;
    }
    let mut command = Command::new(programs.join("initdb"));
    command
        .args(["--username", USER, "--encoding", "UTF8", "--no-locale"])
        .args(["--auth", "scram-sha-256", "--pwfile"])
        .arg(&password_file)
        .arg("--pgdata")
        .arg(&fresh)
        .env_clear()
        .envs(programs::basic_environment())
        .stdin(Stdio::null());
    programs::run_as(&mut command, user);
    let output = command.output().context("run initdb");
    files::remove(&password_file)?;
    let output = output?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("initdb ended with {}: {said}", output.status);
    }
    fs::rename(&fresh, cluster).with_context(|| format!("make {}", cluster.display()))
}

/// The folder of the newest Postgres that is new enough.
fn find_programs() -> anyhow::Result<PathBuf> {
    let mut folders = programs::search_path();
    folders.extend(debian_folders());
    let mut found = None;
    for folder in folders {
        if !(folder.join("postgres").is_file() && folder.join("initdb").is_file()) {
            continue;
        }
        match major_version(&folder.join("postgres")) {
            Some(version) if version >= OLDEST => return Ok(folder),
            version => found = found.or(version),
        }
    }
    match found {
        Some(version) => {
            bail!("Postgres {version} is too old, {OLDEST} or newer is needed: {HINT}")
        }
        None => bail!("no Postgres found: {HINT}"),
    }
}

/// `/usr/lib/postgresql/<version>/bin`, newest first: Debian keeps the server's programs off the path.
fn debian_folders() -> Vec<PathBuf> {
    let entries = fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let mut versions: Vec<u32> = entries
        .filter_map(|entry| {
            entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
        })
        .collect();
    versions.sort_unstable_by(|one, other| other.cmp(one));
    versions
        .into_iter()
        .map(|version| Path::new(DEBIAN).join(version.to_string()).join("bin"))
        .collect()
}

/// From `postgres (PostgreSQL) 15.8 (Debian 15.8-0+deb12u1)`.
fn major_version(postgres: &Path) -> Option<u32> {
    let output = Command::new(postgres).arg("--version").output().ok()?;
    read_major_version(std::str::from_utf8(&output.stdout).ok()?)
}

fn read_major_version(said: &str) -> Option<u32> {
    let version = said.split_once("(PostgreSQL)")?.1.trim_start();
    let digits = version
        .split(|character: char| !character.is_ascii_digit())
        .next()?;
    digits.parse().ok()
}

const USER: &str = "odock";
const DATABASE: &str = "odock";
const OLDEST: u32 = 15;
const DEBIAN: &str = "/usr/lib/postgresql";
const HINT: &str = "`make setup` installs it, or name a server with --postgres-url";
const RECOVERY: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_postgres_prints_them() {
        for (said, version) in [
            (
                "postgres (PostgreSQL) 15.8 (Debian 15.8-0+deb12u1)\n",
                Some(15),
            ),
            ("postgres (PostgreSQL) 18beta1\n", Some(18)),
            ("postgres 15", None),
        ] {
            assert_eq!(read_major_version(said), version, "{said}");
        }
    }
}
