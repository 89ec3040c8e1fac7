//! A gateway's journal and shipper: a file of numbers, written and synced before they are shipped, and read again at
//! each start.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use odock_events::{
    codec,
    ids::GatewayId,
    log::{LogError, UsageAppend, UsageAppended, keys::Plane, redis::RedisLog},
};

use super::{Random, Run};

const RECORD: usize = 8;
/// Outstanding records are sent again when the watermark stands still for so long.
const STANDSTILL: Duration = Duration::from_millis(150);
/// Between two turns: about as fast as small calls come.
const PACE: Duration = Duration::from_millis(1);

pub(super) struct Producer {
    run: Arc<Run>,
    gateway: GatewayId,
    path: PathBuf,
    random: Random,
    next_number: u64,
    epoch: u64,
}

/// One start of the process.
struct Process {
    log: RedisLog,
    file: File,
    records: Vec<u64>,
    epoch: u64,
    nonce: String,
    generation: Option<u64>,
    watermark: u64,
    shipped: u64,
    moved_at: Instant,
}

impl Producer {
    pub(super) fn new(run: Arc<Run>, gateway: GatewayId, path: PathBuf, seed: u64) -> Self {
        Self {
            run,
            gateway,
            path,
            random: Random(seed),
            next_number: 0,
            epoch: 0,
        }
    }

    /// Writes and ships, killed now and then, until the run is calm and the database has all: the journal.
    pub(super) async fn produce(mut self) -> (GatewayId, Vec<u64>) {
        loop {
            self.epoch += 1;
            let mut process = self.start().await;
            loop {
                let calm = self.run.calm.load(Ordering::Relaxed);
                if !calm {
                    self.write(&mut process);
                }
                // An error tells nothing: the next turn finds out.
                let _ = process.ship(self.gateway, &mut self.random).await;
                if calm && process.watermark == process.records.len() as u64 {
                    return (self.gateway, process.records);
                }
                if !calm && self.random.below(300) == 0 {
                    break;
                }
                tokio::time::sleep(PACE).await;
            }
            self.tear(process);
        }
    }

    async fn start(&self) -> Process {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .open(&self.path)
            .unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        let whole = bytes.len() / RECORD * RECORD;
        file.set_len(whole as u64).unwrap();
        let records = bytes[..whole].chunks(RECORD);
        Process {
            log: RedisLog::connect(&self.run.url).await.unwrap(),
            file,
            records: records
                .map(|record| u64::from_le_bytes(record.try_into().unwrap()))
                .collect(),
            epoch: self.epoch,
            nonce: format!("start {}", self.epoch),
            generation: None,
            watermark: 0,
            shipped: 0,
            moved_at: Instant::now(),
        }
    }

    fn write(&mut self, process: &mut Process) {
        let count = self.random.below(20);
        let mut bytes = Vec::new();
        for _ in 0..count {
            self.next_number += 1;
            bytes.extend(self.next_number.to_le_bytes());
            process.records.push(self.next_number);
        }
        process.file.write_all(&bytes).unwrap();
        process.file.sync_data().unwrap();
    }

    /// kill -9 in the middle of a write.
    fn tear(&mut self, mut process: Process) {
        let torn = &self.next_number.to_be_bytes()[..self.random.below(RECORD as u64) as usize];
        process.file.write_all(torn).unwrap();
    }
}

impl Process {
    async fn ship(&mut self, gateway: GatewayId, random: &mut Random) -> Result<(), LogError> {
        let generation = match self.generation {
            Some(generation) => generation,
            None => match self.log.generation(Plane::Usage).await? {
                Some(generation) => generation,
                None => return Ok(()),
            },
        };
        let watermark = self.log.watermark(generation, gateway).await?.unwrap_or(0);
        if self.generation.is_none() {
            self.shipped = watermark;
        }
        self.generation = Some(generation);
        if watermark != self.watermark || self.shipped <= watermark {
            self.moved_at = Instant::now();
        }
        self.watermark = watermark;
        if self.moved_at.elapsed() > STANDSTILL {
            self.shipped = watermark;
            self.moved_at = Instant::now();
        }
        self.shipped = self.shipped.max(watermark);
        let length = self.records.len() as u64;
        assert!(self.shipped <= length, "nobody else writes this stream");
        while self.shipped < length && self.generation.is_some() {
            let last = length.min(self.shipped + 1 + random.below(40));
            self.append(gateway, generation, last).await?;
        }
        Ok(())
    }

    async fn append(
        &mut self,
        gateway: GatewayId,
        generation: u64,
        last: u64,
    ) -> Result<(), LogError> {
        let records = &self.records[self.shipped as usize..last as usize];
        let records: Vec<[u8; RECORD]> = records.iter().map(|it| it.to_le_bytes()).collect();
        let bytes = codec::pack_batch(records.iter().map(<[u8; RECORD]>::as_slice)).unwrap();
        let answer = self
            .log
            .append_usage(&UsageAppend {
                generation,
                gateway_id: gateway,
                epoch: self.epoch,
                nonce: &self.nonce,
                first: self.shipped + 1,
                last,
                base: self.watermark,
                bytes: &bytes,
            })
            .await?;
        match answer {
            UsageAppended::Ok { last: top }
            | UsageAppended::Duplicate { top }
            | UsageAppended::Gap { top } => self.shipped = top,
            UsageAppended::Fenced { owner } => panic!("fenced by {owner}"),
            UsageAppended::Closed | UsageAppended::Stale { .. } => self.generation = None,
        }
        Ok(())
    }
}
