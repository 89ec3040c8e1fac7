//! `odock up`: everything on one machine, as supervised child processes. The flow is here, in order; what it needs to know
//! about each part is in the modules.

pub(crate) mod admin_client;
mod announce;
pub(crate) mod child;
pub(crate) mod data_dir;
pub(crate) mod files;
mod options;
pub(crate) mod orphans;
pub(crate) mod ports;
mod process;
pub(crate) mod programs;
mod ready;
mod seed;
mod services;
mod supervisor;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;

use self::{
    data_dir::DataDir,
    options::UsageError,
    ports::{HeldPort, Ports},
    ready::{DemoTenant, Ready},
    seed::Seed,
    services::Shared,
    supervisor::{Stage, Supervisor},
};
use crate::{
    migrate, private_postgres, private_redis,
    signals::Stop,
    terminal::{complain, say},
};

pub(crate) use self::options::UpOptions;

pub(crate) fn run(options: UpOptions) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let ended = runtime
        .context("start the runtime")
        .and_then(|runtime| runtime.block_on(Box::pin(run_until_stopped(options))));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("{error:#}"));
            ExitCode::from(if error.is::<UsageError>() { 2 } else { 1 })
        }
    }
}

async fn run_until_stopped(options: UpOptions) -> anyhow::Result<()> {
    let tasks = TaskTracker::new();
    let stop = Stop::on_signals(&tasks).context("listen for signals")?;
    let dir = DataDir::open(&options.data_dir)?;
    files::remove(&dir.ready_json())?;
    process::end_leftovers(&dir.run()).await?;
    let ports = Ports::choose(&options)?;
    let watch = orphans::Watch::begin(&find_self()?, &dir.logs().join("end-orphans.log"))?;
    let supervisor = Supervisor::new(dir.run(), options.restart, watch, stop.at_once.clone());
    let started = tokio::select! {
        started = Box::pin(start_all(&options, &dir, ports, &supervisor)) => Some(started),
        () = stop.in_order.cancelled() => None,
    };
    let outcome = match started {
        None => Ok(()),
        Some(Err(error)) => Err(error),
        Some(Ok(ready)) => {
            let pids = supervisor.pids();
            ready::write(&dir.ready_json(), &ready, &pids.borrow().clone())
                .context("write ready.json")?;
            announce::announce(&ready, &dir.root().display().to_string());
            let until = stop.in_order.clone();
            tasks.spawn(announce::keep_saying_status(ready.clone(), until.clone()));
            ready::keep_written(dir.ready_json(), ready, pids, until).await;
            say("stopping");
            Ok(())
        }
    };
    files::remove(&dir.ready_json())?;
    supervisor.stop().await;
    outcome
}

async fn start_all(
    options: &UpOptions,
    dir: &DataDir,
    ports: Ports,
    supervisor: &Supervisor,
) -> anyhow::Result<Ready> {
    let begun = Instant::now();
    let (postgres_url, redis_url) = start_stores(options, dir, supervisor).await?;
    migrate::migrate(&postgres_url).await?;
    let shared = Shared {
        dir,
        program: find_self()?,
        log_level: options.log_level.clone(),
        postgres_url,
        redis_url,
        provider_keys: dir.provider_key_pair()?,
    };
    let admin_token = dir.admin_token()?;
    let urls = start_services(options, &shared, ports, supervisor, &admin_token).await?;
    let demo = match urls.demo {
        None => None,
        Some(demo_url) => {
            let key_file = dir.demo_key();
            let seed = Seed {
                admin_url: &urls.admin,
                admin_token: &admin_token,
                demo_url,
                key_file: &key_file,
            };
            let tenant: DemoTenant = seed.ensure().await.context("seed the demo tenant")?;
            seed::until_gateways_serve(&urls.gateways, &tenant).await?;
            Some(tenant)
        }
    };
    say(format_args!(
        "everything is up after {:.1} s",
        begun.elapsed().as_secs_f64()
    ));
    Ok(Ready {
        version: 1,
        gateway_url: urls.gateways.first().cloned().unwrap_or_default(),
        gateway_urls: urls.gateways,
        admin_url: urls.admin,
        admin_token,
        demo,
        postgres_url: shared.postgres_url,
        redis_url: shared.redis_url,
    })
}

