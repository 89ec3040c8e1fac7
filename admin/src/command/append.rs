//! From a decision to its outcome: append with the expected version, then wait for the command id in table `command`.
//! Nothing here trusts a position or a lost answer; the table is what counts.

use std::time::Duration;

use odock_events::{
    codec::Entry,
    ids::OrganisationId,
    log::{ManagementAppend, ManagementAppended, keys::Plane, turn::Opening},
    secret_key::SecretKey,
    units::Sha256Digest,
};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::{
    Command, PATIENCE,
    answer::{self, Answer},
    snapshot::{self, Seen},
    stamp::Stamp,
    waiting::Watch,
};
use crate::{
    app::AppState,
    error::{ApiError, Code},
    queries::{boundary, command as commands, command::CommandRow, private},
};

/// How long a request waits in its organisation's queue before it gives up.
const QUEUE_PATIENCE: Duration = Duration::from_secs(10);
const CONFLICTS_MAX: usize = 5;
const PAUSE: Duration = Duration::from_millis(20);
/// How often one who lost looks whether the winner's change has arrived.
const VERSION_LOOK: Duration = Duration::from_millis(2);
/// Who lost a race goes first for so long: longer than a busy Postgres takes to show the winner's change.
const TURN: Duration = Duration::from_millis(100);
/// How often one who lets another go first looks again, and for how long in all.
const TURN_LOOK: Duration = Duration::from_millis(2);
const STANDS_BACK: Duration = Duration::from_millis(300);
/// How long Postgres may take to show the state and let a rule decide.
const DECIDE: Duration = Duration::from_secs(3);
/// How often one who waits looks without having been woken.
const LOOK: Duration = Duration::from_millis(100);

/// One command on its way.
pub(super) struct Execution<'a> {
    pub(super) app: &'a AppState,
    pub(super) boundary: Option<OrganisationId>,
    pub(super) command: &'a dyn Command,
    pub(super) stamp: Stamp,
    /// Others may know the command id: another request with the same idempotency key.
    pub(super) shared: bool,
}

pub(super) enum Outcome {
    Committed(Box<Committed>),
    /// It may still happen, or not.
    Pending,
}

pub(super) struct Committed {
    pub(super) answer: Answer,
    pub(super) secret: Option<SecretKey>,
    pub(super) position: u64,
    pub(super) config_version: u64,
    /// Read back from the log: an earlier request with this id did it.
    pub(super) told_again: bool,
}

/// What was sent, to know it again in the log.
struct Sent {
    sha256: Sha256Digest,
    answer: Answer,
    secret: Option<SecretKey>,
}

/// What came of one try.
enum Try {
    Ended(Result<Outcome, ApiError>),
    NotYet(Step),
}

/// What became of one append.
enum Step {
    /// In the stream of this generation.
    Appended { generation: u64 },
    /// Another admin was first.
    Conflict { version: u64 },
    /// Another admin lost before and went first.
    StoodBack,
    /// No generation is open, or another one.
    Closed,
    /// Redis was not even asked.
    NotSent(String),
    /// It may be in the stream.
    Unanswered,
}

