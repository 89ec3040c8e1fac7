//! The usage task: the gateways' streams into calls, money and gateway rows, one transaction a batch, and in the same
//! transaction what follows at once from money that came free. After the commit gateways are told.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::NaiveDate;
use odock_events::{
    ids::GatewayId,
    kind::Event,
    log::{UsageEntry, reader::StreamReader},
};
use sqlx::PgConnection;
use tokio::time::{Instant, sleep};

use self::{
    batch::{Batch, GatherError, gather},
    transaction::{Committed, Transaction},
};
use crate::{
    checkpoint,
    error::{ProjectorError, WentBack},
    projections::{gateway::is_own_reclaim, usage::ensure_partitions},
    term::{Notice, Term},
};

pub(crate) mod batch;
pub(crate) mod fold;
mod plausible;
mod restore;
mod transaction;

/// Entries of one stream in one read.
const READ: usize = 64;
/// How long a read waits: also how long a new gateway's stream goes unnoticed.
const BLOCK: Duration = Duration::from_millis(25);
const TRIM_EVERY: Duration = Duration::from_secs(1);

pub(crate) async fn run(term: Term) -> Result<(), ProjectorError> {
    let database = term.connect().await?;
    let reader = StreamReader::connect(&term.config.redis_url).await?;
    let mut task = UsageTask {
        term,
        database,
        reader,
        cursors: BTreeMap::new(),
        day: None,
        trimmed_at: Instant::now(),
        untrimmed: BTreeSet::new(),
    };
    task.cursors = checkpoint::usage_streams(&mut task.database)
        .await?
        .into_iter()
        .collect();
    task.tell_all_watermarks().await?;
    let stop = task.term.stop.clone();
    loop {
        task.notice_new_streams().await?;
        let began = Instant::now();
        let entries = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            entries = task.read() => entries?,
        };
        let events = task.project(&entries).await?;
        if events > 0 && events < task.term.config.batch / 2 {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = task.term.signals.hurry.notified() => {}
                () = sleep(task.term.config.linger.saturating_sub(began.elapsed())) => {}
            }
        }
    }
}

struct UsageTask {
    term: Term,
    database: PgConnection,
    reader: StreamReader,
    cursors: BTreeMap<GatewayId, u64>,
    /// The day whose partition is known to be there.
    day: Option<NaiveDate>,
    trimmed_at: Instant,
    untrimmed: BTreeSet<GatewayId>,
}

impl UsageTask {
    async fn notice_new_streams(&mut self) -> Result<(), ProjectorError> {
        for gateway in self.term.log.usage_owners(self.term.generation).await? {
            if !self.cursors.contains_key(&gateway) {
                let stream = checkpoint::usage_stream(gateway);
                let seq =
                    checkpoint::open(&mut self.database, &stream, self.term.generation).await?;
                self.cursors.insert(gateway, seq);
            }
        }
        Ok(())
    }

    /// A watermark that was not told after its commit would keep a quiet gateway sending the same events again.
    async fn tell_all_watermarks(&self) -> Result<(), ProjectorError> {
        let cursors = self.cursors.iter();
        let watermarks: Vec<(GatewayId, u64)> =
            cursors.map(|(gateway, seq)| (*gateway, *seq)).collect();
        let (log, generation) = (&self.term.log, self.term.generation);
        Ok(log.set_watermarks(generation, &watermarks).await?)
    }

    async fn read(&mut self) -> Result<Vec<UsageEntry>, ProjectorError> {
        if self.cursors.is_empty() {
            sleep(BLOCK).await;
            return Ok(Vec::new());
        }
        let cursors: Vec<(GatewayId, u64)> = self
            .cursors
            .iter()
            .map(|(gateway, seq)| (*gateway, *seq))
            .collect();
        Ok(self
            .reader
            .usage(self.term.generation, &cursors, READ, BLOCK)
            .await?)
    }

