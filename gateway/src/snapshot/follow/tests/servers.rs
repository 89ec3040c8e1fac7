//! Private servers: one Postgres for the test binary with a database a test, and a Redis for each test. All of them on
//! unix sockets in directories of their own, none outlives the process.

use std::{
    os::unix::{
        fs::{MetadataExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use sqlx::{AssertSqlSafe, ConnectOptions as _, PgConnection, postgres::PgConnectOptions};
use tokio::sync::OnceCell;

use super::backbone::eventually;

/// The URL of a fresh, migrated database.
pub(crate) async fn database() -> String {
    let directory = POSTGRES.get_or_init(start_postgres).await;
    let name = format!("test_{}", COUNT.fetch_add(1, Ordering::SeqCst));
    let create = format!("CREATE DATABASE {name} TEMPLATE template_odock");
    let mut maintenance = connect(directory, "postgres").await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(create))
        .execute(&mut maintenance)
        .await
        .unwrap();
    url(directory, &name)
}

/// Lets nobody into a database, or everybody in again: to its clients Postgres is down.
pub(crate) async fn open_database(dsn: &str, open: bool) {
    let options: PgConnectOptions = dsn.parse().unwrap();
    let name = options.get_database().unwrap();
    let directory = POSTGRES.get_or_init(start_postgres).await;
    let mut maintenance = connect(directory, "postgres").await.unwrap();
    let statements = [
        format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {open}"),
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"),
    ];
    for statement in statements {
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut maintenance)
            .await
            .unwrap();
    }
}

/// A Redis of a test's own; ends with it.
pub(crate) struct Redis {
    directory: tempfile::TempDir,
    server: Child,
}

impl Redis {
    pub(crate) fn start() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("odock-redis-")
            .tempdir()
            .unwrap();
        let server = spawn_redis(directory.path());
        Self { directory, server }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}/s", self.directory.path().display())
    }

    pub(crate) fn kill(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }

    /// Starts it again, with what its append-only file has.
    pub(crate) fn start_again(&mut self) {
        self.server = spawn_redis(self.directory.path());
    }

    pub(crate) async fn flush(&self) {
        let client = redis::Client::open(self.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let () = redis::cmd("FLUSHALL")
            .query_async(&mut connection)
            .await
            .unwrap();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn_redis(directory: &Path) -> Child {
    Command::new("redis-server")
        .current_dir(directory)
        .args([
            "--port",
            "0",
            "--save",
            "",
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
        ])
        .arg("--unixsocket")
        .arg(directory.join("s"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

async fn connect(directory: &Path, name: &str) -> Result<PgConnection, sqlx::Error> {
    url(directory, name)
        .parse::<PgConnectOptions>()?
        .connect()
        .await
}

fn url(directory: &Path, name: &str) -> String {
    format!(
        "postgres://postgres@localhost/{name}?host={}",
        directory.display()
    )
}

async fn start_postgres() -> PathBuf {
    let directory = tempfile::Builder::new()
        .prefix("odock-follow-")
        .tempdir()
        .unwrap()
        .keep();
    let as_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    if as_root {
        chown(&directory, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let command = |program: &str| {
        let mut command = Command::new(program);
        command
            .current_dir(&directory)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if as_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    };
    let data = directory.join("data");
    let initialised = command(&format!("{BINARIES}/initdb"))
        .args([
            "-U",
            "postgres",
            "-A",
            "trust",
            "--no-sync",
            "--locale=C.UTF-8",
            "-E",
            "UTF8",
        ])
        .arg("-D")
        .arg(&data)
        .status();
    assert!(initialised.unwrap().success(), "initdb failed");
    let server = command("/bin/sh")
        .args(["-c", UNTIL_STDIN_CLOSES, "sh"])
        .arg(&directory)
        .arg(format!("{BINARIES}/postgres"))
        .arg("-D")
        .arg(&data)
        .arg("-k")
        .arg(&directory)
        .args(["-c", "listen_addresses=", "-c", "fsync=off"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    // Its standard input closes with this process, whatever ends it.
    std::mem::forget(server);
    let server = || async { connect(&directory, "postgres").await.ok() };
    let mut maintenance = eventually("postgres", server).await;
    let create = sqlx::raw_sql("CREATE DATABASE template_odock");
    create.execute(&mut maintenance).await.unwrap();
    migrate(&directory).await;
    directory
}

async fn migrate(directory: &Path) {
    let mut template = connect(directory, "template_odock").await.unwrap();
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations");
    let migrator = sqlx::migrate::Migrator::new(migrations).await.unwrap();
    migrator.run(&mut template).await.unwrap();
    sqlx::Connection::close(template).await.unwrap();
}

static POSTGRES: OnceCell<PathBuf> = OnceCell::const_new();
static COUNT: AtomicU32 = AtomicU32::new(0);
const BINARIES: &str = "/usr/lib/postgresql/15/bin";
/// Postgres refuses to run as root.
const NOBODY: u32 = 65_534;
const UNTIL_STDIN_CLOSES: &str = r#"dir="$1"; shift; "$@" </dev/null & child=$!; cat >/dev/null; kill -INT $child; wait; rm -rf "$dir""#;
