//! A Redis of a test's own, on a unix socket; ends with the test.

use std::process::{Child, Command, Stdio};

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
        let server = spawn(directory.path());
        Self { directory, server }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}/s", self.directory.path().display())
    }

    /// Ends it without warning and starts another one in its place, empty.
    pub(crate) fn replace(&mut self) {
        self.end();
        self.server = spawn(self.directory.path());
    }

    pub(crate) async fn flush(&self) {
        let client = ::redis::Client::open(self.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let () = ::redis::cmd("FLUSHALL")
            .query_async(&mut connection)
            .await
            .unwrap();
    }

    fn end(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}

fn spawn(directory: &std::path::Path) -> Child {
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
        .arg(directory.join("s"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.end();
    }
}
