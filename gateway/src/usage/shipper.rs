//! Sends synced events from the journal to the log, in order, and again from the Postgres watermark whenever it is not
//! certain that they arrived: on a new connection, on a new generation, and when the watermark stands still for a
//! second with records outstanding. What is there already is told by the append script and not sent twice. Whatever
//! moves its place but its own success is looked into first (`ownership`).

use std::{io, time::Duration};

use odock_events::{
    codec,
    log::{LogError, UsageAppend, UsageAppended, keys::Plane, redis::RedisLog},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::UsageError;
use crate::journal::{
    BatchLimit, Journal, JournalError, JournalEvent, JournalReader, Progressed, Recovered,
};
pub use ownership::Standing;

mod ownership;

/// How far the stream is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shipped {
    /// Last seq that Redis has taken.
    pub sent: u64,
    /// Last seq that Postgres has, as far as this gateway has heard.
    pub watermark: u64,
}

/// The task that ships; one for each gateway.
pub struct Shipper {
    journal: Journal,
    log: RedisLog,
    reader: Option<JournalReader>,
    synced: watch::Receiver<Progressed>,
    shipped: watch::Sender<Shipped>,
    /// The highest seq that anybody else can know: written by an earlier start, or sent by this one.
    own: u64,
    /// The log has been asked what it knows.
    met: bool,
    standing: watch::Sender<Standing>,
    /// How long a stranger in the stream may be what a loss left.
    patience: Duration,
    /// Events in the journal when it was opened.
    first_own: u64,
    released_at: Instant,
}

const BATCH: BatchLimit = BatchLimit {
    events: 256,
    bytes: 1 << 20,
};
/// How often watermark and generation are looked up, with records outstanding and without.
const POLL: Duration = Duration::from_millis(200);
const IDLE_POLL: Duration = Duration::from_secs(1);
/// A watermark that stands still for this long is sent up to again.
const STALLED: Duration = Duration::from_secs(1);
/// After a batch that was not full, the next one is gathered for this long: each batch costs the log a call, the
/// projector a transaction, and this gateway a turn.
const GATHER: Duration = Duration::from_millis(10);
const SHORTEST_RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(1);
const RELEASE: Duration = Duration::from_mins(1);

/// Why a connection's work ended.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("no generation is open")]
    Closed,
    #[error("a new generation is open")]
    NewGeneration,
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("seq {0} is in no journal segment any more")]
    Missing(u64),
    #[error(transparent)]
    Fatal(#[from] UsageError),
}

/// One generation's work.
struct Term {
    generation: u64,
    watermark: u64,
    /// The next seq to send.
    next: u64,
    polled_at: Instant,
    moved_at: Instant,
    /// What the log had at the beginning.
    top: u64,
    /// What the log has is this journal's, as far as is known.
    owned: bool,
    doubted_since: Option<Instant>,
    /// Before this only a full batch is sent.
    gather_until: Instant,
}

impl Shipper {
    /// `recovered`: as the journal was opened, before anything was written into it.
    #[must_use]
    pub fn new(journal: Journal, log: RedisLog, recovered: &Recovered) -> Self {
        Self {
            reader: Some(journal.reader()),
            synced: journal.progressed(),
            shipped: watch::Sender::default(),
            own: recovered.next_seq - 1,
            met: false,
            standing: watch::Sender::new(Standing::Asking),
            patience: ownership::PATIENCE,
            first_own: recovered.next_seq - 1,
            released_at: Instant::now(),
            journal,
            log,
        }
    }

    #[must_use]
    pub fn shipped(&self) -> watch::Receiver<Shipped> {
        self.shipped.subscribe()
    }

    /// Ships until `stop` is cancelled. An error is final: `over` is cancelled at once, and the process has to end.
    pub async fn run(
        mut self,
        stop: CancellationToken,
        over: CancellationToken,
    ) -> Result<(), UsageError> {
        match stop.run_until_cancelled(self.ship()).await {
            None | Some(Ok(())) => Ok(()),
            Some(Err(error)) => {
                over.cancel();
                Err(self.give_up(error).await)
            }
        }
    }

    async fn ship(&mut self) -> Result<(), UsageError> {
        let mut retry = SHORTEST_RETRY;
        let mut said = false;
        loop {
            let began = Instant::now();
            let interrupted = match self.term().await {
                Err(Interrupted::NewGeneration) => continue,
                Err(Interrupted::Fatal(error)) => return Err(error),
                Err(interrupted) => interrupted,
                Ok(never) => match never {},
            };
            self.standing.send_if_modified(|standing| {
                let unasked = *standing == Standing::Asking;
                if unasked {
                    *standing = Standing::Unanswered;
                }
                unasked
            });
            if began.elapsed() > LONGEST_RETRY {
                (retry, said) = (SHORTEST_RETRY, false);
            }
            if !said {
                tracing::warn!(error = %interrupted, "usage is not shipped; the journal keeps it");
                said = true;
            }
            sleep(retry).await;
            retry = (retry * 2).min(LONGEST_RETRY);
        }
    }

