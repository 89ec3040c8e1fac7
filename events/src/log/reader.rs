//! Blocking reads, each reader on its own connection, resumed by id: nothing is skipped when a connection breaks.

use std::{fmt, time::Duration};

use redis::{
    AsyncConnectionConfig, FromRedisValue,
    aio::MultiplexedConnection,
    streams::{StreamId as Entry, StreamReadOptions, StreamReadReply},
};
use serde::de::DeserializeOwned;

use super::{
    ConfigEntry, LogError, ManagementEntry, UsageEntry, connection,
    keys::{self, Keys},
    messages::{AskMessage, Beat, ControlMessage},
};
use crate::ids::GatewayId;

/// How much longer than the block an answer may take.
const MARGIN: Duration = Duration::from_millis(1_500);
/// The longest block; longer ones are shortened.
const LONGEST_BLOCK: Duration = Duration::from_secs(5);

/// A place in a lossy stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamId(String);

impl StreamId {
    /// Before everything that is kept.
    #[must_use]
    pub fn beginning() -> Self {
        Self("0-0".to_owned())
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One reader with its own connection. After an error make a new one and go on from the last id. A read that is
/// dropped half-way leaves its block running: the next one may wait for it, and nothing is skipped.
pub struct StreamReader {
    connection: MultiplexedConnection,
}

impl StreamReader {
    pub async fn connect(url: &str) -> Result<Self, LogError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(Duration::from_millis(500)))
            .set_response_timeout(Some(LONGEST_BLOCK + MARGIN));
        let connection = connection::client(url)?
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        Ok(Self { connection })
    }

    /// Entries above `after_seq`, waiting up to `block` for the first.
    pub async fn management(
        &mut self,
        generation: u64,
        after_seq: u64,
        count: usize,
        block: Duration,
    ) -> Result<Vec<ManagementEntry>, LogError> {
        let keys = [Keys::new(generation).management()];
        let reply = self
            .read(&keys, &[format!("0-{after_seq}")], count, block)
            .await?;
        let entries = reply.keys.iter().flat_map(|stream| &stream.ids);
        entries
            .map(|entry| {
                Ok(ManagementEntry {
                    seq: seq_of(&entry.id)?,
                    bytes: bytes_field(entry, "d")?,
                })
            })
            .collect()
    }

    /// Entries of these gateways whose last seq is above the cursor; an entry may begin below it.
    pub async fn usage(
        &mut self,
        generation: u64,
        cursors: &[(GatewayId, u64)],
        count: usize,
        block: Duration,
    ) -> Result<Vec<UsageEntry>, LogError> {
        if cursors.is_empty() {
            tokio::time::sleep(block).await;
            return Ok(Vec::new());
        }
        let names = Keys::new(generation);
        let keys: Vec<String> = cursors
            .iter()
            .map(|(gateway, _)| names.usage(*gateway))
            .collect();
        let ids: Vec<String> = cursors.iter().map(|(_, seq)| format!("0-{seq}")).collect();
        let reply = self.read(&keys, &ids, count, block).await?;
        let mut entries = Vec::new();
        for stream in &reply.keys {
            let index = keys.iter().position(|key| *key == stream.key);
            let Some((gateway_id, _)) = index.and_then(|index| cursors.get(index)) else {
                continue;
            };
            for entry in &stream.ids {
                entries.push(UsageEntry {
                    gateway_id: *gateway_id,
                    first: number_field(entry, "f")?,
                    last: seq_of(&entry.id)?,
                    bytes: bytes_field(entry, "d")?,
                });
            }
        }
        Ok(entries)
    }

    /// Config entries above a version.
    pub async fn config(
        &mut self,
        generation: u64,
        after_version: u64,
        count: usize,
        block: Duration,
    ) -> Result<Vec<ConfigEntry>, LogError> {
        let keys = [Keys::new(generation).config()];
        let reply = self
            .read(&keys, &[format!("0-{after_version}")], count, block)
            .await?;
        let entries = reply.keys.iter().flat_map(|stream| &stream.ids);
        entries
            .map(|entry| {
                Ok(ConfigEntry {
                    version: seq_of(&entry.id)?,
                    bytes: bytes_field(entry, "d")?,
                })
            })
            .collect()
    }

