//! One Postgres for the test binary, on a unix socket of its own; a database a test, from a migrated template. The
//! server ends with the process, whatever ends it: it hangs on a pipe.

use std::{
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use sqlx::{ConnectOptions as _, Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::sync::OnceCell;

const BINARIES: &str = "/usr/lib/postgresql/15/bin";
/// Postgres refuses to run as root.
const NOBODY: u32 = 65_534;
const UNTIL_STDIN_CLOSES: &str = r#"dir="$1"; shift; "$@" </dev/null & child=$!; cat >/dev/null; kill -INT $child; wait; rm -rf "$dir""#;

static SERVER: OnceCell<PathBuf> = OnceCell::const_new();
static COUNT: AtomicU32 = AtomicU32::new(0);

/// The URL of a fresh, migrated database.
pub(crate) async fn database() -> String {
    let directory = SERVER.get_or_init(start).await;
    let name = format!("test_{}", COUNT.fetch_add(1, Ordering::SeqCst));
    let statement = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name} TEMPLATE template_odock"));
    let mut maintenance = connect(directory, "postgres").await.unwrap();
    sqlx::raw_sql(statement)
        .execute(&mut maintenance)
        .await
        .unwrap();
    url(directory, &name)
}

/// The URL of a copy of a database that nobody is connected to.
pub(crate) async fn copy_of(dsn: &str) -> String {
    let directory = SERVER.get_or_init(start).await;
    let options: PgConnectOptions = dsn.parse().unwrap();
    let original = options.get_database().unwrap();
    let name = format!("copy_{}", COUNT.fetch_add(1, Ordering::SeqCst));
    let mut maintenance = connect(directory, "postgres").await.unwrap();
    // Sessions that were just closed may take a moment to go.
    for statement in [
        format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{original}'"
        ),
        format!("CREATE DATABASE {name} TEMPLATE {original}"),
    ] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
            .execute(&mut maintenance)
            .await
            .unwrap();
    }
    url(directory, &name)
}

fn url(directory: &Path, name: &str) -> String {
    format!(
        "postgres://postgres@localhost/{name}?host={}",
        directory.display()
    )
}

async fn connect(directory: &Path, name: &str) -> Result<PgConnection, sqlx::Error> {
    url(directory, name)
        .parse::<PgConnectOptions>()?
        .connect()
        .await
}

async fn start() -> PathBuf {
    let directory = tempfile::Builder::new()
        .prefix("odock-projector-")
        .tempdir()
        .unwrap()
        .keep();
    let as_root = std::fs::metadata("/proc/self")
        .map(|own| std::os::unix::fs::MetadataExt::uid(&own))
        .unwrap()
        == 0;
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
    if as_root {
        std::os::unix::fs::chown(&directory, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let data = directory.join("data");
    let initialised = command(&format!("{BINARIES}/initdb"))
        .arg("-D")
        .arg(&data)
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
        .args([
            "-c",
            "listen_addresses=",
            "-c",
            "fsync=off",
            "-c",
            "max_connections=200",
        ])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    // Its standard input closes with this process.
    std::mem::forget(server);
    let mut maintenance = loop {
        if let Ok(connection) = connect(&directory, "postgres").await {
            break connection;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    sqlx::raw_sql("CREATE DATABASE template_odock")
        .execute(&mut maintenance)
        .await
        .unwrap();
    let mut template = connect(&directory, "template_odock").await.unwrap();
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations");
    sqlx::migrate::Migrator::new(migrations)
        .await
        .unwrap()
        .run(&mut template)
        .await
        .unwrap();
    template.close().await.unwrap();
    directory
}
