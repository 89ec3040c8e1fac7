//! The gateway's scenarios: each runs its targets in turn, round after round, so that the machine's drift falls on all
//! of them alike, and keeps medians.

use std::{io::Write as _, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use serde_json::json;

use crate::{
    load::{self, Load, Measured},
    process,
    stack::Stack,
    table::{Table, figure, median},
    targets::{self, Target},
};

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    pub rounds: usize,
    pub seconds: u64,
}

struct Scenario {
    name: &'static str,
    model: &'static str,
    stream: bool,
    connections: usize,
    rate: Option<u32>,
}

const fn unary(name: &'static str, connections: usize, rate: Option<u32>) -> Scenario {
    Scenario {
        name,
        model: "bench",
        stream: false,
        connections,
        rate,
    }
}

const fn streams(name: &'static str, model: &'static str, connections: usize) -> Scenario {
    Scenario {
        name,
        model,
        stream: true,
        connections,
        rate: None,
    }
}

const SCENARIOS: &[Scenario] = &[
    unary("1 connection", 1, None),
    unary("16 connections", 16, None),
    unary("64 connections", 64, None),
    unary("256 connections", 256, None),
    unary("200/s", 64, Some(200)),
    unary("1,000/s", 64, Some(1_000)),
    streams("streams of 20, 1 connection", "bench", 1),
    streams("streams of 20, 16 connections", "bench", 16),
    streams(
        "streams of 20, 5 ms between chunks, 16 connections",
        "bench-gap",
        16,
    ),
];

/// Core of the target; the other one carries stub and load.
const TARGET_CORE: usize = 1;
const OTHER_CORE: usize = 0;

/// Medians of one target in one scenario.
#[derive(Clone, Copy, Debug, Default)]
struct Medians {
    per_second: Option<f64>,
    cpu: Option<f64>,
    p50: Option<f64>,
    p99: Option<f64>,
    first_p50: Option<f64>,
    resident: Option<f64>,
    errors: u64,
}

/// Measures all scenarios and prints their table.
pub fn run(stack: &Stack, stub: &str, effort: Effort) -> anyhow::Result<()> {
    let (nginx, nginx_authority) = targets::nginx(stub)?;
    let gateway = stack.pid("/pids/gateway/0")?;
    let idle = process::usage(gateway).resident_kib;
    let list = [
        Target {
            name: "direct",
            authority: stub.to_owned(),
            bearer: None,
            pid: None,
        },
        Target {
            name: "nginx",
            authority: nginx_authority,
            bearer: None,
            pid: Some(nginx.pid()),
        },
        Target {
            name: "odock",
            authority: stack.gateway(0)?,
            bearer: Some(format!("Bearer {}", stack.key)),
            pid: Some(gateway),
        },
    ];
    pin_everything(stack, &nginx, gateway)?;
    let mut table = Table::new(&[
        "scenario",
        "target",
        "requests/s",
        "CPU µs a request",
        "x nginx",
        "p50 µs",
        "p99 µs",
        "first byte p50 µs",
        "RSS MiB",
        "errors",
    ]);
    for scenario in SCENARIOS {
        let medians = measure(scenario, &list, effort)?;
        let nginx_cpu = medians.get(1).and_then(|medians| medians.cpu);
        for (target, medians) in list.iter().zip(&medians) {
            let ratio = medians.cpu.zip(nginx_cpu).map(|(own, nginx)| own / nginx);
            table.row([
                scenario.name.to_owned(),
                target.name.to_owned(),
                figure(medians.per_second),
                figure(medians.cpu),
                figure(ratio),
                figure(medians.p50),
                figure(medians.p99),
                figure(medians.first_p50),
                figure(medians.resident),
                medians.errors.to_string(),
            ]);
        }
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", table.render())?;
    writeln!(
        out,
        "gateway idle: {:.1} MiB resident",
        idle as f64 / 1_024.0
    )?;
    Ok(())
}

fn pin_everything(stack: &Stack, nginx: &targets::Running, gateway: u32) -> anyhow::Result<()> {
    process::pin(stack.pid("/pids/up")?, OTHER_CORE)?;
    process::pin(gateway, TARGET_CORE)?;
    process::pin(nginx.pid(), TARGET_CORE)?;
    process::pin(std::process::id(), OTHER_CORE)?;
    process::pin(gateway, TARGET_CORE)?;
    process::pin(nginx.pid(), TARGET_CORE)
}

fn measure(scenario: &Scenario, list: &[Target], effort: Effort) -> anyhow::Result<Vec<Medians>> {
    let mut runs: Vec<Vec<Measured>> = list.iter().map(|_| Vec::new()).collect();
    for round in 0..effort.rounds {
        for (target, runs) in list.iter().zip(&mut runs) {
            let load = load_of(scenario, target, effort)?;
            runs.push(load::run(&load)?);
        }
        let mut progress = std::io::stderr().lock();
        writeln!(
            progress,
            "{}: round {} of {}",
            scenario.name,
            round + 1,
            effort.rounds
        )?;
        for (target, runs) in list.iter().zip(&runs) {
            let errors = runs
                .last()
                .map(|run| &run.errors)
                .filter(|errors| !errors.is_empty());
            if let Some(errors) = errors {
                writeln!(progress, "  {}: {errors:?}", target.name)?;
            }
        }
    }
    Ok(runs.iter().map(|runs| medians(runs)).collect())
}

fn load_of(scenario: &Scenario, target: &Target, effort: Effort) -> anyhow::Result<Load> {
    Ok(Load {
        authority: target.authority.clone(),
        path: "/v1/chat/completions".into(),
        bearer: target.bearer.clone(),
        body: body(scenario.model, scenario.stream)?,
        stream: scenario.stream,
        connections: scenario.connections,
        rate: scenario.rate,
        warm_up: Duration::from_millis(500),
        measured: Duration::from_secs(effort.seconds),
        pid: target.pid,
    })
}

/// A small chat.
pub fn body(model: &str, stream: bool) -> anyhow::Result<Bytes> {
    let mut body = json!({
        "model": model,
        "messages": [
            {"role": "system", "content": "You are terse."},
            {"role": "user", "content": "Summarise in one sentence what a gateway between an application and a language model does."},
        ],
        "max_tokens": 64,
    });
    if stream {
        let members = body.as_object_mut().context("a body is an object")?;
        members.insert("stream".into(), json!(true));
        members.insert("stream_options".into(), json!({"include_usage": true}));
    }
    Ok(Bytes::from(serde_json::to_vec(&body)?))
}

fn medians(runs: &[Measured]) -> Medians {
    let of = |figure: &dyn Fn(&Measured) -> Option<f64>| {
        median(runs.iter().filter_map(figure).collect())
    };
    Medians {
        per_second: of(&|run| Some(run.per_second)),
        cpu: of(&|run| run.cpu_micros_per_request),
        p50: of(&|run| Some(run.total.value_at_quantile(0.5) as f64)),
        p99: of(&|run| Some(run.total.value_at_quantile(0.99) as f64)),
        first_p50: of(&|run| Some(run.first_byte.value_at_quantile(0.5) as f64)),
        resident: of(&|run| run.resident_mib),
        errors: runs.iter().flat_map(|run| run.errors.values()).sum(),
    }
}
