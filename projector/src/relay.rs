//! The relay: sends configuration versions to `{c}:<gen>:cfg` strictly in order, from the stream's top + 1. There is
//! one in a term. Fresh deltas come from the management task; what is missing is read from table `config_delta`.

use std::{sync::atomic::Ordering, time::Duration};

use sqlx::PgConnection;
use tokio::sync::mpsc;

use crate::{error::ProjectorError, projections::config_delta, term::Term};

/// Versions that the stream keeps: a follower that is further behind reloads from Postgres.
const KEPT_VERSIONS: u64 = 10_000;
const TRIM_EVERY: u64 = 256;
const LOOK_EVERY: Duration = Duration::from_secs(1);
const PAGE: i64 = 256;

/// One version, just committed.
#[derive(Clone, Debug)]
pub(crate) struct CommittedDelta {
    pub(crate) version: u64,
    pub(crate) body: Vec<u8>,
}

pub(crate) async fn run(
    term: Term,
    mut queue: mpsc::Receiver<CommittedDelta>,
) -> Result<(), ProjectorError> {
    let database = term.connect().await?;
    let sent = term.log.config_top(term.generation).await?.unwrap_or(0);
    term.signals.relayed.store(sent, Ordering::SeqCst);
    let mut relay = Relay {
        term,
        database,
        sent,
    };
    relay.catch_up().await?;
    loop {
        let stop = relay.term.stop.clone();
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            delta = queue.recv() => match delta {
                Some(delta) => relay.take(delta).await?,
                None => return Ok(()),
            },
            () = tokio::time::sleep(LOOK_EVERY) => relay.catch_up().await?,
        }
    }
}

struct Relay {
    term: Term,
    database: PgConnection,
    /// The last version in the stream.
    sent: u64,
}

impl Relay {
    async fn take(&mut self, delta: CommittedDelta) -> Result<(), ProjectorError> {
        if delta.version == self.sent + 1 {
            self.send(delta.version, &delta.body).await
        } else if delta.version > self.sent {
            self.catch_up().await
        } else {
            Ok(())
        }
    }

    /// Sends what the table has above the stream's top.
    async fn catch_up(&mut self) -> Result<(), ProjectorError> {
        loop {
            let page = config_delta::after(&mut self.database, self.sent, PAGE).await?;
            if page.is_empty() {
                return Ok(());
            }
            for (version, body) in page {
                self.send(version, &body).await?;
            }
        }
    }

    async fn send(&mut self, version: u64, body: &[u8]) -> Result<(), ProjectorError> {
        self.term
            .log
            .relay_config(self.term.generation, version, body)
            .await?;
        self.sent = version;
        self.term.signals.relayed.store(version, Ordering::SeqCst);
        if version.is_multiple_of(TRIM_EVERY) && version > KEPT_VERSIONS {
            let dropped = version - KEPT_VERSIONS;
            self.term
                .log
                .trim_config(self.term.generation, dropped)
                .await?;
        }
        Ok(())
    }
}