    /// The end of the ask stream as it is now: what came before is not read.
    pub async fn asks_end(&mut self) -> Result<StreamId, LogError> {
        self.end(keys::ASKS).await
    }

    pub async fn control_end(&mut self, gateway: GatewayId) -> Result<StreamId, LogError> {
        self.end(&keys::control(gateway)).await
    }

    pub async fn beats_end(&mut self) -> Result<StreamId, LogError> {
        self.end(keys::BEAT).await
    }

    pub async fn asks(
        &mut self,
        after: &StreamId,
        block: Duration,
    ) -> Result<Vec<(StreamId, AskMessage)>, LogError> {
        self.messages(keys::ASKS, after, block).await
    }

    pub async fn control(
        &mut self,
        gateway: GatewayId,
        after: &StreamId,
        block: Duration,
    ) -> Result<Vec<(StreamId, ControlMessage)>, LogError> {
        self.messages(&keys::control(gateway), after, block).await
    }

    pub async fn beats(
        &mut self,
        after: &StreamId,
        block: Duration,
    ) -> Result<Vec<(StreamId, Beat)>, LogError> {
        self.messages(keys::BEAT, after, block).await
    }

    /// Messages that read; the others are lossy and skipped, and the place moves on.
    async fn messages<T: DeserializeOwned>(
        &mut self,
        key: &str,
        after: &StreamId,
        block: Duration,
    ) -> Result<Vec<(StreamId, T)>, LogError> {
        let reply = self
            .read(
                &[key.to_owned()],
                std::slice::from_ref(&after.0),
                1_000,
                block,
            )
            .await?;
        let entries = reply.keys.iter().flat_map(|stream| &stream.ids);
        let messages = entries.filter_map(|entry| {
            let bytes = bytes_field(entry, "d").ok()?;
            Some((
                StreamId(entry.id.clone()),
                rmp_serde::from_slice(&bytes).ok()?,
            ))
        });
        Ok(messages.collect())
    }

    /// The id of the last entry, resolved once: never `$`, which would skip what comes while a connection is away.
    async fn end(&mut self, key: &str) -> Result<StreamId, LogError> {
        let reply: redis::streams::StreamRangeReply = redis::cmd("XREVRANGE")
            .arg(key)
            .arg("+")
            .arg("-")
            .arg("COUNT")
            .arg(1)
            .query_async(&mut self.connection)
            .await?;
        let last = reply.ids.into_iter().next();
        Ok(last.map_or_else(StreamId::beginning, |entry| StreamId(entry.id)))
    }

    async fn read(
        &mut self,
        keys: &[String],
        ids: &[String],
        count: usize,
        block: Duration,
    ) -> Result<StreamReadReply, LogError> {
        use redis::AsyncCommands as _;
        // A block of 0 would wait for ever.
        let block = block.clamp(Duration::from_millis(1), LONGEST_BLOCK);
        let options = StreamReadOptions::default()
            .count(count)
            .block(block.as_millis() as usize);
        let answer = self.connection.xread_options(keys, ids, &options);
        let reply: Option<StreamReadReply> = tokio::time::timeout(block + MARGIN, answer)
            .await
            .map_err(|_| LogError::Timeout)??;
        Ok(reply.unwrap_or_default())
    }
}

/// The number in an id `0-<number>`.
pub(super) fn seq_of(id: &str) -> Result<u64, LogError> {
    let seq = id.strip_prefix("0-").and_then(|seq| seq.parse().ok());
    seq.ok_or_else(|| LogError::Answer(format!("id {id}")))
}

pub(super) fn bytes_field(entry: &Entry, name: &str) -> Result<Vec<u8>, LogError> {
    field(entry, name)
}

pub(super) fn number_field(entry: &Entry, name: &str) -> Result<u64, LogError> {
    field(entry, name)
}

fn field<T: FromRedisValue>(entry: &Entry, name: &str) -> Result<T, LogError> {
    entry
        .get(name)
        .ok_or_else(|| LogError::Answer(format!("entry {} has no `{name}`", entry.id)))
}
