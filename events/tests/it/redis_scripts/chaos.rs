//! Producers with journals on disk and two readers with one checkpoint, while their Redis is killed, emptied, cut
//! short and given new generations. At the end everything is there once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use odock_events::ids::GatewayId;
use tokio::task::JoinSet;

use self::{database::Database, producer::Producer};
use super::server::{DEADLINE, Server, eventually};

mod database;
mod producer;
mod reader;

const PRODUCERS: usize = 3;
const FAULTS: u64 = 40;
/// A fault comes when so much has arrived since the last one, or when nothing more does.
const ARRIVALS: u64 = 400;
const PATIENCE: Duration = Duration::from_millis(400);

/// What all tasks of one run share.
pub(super) struct Run {
    url: String,
    database: Database,
    gateways: Vec<GatewayId>,
    /// Producers write nothing new and ship what they have.
    calm: AtomicBool,
    /// Readers end.
    over: AtomicBool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_while_redis_is_killed_emptied_and_cut_short() {
    let seed = std::env::var_os("ODOCK_CHAOS_SEED");
    let seed = seed.map_or(20_261_124, |seed| seed.to_str().unwrap().parse().unwrap());
    println!("chaos seed {seed}: ODOCK_CHAOS_SEED={seed} makes the same faults");
    let journals = tempfile::tempdir().unwrap();
    let mut server = Server::start().await;
    let run = Arc::new(Run {
        url: server.url(),
        database: Database::default(),
        gateways: (0..PRODUCERS).map(|_| GatewayId::generate()).collect(),
        calm: AtomicBool::new(false),
        over: AtomicBool::new(false),
    });
    let mut readers = JoinSet::new();
    for _ in 0..2 {
        readers.spawn(reader::read(run.clone()));
    }
    let mut producers = JoinSet::new();
    for (index, gateway) in run.gateways.iter().enumerate() {
        let path = journals.path().join(gateway.to_string());
        let producer = Producer::new(run.clone(), *gateway, path, seed + index as u64);
        producers.spawn(producer.produce());
    }
    disturb(&mut server, &run, seed).await;
    run.calm.store(true, Ordering::Relaxed);
    let written = tokio::time::timeout(DEADLINE, producers.join_all())
        .await
        .unwrap_or_else(|_| panic!("a producer is stuck, seed {seed}"));
    let total = written.iter().map(|(_, it)| it.len() as u64).sum::<u64>();
    eventually("all is in the database", async || {
        (run.database.arrived() == total).then_some(())
    })
    .await;
    run.over.store(true, Ordering::Relaxed);
    let commits: Vec<u64> = readers.join_all().await;
    for (gateway, journal) in &written {
        assert!(journal.len() > 500, "{gateway} wrote {}", journal.len());
        assert!(
            run.database.records(*gateway) == *journal,
            "{gateway}, seed {seed}"
        );
    }
    assert!(
        commits.iter().all(|count| *count > 0),
        "both readers took part: {commits:?}"
    );
    assert!(run.database.generation() > 3, "it was raised");
}

async fn disturb(server: &mut Server, run: &Run, seed: u64) {
    let mut random = Random(seed);
    for _ in 0..FAULTS {
        let before = run.database.arrived();
        let begin = Instant::now();
        eventually("a time for the next fault", async || {
            let enough = run.database.arrived() >= before + ARRIVALS;
            (enough || begin.elapsed() > PATIENCE).then_some(())
        })
        .await;
        match random.below(5) {
            0 => {
                server.kill();
                server.start_again().await;
            }
            1 => {
                server.kill();
                server.lose_bytes(1 + random.below(200_000));
                server.start_again().await;
            }
            2 => {
                let _: Option<String> = server.ask(&["FLUSHALL"]).await.ok();
            }
            3 => run.database.distrust_redis(),
            _ => {
                let _: Option<String> = server.ask(&["SCRIPT", "FLUSH"]).await.ok();
            }
        }
    }
}

/// `SplitMix64`.
pub(super) struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit
    }
}
