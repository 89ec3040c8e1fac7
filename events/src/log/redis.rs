//! The log client: appends by script, the small messages, watermarks, presences. Every call has a deadline; none
//! blocks. Blocking reads are in `reader.rs`, raising a generation in `generation.rs`.

use std::time::Duration;

use async_trait::async_trait;
use redis::{
    AsyncCommands as _, ErrorKind, RedisError, Script, Value,
    streams::{StreamMaxlen, StreamRangeReply},
};
use serde::Serialize;

use super::{
    EventLog, LogError, ManagementAppend, ManagementAppended, ManagementEntry, UsageAppend,
    UsageAppended, UsageEntry, boundary_field,
    connection::Connection,
    keys::{self, Keys, Plane},
    messages::{AskMessage, Beat, ControlMessage, GatewayPresence},
    reader::{bytes_field, number_field, seq_of},
};
use crate::ids::GatewayId;

/// A client of the log. Cloned handles share one connection, which comes back by itself.
#[derive(Clone)]
pub struct RedisLog {
    pub(super) connection: Connection,
    management_append: Script,
    usage_append: Script,
}

/// What tells one Redis from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisIdentity {
    /// A new one at each start of the server.
    pub run_id: String,
    /// What the projector left after its last commit; `None` in an empty Redis.
    pub checkpoint: Option<String>,
}

/// No call takes longer.
const DEADLINE: Duration = Duration::from_millis(500);
/// Lossy streams are cut to about this many entries.
const LOSSY_LENGTH: usize = 10_000;

impl RedisLog {
    /// A client for `url`. Connects when it is first used: while Redis is away, calls fail and this does not.
    pub async fn connect(url: &str) -> Result<Self, LogError> {
        Self::connect_with(url, DEADLINE).await
    }

