//! One process of a gateway: a journal with an fsync point, and the shipper's rules.

use odock_events::{
    codec,
    ids::GatewayId,
    log::{UsageAppend, UsageAppended},
};

use super::{Guards, guarded_log::GuardedLog, postgres::Postgres, random::Random};

/// One numbered record. Its seq is its place in the journal, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Record {
    /// `gateway.opened`.
    Opened(Start),
    /// Anything else, told apart by its number.
    Used(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Start {
    pub(super) epoch: u64,
    pub(super) nonce: u64,
}

impl Record {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let (epoch, number) = match self {
            Self::Opened(start) => (start.epoch, start.nonce),
            Self::Used(number) => (0, number),
        };
        [epoch.to_le_bytes(), number.to_le_bytes()].concat()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let epoch = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        let nonce = u64::from_le_bytes(bytes[8..].try_into().unwrap());
        match epoch {
            0 => Self::Used(nonce),
            epoch => Self::Opened(Start { epoch, nonce }),
        }
    }
}

#[derive(Debug)]
pub(super) struct Gateway {
    pub(super) id: GatewayId,
    pub(super) journal: Vec<Record>,
    /// So many records survive a power loss.
    synced: usize,
    /// So many are no longer in the journal, because the watermark passed them.
    trimmed: u64,
    start: Start,
    generation: Option<u64>,
    watermark: u64,
    shipped: u64,
    turns_without_progress: u32,
    /// Turns in which the stream looked like somebody else's, and no new generation came.
    turns_in_doubt: u32,
    owner_is_checked: bool,
    /// It found another process under its identity and stopped.
    pub(super) stopped: bool,
}

impl Gateway {
    /// The process that opens a journal; `nonce` is new for each.
    pub(super) fn open(id: GatewayId, journal: Vec<Record>, trimmed: u64, nonce: u64) -> Self {
        let epoch = journal.iter().filter_map(|record| match record {
            Record::Opened(start) => Some(start.epoch),
            Record::Used(_) => None,
        });
        let start = Start {
            epoch: epoch.max().unwrap_or(0) + 1,
            nonce,
        };
        let mut gateway = Self {
            id,
            journal,
            synced: 0,
            trimmed,
            start,
            generation: None,
            watermark: trimmed,
            shipped: trimmed,
            turns_without_progress: 0,
            turns_in_doubt: 0,
            owner_is_checked: false,
            stopped: false,
        };
        gateway.journal.push(Record::Opened(start));
        gateway.sync();
        gateway
    }

    /// kill -9 and a new process; with a power loss what was not on disk is gone.
    pub(super) fn restart(&self, power_loss: bool, nonce: u64) -> Self {
        let mut journal = self.journal.clone();
        if power_loss {
            journal.truncate(self.synced);
        }
        Self::open(self.id, journal, self.trimmed, nonce)
    }

    /// A copy of the disk, opened by another process while this one runs on.
    pub(super) fn copy(&self, nonce: u64) -> Self {
        self.restart(true, nonce)
    }

    pub(super) fn write(&mut self, number: u64) {
        self.journal.push(Record::Used(number));
    }

    pub(super) fn sync(&mut self) {
        self.synced = self.journal.len();
    }

    /// Hears from the projector how far Postgres is.
    pub(super) fn hear_watermark(&mut self, postgres: &Postgres, keep: bool, random: &mut Random) {
        let watermark = postgres.checkpoint(self.id);
        if watermark > self.watermark {
            self.turns_without_progress = 0;
        }
        self.watermark = watermark;
        if random.in_thousand(300) && !self.stopped && !keep {
            self.trimmed = self.trimmed.max(watermark.min(self.synced as u64));
        }
    }

    /// One turn of the shipper.
    pub(super) async fn ship(
        &mut self,
        log: &GuardedLog,
        postgres: &Postgres,
        guards: Guards,
        random: &mut Random,
    ) {
        if self.stopped {
            return;
        }
        // Postgres has more than this journal ever held: the disk was copied or put back.
        if self.watermark > self.journal.len() as u64 {
            self.stopped = guards.owner;
            return;
        }
        if self.generation.is_none() && !self.enter_generation(log, postgres, guards) {
            return;
        }
        // Whatever moves the place but its own success may be somebody else's.
        if self.watermark > self.shipped {
            self.shipped = self.watermark;
            self.owner_is_checked = false;
        }
        if !self.owner_is_checked && !self.check_owner(log, guards) {
            return;
        }
        self.send_again_when_nothing_moves(guards);
        for _ in 0..6 {
            let end = if guards.ship_after_sync {
                self.synced
            } else {
                self.journal.len()
            };
            if self.shipped >= end as u64 || !self.append(log, end, random).await {
                return;
            }
        }
    }

