//! A Redis server of the tests' own.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::Context as _;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::{
    keeper::{self, Kept, Owner, Program},
    place,
    wait::wait_until,
};

/// A running server, or one that was running.
#[derive(Debug)]
pub struct RedisServer {
    at: At,
    kept: Option<Kept>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct At {
    home: PathBuf,
    port: u16,
}

impl RedisServer {
    /// The one that all tests of a run share.
    pub async fn shared() -> anyhow::Result<Self> {
        let _lock = place::lock("redis").await?;
        let note = place::run_dir()?.join("redis.json");
        if let Ok(text) = fs::read(&note) {
            return Ok(Self {
                at: serde_json::from_slice(&text)?,
                kept: None,
            });
        }
        let at = At {
            home: place::fresh_dir("redis")?,
            port: place::free_port()?,
        };
        launch(&at, Owner::Runner)?;
        let server = Self { at, kept: None };
        server.wait_ready().await?;
        fs::write(&note, serde_json::to_vec(&server.at)?)?;
        Ok(server)
    }

    /// One for a single test; it ends with the value.
    pub async fn own() -> anyhow::Result<Self> {
        let at = At {
            home: place::fresh_dir("redis")?,
            port: place::free_port()?,
        };
        let mut server = Self { at, kept: None };
        server.start().await?;
        Ok(server)
    }

    /// An empty database that no other test of this run uses: its URL.
    pub async fn take_database(&self) -> anyhow::Result<String> {
        let mut connection = connect(&self.url(0)).await?;
        let taken: u32 = redis::cmd("INCR")
            .arg("databases-taken")
            .query_async(&mut connection)
            .await?;
        anyhow::ensure!(
            taken < DATABASES,
            "all {DATABASES} Redis databases are taken"
        );
        Ok(self.url(taken))
    }

    pub fn url(&self, database: u32) -> String {
        format!("redis://127.0.0.1:{}/{database}", self.at.port)
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

    pub async fn kill(&mut self) -> anyhow::Result<()> {
        place::keep(&self.at.home)?;
        let kept = self
            .kept
            .take()
            .context("this server is not running, or is shared")?;
        keeper::kill(kept.pid().await?).await
    }

    /// Removes what a dead server left on disk.
    pub fn wipe_files(&self) -> anyhow::Result<()> {
        let files = self.at.home.join("appendonlydir");
        if files.exists() {
            fs::remove_dir_all(files)?;
        }
        Ok(())
    }

    async fn wait_ready(&self) -> anyhow::Result<()> {
        let url = self.url(0);
        wait_until("Redis", Duration::from_secs(10), async || {
            let mut connection = connect(&url).await?;
            Ok(redis::cmd("PING")
                .query_async::<()>(&mut connection)
                .await?)
        })
        .await
    }
}

pub(crate) async fn connect(url: &str) -> anyhow::Result<redis::aio::MultiplexedConnection> {
    let client = redis::Client::open(url)?;
    Ok(client.get_multiplexed_async_connection().await?)
}

fn launch(at: &At, owner: Owner) -> anyhow::Result<Kept> {
    let home = at.home.to_str().context("a path that is not UTF-8")?;
    let (port, databases) = (at.port.to_string(), DATABASES.to_string());
    let arguments = [
        "--port",
        &port,
        "--bind",
        "127.0.0.1",
        "--dir",
        home,
        "--databases",
        &databases,
        "--appendonly",
        "yes",
        "--appendfsync",
        "everysec",
        "--save",
        "",
        "--maxmemory-policy",
        "noeviction",
    ];
    keeper::start(
        &Program {
            path: place::on_path("redis-server")
                .or_else(|| place::on_path("valkey-server"))
                .context("no Redis found: run `make setup`")?,
            arguments: arguments.map(str::to_owned).into(),
            environment: Vec::new(),
            log: at.home.join("redis.log"),
            stop_signal: Signal::SIGTERM,
            remove: Some(at.home.clone()),
            unprivileged: false,
        },
        owner,
    )
}

const DATABASES: u32 = 1000;
