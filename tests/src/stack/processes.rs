//! Killing, stopping and starting the processes of a stack by hand (`--restart never`).

use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::Signal;

use super::{Ready, Stack};
use crate::{
    client::Gateway,
    keeper::{self, Kept, Owner, Program},
    place,
    wait::wait_until,
};

/// A service of which there is at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Gateway(usize),
    Projector(usize),
    Admin,
}

impl Service {
    /// The command and the number that its settings file carries.
    fn name(self) -> (&'static str, usize) {
        match self {
            Self::Gateway(index) => ("gateway", index + 1),
            Self::Projector(index) => ("projector", index + 1),
            Self::Admin => ("admin", 1),
        }
    }
}

impl Stack {
    /// The pid as the stack knows it: `ready.json`'s, or that of the last start by hand.
    pub fn pid(&self, service: Service) -> anyhow::Result<u32> {
        let pids = &self.ready.pids;
        let pid = match service {
            Service::Gateway(index) => pids.gateway.get(index),
            Service::Projector(index) => pids.projector.get(index),
            Service::Admin => pids.admin.first(),
        };
        pid.copied()
            .with_context(|| format!("there is no {service:?}"))
    }

    /// SIGKILL.
    pub async fn kill(&self, service: Service) -> anyhow::Result<()> {
        keeper::kill(self.pid(service)?).await
    }

    /// SIGTERM; the caller waits for the end or does not.
    pub fn terminate(&self, service: Service) -> anyhow::Result<u32> {
        let pid = self.pid(service)?;
        keeper::send(pid, Signal::SIGTERM);
        Ok(pid)
    }

    /// Starts a dead service again, as CONTRACT.md 1 says. A gateway is waited for until it takes traffic.
    pub async fn restart(&mut self, service: Service) -> anyhow::Result<()> {
        self.restart_with(service, &[]).await
    }

    /// The same with variables that win over its settings file.
    pub async fn restart_with(
        &mut self,
        service: Service,
        environment: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        let (command, number) = service.name();
        let settings = self.data_dir.join(format!("run/{command}-{number}.toml"));
        let settings = settings
            .to_str()
            .context("a path that is not UTF-8")?
            .to_owned();
        let log = format!("logs/{command}-{number}.again-{}.log", self.restarted.len());
        let given = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let kept = keeper::start(
            &Program {
                path: place::odock()?,
                arguments: vec![command.to_owned(), "--config".to_owned(), settings],
                environment: self.environment.iter().cloned().chain(given).collect(),
                log: self.data_dir.join(log),
                stop_signal: Signal::SIGTERM,
                remove: None,
                unprivileged: false,
            },
            Owner::Caller,
        )?;
        let pid = kept.pid().await?;
        self.restarted.push(kept);
        let pids = &mut self.ready.pids;
        let place = match service {
            Service::Gateway(index) => pids.gateway.get_mut(index),
            Service::Projector(index) => pids.projector.get_mut(index),
            Service::Admin => pids.admin.first_mut(),
        };
        *place.with_context(|| format!("there is no {service:?}"))? = pid;
        match service {
            Service::Gateway(index) => self.wait_ready(index).await,
            Service::Projector(_) | Service::Admin => Ok(()),
        }
    }

    /// Waits until a gateway takes traffic.
    pub async fn wait_ready(&self, index: usize) -> anyhow::Result<()> {
        let gateway: &Gateway = self.gateway(index)?;
        wait_until(
            "the gateway is ready",
            Duration::from_secs(10),
            async || gateway.get("/v1/ready").await?.expect(200),
        )
        .await?;
        Ok(())
    }

    /// Stops its own Postgres and kills its own Redis.
    pub async fn stop_stores(&mut self) -> anyhow::Result<()> {
        if let Some(postgres) = &mut self.own_postgres {
            postgres.stop().await?;
        }
        if let Some(redis) = &mut self.own_redis {
            redis.kill().await?;
        }
        Ok(())
    }

    /// Starts both again with the files they had.
    pub async fn start_stores(&mut self) -> anyhow::Result<()> {
        if let Some(postgres) = &mut self.own_postgres {
            postgres.start().await?;
        }
        if let Some(redis) = &mut self.own_redis {
            redis.start().await?;
        }
        Ok(())
    }

    /// Reads `ready.json` again: `odock up` writes new pids there.
    pub fn read_ready(&mut self) -> anyhow::Result<()> {
        self.ready = Ready::read(&self.data_dir)?;
        Ok(())
    }

    /// SIGTERM to `odock up`, and back when all of it has ended.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        for kept in std::mem::take(&mut self.restarted) {
            kept.stop(Duration::from_secs(20)).await?;
        }
        let up: Kept = self
            .up
            .take()
            .context("the shared stack is not stopped by a test")?;
        up.stop(Duration::from_secs(30)).await
    }
}
