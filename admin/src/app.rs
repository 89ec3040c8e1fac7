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

#[cfg(test)]
impl AppState {
    /// With stores that nobody serves: for what must be decided without them.
    pub(crate) async fn for_testing() -> App {
        use odock_events::clock::SystemClock;
        use secrecy::SecretString;
        use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

        let nobody = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(1);
        let pem = include_str!("../../events/src/seal/fixtures/webcrypto_public.pem");
        let redis_url = "redis://127.0.0.1:1";
        Arc::new(Self {
            pool: PgPoolOptions::new()
                .acquire_timeout(std::time::Duration::from_millis(50))
                .connect_lazy_with(nobody),
            log: RedisLog::connect(redis_url).await.unwrap(),
            redis_url: redis_url.to_owned(),
            credentials: Credentials::new(&SecretString::from(TEST_TOKEN)),
            subject_keys: SubjectKeys::new(&[7; 32]).unwrap(),
            sealing_key: PublicKey::from_pem(pem).unwrap(),
            allow_private_addresses: false,
            clock: Arc::new(SystemClock),
            queues: Queues::default(),
            waiting: Waiting::default(),
            reclaims: Semaphore::new(1),
        })
    }
}

#[cfg(test)]
pub(crate) const TEST_TOKEN: &str = "adm_0123456789012345678901234567890123456789";
