//! One running Odock: `odock up` on stores of the tests, with a client for everything it offers.

mod builder;
mod processes;
mod ready;

use std::path::PathBuf;

use anyhow::Context as _;
use sqlx::{PgPool, postgres::PgPoolOptions};

pub use self::{builder::StackBuilder, processes::Service, ready::Ready};
use crate::{
    client::{Admin, Demo, Gateway},
    keeper::Kept,
    place,
    servers::{self, PostgresServer, RedisServer},
    tenant::Tenant,
};

/// A running `odock up`. It ends with the value, unless it is the shared one.
pub struct Stack {
    pub admin: Admin,
    pub demo: Demo,
    /// The database that the services write.
    pub postgres: PgPool,
    /// Set when the stack has servers of its own: to kill and to wipe them.
    pub own_postgres: Option<PostgresServer>,
    pub own_redis: Option<RedisServer>,
    pub ready: Ready,
    pub data_dir: PathBuf,
    gateways: Vec<Gateway>,
    redis_url: String,
    up: Option<Kept>,
    /// What the services were given beside their settings files.
    environment: Vec<(String, String)>,
    /// Services that a test started again by hand.
    restarted: Vec<Kept>,
}

impl Stack {
    /// The one that all tests of a run share: two gateways. A test makes a tenant of its own in it and kills nothing.
    pub async fn shared() -> anyhow::Result<Self> {
        let _lock = place::lock("stack").await?;
        let note = place::run_dir()?.join("stack");
        if let Ok(data_dir) = std::fs::read_to_string(&note) {
            return Self::attach(PathBuf::from(data_dir));
        }
        let stack = Self::builder()
            .gateways(2)
            .serving_the_run()
            .start()
            .await?;
        std::fs::write(&note, stack.data_dir.as_os_str().as_encoded_bytes())?;
        Ok(stack)
    }

    /// One for a single test.
    pub fn builder() -> StackBuilder {
        StackBuilder::default()
    }

    /// The gateway of this number, from 0.
    pub fn gateway(&self, number: usize) -> anyhow::Result<&Gateway> {
        self.gateways
            .get(number)
            .with_context(|| format!("there is no gateway {number}"))
    }

    pub fn gateways(&self) -> &[Gateway] {
        &self.gateways
    }

    /// From now on the gateway of this number is reached by another client.
    pub fn reach_gateway_by(&mut self, number: usize, gateway: Gateway) -> anyhow::Result<()> {
        let place = self.gateways.get_mut(number);
        *place.with_context(|| format!("there is no gateway {number}"))? = gateway;
        Ok(())
    }

    /// A new organisation with the demo provider and its models.
    pub async fn tenant(&self) -> anyhow::Result<Tenant> {
        Tenant::create(&self.admin, &self.demo.url).await
    }

    /// A connection to the database of Redis that the services use.
    pub async fn redis(&self) -> anyhow::Result<redis::aio::MultiplexedConnection> {
        servers::connect(&self.redis_url).await
    }

    /// What the processes have written to their logs.
    pub fn logs(&self) -> anyhow::Result<String> {
        let mut all = String::new();
        for entry in std::fs::read_dir(self.data_dir.join("logs"))? {
            all.push_str(&String::from_utf8_lossy(&std::fs::read(entry?.path())?));
        }
        Ok(all)
    }

    fn attach(data_dir: PathBuf) -> anyhow::Result<Self> {
        let ready = Ready::read(&data_dir)?;
        Self::of(ready, data_dir).context("use the stack that another test of this run started")
    }

    fn of(ready: Ready, data_dir: PathBuf) -> anyhow::Result<Self> {
        let postgres = PgPoolOptions::new()
            .max_connections(4)
            .connect_lazy(&ready.postgres_url)?;
        Ok(Self {
            admin: Admin::new(&ready.admin_url, &ready.admin_token)?,
            demo: Demo::new(ready.demo_upstream_url.as_deref().unwrap_or_default())?,
            postgres,
            own_postgres: None,
            own_redis: None,
            gateways: ready
                .gateway_urls
                .iter()
                .map(|url| Gateway::new(url))
                .collect::<anyhow::Result<_>>()?,
            redis_url: ready.redis_url.clone(),
            ready,
            data_dir,
            up: None,
            environment: Vec::new(),
            restarted: Vec::new(),
        })
    }
}
