//! Connections to Redis for `redis.rs` and `reader.rs`: small packets go at once, a peer that is silent for some
//! seconds counts as gone, and a call has one deadline, connecting included.

use std::{io, time::Duration};

use redis::{
    Client, Cmd, IntoConnectionInfo as _, Pipeline, RedisError, RedisFuture, Value,
    aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig},
    io::tcp::TcpSettings,
};

use super::LogError;

/// Unanswered data for this long ends a connection: without it a partition is noticed after a quarter of an hour.
#[cfg(target_os = "linux")]
const SILENCE: Duration = Duration::from_secs(3);

/// A client whose connections do not wait to fill a packet.
pub(super) fn client(url: &str) -> Result<Client, LogError> {
    let settings = TcpSettings::default().set_nodelay(true);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(SILENCE);
    let info = url.into_connection_info()?.set_tcp_settings(settings);
    Ok(Client::open(info)?)
}

/// A shared connection that comes back by itself and never keeps a caller longer than its deadline.
#[derive(Clone)]
pub(super) struct Connection {
    manager: ConnectionManager,
    deadline: Duration,
}

impl Connection {
    /// Connects when it is first used. Needs a runtime.
    pub(super) fn new(url: &str, deadline: Duration) -> Result<Self, LogError> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(deadline))
            .set_response_timeout(Some(deadline))
            .set_number_of_retries(1)
            .set_min_delay(Duration::from_millis(10))
            .set_max_delay(Duration::from_millis(200));
        let manager = ConnectionManager::new_lazy_with_config(client(url)?, config)?;
        Ok(Self { manager, deadline })
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        let deadline = self.deadline;
        let answer = self.manager.req_packed_command(cmd);
        Box::pin(async move {
            tokio::time::timeout(deadline, answer)
                .await
                .unwrap_or_else(|_| Err(too_late()))
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        let deadline = self.deadline;
        let answer = self.manager.req_packed_commands(pipeline, offset, count);
        Box::pin(async move {
            tokio::time::timeout(deadline, answer)
                .await
                .unwrap_or_else(|_| Err(too_late()))
        })
    }

    fn get_db(&self) -> i64 {
        self.manager.get_db()
    }
}

fn too_late() -> RedisError {
    io::Error::from(io::ErrorKind::TimedOut).into()
}
