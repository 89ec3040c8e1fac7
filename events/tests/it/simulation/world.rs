//! One world from one seed: a storm, a calm in which everything must catch up, and the reckoning.

use std::collections::HashSet;

use odock_events::ids::GatewayId;
use uuid::Uuid;

use super::{
    Failure, Guards, Weather,
    admin::Admin,
    gateway::{Gateway, Record},
    guarded_log::GuardedLog,
    postgres::{Outcome, Postgres},
    projector::Projector,
    random::Random,
};

const STORM: u64 = 90;
const CALM: u64 = 300;

struct World {
    random: Random,
    guards: Guards,
    log: GuardedLog,
    postgres: Postgres,
    /// Every process under the one identity: more than one after its disk was copied.
    gateways: Vec<Gateway>,
    projectors: [Projector; 2],
    admin: Admin,
    numbers: u64,
    weather: Weather,
    /// In these worlds a disk may be copied, and restarts of Redis are noticed. A copied disk and a loss that nobody
    /// notices, both at once, are more than the rules can bear.
    disks_are_copied: bool,
    /// In these worlds Postgres may be restored from this backup, and journals keep what the watermark passed.
    backup: Option<Postgres>,
}

pub(super) async fn run(seed: u64, guards: Guards) -> Result<Weather, Failure> {
    let mut world = World::new(seed, guards);
    for _ in 0..STORM {
        world.work(true).await;
        world.disturb();
    }
    // Each process has something to say once more, so that none is unaware of another.
    for gateway in &mut world.gateways {
        world.numbers += 1;
        gateway.write(world.numbers);
        gateway.sync();
    }
    for _ in 0..CALM {
        world.work(false).await;
        if world.is_settled() {
            break;
        }
    }
    world.reckon()?;
    Ok(world.weather())
}

impl World {
    fn new(seed: u64, guards: Guards) -> Self {
        let disks_are_copied = seed.is_multiple_of(2);
        let mut log = GuardedLog::new(guards, disks_are_copied);
        let mut postgres = Postgres {
            generation: 1,
            redis_run_id: 1,
            ..Postgres::default()
        };
        log.memory.raise_generation(&postgres.seed());
        log.checkpoint = Some(0);
        postgres.redis_run_id = log.run_id;
        let id = GatewayId(Uuid::from_u128(1));
        Self {
            random: Random(seed),
            guards,
            log,
            postgres,
            gateways: vec![Gateway::open(id, Vec::new(), 0, 1)],
            projectors: <[Projector; 2]>::default(),
            admin: Admin::default(),
            numbers: 1,
            weather: Weather::default(),
            disks_are_copied,
            backup: (seed % 4 == 1).then(Postgres::default),
        }
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    async fn work(&mut self, storm: bool) {
        let Self {
            random,
            guards,
            log,
            postgres,
            ..
        } = self;
        for gateway in &mut self.gateways {
            if storm && !gateway.stopped {
                for _ in 0..random.between(0, 4) {
                    self.numbers += 1;
                    gateway.write(self.numbers);
                }
                if random.in_thousand(500) {
                    gateway.sync();
                }
            }
            if random.in_thousand(500) {
                let keep = self.backup.is_some();
                gateway.hear_watermark(postgres, keep, random);
            }
            gateway.ship(log, postgres, *guards, random).await;
        }
        if storm && random.in_thousand(300) {
            self.admin.begin();
        }
        self.admin.turn(log, postgres, random).await;
        let id = self.gateways[0].id;
        for projector in &mut self.projectors {
            if random.in_thousand(700) {
                projector.turn(log, postgres, id, *guards, random).await;
            }
        }
    }

    fn disturb(&mut self) {
        let nonce = self.number();
        let random = &mut self.random;
        let processes = self.gateways.len();
        let process = random.between(0, processes as u64 - 1) as usize;
        let gateway = &mut self.gateways[process];
        match random.between(0, 999) {
            0..40 => {
                self.weather.wipes += 1;
                self.log.wipe();
            }
            40..100 => {
                self.weather.lost_tails += 1;
                let usage = random.between(1, 6) as usize;
                let management = random.between(0, 2) as usize;
                self.log.restart_without_tail(gateway.id, usage, management);
            }
            100..150 if !gateway.stopped => {
                self.weather.restarts += 1;
                *gateway = gateway.restart(random.in_thousand(500), nonce);
            }
            150..170 if processes == 1 && self.disks_are_copied => {
                self.weather.copied_disks += 1;
                let copy = gateway.copy(nonce);
                self.gateways.push(copy);
            }
            170..190 => {
                if let Some(backup) = &mut self.backup {
                    self.weather.restores += 1;
                    self.postgres = backup.clone();
                }
            }
            190..250 => {
                if let Some(backup) = &mut self.backup {
                    *backup = self.postgres.clone();
                }
            }
            _ => {}
        }
    }

    fn weather(&self) -> Weather {
        let streams = self.postgres.usage.values();
        Weather {
            records: streams.map(|stream| stream.checkpoint).sum(),
            commands: self.admin.acknowledged.len() as u64,
            generations: self.postgres.generation,
            stopped: self.gateways.iter().filter(|it| it.stopped).count() as u64,
            ..self.weather
        }
    }

    /// The process whose journal is the stream.
    fn survivor(&self) -> Option<&Gateway> {
        self.gateways.iter().find(|gateway| !gateway.stopped)
    }

    fn is_settled(&self) -> bool {
        let running = self.gateways.iter().filter(|gateway| !gateway.stopped);
        let arrived = self.survivor().is_some_and(|survivor| {
            self.postgres.checkpoint(survivor.id) == survivor.journal.len() as u64
        });
        arrived && running.count() == 1 && self.admin.is_idle()
    }

    fn reckon(&self) -> Result<(), Failure> {
        self.reckon_commands()?;
        let Some(survivor) = self.survivor() else {
            return Err(Failure::Lost("every process stopped".into()));
        };
        let taken = self
            .postgres
            .usage
            .get(&survivor.id)
            .map_or(&[][..], |stream| &stream.records);
        let mut seen = HashSet::new();
        if let Some(record) = taken.iter().find(|record| !seen.insert(**record)) {
            return Err(Failure::Doubled(format!("{record:?}")));
        }
        let journal: HashSet<&Record> = survivor.journal.iter().collect();
        if let Some(record) = taken.iter().find(|record| !journal.contains(record)) {
            return Err(Failure::Invented(format!("{record:?}")));
        }
        if taken != survivor.journal {
            let have = taken.len();
            let wanted = survivor.journal.len();
            return Err(Failure::Lost(format!("{have} of {wanted} records")));
        }
        Ok(())
    }

    fn reckon_commands(&self) -> Result<(), Failure> {
        let mut seen = HashSet::new();
        for (command, _) in &self.postgres.commands {
            if !seen.insert(*command) {
                return Err(Failure::Doubled(format!("command {command}")));
            }
        }
        let lost = self
            .admin
            .acknowledged
            .iter()
            .find(|command| self.postgres.outcome(**command) != Some(Outcome::Done))
            // What only Postgres had is gone when Postgres goes back.
            .filter(|_| self.weather.restores == 0);
        if let Some(command) = lost {
            return Err(Failure::Lost(format!("acknowledged command {command}")));
        }
        if !self.admin.is_idle() {
            return Err(Failure::Lost("a command that nobody decides".into()));
        }
        Ok(())
    }
}
