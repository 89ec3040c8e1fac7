//! The money protocol as a whole, in simulated worlds: what is never overspent, never refused while there is some, and
//! never lost.

use odock_events::{
    examples,
    kind::{Event, Kind},
    payload::account::AccountSpec,
};

use self::{
    course::run,
    setting::{Setting, Without},
};

mod books;
mod course;
mod gateway;
mod projector;
mod setting;
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
        window_seconds: 0,
        changes: 0,
        streams_percent: 0,
        lost: 0,
        skew_seconds: 0,
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

/// Windows of two seconds, four of them one after the other.
fn windowed(seed: u64) -> Setting {
    Setting {
        calls: 80,
        span_micros: 7_000_000,
        window_seconds: 2,
        ..rough(seed)
    }
}

/// Clocks that are wrong by more than a minute, so that gateways ask for windows that are closed or far ahead.
fn skewed(seed: u64) -> Setting {
    let ahead = seed.is_multiple_of(2);
    let skew_seconds = if ahead { 70 } else { -70 };
    Setting {
        gateways: 2 + (seed % 3) as usize,
        skew_seconds,
        // A grant whose word is lost for two minutes is found no more.
        loss_percent: 0,
        // So long that windows are closed while calls still come.
        span_micros: 80_000_000,
        ..windowed(seed)
    }
}

/// Limits that go up and down while leases are out.
fn changed(setting: Setting) -> Setting {
    Setting {
        changes: 5,
        ..setting
    }
}

/// Half of the calls are streams that pay chunk by chunk.
fn streaming(setting: Setting) -> Setting {
    Setting {
        streams_percent: 50,
        ..setting
    }
}

/// All gateways but one may go for good.
fn lost(setting: Setting) -> Setting {
    Setting {
        gateways: setting.gateways.max(2),
        lost: 1 + (setting.seed % 3) as usize,
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
fn windows_follow_one_another_and_leave_nothing_held() {
    all_right(0..2_000, |seed| Setting {
        loss_percent: 0,
        ..windowed(seed)
    });
    all_right(2_000..4_000, |seed| killed(windowed(seed)));
}

#[test]
fn clocks_that_are_wrong_by_a_minute_get_nothing_from_windows_that_are_over_or_far_ahead() {
    all_right(0..500, skewed);
}

#[test]
fn limits_that_change_hold_from_then_on() {
    all_right(0..3_000, |seed| changed(rough(seed)));
    all_right(3_000..5_000, |seed| killed(changed(rough(seed))));
}

#[test]
fn streams_pay_chunk_by_chunk_and_are_cut_without_money() {
    let template = template();
    let mut cut = 0;
    for seed in 0..5_000 {
        let setting = streaming(rough(seed));
        let setting = if seed < 1_500 {
            setting
        } else {
            killed(setting)
        };
        match run(setting, &template) {
            Ok(outcome) => cut += outcome.cut,
            Err(broken) => panic!("seed {seed}: {broken}"),
        }
    }
    assert!(cut > 5_000, "{cut} were cut");
}

#[test]
fn what_a_lost_gateway_holds_stays_held_and_all_the_rest_is_spent() {
    all_right(0..3_000, |seed| lost(rough(seed)));
    all_right(3_000..5_000, |seed| killed(lost(rough(seed))));
}

#[test]
fn all_of_it_at_once_loses_and_gains_nothing() {
    all_right(0..6_000, |seed| {
        killed(lost(streaming(changed(rough(seed)))))
    });
    all_right(6_000..10_000, |seed| {
        killed(lost(streaming(changed(windowed(seed)))))
    });
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

/// What a world is like for each seed.
type OfSeed = fn(u64) -> Setting;

#[test]
fn each_rule_of_windows_limits_and_lost_gateways_is_needed() {
    let template = template();
    let settings: [(Without, OfSeed); 5] = [
        (Without::Learning, |seed| killed(windowed(seed))),
        (Without::Closing, skewed),
        (Without::Idling, |seed| Setting {
            loss_percent: 0,
            ..windowed(seed)
        }),
        (Without::Lowering, |seed| changed(rough(seed))),
        (Without::Holding, |seed| lost(rough(seed))),
    ];
    for (without, setting) in settings {
        let breaks = |seed: u64| {
            let setting = setting(seed);
            run(Setting { without, ..setting }, &template).is_err()
        };
        assert!(
            (0..5_000).any(breaks),
            "nothing notices that {without:?} is left out"
        );
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