    /// As `connect`, with another deadline.
    #[expect(
        clippy::unused_async,
        reason = "the connection is made lazily, inside a runtime"
    )]
    pub async fn connect_with(url: &str, deadline: Duration) -> Result<Self, LogError> {
        Ok(Self {
            connection: Connection::new(url, deadline)?,
            management_append: Script::new(include_str!("mgmt_append.lua")),
            usage_append: Script::new(include_str!("usage_append.lua")),
        })
    }

    /// The open generation of a plane; `None`: closed.
    pub async fn generation(&self, plane: Plane) -> Result<Option<u64>, LogError> {
        Ok(self.connection.clone().get(plane.generation_key()).await?)
    }

    pub async fn append_management(
        &self,
        append: &ManagementAppend<'_>,
    ) -> Result<ManagementAppended, LogError> {
        let keys = Keys::new(append.generation);
        let reply: Vec<String> = self
            .management_append
            .key(Plane::Management.generation_key())
            .key(keys.versions())
            .key(keys.management())
            .arg(append.generation)
            .arg(boundary_field(append.boundary))
            .arg(append.expected_version)
            .arg(append.bytes)
            .invoke_async(&mut self.connection.clone())
            .await?;
        match Reply::of(&reply)? {
            ("OK", seq) => Ok(ManagementAppended::Ok { seq: number(seq)? }),
            ("CONFLICT", version) => Ok(ManagementAppended::Conflict {
                version: number(version)?,
            }),
            ("CLOSED", _) => Ok(ManagementAppended::Closed),
            ("STALE", generation) => Ok(ManagementAppended::Stale {
                generation: number(generation)?,
            }),
            _ => Err(LogError::Answer(reply.join(" "))),
        }
    }

    pub async fn append_usage(&self, append: &UsageAppend<'_>) -> Result<UsageAppended, LogError> {
        let keys = Keys::new(append.generation);
        let reply: Vec<String> = self
            .usage_append
            .key(Plane::Usage.generation_key())
            .key(keys.owner())
            .key(keys.usage(append.gateway_id))
            .arg(append.generation)
            .arg(append.gateway_id.to_string())
            .arg(append.epoch)
            .arg(append.nonce)
            .arg(append.first)
            .arg(append.last)
            .arg(append.base)
            .arg(append.bytes)
            .invoke_async(&mut self.connection.clone())
            .await?;
        match Reply::of(&reply)? {
            ("OK", last) => Ok(UsageAppended::Ok {
                last: number(last)?,
            }),
            ("DUPLICATE", top) => Ok(UsageAppended::Duplicate { top: number(top)? }),
            ("GAP", top) => Ok(UsageAppended::Gap { top: number(top)? }),
            ("FENCED", owner) => Ok(UsageAppended::Fenced {
                owner: owner.to_owned(),
            }),
            ("CLOSED", _) => Ok(UsageAppended::Closed),
            ("STALE", generation) => Ok(UsageAppended::Stale {
                generation: number(generation)?,
            }),
            _ => Err(LogError::Answer(reply.join(" "))),
        }
    }

    /// Sends one configuration version on. It was sent before: success.
    pub async fn relay_config(
        &self,
        generation: u64,
        version: u64,
        bytes: &[u8],
    ) -> Result<(), LogError> {
        let id = format!("0-{version}");
        let sent: Result<String, RedisError> = self
            .connection
            .clone()
            .xadd(Keys::new(generation).config(), id, &[("d", bytes)])
            .await;
        match sent {
            Ok(_) => Ok(()),
            Err(error) if is_old_id(&error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The last configuration version that was sent in this generation, also when it was trimmed.
    pub async fn config_top(&self, generation: u64) -> Result<Option<u64>, LogError> {
        self.top(&Keys::new(generation).config()).await
    }

    pub async fn management_top(&self, generation: u64) -> Result<Option<u64>, LogError> {
        self.top(&Keys::new(generation).management()).await
    }

    pub async fn usage_top(
        &self,
        generation: u64,
        gateway: GatewayId,
    ) -> Result<Option<u64>, LogError> {
        self.top(&Keys::new(generation).usage(gateway)).await
    }

    pub async fn send_ask(&self, message: &AskMessage) -> Result<(), LogError> {
        self.send(keys::ASKS, message).await
    }

    pub async fn send_control(
        &self,
        gateway: GatewayId,
        message: &ControlMessage,
    ) -> Result<(), LogError> {
        self.send(&keys::control(gateway), message).await
    }

    pub async fn send_beat(&self, beat: &Beat) -> Result<(), LogError> {
        self.send(keys::BEAT, beat).await
    }

    /// Tells gateways how far Postgres has their streams.
    pub async fn set_watermarks(
        &self,
        generation: u64,
        watermarks: &[(GatewayId, u64)],
    ) -> Result<(), LogError> {
        if watermarks.is_empty() {
            return Ok(());
        }
        let fields: Vec<(String, u64)> = watermarks
            .iter()
            .map(|(gateway, seq)| (gateway.to_string(), *seq))
            .collect();
        let key = Keys::new(generation).watermarks();
        let () = self.connection.clone().hset_multiple(key, &fields).await?;
        Ok(())
    }

    pub async fn watermark(
        &self,
        generation: u64,
        gateway: GatewayId,
    ) -> Result<Option<u64>, LogError> {
        let key = Keys::new(generation).watermarks();
        Ok(self
            .connection
            .clone()
            .hget(key, gateway.to_string())
            .await?)
    }

    pub async fn put_presence(
        &self,
        generation: u64,
        presence: &GatewayPresence,
    ) -> Result<(), LogError> {
        let bytes = rmp_serde::to_vec_named(presence)?;
        let key = Keys::new(generation).gateways();
        let () = self
            .connection
            .clone()
            .hset(key, presence.gateway_id.to_string(), bytes)
            .await?;
        Ok(())
    }

    /// All gateways that said they are there, by id; some may be long gone: look at the heartbeat.
    pub async fn presences(&self, generation: u64) -> Result<Vec<GatewayPresence>, LogError> {
        let key = Keys::new(generation).gateways();
        let fields: Vec<Vec<u8>> = self.connection.clone().hvals(key).await?;
        let mut presences: Vec<GatewayPresence> = fields
            .iter()
            .filter_map(|bytes| rmp_serde::from_slice(bytes).ok())
            .collect();
        presences.sort_by_key(|presence| presence.gateway_id);
        Ok(presences)
    }

    pub async fn remove_presence(
        &self,
        generation: u64,
        gateway: GatewayId,
    ) -> Result<(), LogError> {
        let key = Keys::new(generation).gateways();
        let () = self
            .connection
            .clone()
            .hdel(key, gateway.to_string())
            .await?;
        Ok(())
    }

    /// Gateways that have appended in this generation, or were seeded: the usage streams there are.
    pub async fn usage_owners(&self, generation: u64) -> Result<Vec<GatewayId>, LogError> {
        let key = Keys::new(generation).owner();
        let fields: Vec<String> = self.connection.clone().hkeys(key).await?;
        let mut owners: Vec<GatewayId> = fields
            .iter()
            .filter_map(|field| field.parse().ok())
            .collect();
        owners.sort_unstable();
        Ok(owners)
    }

    /// Epoch and nonce of the process that appended last, or that was seeded. A gateway that meets a stranger here, or
    /// a top above its journal's length at start while it is not the owner itself, runs on a copied disk.
    pub async fn usage_owner(
        &self,
        generation: u64,
        gateway: GatewayId,
    ) -> Result<Option<(u64, String)>, LogError> {
        let key = Keys::new(generation).owner();
        let field = gateway.to_string();
        let owner: Option<String> = self.connection.clone().hget(key, field).await?;
        let Some(owner) = owner else { return Ok(None) };
        match owner.split_once(':') {
            Some((epoch, nonce)) => Ok(Some((number(epoch)?, nonce.to_owned()))),
            None => Err(LogError::Answer(owner)),
        }
    }

    /// Drops entries of a usage stream that Postgres has.
    pub async fn trim_usage(
        &self,
        generation: u64,
        gateway: GatewayId,
        up_to_seq: u64,
    ) -> Result<(), LogError> {
        self.trim(&Keys::new(generation).usage(gateway), up_to_seq)
            .await
    }

    pub async fn trim_management(&self, generation: u64, up_to: u64) -> Result<(), LogError> {
        self.trim(&Keys::new(generation).management(), up_to).await
    }

    pub async fn trim_config(&self, generation: u64, up_to: u64) -> Result<(), LogError> {
        self.trim(&Keys::new(generation).config(), up_to).await
    }

    pub async fn identity(&self) -> Result<RedisIdentity, LogError> {
        let mut connection = self.connection.clone();
        let info: String = redis::cmd("INFO")
            .arg("server")
            .query_async(&mut connection)
            .await?;
        let run_id = info.lines().find_map(|line| line.strip_prefix("run_id:"));
        let run_id = run_id
            .ok_or_else(|| LogError::Answer("no run_id".into()))?
            .trim()
            .to_owned();
        let checkpoint = connection.get(keys::CHECKPOINT).await?;
        Ok(RedisIdentity { run_id, checkpoint })
    }

    /// What the projector leaves after each commit.
    pub async fn put_checkpoint(&self, text: &str) -> Result<(), LogError> {
        let () = self.connection.clone().set(keys::CHECKPOINT, text).await?;
        Ok(())
    }

    /// Whether Redis answers at all.
    pub async fn ping(&self) -> Result<(), LogError> {
        let () = redis::cmd("PING")
            .query_async(&mut self.connection.clone())
            .await?;
        Ok(())
    }

    async fn send(&self, key: &str, message: &impl Serialize) -> Result<(), LogError> {
        let bytes = rmp_serde::to_vec_named(message)?;
        let _: String = self
            .connection
            .clone()
            .xadd_maxlen(
                key,
                StreamMaxlen::Approx(LOSSY_LENGTH),
                "*",
                &[("d", bytes)],
            )
            .await?;
        Ok(())
    }

    async fn top(&self, key: &str) -> Result<Option<u64>, LogError> {
        let info: Result<Value, RedisError> = redis::cmd("XINFO")
            .arg("STREAM")
            .arg(key)
            .query_async(&mut self.connection.clone())
            .await;
        match info {
            Ok(info) => Ok(Some(last_generated(&info)?)),
            Err(error) if error.to_string().contains("no such key") => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn trim(&self, key: &str, up_to: u64) -> Result<(), LogError> {
        let _: u64 = redis::cmd("XTRIM")
            .arg(key)
            .arg("MINID")
            .arg("~")
            .arg(format!("0-{}", up_to.saturating_add(1)))
            .query_async(&mut self.connection.clone())
            .await?;
        Ok(())
    }

    async fn range(
        &self,
        key: &str,
        after: u64,
        count: usize,
    ) -> Result<StreamRangeReply, LogError> {
        let start = format!("(0-{after}");
        Ok(self
            .connection
            .clone()
            .xrange_count(key, start, "+", count)
            .await?)
    }
}

#[async_trait]
impl EventLog for RedisLog {
    async fn append_management(
        &self,
        append: &ManagementAppend<'_>,
    ) -> Result<ManagementAppended, LogError> {
        Self::append_management(self, append).await
    }

    async fn append_usage(&self, append: &UsageAppend<'_>) -> Result<UsageAppended, LogError> {
        Self::append_usage(self, append).await
    }

    async fn read_management(
        &self,
        generation: u64,
        after_seq: u64,
        count: usize,
    ) -> Result<Vec<ManagementEntry>, LogError> {
        let reply = self
            .range(&Keys::new(generation).management(), after_seq, count)
            .await?;
        let entries = reply.ids.iter().map(|entry| {
            Ok(ManagementEntry {
                seq: seq_of(&entry.id)?,
                bytes: bytes_field(entry, "d")?,
            })
        });
        entries.collect()
    }

    async fn read_usage(
        &self,
        generation: u64,
        gateway: GatewayId,
        after_seq: u64,
        count: usize,
    ) -> Result<Vec<UsageEntry>, LogError> {
        let reply = self
            .range(&Keys::new(generation).usage(gateway), after_seq, count)
            .await?;
        let entries = reply.ids.iter().map(|entry| {
            Ok(UsageEntry {
                gateway_id: gateway,
                first: number_field(entry, "f")?,
                last: seq_of(&entry.id)?,
                bytes: bytes_field(entry, "d")?,
            })
        });
        entries.collect()
    }
}

/// A script's answer: a word and what belongs to it.
pub(super) struct Reply;

impl Reply {
    pub(super) fn of(reply: &[String]) -> Result<(&str, &str), LogError> {
        match reply {
            [word] => Ok((word, "")),
            [word, rest] => Ok((word, rest)),
            _ => Err(LogError::Answer(reply.join(" "))),
        }
    }
}

pub(super) fn number(text: &str) -> Result<u64, LogError> {
    text.parse().map_err(|_| LogError::Answer(text.to_owned()))
}

fn is_old_id(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
        && error.to_string().contains("equal or smaller")
}

fn last_generated(info: &Value) -> Result<u64, LogError> {
    let unreadable = || LogError::Answer("XINFO STREAM".into());
    let Value::Array(items) = info else {
        return Err(unreadable());
    };
    for pair in items.chunks(2) {
        if let [name, value] = pair
            && redis::from_redis_value_ref::<String>(name)
                .is_ok_and(|name| name == "last-generated-id")
        {
            let id: String = redis::from_redis_value_ref(value).map_err(|_| unreadable())?;
            return seq_of(&id);
        }
    }
    Err(unreadable())
}
