//! How a test asks for a stack.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use nix::sys::signal::Signal;

use super::{Ready, Stack};
use crate::{
    keeper::{self, Kept, Owner, Program},
    place,
    servers::{PostgresServer, RedisServer},
    wait::wait_until,
};

/// What the stack shall be; all of it has a default that suits a read-only test.
#[derive(Debug)]
pub struct StackBuilder {
    gateways: u8,
    projectors: u8,
    restart_always: bool,
    postgres: Store,
    redis: Store,
    no_demo: bool,
    owner: Owner,
    environment: Vec<(String, String)>,
    data_dir: Option<PathBuf>,
}

/// Which server of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Store {
    /// A database of its own in the server of the run.
    Shared,
    /// A server of its own that a test may kill and wipe.
    Own,
    /// The private one that `odock up` starts.
    Private,
    /// At an address that the test knows, such as a fault proxy's.
    At(String),
}

impl Default for StackBuilder {
    fn default() -> Self {
        Self {
            gateways: 1,
            projectors: 1,
            restart_always: false,
            postgres: Store::Shared,
            redis: Store::Shared,
            no_demo: false,
            owner: Owner::Caller,
            environment: Vec::new(),
            data_dir: None,
        }
    }
}

impl StackBuilder {
    #[must_use]
    pub fn gateways(mut self, count: u8) -> Self {
        self.gateways = count;
        self
    }

    #[must_use]
    pub fn projectors(mut self, count: u8) -> Self {
        self.projectors = count;
        self
    }

    /// Dead services are started again by `odock up`; without it they stay dead.
    #[must_use]
    pub fn restarting(mut self) -> Self {
        self.restart_always = true;
        self
    }

    #[must_use]
    pub fn own_postgres(mut self) -> Self {
        self.postgres = Store::Own;
        self
    }

    #[must_use]
    pub fn own_redis(mut self) -> Self {
        self.redis = Store::Own;
        self
    }

    /// Both stores are those that `odock up` makes.
    #[must_use]
    pub fn private_stores(mut self) -> Self {
        self.postgres = Store::Private;
        self.redis = Store::Private;
        self
    }

    #[must_use]
    pub fn postgres_at(mut self, url: &str) -> Self {
        self.postgres = Store::At(url.to_owned());
        self
    }

    #[must_use]
    pub fn redis_at(mut self, url: &str) -> Self {
        self.redis = Store::At(url.to_owned());
        self
    }

    #[must_use]
    pub fn without_demo(mut self) -> Self {
        self.no_demo = true;
        self
    }

    /// A variable for all services.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// On what an earlier stack left there, instead of from nothing.
    #[must_use]
    pub fn on(mut self, data_dir: &Path) -> Self {
        self.data_dir = Some(data_dir.to_owned());
        self
    }

    #[must_use]
    pub(super) fn serving_the_run(mut self) -> Self {
        self.owner = Owner::Runner;
        self.restart_always = true;
        self
    }

    pub async fn start(self) -> anyhow::Result<Stack> {
        let data_dir = match &self.data_dir {
            Some(left) => left.clone(),
            None => place::fresh_dir("stack")?,
        };
        let mut arguments: Vec<String> = vec![
            "up".into(),
            "--data-dir".into(),
            data_dir
                .to_str()
                .context("a path that is not UTF-8")?
                .into(),
        ];
        for flag in ["--gateway-port", "--admin-port", "--demo-port"] {
            arguments.extend([flag.into(), "0".into()]);
        }
        arguments.extend(["--gateways".into(), self.gateways.to_string()]);
        arguments.extend(["--projectors".into(), self.projectors.to_string()]);
        let restart = if self.restart_always {
            "always"
        } else {
            "never"
        };
        arguments.extend(["--restart".into(), restart.into()]);
        if self.no_demo {
            arguments.push("--no-demo".into());
        }
        let (own_postgres, own_redis) = self.stores(&mut arguments).await?;
        let log = data_dir.with_extension("log");
        let mut environment = vec![("RUST_BACKTRACE".to_owned(), "1".to_owned())];
        environment.extend(self.environment.iter().cloned());
        let up = keeper::start(
            &Program {
                path: place::odock()?,
                arguments,
                environment,
                log: log.clone(),
                stop_signal: Signal::SIGTERM,
                remove: Some(data_dir.clone()),
                unprivileged: false,
            },
            self.owner,
        )?;
        let ready = wait_ready(&data_dir, &up).await.with_context(|| {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            format!(
                "`odock up` did not come up; {} says:\n{said}",
                log.display()
            )
        })?;
        let mut stack = Stack::of(ready, data_dir)?;
        stack.up = (self.owner == Owner::Caller).then_some(up);
        stack.own_postgres = own_postgres;
        stack.own_redis = own_redis;
        stack.environment = self.environment;
        Ok(stack)
    }

    async fn stores(
        &self,
        arguments: &mut Vec<String>,
    ) -> anyhow::Result<(Option<PostgresServer>, Option<RedisServer>)> {
        let (mut own_postgres, mut own_redis) = (None, None);
        let postgres = match &self.postgres {
            Store::Shared => Some(PostgresServer::shared().await?.create_database().await?),
            Store::Own => {
                let server = own_postgres.insert(PostgresServer::own().await?);
                Some(server.create_database().await?)
            }
            Store::At(url) => Some(url.clone()),
            Store::Private => None,
        };
        let redis = match &self.redis {
            Store::Shared => Some(RedisServer::shared().await?.take_database().await?),
            Store::Own => Some(own_redis.insert(RedisServer::own().await?).url(0)),
            Store::At(url) => Some(url.clone()),
            Store::Private => None,
        };
        arguments.extend(
            postgres
                .into_iter()
                .flat_map(|url| ["--postgres-url".into(), url]),
        );
        arguments.extend(
            redis
                .into_iter()
                .flat_map(|url| ["--redis-url".into(), url]),
        );
        Ok((own_postgres, own_redis))
    }
}

async fn wait_ready(data_dir: &Path, up: &Kept) -> anyhow::Result<Ready> {
    let pid = up.pid().await?;
    let mut ended = false;
    wait_until("ready.json", Duration::from_secs(60), async || {
        let ready = Ready::read(data_dir);
        // A killed one leaves its file.
        let ready = ready.and_then(|ready| {
            anyhow::ensure!(ready.pids.up == pid, "it is that of an earlier `up`");
            Ok(ready)
        });
        if ready.is_err() && !keeper::is_alive(pid) {
            ended = true;
        }
        if ended { Ok(None) } else { ready.map(Some) }
    })
    .await?
    .context("it ended by itself")
}