    fn enter_generation(&mut self, log: &GuardedLog, postgres: &Postgres, guards: Guards) -> bool {
        let Some(generation) = log.memory.generation() else {
            return false;
        };
        self.generation = Some(generation);
        if guards.resend || self.shipped == 0 {
            self.watermark = postgres.checkpoint(self.id);
            self.shipped = self.watermark;
        }
        self.owner_is_checked = false;
        self.turns_in_doubt = 0;
        true
    }

    /// A stream that another process has appended to is not this journal's. An earlier start of the journal is no
    /// stranger, but what it shipped lies before the start that followed it. Whoever is in doubt waits: after a loss
    /// a new generation is seeded with the owner that Postgres knows.
    fn check_owner(&mut self, log: &GuardedLog, guards: Guards) -> bool {
        let owner = log.owner(self.id);
        let top = self.shipped.max(self.watermark);
        self.owner_is_checked = !guards.owner || top <= self.shipped_at_most_by(owner);
        if self.owner_is_checked {
            self.turns_in_doubt = 0;
        } else {
            self.turns_in_doubt += 1;
            self.stopped = self.turns_in_doubt > 60;
            if log.memory.generation() != self.generation {
                self.generation = None;
            }
        }
        self.owner_is_checked
    }

    /// The last seq of this journal that this owner can have shipped.
    fn shipped_at_most_by(&self, owner: Option<(u64, String)>) -> u64 {
        let Some((epoch, nonce)) = owner else {
            return 0;
        };
        let mut starts = (1..)
            .zip(&self.journal)
            .filter_map(|(seq, record)| match record {
                Record::Opened(start) => Some((seq, *start)),
                Record::Used(_) => None,
            });
        let is_owner =
            |(_, start): &(u64, Start)| start.epoch == epoch && start.nonce.to_string() == nonce;
        match starts.find(is_owner) {
            None => 0,
            Some(_) => starts.next().map_or(u64::MAX, |(seq, _)| seq - 1),
        }
    }

    fn send_again_when_nothing_moves(&mut self, guards: Guards) {
        if self.shipped <= self.watermark {
            self.turns_without_progress = 0;
            return;
        }
        self.turns_without_progress += 1;
        if guards.resend && self.turns_without_progress >= 5 {
            self.shipped = self.watermark;
            self.turns_without_progress = 0;
        }
    }

    /// One batch; false when this turn is over.
    async fn append(&mut self, log: &GuardedLog, end: usize, random: &mut Random) -> bool {
        let last = (end as u64).min(self.shipped + random.between(1, 9));
        let records = &self.journal[self.shipped as usize..last as usize];
        let events: Vec<Vec<u8>> = records.iter().map(|record| record.to_bytes()).collect();
        let bytes = codec::pack_batch(events.iter().map(Vec::as_slice)).unwrap();
        let answer = log
            .append_usage(&UsageAppend {
                generation: self.generation.unwrap(),
                gateway_id: self.id,
                epoch: self.start.epoch,
                nonce: &self.start.nonce.to_string(),
                first: self.shipped + 1,
                last,
                base: self.watermark,
                bytes: &bytes,
            })
            .await
            .unwrap();
        if random.in_thousand(50) {
            // The answer is lost: nothing is known.
            return false;
        }
        match answer {
            UsageAppended::Ok { last } => self.shipped = last,
            UsageAppended::Duplicate { top } | UsageAppended::Gap { top } => {
                self.shipped = top;
                self.owner_is_checked = false;
                return false;
            }
            UsageAppended::Fenced { .. } => self.stopped = true,
            UsageAppended::Closed | UsageAppended::Stale { .. } => self.generation = None,
        }
        !self.stopped && self.generation.is_some()
    }
}
