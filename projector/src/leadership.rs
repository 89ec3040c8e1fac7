//! Who is active: the holder of a session advisory lock in Postgres. It only saves work; what makes two active
//! projectors harmless is the compare-and-set of every checkpoint.

use std::{sync::Arc, time::Duration};

use odock_events::clock::{Clock, SystemClock};
use sqlx::{Connection as _, PgConnection};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{config::Config, error::ProjectorError, generation::Suspicion, ready::ReadyFile, term};

/// `odock` in ASCII and a number: the key of the lock.
pub(crate) const LOCK_KEY: i64 = 0x6f64_6f63_6b00_0001;
const STANDBY_POLL: Duration = Duration::from_millis(200);
const SESSION_PING: Duration = Duration::from_millis(500);
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Stands by, becomes active, works, until `stop`. An error means that an operator has to act.
pub async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    let projector = Projector {
        config: Arc::new(config),
        clock: Arc::new(SystemClock),
        stop: stop.clone(),
    };
    let ready = ReadyFile::new(projector.config.ready_file.clone());
    let mut pause = SHORTEST_PAUSE;
    loop {
        let began = Instant::now();
        match projector.serve(&ready).await {
            Ok(()) => return Ok(()),
            Err(error) if error.is_fatal() => {
                tracing::error!(%error, "the projector stops until an operator has acted");
                return Err(error.into());
            }
            Err(error) => tracing::warn!(%error, "the projector lost its session"),
        }
        ready.write(false).await?;
        pause = next_pause(pause, began.elapsed());
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = sleep(pause) => {}
        }
    }
}

fn next_pause(pause: Duration, lasted: Duration) -> Duration {
    if lasted > Duration::from_secs(10) {
        SHORTEST_PAUSE
    } else {
        (pause * 2).min(LONGEST_PAUSE)
    }
}

struct Projector {
    config: Arc<Config>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
}

impl Projector {
    /// One session in Postgres: from standing by to losing it.
    async fn serve(&self, ready: &ReadyFile) -> Result<(), ProjectorError> {
        let name = format!("odock-projector {}", self.config.id);
        let options = self.config.postgres.clone().application_name(&name);
        let mut session = PgConnection::connect_with(&options).await?;
        ready.write(false).await?;
        if !self.wait_for_lock(&mut session).await? {
            return Ok(());
        }
        tracing::info!(projector.id = %self.config.id, "this projector is active");
        tokio::select! {
            result = self.work(ready) => result,
            error = watch(&mut session) => Err(error),
        }
    }

    /// False when asked to stop first.
    async fn wait_for_lock(&self, session: &mut PgConnection) -> Result<bool, ProjectorError> {
        loop {
            let locked: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
                .bind(LOCK_KEY)
                .fetch_one(&mut *session)
                .await?;
            if locked {
                return Ok(true);
            }
            tokio::select! {
                () = self.stop.cancelled() => return Ok(false),
                () = sleep(STANDBY_POLL) => {}
            }
        }
    }

    /// Term after term, each with a look at whether the streams are still what Postgres knows.
    async fn work(&self, ready: &ReadyFile) -> Result<(), ProjectorError> {
        let mut pause = SHORTEST_PAUSE;
        let mut suspicion = None;
        loop {
            let began = Instant::now();
            let result = term::run(
                &self.config,
                &self.clock,
                &self.stop,
                ready,
                suspicion.take(),
            )
            .await;
            match result {
                Ok(()) => return Ok(()),
                Err(error) if error.is_fatal() => return Err(error),
                Err(ProjectorError::Estranged { what, went_back }) => {
                    suspicion = Some(Suspicion { what, went_back });
                }
                Err(error) => {
                    tracing::warn!(%error, "the projector's term ended, a new one begins");
                }
            }
            pause = next_pause(pause, began.elapsed());
            tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                () = sleep(pause) => {}
            }
        }
    }
}

/// Returns when the session, and with it the lock, is gone.
async fn watch(session: &mut PgConnection) -> ProjectorError {
    loop {
        sleep(SESSION_PING).await;
        let ping = tokio::time::timeout(Duration::from_secs(5), session.ping());
        match ping.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error.into(),
            Err(_) => {
                return ProjectorError::Fenced {
                    what: "postgres does not answer".into(),
                };
            }
        }
    }
}
