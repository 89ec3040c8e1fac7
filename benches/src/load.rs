//! The load generator: keep-alive connections on one thread. Closed loop: each sends its next request when the last is
//! answered. Open loop: request i is due at start + i/rate and its latency counts from then, so that a slow target
//! cannot hide its queue.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::LocalSet};

use crate::process;

/// One run against one target.
#[derive(Clone, Debug)]
pub struct Load {
    /// `127.0.0.1:8080`.
    pub authority: String,
    pub path: String,
    pub bearer: Option<String>,
    pub body: Bytes,
    pub stream: bool,
    pub connections: usize,
    /// Requests a second; `None`: closed loop.
    pub rate: Option<u32>,
    pub warm_up: Duration,
    pub measured: Duration,
    /// The process whose CPU is counted, with its descendants.
    pub pid: Option<u32>,
}

/// What a run measured. Times in microseconds.
#[derive(Clone, Debug)]
pub struct Measured {
    pub answered: u64,
    pub errors: BTreeMap<String, u64>,
    pub per_second: f64,
    pub total: Histogram<u64>,
    pub first_byte: Histogram<u64>,
    pub cpu_micros_per_request: Option<f64>,
    pub resident_mib: Option<f64>,
}

struct Tally {
    answered: u64,
    errors: BTreeMap<String, u64>,
    total: Histogram<u64>,
    first_byte: Histogram<u64>,
}

/// Runs the load to its end on a runtime of its own.
pub fn run(load: &Load) -> anyhow::Result<Measured> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, drive(Rc::new(load.clone())))
}

async fn drive(load: Rc<Load>) -> anyhow::Result<Measured> {
    let tally = Rc::new(RefCell::new(Tally {
        answered: 0,
        errors: BTreeMap::new(),
        total: Histogram::new_with_bounds(1, 120_000_000, 3)?,
        first_byte: Histogram::new_with_bounds(1, 120_000_000, 3)?,
    }));
    let start = Instant::now();
    let measure_from = start + load.warm_up;
    let end = measure_from + load.measured;
    let due = Rc::new(RefCell::new(0_u32));
    let workers: Vec<_> = (0..load.connections)
        .map(|_| {
            let worker = Worker {
                load: Rc::clone(&load),
                tally: Rc::clone(&tally),
                due: Rc::clone(&due),
                start,
                measure_from,
                end,
            };
            tokio::task::spawn_local(worker.run())
        })
        .collect();
    tokio::time::sleep_until(measure_from.into()).await;
    let before = load.pid.map(process::tree_usage);
    let answered_before = tally.borrow().answered;
    tokio::time::sleep_until(end.into()).await;
    let after = load.pid.map(process::tree_usage);
    let answered_after = tally.borrow().answered;
    for worker in workers {
        worker.await?;
    }
    let tally = tally.borrow();
    let answered = answered_after - answered_before;
    let cpu = before.zip(after).map(|(before, after)| {
        after.cpu.saturating_sub(before.cpu).as_secs_f64() * 1e6 / answered.max(1) as f64
    });
    Ok(Measured {
        answered,
        errors: tally.errors.clone(),
        per_second: answered as f64 / load.measured.as_secs_f64(),
        total: tally.total.clone(),
        first_byte: tally.first_byte.clone(),
        cpu_micros_per_request: cpu,
        resident_mib: after.map(|after| after.resident_kib as f64 / 1_024.0),
    })
}

struct Worker {
    load: Rc<Load>,
    tally: Rc<RefCell<Tally>>,
    due: Rc<RefCell<u32>>,
    start: Instant,
    measure_from: Instant,
    end: Instant,
}

impl Worker {
    async fn run(self) {
        let mut sender = None;
        while let Some(from) = self.next().await {
            let outcome =
                tokio::time::timeout(Duration::from_secs(30), self.shoot(&mut sender)).await;
            let outcome = outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in 30 s")));
            if from < self.measure_from {
                continue;
            }
            let mut tally = self.tally.borrow_mut();
            match outcome {
                Ok(first_byte) => {
                    tally.answered += 1;
                    tally.total.saturating_record(micros(from.elapsed()));
                    tally
                        .first_byte
                        .saturating_record(micros(first_byte - from));
                }
                Err(error) => {
                    sender = None;
                    *tally.errors.entry(format!("{error:#}")).or_default() += 1;
                }
            }
        }
    }

    /// When the next request counts from; waits for it in an open loop.
    async fn next(&self) -> Option<Instant> {
        let from = match self.load.rate {
            None => Instant::now(),
            Some(rate) => {
                let number = self.due.replace_with(|number| *number + 1);
                let due = self.start + Duration::from_secs(1) * number / rate.max(1);
                tokio::time::sleep_until(due.into()).await;
                due
            }
        };
        (from < self.end).then_some(from)
    }

    /// One request; answers when its first body byte came.
    async fn shoot(
        &self,
        sender: &mut Option<SendRequest<Full<Bytes>>>,
    ) -> anyhow::Result<Instant> {
        let sender = match sender {
            Some(sender) if !sender.is_closed() => sender,
            _ => sender.insert(connect(&self.load.authority).await?),
        };
        let mut request = Request::post(self.load.path.as_str())
            .header("host", &self.load.authority)
            .header("content-type", "application/json");
        if let Some(bearer) = &self.load.bearer {
            request = request.header("authorization", bearer);
        }
        sender.ready().await?;
        let answer = sender
            .send_request(request.body(Full::new(self.load.body.clone()))?)
            .await?;
        let status = answer.status();
        let mut body = answer.into_body();
        let (mut first, mut bytes, mut tail) = (None, 0_usize, Vec::new());
        while let Some(frame) = body.frame().await {
            if let Some(data) = frame?.data_ref() {
                first.get_or_insert_with(Instant::now);
                bytes += data.len();
                tail = data.to_vec();
            }
        }
        if !status.is_success() {
            bail!(
                "{status}: {}",
                String::from_utf8_lossy(&tail)
                    .chars()
                    .take(200)
                    .collect::<String>()
            );
        }
        if self.load.stream && !tail.ends_with(b"[DONE]\n\n") {
            bail!("a stream without its end");
        }
        if bytes == 0 {
            bail!("an empty answer");
        }
        first.context("no byte")
    }
}

async fn connect(authority: &str) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let socket = TcpStream::connect(authority).await.context("connect")?;
    socket.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    tokio::task::spawn_local(connection);
    Ok(sender)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
