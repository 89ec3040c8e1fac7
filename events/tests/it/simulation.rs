//! The log in a seeded world: journals with an fsync point, a shipper, two projectors, an admin, and a Redis that is
//! wiped, loses its tail and does not answer, and a Postgres that is restored from a backup. Nothing may be lost, doubled or stuck; and with any one guard out the
//! same search must find a run in which something is.

use std::{fmt, thread};

mod admin;
mod gateway;
mod guarded_log;
mod postgres;
mod projector;
mod random;
mod world;

/// The rules that keep the log exact. Each can be left out, to see that it is needed.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is switched by itself")]
pub(crate) struct Guards {
    /// A batch begins right above the top.
    pub(crate) contiguity: bool,
    /// A reader takes only what is above its cursor.
    pub(crate) slicing: bool,
    /// An emptied stream goes on above what Postgres has.
    pub(crate) base: bool,
    /// One process at a time appends under an identity.
    pub(crate) owner: bool,
    /// A Redis that lost something is closed until it is seeded.
    pub(crate) generation: bool,
    /// Only what is on disk leaves the gateway.
    pub(crate) ship_after_sync: bool,
    /// What the watermark does not pass is sent again.
    pub(crate) resend: bool,
    /// A projector commits only on top of the checkpoint it read from.
    pub(crate) compare_and_set: bool,
}

const ALL: Guards = Guards {
    contiguity: true,
    slicing: true,
    base: true,
    owner: true,
    generation: true,
    ship_after_sync: true,
    resend: true,
    compare_and_set: true,
};

/// What is wrong at the end of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Lost(String),
    Doubled(String),
    /// In Postgres, and in no journal.
    Invented(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(what) => write!(f, "lost or stuck: {what}"),
            Self::Doubled(what) => write!(f, "doubled: {what}"),
            Self::Invented(what) => write!(f, "invented: {what}"),
        }
    }
}

/// What a run went through, so that a storm which blows nothing is noticed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) records: u64,
    pub(crate) commands: u64,
    pub(crate) wipes: u64,
    pub(crate) lost_tails: u64,
    pub(crate) restarts: u64,
    pub(crate) copied_disks: u64,
    pub(crate) restores: u64,
    pub(crate) generations: u64,
    /// Processes that gave way to another one.
    pub(crate) stopped: u64,
}

fn run(seed: u64, guards: Guards) -> Result<Weather, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(world::run(seed, guards))
}

/// The first seed of the range that fails, on all cores.
fn first_failure(seeds: u64, guards: Guards) -> Option<(u64, Failure)> {
    let threads = thread::available_parallelism().map_or(2, |count| count.get() as u64);
    let search = |start: u64| {
        (start..seeds)
            .step_by(threads as usize)
            .find_map(|seed| run(seed, guards).err().map(|failure| (seed, failure)))
    };
    thread::scope(|scope| {
        let searches: Vec<_> = (0..threads)
            .map(|start| scope.spawn(move || search(start)))
            .collect();
        let failures = searches.into_iter().filter_map(|it| it.join().unwrap());
        failures.min_by_key(|(seed, _)| *seed)
    })
}

fn must_be_needed(guards: Guards) {
    let failure = first_failure(5_000, guards);
    assert!(
        failure.is_some(),
        "5,000 runs did not miss the guard: {guards:?}"
    );
}

#[test]
fn nothing_is_lost_or_doubled_in_five_thousand_worlds() {
    if let Some((seed, failure)) = first_failure(5_000, ALL) {
        panic!("seed {seed}: {failure}");
    }
}

#[test]
fn the_storms_blow() {
    let mut all = Weather::default();
    for seed in 0..100 {
        let weather = run(seed, ALL).unwrap();
        all.records += weather.records;
        all.commands += weather.commands;
        all.wipes += weather.wipes;
        all.lost_tails += weather.lost_tails;
        all.restarts += weather.restarts;
        all.restores += weather.restores;
        all.copied_disks += weather.copied_disks;
        all.generations += weather.generations;
        all.stopped += weather.stopped;
    }
    assert!(all.records > 10_000 && all.commands > 500, "{all:?}");
    assert!(all.wipes > 100 && all.lost_tails > 100, "{all:?}");
    assert!(all.restarts > 100 && all.copied_disks > 20, "{all:?}");
    assert!(all.restores > 20, "{all:?}");
    assert!(all.generations > 200 && all.stopped > 20, "{all:?}");
}

#[test]
fn the_same_seed_makes_the_same_world() {
    let guards = Guards {
        resend: false,
        ..ALL
    };
    let (seed, failure) = first_failure(5_000, guards).unwrap();
    assert_eq!(run(seed, guards).unwrap_err(), failure);
}

#[test]
fn contiguity_is_needed() {
    must_be_needed(Guards {
        contiguity: false,
        ..ALL
    });
}

#[test]
fn slicing_at_the_cursor_is_needed() {
    must_be_needed(Guards {
        slicing: false,
        ..ALL
    });
}

#[test]
fn the_base_is_needed() {
    must_be_needed(Guards { base: false, ..ALL });
}

#[test]
fn the_owner_is_needed() {
    must_be_needed(Guards {
        owner: false,
        ..ALL
    });
}

#[test]
fn the_generation_is_needed() {
    must_be_needed(Guards {
        generation: false,
        ..ALL
    });
}

#[test]
fn shipping_only_what_is_on_disk_is_needed() {
    must_be_needed(Guards {
        ship_after_sync: false,
        ..ALL
    });
}

#[test]
fn sending_again_is_needed() {
    must_be_needed(Guards {
        resend: false,
        ..ALL
    });
}

#[test]
fn compare_and_set_is_needed() {
    must_be_needed(Guards {
        compare_and_set: false,
        ..ALL
    });
}
