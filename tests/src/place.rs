//! Where things are: the program under test, free ports, directories of a run. Called by everything that starts something.

use std::{
    fs::{self, DirBuilder, File},
    net::TcpListener,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use nix::{
    fcntl::{Flock, FlockArg},
    unistd,
};
use uuid::Uuid;

/// `target/<profile>/odock`, beside the folder of the test's own executable.
pub fn odock() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("the path of this executable")?;
    let profile = own.parent().map(|dir| {
        if dir.ends_with("deps") {
            dir.parent().unwrap_or(dir)
        } else {
            dir
        }
    });
    let odock = profile.unwrap_or_else(|| Path::new("/")).join("odock");
    anyhow::ensure!(
        odock.is_file(),
        "{} is missing: build it first (`cargo build --workspace`, or `make test`)",
        odock.display()
    );
    Ok(odock)
}

/// The root of the working tree.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or_else(|| Path::new("/"))
        .to_owned()
}

/// A program on the `PATH`.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let (_, path) = std::env::vars_os().find(|(variable, _)| variable == "PATH")?;
    let found = std::env::split_paths(&path).map(|dir| dir.join(name));
    found.into_iter().find(|path| path.is_file())
}

/// A port that is free now, below those that the kernel gives to outgoing connections.
pub fn free_port() -> anyhow::Result<u16> {
    (0..200)
        .map(|_| LOWEST_PORT + (Uuid::now_v7().as_u128() % u128::from(PORTS)) as u16)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .context("no free port found")
}

/// A new directory that others may enter but not list: a server that runs as another user has its files in it.
pub fn fresh_dir(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("odock-{name}-{}", Uuid::now_v7().simple()));
    make_dir(&path)?;
    Ok(path)
}

/// The directory of everything that the tests of one run share: they all have the same parent, the test runner.
pub fn run_dir() -> anyhow::Result<PathBuf> {
    let runner = unistd::getppid();
    let began = fs::read_to_string(format!("/proc/{runner}/stat")).unwrap_or_default();
    // The 20th field after the name is when the process began: pids come again.
    let began = began
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .nth(19);
    let name = format!("odock-tests-{runner}-{}", began.unwrap_or("0"));
    let path = std::env::temp_dir().join(name);
    make_dir(&path)?;
    Ok(path)
}

/// Waits for the right to be the one that makes `name` of this run.
pub async fn lock(name: &str) -> anyhow::Result<Flock<File>> {
    let path = run_dir()?.join(name).with_extension("lock");
    let taken = tokio::task::spawn_blocking(move || {
        let file = File::options().create(true).append(true).open(path)?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| anyhow::Error::from(error))
    });
    taken.await.context("wait for the lock")?
}

/// The files in a directory outlive the program that is about to end.
pub fn keep(dir: &Path) -> anyhow::Result<()> {
    Ok(fs::write(dir.join("keep"), [])?)
}

/// They end with it again.
pub fn give_up(dir: &Path) -> anyhow::Result<()> {
    let mark = dir.join("keep");
    if mark.exists() {
        fs::remove_file(mark)?;
    }
    Ok(())
}

fn make_dir(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(path)
        .with_context(|| format!("make {}", path.display()))
}

const LOWEST_PORT: u16 = 18_000;
const PORTS: u16 = 14_000;