    /// Projects what was read, some hundred events a transaction; returns how many there were.
    async fn project(&mut self, entries: &[UsageEntry]) -> Result<usize, ProjectorError> {
        let mut events = 0;
        let mut rest = entries;
        while !rest.is_empty() {
            let (part, later) = rest.split_at(take(rest, self.term.config.batch));
            rest = later;
            let before = self.cursors.clone();
            let batches = gather(&mut self.cursors, part).map_err(estranged)?;
            if batches.is_empty() {
                continue;
            }
            events += batches
                .iter()
                .map(|batch| batch.events.len())
                .sum::<usize>();
            self.commit(&before, &batches).await?;
        }
        Ok(events)
    }

    async fn commit(
        &mut self,
        before: &BTreeMap<GatewayId, u64>,
        batches: &[Batch],
    ) -> Result<(), ProjectorError> {
        let recorded_at = self.term.clock.now();
        let day = fold::day_of(recorded_at);
        if self.day != Some(day) {
            ensure_partitions(&mut self.database, day).await?;
            self.day = Some(day);
        }
        let live = self.term.live_lately().await?;
        let transaction = Transaction {
            generation: self.term.generation,
            recorded_at,
            live: &live,
            is_new: self.term.is_new(),
            before,
            batches,
        };
        let committed = transaction.run(&mut self.database).await?;
        self.tell(batches, committed).await
    }

    /// After the commit: watermarks, by which gateways drop what they kept; grants and notices.
    async fn tell(
        &mut self,
        batches: &[Batch],
        committed: Committed,
    ) -> Result<(), ProjectorError> {
        let term = &self.term;
        let moved: BTreeMap<GatewayId, u64> = batches
            .iter()
            .map(|batch| (batch.gateway_id, batch.last))
            .collect();
        let watermarks: Vec<(GatewayId, u64)> = moved.into_iter().collect();
        term.log
            .set_watermarks(term.generation, &watermarks)
            .await?;
        term.signals.committed(committed.position);
        for (gateway, message) in &committed.messages {
            term.log.send_control(*gateway, message).await?;
        }
        for notice in notices(batches) {
            // A full queue is no loss: what is not told is asked for again.
            let _ = term.signals.notices.try_send(notice);
        }
        self.untrimmed
            .extend(watermarks.iter().map(|(gateway, _)| *gateway));
        self.trim().await
    }

    async fn trim(&mut self) -> Result<(), ProjectorError> {
        if self.trimmed_at.elapsed() < TRIM_EVERY {
            return Ok(());
        }
        self.trimmed_at = Instant::now();
        for gateway in std::mem::take(&mut self.untrimmed) {
            if let Some(seq) = self.cursors.get(&gateway) {
                self.term
                    .log
                    .trim_usage(self.term.generation, gateway, *seq)
                    .await?;
            }
        }
        Ok(())
    }
}

/// How many entries make up a transaction.
fn take(entries: &[UsageEntry], limit: usize) -> usize {
    let mut events = 0;
    for (index, entry) in entries.iter().enumerate() {
        events += usize::try_from(entry.last.saturating_sub(entry.first) + 1).unwrap_or(usize::MAX);
        if events >= limit {
            return index + 1;
        }
    }
    entries.len()
}

fn estranged(error: GatherError) -> ProjectorError {
    match error {
        GatherError::Hole(hole) => ProjectorError::Estranged {
            what: hole.to_string(),
            went_back: WentBack::Postgres,
        },
        GatherError::Encode(error) => error.into(),
    }
}

/// What the grant task wants to know of these events.
fn notices(batches: &[Batch]) -> Vec<Notice> {
    let mut notices = Vec::new();
    for (_, envelope) in batches.iter().flat_map(Batch::envelopes) {
        if let Event::LeaseReturned(returned) = &envelope.event
            && let Some(reclaim_id) = returned.reclaim_id.filter(|id| is_own_reclaim(*id))
        {
            notices.push(Notice::Returned {
                gateway: returned.gateway_id,
                reclaim_id,
            });
        }
        if let Event::GatewayOpened(opened) = &envelope.event {
            notices.push(Notice::Opened {
                gateway: opened.gateway_id,
            });
        }
    }
    notices
}