/// Those that are not given, both at once.
async fn start_stores(
    options: &UpOptions,
    dir: &DataDir,
    supervisor: &Supervisor,
) -> anyhow::Result<(String, String)> {
    let (redis_url, redis) = if let Some(url) = &options.redis_url {
        (url.clone(), None)
    } else {
        let redis = private_redis::prepare(dir)?;
        (redis.url, Some(supervisor.start(Stage::Stores, redis.plan)))
    };
    let postgres_url = if let Some(url) = &options.postgres_url {
        url.clone()
    } else {
        let (plan, database) = private_postgres::prepare(dir)?.into_plan();
        supervisor
            .start(Stage::Stores, plan)
            .until_ready(STORE_DEATHS)
            .await?;
        database.make().await?;
        database.url
    };
    if let Some(redis) = redis {
        redis.until_ready(STORE_DEATHS).await?;
    }
    Ok((postgres_url, redis_url))
}

struct Urls {
    gateways: Vec<String>,
    admin: String,
    demo: Option<String>,
}

async fn start_services(
    options: &UpOptions,
    shared: &Shared<'_>,
    ports: Ports,
    supervisor: &Supervisor,
    admin_token: &str,
) -> anyhow::Result<Urls> {
    let mut starting = Vec::new();
    let demo = ports.demo.map(HeldPort::release);
    if let Some(addr) = demo {
        starting.push(supervisor.start(Stage::Services, shared.demo(addr)));
    }
    for number in 1..=usize::from(options.projectors) {
        let plan = shared.projector(number)?;
        starting.push(supervisor.start(Stage::Projectors, plan));
    }
    let admin = ports.admin.release();
    starting.push(supervisor.start(Stage::Services, shared.admin(admin, admin_token)?));
    let mut gateways = Vec::new();
    for (index, port) in ports.gateways.into_iter().enumerate() {
        let addr = port.release();
        let plan = shared.gateway(index + 1, addr)?;
        starting.push(supervisor.start(Stage::Gateways, plan));
        gateways.push(url_of(addr));
    }
    for child in starting {
        child.until_ready(0).await?;
    }
    for url in &gateways {
        until_it_takes_traffic(url).await?;
    }
    Ok(Urls {
        gateways,
        admin: url_of(admin),
        demo: demo.map(url_of),
    })
}

async fn until_it_takes_traffic(gateway_url: &str) -> anyhow::Result<()> {
    let client = reqwest::Client::builder()
        .timeout(READY_TIMEOUT)
        .no_proxy()
        .build()?;
    let begun = Instant::now();
    loop {
        let asked = client.get(format!("{gateway_url}/v1/ready")).send().await;
        let said = match asked {
            Ok(response) if response.status().is_success() => return Ok(()),
            Ok(response) => response.status().to_string(),
            Err(error) => error.to_string(),
        };
        if begun.elapsed() > READY_TIMEOUT {
            bail!("the gateway at {gateway_url} is not ready after {READY_TIMEOUT:?}: {said}");
        }
        sleep(READY_POLL).await;
    }
}

/// An address that listens everywhere is reached on loopback.
fn url_of(mut addr: SocketAddr) -> String {
    if addr.ip().is_unspecified() {
        addr.set_ip(match addr {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("http://{addr}")
}

fn find_self() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("find this program")
}

/// A store that was killed may need a few attempts: what it left must be gone first.
const STORE_DEATHS: u32 = 5;
const READY_TIMEOUT: Duration = Duration::from_secs(30);
const READY_POLL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_can_be_reached_from_here() {
        for (listens, url) in [
            ("127.0.0.1:1", "http://127.0.0.1:1"),
            ("0.0.0.0:1", "http://127.0.0.1:1"),
            ("[::]:1", "http://[::1]:1"),
        ] {
            assert_eq!(url_of(listens.parse().unwrap()), url);
        }
    }
}
