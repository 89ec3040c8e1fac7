//! The money protocol as a whole, in simulated worlds: what is never overspent, never refused while there is some, and
//! never lost.

use odock_events::{
    examples,
    kind::{Event, Kind},
    payload::account::AccountSpec,
};

use self::world::{Setting, Without, run};

mod books;
mod gateway;
mod projector;
mod world;

fn template() -> AccountSpec {
    match examples::of_kind(Kind::LeaseGranted).event {
        Event::LeaseGranted(granted) => granted.account,
        other => panic!("{other:?}"),
    }
}

/// Money for ten calls, each of which costs what it reserves.
fn ten(seed: u64) -> Setting {
    Setting {
        seed,
        gateways: 1 + (seed % 4) as usize,
        calls: 40,
        limits: vec![1_000 + (seed % 100) as i64],
        reserved: 100,
        cheapest: 100,
        span_micros: 700_000,
        loss_percent: 5,
        kills: 0,
        without: Without::Nothing,
    }
}

/// Several accounts, calls that cost less than they reserve, bad connections.
fn rough(seed: u64) -> Setting {
    Setting {
        limits: [1_000, 1_400, 700][..=(seed % 3) as usize].to_vec(),
        cheapest: 30,
        loss_percent: 20,
        ..ten(seed)
    }
}

fn killed(setting: Setting) -> Setting {
    Setting {
        kills: 3,
        ..setting
    }
}

fn all_right(seeds: std::ops::Range<u64>, setting: impl Fn(u64) -> Setting) {
    let template = template();
    for seed in seeds {
        if let Err(broken) = run(setting(seed), &template) {
            panic!("seed {seed}: {broken}");
        }
    }
}

#[test]
fn of_many_calls_exactly_as_many_are_admitted_as_there_is_money_for() {
    let template = template();
    for seed in 0..2_500 {
        for setting in [ten(seed), killed(ten(seed))] {
            match run(setting, &template) {
                Ok(outcome) => assert_eq!(outcome.admitted, 10, "seed {seed}"),
                Err(broken) => panic!("seed {seed}: {broken}"),
            }
        }
    }
}

#[test]
fn no_call_is_refused_while_there_is_money() {
    all_right(0..2_000, |seed| Setting {
        loss_percent: 0,
        ..rough(seed)
    });
}

#[test]
fn several_accounts_on_bad_connections_are_spent_to_the_last_call() {
    all_right(0..1_500, rough);
}

#[test]
fn killed_gateways_lose_and_gain_nothing() {
    all_right(10_000..11_500, |seed| killed(rough(seed)));
}

#[test]
fn a_thousand_calls_on_money_for_ten_take_few_asks() {
    let template = template();
    for gateways in [1, 2, 8] {
        let setting = Setting {
            gateways,
            calls: 1_000,
            span_micros: 2_000_000,
            ..ten(7)
        };
        let outcome = run(setting, &template).unwrap();
        assert_eq!(outcome.admitted, 10);
        assert!(outcome.asks < 300, "{} asks", outcome.asks);
    }
}

#[test]
fn each_rule_is_needed() {
    let template = template();
    for without in [
        Without::Totals,
        Without::AllOrNone,
        Without::FreeCheck,
        Without::Reclaim,
        Without::Replay,
        Without::GrantRecord,
        Without::Answer,
    ] {
        let breaks = |seed: u64| {
            let (gateways, limits) = (3, vec![1_000, 700]);
            let lossless = without == Without::Reclaim;
            let (loss_percent, kills) = if lossless { (0, 0) } else { (20, 3) };
            let setting = rough(seed);
            let setting = Setting {
                gateways,
                limits,
                loss_percent,
                kills,
                without,
                ..setting
            };
            run(setting, &template).is_err()
        };
        assert!(
            (0..300).any(breaks),
            "nothing notices that {without:?} is left out"
        );
    }
}