    /// Ships in one generation until something interrupts it.
    async fn term(&mut self) -> Result<std::convert::Infallible, Interrupted> {
        let generation = self
            .log
            .generation(Plane::Usage)
            .await?
            .ok_or(Interrupted::Closed)?;
        let gateway = self.journal.identity().gateway_id;
        let watermark = self.log.watermark(generation, gateway).await?.unwrap_or(0);
        self.check(watermark)?;
        let top = self.log.usage_top(generation, gateway).await?.unwrap_or(0);
        if !self.met {
            // Before this start has sent anything, whatever the log has must be in the journal.
            self.check(top)?;
            self.met = true;
        }
        let now = Instant::now();
        let mut term = Term {
            generation,
            watermark,
            next: watermark + 1,
            polled_at: now,
            moved_at: now,
            top,
            owned: false,
            doubted_since: None,
            gather_until: now,
        };
        self.shipped
            .send_modify(|shipped| shipped.watermark = watermark);
        loop {
            if !self.owns(&mut term).await? {
                sleep(POLL).await;
                self.poll(&mut term).await?;
                continue;
            }
            let synced = self.synced.borrow_and_update().synced_seq;
            let poll = if term.watermark + 1 < term.next {
                POLL
            } else {
                IDLE_POLL
            };
            let poll_at = term.polled_at + poll;
            let full = synced + 1 >= term.next + BATCH.events as u64;
            if term.next > synced {
                tokio::select! {
                    changed = self.synced.changed() => changed.map_err(|_| JournalError::SyncFailed)?,
                    () = sleep_until(poll_at) => {}
                }
            } else if full || Instant::now() >= term.gather_until {
                self.send(&mut term, synced).await?;
                term.gather_until = Instant::now() + GATHER;
            } else {
                sleep_until(term.gather_until.min(poll_at)).await;
            }
            if Instant::now() >= poll_at {
                self.poll(&mut term).await?;
            }
        }
    }

    async fn send(&mut self, term: &mut Term, synced: u64) -> Result<(), Interrupted> {
        let events = self.read(term.next, synced).await?;
        let last = events.last().ok_or(Interrupted::Missing(term.next))?.seq;
        let bytes = codec::pack_batch(events.iter().map(|event| &*event.bytes))
            .map_err(UsageError::from)?;
        self.own = self.own.max(last);
        let identity = self.journal.identity();
        let append = UsageAppend {
            generation: term.generation,
            gateway_id: identity.gateway_id,
            epoch: identity.epoch,
            nonce: &identity.nonce,
            first: term.next,
            last,
            base: term.watermark,
            bytes: &bytes,
        };
        let top = match self.log.append_usage(&append).await? {
            UsageAppended::Ok { last } => last,
            UsageAppended::Duplicate { top } | UsageAppended::Gap { top } => {
                self.check(top)?;
                term.owned = false;
                top
            }
            UsageAppended::Fenced { owner } => return Err(UsageError::Fenced { owner }.into()),
            UsageAppended::Closed => return Err(Interrupted::Closed),
            UsageAppended::Stale { .. } => return Err(Interrupted::NewGeneration),
        };
        term.next = top + 1;
        self.journal.forget_newest(top);
        self.shipped.send_modify(|shipped| shipped.sent = top);
        Ok(())
    }

    /// Looks how far Postgres is, and whether the generation still stands.
    async fn poll(&mut self, term: &mut Term) -> Result<(), Interrupted> {
        term.polled_at = Instant::now();
        match self.log.generation(Plane::Usage).await? {
            Some(generation) if generation == term.generation => {}
            Some(_) => return Err(Interrupted::NewGeneration),
            None => return Err(Interrupted::Closed),
        }
        let gateway = self.journal.identity().gateway_id;
        let watermark = self
            .log
            .watermark(term.generation, gateway)
            .await?
            .unwrap_or(0);
        self.check(watermark)?;
        term.owned &= watermark < term.next;
        if watermark > term.watermark {
            (term.watermark, term.moved_at) = (watermark, term.polled_at);
            term.next = term.next.max(watermark + 1);
            self.shipped
                .send_modify(|shipped| shipped.watermark = watermark);
            self.release(watermark).await?;
        } else if term.watermark + 1 >= term.next {
            term.moved_at = term.polled_at;
        } else if term.owned && term.moved_at.elapsed() >= STALLED {
            term.next = term.watermark + 1;
            term.moved_at = term.polled_at;
        }
        Ok(())
    }

    /// Nobody can know a seq that was never written here, unless this disk is not what it was.
    fn check(&self, known: u64) -> Result<(), UsageError> {
        if known > self.own {
            return Err(UsageError::RolledBack {
                known,
                own: self.own,
            });
        }
        Ok(())
    }

    async fn read(&mut self, from: u64, up_to: u64) -> Result<Vec<JournalEvent>, Interrupted> {
        if let Some(events) = self.journal.newest(from, up_to, BATCH) {
            return Ok(events);
        }
        let mut reader = self.reader.take().unwrap_or_else(|| self.journal.reader());
        let read = move || {
            let events = reader.read(from, up_to, BATCH.events);
            (reader, events)
        };
        let (reader, events) = blocking(read).await?;
        self.reader = Some(reader);
        Ok(events?)
    }

    async fn release(&mut self, watermark: u64) -> Result<(), Interrupted> {
        if self.released_at.elapsed() >= RELEASE {
            self.released_at = Instant::now();
            let journal = self.journal.clone();
            blocking(move || journal.release(watermark)).await??;
        }
        Ok(())
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JournalError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| JournalError::Io {
        path: std::path::PathBuf::new(),
        source: io::Error::other(error),
    })
}
