//! What the tests of the usage stream and of the purse share: a Redis of their own, and the projector's part in it.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use odock_events::{
    codec,
    envelope::Envelope,
    ids::GatewayId,
    log::{EventLog as _, generation::GenerationSeed, redis::RedisLog},
};
use tempfile::TempDir;

/// Ends with the test.
pub(crate) struct Redis {
    directory: TempDir,
    server: Child,
}

impl Redis {
    pub(crate) fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let server = spawn(directory.path());
        Self { directory, server }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}/socket", self.directory.path().display())
    }

    pub(crate) async fn log(&self) -> RedisLog {
        RedisLog::connect(&self.url()).await.unwrap()
    }

    pub(crate) async fn run(&self, words: &[&str]) {
        let client = redis::Client::open(self.url()).unwrap();
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        eventually("redis answers", async || {
            let mut connection = client.get_multiplexed_async_connection().await.ok()?;
            command
                .query_async::<redis::Value>(&mut connection)
                .await
                .ok()
        })
        .await;
    }

    /// Opens a generation in which Postgres has this gateway's stream up to the watermark.
    pub(crate) async fn open_generation(
        &self,
        generation: u64,
        gateway: GatewayId,
        watermark: u64,
    ) {
        let seed = GenerationSeed {
            generation,
            watermarks: vec![(gateway, watermark)],
            // Whoever it was at the first start: what Postgres knows with a watermark.
            owners: (watermark > 0)
                .then(|| (gateway, 1, String::new()))
                .into_iter()
                .collect(),
            ..GenerationSeed::default()
        };
        let log = self.log().await;
        eventually("a generation is open", async || {
            log.raise_generation(&seed).await.ok()
        })
        .await;
    }

    /// What the stream holds in a generation: seq and event.
    pub(crate) async fn events(&self, generation: u64, gateway: GatewayId) -> Vec<(u64, Envelope)> {
        let log = self.log().await;
        let entries = log
            .read_usage(generation, gateway, 0, 10_000)
            .await
            .unwrap();
        let mut events = Vec::new();
        for entry in entries {
            let unpacked = codec::unpack_batch(&entry.bytes).unwrap();
            assert_eq!(unpacked.len() as u64, entry.last - entry.first + 1);
            let numbered = (entry.first..).zip(&unpacked);
            events.extend(numbered.map(|(seq, bytes)| (seq, codec::decode(bytes).unwrap())));
        }
        events
    }
}

fn spawn(directory: &Path) -> Child {
    Command::new("redis-server")
        .current_dir(directory)
        .args([
            "--port",
            "0",
            "--save",
            "",
            "--appendonly",
            "no",
            "--unixsocket",
        ])
        .arg(directory.join("socket"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Asks until there is something, at most ten seconds.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