impl Execution<'_> {
    pub(super) async fn run(self) -> Result<Outcome, ApiError> {
        let turn = self.app.queues.enter(self.boundary, QUEUE_PATIENCE).await;
        let Some(_turn) = turn else {
            return Err(ApiError::log_unavailable(
                "the organisation's queue does not move",
            ));
        };
        let watch = self.app.waiting.watch(self.stamp.command_id);
        let deadline = Instant::now() + PATIENCE;
        let mut tried = Tried::default();
        loop {
            let step = match self.try_once(&mut tried, &watch, deadline).await {
                Ok(Try::Ended(end)) => return end,
                Ok(Try::NotYet(step)) => step,
                // After a send nobody can say that nothing was changed, whatever a rule says now.
                Err(_) if tried.may_be_in_log => {
                    if Instant::now() >= deadline {
                        return Ok(Outcome::Pending);
                    }
                    sleep(PAUSE).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            if let Some(outcome) = self.go_on(step, &mut tried, deadline).await? {
                return Ok(outcome);
            }
        }
    }

    /// Decides, appends and waits once. An error is a refusal by the rule, or Postgres being away.
    async fn try_once(
        &self,
        tried: &mut Tried,
        watch: &Watch<'_>,
        deadline: Instant,
    ) -> Result<Try, ApiError> {
        let id = self.stamp.command_id;
        let look_first = (self.shared || tried.again).then_some(id);
        tried.again = true;
        let seen = snapshot::decide(
            self.app,
            self.boundary,
            &self.stamp,
            self.command,
            look_first,
        );
        let seen = timeout(DECIDE, seen)
            .await
            .map_err(ApiError::log_unavailable)??;
        let (version, decision) = match seen {
            Seen::Known(row) => return self.conclude(row, tried).await.map(Try::Ended),
            Seen::Decided { version, decision } => (version, decision),
        };
        if decision.envelopes.is_empty() {
            return self
                .unchanged(decision.answer)
                .await
                .map(|outcome| Try::Ended(Ok(outcome)));
        }
        let written = private::write(&self.app.pool, &decision.private, self.stamp.now);
        timeout(DECIDE, written)
            .await
            .map_err(ApiError::log_unavailable)??;
        let entry = Entry::of(Some(id), self.boundary, Some(version), &decision.envelopes);
        let bytes = entry
            .and_then(|entry| entry.to_bytes())
            .map_err(ApiError::internal)?;
        tried.sent.push(Sent {
            sha256: Sha256Digest::of(&bytes),
            answer: decision.answer,
            secret: decision.secret,
        });
        let step = self.append(version, &bytes, tried).await;
        if let Step::Appended { generation } = step {
            tried.may_be_in_log = true;
            if let Some(row) = self.wait(generation, watch, deadline).await {
                return self.conclude(row, tried).await.map(Try::Ended);
            }
        }
        Ok(Try::NotYet(step))
    }

    async fn append(&self, expected_version: u64, bytes: &[u8], tried: &mut Tried) -> Step {
        let opening = match self.app.log.management_opening(self.boundary).await {
            Ok(opening) => opening,
            Err(error) => return Step::NotSent(error.to_string()),
        };
        let Some(generation) = opening.generation else {
            return Step::Closed;
        };
        if self.is_anothers(opening) && tried.stood_back < STANDS_BACK {
            self.stand_back(tried).await;
            return Step::StoodBack;
        }
        let append = ManagementAppend {
            generation,
            boundary: self.boundary,
            expected_version,
            bytes,
        };
        match self.app.log.append_management(&append).await {
            Ok(ManagementAppended::Ok { .. }) => {
                if opening.turn == Some(self.stamp.command_id)
                    && let Err(error) = self.app.log.end_turn(self.boundary).await
                {
                    tracing::debug!(%error, "a turn was not ended; it expires");
                }
                Step::Appended { generation }
            }
            Ok(ManagementAppended::Conflict { version }) => Step::Conflict { version },
            Ok(ManagementAppended::Closed | ManagementAppended::Stale { .. }) => Step::Closed,
            Err(error) => {
                tracing::warn!(%error, command_id = %self.stamp.command_id, "an append was not answered");
                Step::Unanswered
            }
        }
    }

    fn is_anothers(&self, opening: Opening) -> bool {
        opening
            .turn
            .is_some_and(|command| command != self.stamp.command_id)
    }

    /// Waits until another's turn is over.
    async fn stand_back(&self, tried: &mut Tried) {
        loop {
            sleep(TURN_LOOK).await;
            tried.stood_back += TURN_LOOK;
            let opening = self.app.log.management_opening(self.boundary).await;
            let over = opening.map_or(true, |opening| !self.is_anothers(opening));
            if over || tried.stood_back >= STANDS_BACK {
                return;
            }
        }
    }

    /// What to do after a try that did not end it. `None`: try again.
    async fn go_on(
        &self,
        step: Step,
        tried: &mut Tried,
        deadline: Instant,
    ) -> Result<Option<Outcome>, ApiError> {
        let cause = match step {
            Step::Appended { .. } => "the log was replaced".to_owned(),
            Step::Unanswered => {
                tried.may_be_in_log = true;
                "redis did not answer".to_owned()
            }
            Step::Closed => "no generation of the log is open".to_owned(),
            Step::NotSent(error) if !tried.may_be_in_log => {
                return Err(ApiError::log_unavailable(error));
            }
            Step::NotSent(error) => error,
            // What it decided on is old by now.
            Step::StoodBack => return Ok(None),
            Step::Conflict { version } => {
                tried.conflicts += 1;
                let took = self
                    .app
                    .log
                    .take_turn(self.boundary, self.stamp.command_id, TURN);
                if let Err(error) = took.await {
                    tracing::debug!(%error, "no turn was taken");
                }
                if tried.conflicts > CONFLICTS_MAX && !tried.may_be_in_log {
                    let cause = "other admins change this organisation all the time";
                    return Err(ApiError::log_unavailable(cause));
                }
                self.wait_for_version(version, deadline).await?;
                if Instant::now() < deadline {
                    // At once: who pauses here loses to whoever does not.
                    return Ok(None);
                }
                "another admin was first".to_owned()
            }
        };
        if Instant::now() < deadline {
            sleep(PAUSE).await;
            return Ok(None);
        }
        if tried.may_be_in_log {
            return Ok(Some(Outcome::Pending));
        }
        Err(ApiError::log_unavailable(cause))
    }

    /// Waits for the outcome. `None`: the time is over, or the log that holds the command was replaced.
    async fn wait(
        &self,
        generation: u64,
        watch: &Watch<'_>,
        deadline: Instant,
    ) -> Option<CommandRow> {
        loop {
            let mut notified = std::pin::pin!(watch.notify.notified());
            notified.as_mut().enable();
            let look = timeout_at(deadline, self.look()).await.ok()?;
            match look {
                Ok(Some(row)) => return Some(row),
                Ok(None) => {}
                // Postgres is away: the command is in the stream, so this is a matter of time.
                Err(error) => tracing::debug!(%error, "looking for a command's outcome failed"),
            }
            let woken = timeout_at((Instant::now() + LOOK).min(deadline), notified).await;
            if woken.is_err() {
                if Instant::now() >= deadline {
                    return None;
                }
                let open = self.app.log.generation(Plane::Management).await;
                if open.is_ok_and(|open| open.is_some_and(|open| open != generation)) {
                    return self.look().await.ok().flatten();
                }
            }
        }
    }

    async fn look(&self) -> Result<Option<CommandRow>, ApiError> {
        let mut connection = self.app.pool.acquire().await?;
        Ok(commands::find(&mut connection, self.stamp.command_id).await?)
    }

    /// After a conflict the read model may be behind the stream: loading it again at once would only conflict again.
    async fn wait_for_version(&self, version: u64, deadline: Instant) -> Result<(), ApiError> {
        loop {
            let mut connection = self.app.pool.acquire().await?;
            let head = boundary::head(&mut connection, self.boundary).await?;
            drop(connection);
            if head.version.is_none_or(|known| known >= version) || Instant::now() >= deadline {
                return Ok(());
            }
            sleep_until((Instant::now() + VERSION_LOOK).min(deadline)).await;
        }
    }

    async fn unchanged(&self, answer: Answer) -> Result<Outcome, ApiError> {
        let mut connection = self.app.pool.acquire().await?;
        let (position, config_version) = boundary::heads(&mut connection).await?;
        Ok(Outcome::Committed(Box::new(Committed {
            answer,
            secret: None,
            position,
            config_version,
            told_again: false,
        })))
    }

    /// The outcome as an answer: ours if the log holds what we sent, else read back from it.
    async fn conclude(
        &self,
        row: CommandRow,
        tried: &mut Tried,
    ) -> Result<Result<Outcome, ApiError>, ApiError> {
        if let Some(code) = row.rejected() {
            return Ok(Err(ApiError::new(code, row.detail.unwrap_or_default())));
        }
        let ours = tried
            .sent
            .iter()
            .position(|sent| Some(sent.sha256) == row.sha256);
        let ours = ours.map(|index| tried.sent.swap_remove(index));
        let (answer, secret, told_again) = if let Some(sent) = ours {
            (sent.answer, sent.secret, false)
        } else {
            let mut connection = self.app.pool.acquire().await?;
            let batch = self.command.is_batch();
            let answer = answer::from_log(&mut connection, row.position, batch).await?;
            (answer, None, true)
        };
        Ok(Ok(Outcome::Committed(Box::new(Committed {
            answer,
            secret,
            position: row.position as u64,
            config_version: row.config_version.unwrap_or(0) as u64,
            told_again,
        }))))
    }
}

/// What has happened so far.
#[derive(Default)]
struct Tried {
    sent: Vec<Sent>,
    again: bool,
    conflicts: usize,
    /// How long it has let others go first.
    stood_back: Duration,
    may_be_in_log: bool,
}

impl CommandRow {
    /// The code of a refused command; `None`: done.
    pub(crate) fn rejected(&self) -> Option<Code> {
        if self.outcome == "done" {
            return None;
        }
        Some(match self.code.as_deref() {
            Some("name_taken") => Code::NameTaken,
            Some("in_use") => Code::InUse,
            Some("key_revoked") => Code::KeyRevoked,
            Some(_) | None => Code::Conflict,
        })
    }
}
