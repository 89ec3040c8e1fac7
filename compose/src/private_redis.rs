//! A Redis of our own for `odock up`: run as a supervised child on loopback, appending each second and never evicting.

use std::{
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::chown,
    time::Duration,
};

use anyhow::Context as _;
use nix::sys::signal::Signal;

use crate::up::{
    child::{ChildPlan, ReadyWhen},
    data_dir::DataDir,
    files, ports, programs,
};

/// A server that is ready to be started, and where it will be.
pub(crate) struct PrivateRedis {
    pub(crate) url: String,
    pub(crate) plan: ChildPlan,
}

/// Writes its configuration and chooses a port.
pub(crate) fn prepare(dir: &DataDir) -> anyhow::Result<PrivateRedis> {
    let program = programs::find(&["redis-server", "valkey-server"])
        .context("no Redis found: `make setup` installs it, or name a server with --redis-url")?;
    let files_dir = dir.stores()?.join("redis");
    files::make_private_dir(&files_dir)?;
    let password = dir.password("redis-password")?;
    let addr = ports::any_free(IpAddr::V4(Ipv4Addr::LOCALHOST))?.release();
    let configuration = format!(
        "bind 127.0.0.1\nport {}\ndir \"{}\"\nrequirepass {password}\n{SETTINGS}",
        addr.port(),
        files_dir.display()
    );
    // In a file and not among the arguments, which everybody on the machine can read.
    let file = dir.stores()?.join("redis.conf");
    files::replace(&file, configuration.as_bytes())?;
    if let Some(user) = dir.store_user {
        chown(&files_dir, Some(user.id), Some(user.id))?;
        chown(&file, Some(user.id), Some(user.id))?;
    }
    let plan = ChildPlan {
        name: "redis".to_owned(),
        program,
        arguments: vec![file.into_os_string()],
        environment: programs::basic_environment(),
        user: dir.store_user.map(|user| user.id),
        ready: ReadyWhen::Connects(addr),
        stop_signal: Signal::SIGTERM,
        grace: Duration::from_secs(10),
        log: dir.logs().join("redis.log"),
    };
    Ok(PrivateRedis {
        url: format!("redis://default:{password}@{addr}"),
        plan,
    })
}

const SETTINGS: &str = "\
daemonize no
appendonly yes
appendfsync everysec
maxmemory-policy noeviction
save \"\"
";
