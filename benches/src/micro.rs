//! The rules alone, without processes: what an admission costs with leases at hand, what a refusal costs, and how many
//! facts the books take in a second. That no network call is among them is not measured but counted.

use std::{hint::black_box, time::Instant};

use anyhow::{Context as _, ensure};
use odock_events::{
    clock::Timestamp,
    examples,
    ids::BudgetId,
    kind::{Event, Kind},
    ledger::{
        books::Books,
        purse::{Admission, CallNumber, Output, Protocol, Purse, Used, Want},
    },
    log::messages::{ControlLease, Denial},
    payload::{
        account::{AccountId, AccountSpec},
        lease::LeaseTotals,
        usage::{AccountUse, UsageFinished},
    },
};

use crate::table::{self, Table};

/// Budgets on a call's path: of its key, its team and its organisation.
const ACCOUNTS: usize = 3;
const RESERVED: i64 = 1_000;
const NOW: Timestamp = Timestamp(1_795_521_600_000_000);

/// Prints all of it; `rounds` of each, of which the median counts.
pub fn run(rounds: usize) -> anyhow::Result<()> {
    let specs = specs()?;
    let mut table = Table::new(&["what", "figure"]);
    let admission = median(rounds, || admission(&specs, 1_000_000))?;
    table.row([
        format!("admission and settlement on {ACCOUNTS} budgets with leases, 0 network calls"),
        format!("{admission:.0} ns"),
    ]);
    let refusal = median(rounds, || refusal(&specs, 1_000_000))?;
    table.row([
        "refusal of a call that is denied, 0 network calls".to_owned(),
        format!("{refusal:.0} ns"),
    ]);
    let fold = median(rounds, || fold(&specs, 200_000))?;
    table.row([
        format!("usage facts on {ACCOUNTS} budgets that the books take in"),
        format!("{:.0} a second", 1e9 / fold),
    ]);
    let text = format!("## Rules alone\n\n{}\n", table.render());
    std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes())?;
    Ok(())
}

/// Nanoseconds for one call that finds its money at hand.
pub fn admission(specs: &[AccountSpec], calls: u64) -> anyhow::Result<f64> {
    let mut purse = Purse::new(Protocol::default());
    for spec in specs {
        let totals = LeaseTotals {
            granted: i64::MAX / 4,
            ..LeaseTotals::default()
        };
        purse.restore(spec, totals, NOW);
    }
    let wants = wants(specs);
    let uses: Vec<_> = wants
        .iter()
        .map(|want| Used {
            account: want.account.id,
            reserved: want.amount,
            settled: RESERVED / 2,
        })
        .collect();
    let mut outputs = Vec::new();
    let began = Instant::now();
    for call in 0..calls {
        let admission = purse.reserve(CallNumber(call), &wants, NOW, &mut outputs);
        ensure!(admission == Admission::Reserved, "{admission:?}");
        purse.settle(&uses, NOW, &mut outputs);
    }
    let nanos = per_call(began, calls);
    ensure!(
        network_calls(&outputs) == 0,
        "a warm admission asked: {outputs:?}"
    );
    Ok(nanos)
}

/// Nanoseconds for one call whose budget is known to be empty.
pub fn refusal(specs: &[AccountSpec], calls: u64) -> anyhow::Result<f64> {
    let mut purse = Purse::new(Protocol::default());
    let mut outputs = Vec::new();
    for spec in specs {
        purse.restore(spec, LeaseTotals::default(), NOW);
        let denial = Denial {
            must: RESERVED,
            limit: RESERVED,
            settled: RESERVED,
            held: 0,
            silent: Vec::new(),
            resets_at: None,
            too_many: false,
        };
        let answer = ControlLease {
            account: spec.id,
            granted: 0,
            scarce: true,
            denial: Some(denial),
        };
        purse.apply(&answer, NOW, &mut outputs);
    }
    ensure!(outputs.is_empty(), "{outputs:?}");
    let wants = wants(specs);
    let began = Instant::now();
    for call in 0..calls {
        let admission = purse.reserve(CallNumber(call), &wants, NOW, &mut outputs);
        ensure!(
            matches!(black_box(admission), Admission::Refused(_)),
            "admitted"
        );
    }
    let nanos = per_call(began, calls);
    ensure!(
        network_calls(&outputs) == 0,
        "a denied gateway asked: {outputs:?}"
    );
    Ok(nanos)
}

/// Nanoseconds for one usage fact in the books.
pub fn fold(specs: &[AccountSpec], facts: u64) -> anyhow::Result<f64> {
    let example = examples::of_kind(Kind::UsageFinished);
    let Event::UsageFinished(usage) = example.event.clone() else {
        anyhow::bail!("the example of usage is usage")
    };
    let used = |spec: &AccountSpec| AccountUse {
        account: spec.clone(),
        reserved: RESERVED,
    };
    let usage = UsageFinished {
        cost: odock_events::units::NanoUsd(RESERVED),
        accounts: specs.iter().map(used).collect(),
        ..usage
    };
    let mut books = Books::default();
    for spec in specs {
        let granted = i64::try_from(facts)? * RESERVED;
        let lease = (spec.id, usage.gateway_id);
        let totals = LeaseTotals {
            granted,
            ..LeaseTotals::default()
        };
        books.leases.insert(lease, totals);
    }
    let envelope = odock_events::envelope::Envelope {
        event: Event::UsageFinished(usage),
        ..example
    };
    let began = Instant::now();
    for _ in 0..facts {
        black_box(books.apply(&envelope)?);
    }
    Ok(per_call(began, facts))
}

/// The budgets that the calls run on.
pub fn specs() -> anyhow::Result<Vec<AccountSpec>> {
    let Event::LeaseGranted(granted) = examples::of_kind(Kind::LeaseGranted).event else {
        anyhow::bail!("the example of a grant is a grant")
    };
    let spec = granted.account;
    let each = (0..ACCOUNTS).map(|_| AccountSpec {
        id: AccountId::of(BudgetId::generate(), spec.id.window_start),
        window_end: None,
        ..spec.clone()
    });
    Ok(each.collect())
}

fn wants(specs: &[AccountSpec]) -> Vec<Want> {
    let want = |spec: &AccountSpec| Want {
        account: spec.clone(),
        amount: RESERVED,
    };
    specs.iter().map(want).collect()
}

/// What goes out to others: asks, and returns, which the journal ships.
fn network_calls(outputs: &[Output]) -> usize {
    let out = |output: &&Output| match output {
        Output::Ask(_) | Output::Return { .. } => true,
        Output::Admit(_) | Output::Refuse(..) => false,
    };
    outputs.iter().filter(out).count()
}

fn per_call(began: Instant, calls: u64) -> f64 {
    began.elapsed().as_secs_f64() * 1e9 / calls.max(1) as f64
}

fn median(rounds: usize, mut measure: impl FnMut() -> anyhow::Result<f64>) -> anyhow::Result<f64> {
    let figures = (0..rounds.max(1))
        .map(|_| measure())
        .collect::<anyhow::Result<Vec<f64>>>()?;
    table::median(figures).context("no rounds")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warm_call_a_denied_call_and_a_fact_ask_nobody() {
        let specs = specs().unwrap();
        assert!(admission(&specs, 2_000).unwrap() > 0.0);
        assert!(refusal(&specs, 2_000).unwrap() > 0.0);
        assert!(fold(&specs, 2_000).unwrap() > 0.0);
    }
}
