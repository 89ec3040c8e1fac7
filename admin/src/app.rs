//! What every request shares: connections, keys, queues. Made once by `startup`.

use std::sync::Arc;

use odock_events::{clock::Clock, log::redis::RedisLog, personal::SubjectKeys, seal::PublicKey};
use sqlx::PgPool;
use tokio::sync::Semaphore;

use crate::{
    auth::Credentials,
    command::{queue::Queues, waiting::Waiting},
};

pub(crate) type App = Arc<AppState>;

pub(crate) struct AppState {
    pub(crate) pool: PgPool,
    pub(crate) log: RedisLog,
    /// For readers that need a connection of their own.
    pub(crate) redis_url: String,
    pub(crate) credentials: Credentials,
    pub(crate) subject_keys: SubjectKeys,
    pub(crate) sealing_key: PublicKey,
    pub(crate) allow_private_addresses: bool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) queues: Queues,
    pub(crate) waiting: Waiting,
    /// One reclaim at a time.
    pub(crate) reclaims: Semaphore,
}
