//! A Redis of one test: its own process, directory and unix socket; gone when the test is.

use std::{
    fs,
    future::Future,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use odock_events::{
    ids::GatewayId,
    log::{
        UsageAppend, UsageAppended,
        generation::GenerationSeed,
        keys::{Keys, Plane},
        reader::StreamReader,
        redis::RedisLog,
    },
};
use redis::{AsyncConnectionConfig, ErrorKind, FromRedisValue, RedisError};
use tempfile::TempDir;

pub(super) const DEADLINE: Duration = Duration::from_secs(20);

pub(super) struct Server {
    directory: TempDir,
    process: Option<Child>,
    appendfsync: &'static str,
}

impl Server {
    /// A server as it runs in production: on a slow disk even kill -9 may cost it its last two seconds.
    pub(super) async fn start() -> Self {
        Self::start_with("everysec").await
    }

    /// A server that has on disk what it answered, so that a test knows what is there after a kill.
    pub(super) async fn start_synced() -> Self {
        Self::start_with("always").await
    }

    async fn start_with(appendfsync: &'static str) -> Self {
        let mut server = Self {
            directory: tempfile::tempdir().unwrap(),
            process: None,
            appendfsync,
        };
        server.start_again().await;
        server
    }

    /// After `kill`: the same data and socket.
    pub(super) async fn start_again(&mut self) {
        let process = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "yes"])
            .args([
                "--appendfsync",
                self.appendfsync,
                "--maxmemory-policy",
                "noeviction",
            ])
            .args(["--auto-aof-rewrite-percentage", "0"])
            .arg("--unixsocket")
            .arg(self.socket())
            .arg("--dir")
            .arg(self.directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.process = Some(process);
        eventually("redis answers", async || {
            self.ask::<String>(&["PING"]).await.ok()
        })
        .await;
    }

    /// kill -9.
    pub(super) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub(super) fn process_id(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    /// Cuts bytes off the append-only file, as a power loss does. Only after `kill`.
    pub(super) fn lose_bytes(&self, bytes: u64) {
        for file in fs::read_dir(self.directory.path().join("appendonlydir")).unwrap() {
            let path = file.unwrap().path();
            if path.to_string_lossy().ends_with(".incr.aof") {
                let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
                let length = file.metadata().unwrap().len();
                file.set_len(length.saturating_sub(bytes)).unwrap();
            }
        }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("s")
    }

    pub(super) fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    /// A patient client: a busy machine is not what is tested.
    pub(super) async fn log(&self) -> RedisLog {
        RedisLog::connect_with(&self.url(), DEADLINE).await.unwrap()
    }

    pub(super) async fn reader(&self) -> StreamReader {
        let reader = async || StreamReader::connect(&self.url()).await.ok();
        eventually("a reader connects", reader).await
    }

    /// A log of generation 1 that begins with nothing.
    pub(super) async fn open_log(&self) -> RedisLog {
        let log = self.log().await;
        log.raise_generation(&seed(1)).await.unwrap();
        log
    }

    /// One command on a connection of its own.
    pub(super) async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> Result<T, RedisError> {
        let client = redis::Client::open(self.url())?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(DEADLINE))
            .set_response_timeout(Some(DEADLINE));
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let mut command = redis::cmd(words.first().copied().unwrap_or_default());
        command.arg(&words[1..]).query_async(&mut connection).await
    }

    /// Every key of this server with all that it holds.
    pub(super) async fn dump(&self) -> Vec<(String, Vec<u8>)> {
        let mut keys: Vec<String> = self.ask(&["KEYS", "*"]).await.unwrap();
        keys.sort();
        let mut all = Vec::new();
        for key in keys {
            let bytes = self.ask(&["DUMP", &key]).await.unwrap();
            all.push((key, bytes));
        }
        all
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(super) fn seed(generation: u64) -> GenerationSeed {
    GenerationSeed {
        generation,
        ..GenerationSeed::default()
    }
}

/// One start of one gateway's process, as appends name it.
#[derive(Clone, Debug)]
pub(super) struct Producer {
    pub(super) gateway: GatewayId,
    pub(super) generation: u64,
    pub(super) epoch: u64,
    pub(super) nonce: String,
    pub(super) base: u64,
}

impl Producer {
    pub(super) fn new() -> Self {
        Self {
            gateway: GatewayId::generate(),
            generation: 1,
            epoch: 1,
            nonce: "n".to_owned(),
            base: 0,
        }
    }

    pub(super) async fn append(&self, log: &RedisLog, first: u64, last: u64) -> UsageAppended {
        self.try_append(log, first, last).await.unwrap()
    }

    pub(super) async fn try_append(
        &self,
        log: &RedisLog,
        first: u64,
        last: u64,
    ) -> Result<UsageAppended, odock_events::log::LogError> {
        let bytes = format!("{first}..{last}");
        log.append_usage(&UsageAppend {
            generation: self.generation,
            gateway_id: self.gateway,
            epoch: self.epoch,
            nonce: &self.nonce,
            first,
            last,
            base: self.base,
            bytes: bytes.as_bytes(),
        })
        .await
    }

    pub(super) fn stream(&self) -> String {
        Keys::new(self.generation).usage(self.gateway)
    }
}

/// Tries again until there is something, or a deadline is over.
pub(super) async fn eventually<T, F>(what: &str, mut attempt: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let begin = Instant::now();
    loop {
        if let Some(found) = attempt().await {
            return found;
        }
        assert!(begin.elapsed() < DEADLINE, "in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The client has found its server again.
pub(super) async fn connected(log: &RedisLog) {
    eventually("the client is back", async || log.ping().await.ok()).await;
}

pub(super) async fn open_planes(log: &RedisLog) -> Vec<Option<u64>> {
    let mut planes = Vec::new();
    for plane in Plane::ALL {
        planes.push(log.generation(plane).await.unwrap());
    }
    planes
}

pub(super) fn was_refused_for_memory(error: &odock_events::log::LogError) -> bool {
    match error {
        odock_events::log::LogError::Redis(error) => {
            matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
                && error.to_string().contains("OOM")
        }
        odock_events::log::LogError::Timeout
        | odock_events::log::LogError::Answer(_)
        | odock_events::log::LogError::Encode(_) => false,
    }
}
