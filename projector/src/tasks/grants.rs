//! The grant task: answers gateways' asks for money. What fits is granted in a transaction and told after it; what
//! does not is parked, idle parts are called back, and a denial is told once everybody who holds some has answered.

use std::{collections::BTreeMap, time::Duration};

use odock_events::{
    ids::GatewayId,
    log::{
        messages::{AskMessage, ControlLease, ControlMessage, Denial},
        reader::StreamReader,
    },
};
use sqlx::PgConnection;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use self::{
    rounds::{Finished, Joined, Rounds},
    transaction::{Answer, Decide, OneAsk, Short},
};
use crate::{
    error::ProjectorError,
    projections::gateway::own_reclaim,
    tasks::parked,
    term::{BLOCK, Notice, Term},
};

mod rounds;
mod totals;
mod transaction;

/// Asks that wait to be decided; a full queue slows the reader down.
const BACKLOG: usize = 1_024;
/// Asks that one transaction takes at most.
const BATCH: usize = 256;
const IDLE: Duration = Duration::from_hours(1);

pub(crate) async fn run(term: Term, notices: mpsc::Receiver<Notice>) -> Result<(), ProjectorError> {
    let (sender, asks) = mpsc::channel(BACKLOG);
    let database = term.connect().await?;
    let task = GrantTask {
        term: term.clone(),
        database,
        rounds: Rounds::default(),
    };
    tokio::try_join!(read(term, sender), task.run(asks, notices))?;
    Ok(())
}

/// Reads asks from where the stream ends now: older ones are asked again if they still matter.
async fn read(term: Term, sender: mpsc::Sender<AskMessage>) -> Result<(), ProjectorError> {
    let mut reader = StreamReader::connect(&term.config.redis_url).await?;
    let mut after = reader.asks_end().await?;
    loop {
        let messages = tokio::select! {
            () = term.stop.cancelled() => return Ok(()),
            messages = reader.asks(&after, BLOCK) => messages?,
        };
        for (id, message) in messages {
            after = id;
            if sender.send(message).await.is_err() {
                return Ok(());
            }
        }
    }
}

struct GrantTask {
    term: Term,
    database: PgConnection,
    rounds: Rounds,
}

impl GrantTask {
    async fn run(
        mut self,
        mut asks: mpsc::Receiver<AskMessage>,
        mut notices: mpsc::Receiver<Notice>,
    ) -> Result<(), ProjectorError> {
        loop {
            let deadline = self
                .rounds
                .deadline()
                .unwrap_or_else(|| Instant::now() + IDLE);
            tokio::select! {
                () = self.term.stop.cancelled() => return Ok(()),
                message = asks.recv() => {
                    let Some(message) = message else { return Ok(()) };
                    let mut messages = vec![message];
                    while messages.len() < BATCH && let Ok(message) = asks.try_recv() {
                        messages.push(message);
                    }
                    self.take(messages).await?;
                }
                notice = notices.recv() => match notice {
                    Some(notice) => self.notice(notice).await?,
                    None => return Ok(()),
                },
                () = sleep_until(deadline) => {
                    for finished in self.rounds.overdue(Instant::now()) {
                        self.finish(finished).await?;
                    }
                }
            }
        }
    }

    async fn take(&mut self, messages: Vec<AskMessage>) -> Result<(), ProjectorError> {
        let mut asks = Vec::new();
        for message in messages {
            match message {
                AskMessage::Ask(ask) => {
                    asks.extend(ask.accounts.into_iter().map(|account| OneAsk {
                        gateway: ask.gateway_id,
                        spec: account.account,
                        must: account.must,
                        want: account.want,
                    }));
                }
                AskMessage::Reclaim { reclaim_id } => {
                    // Whoever waits asks again at once; what nobody waits for any more must not take what comes back.
                    asks.clear();
                    self.rounds = Rounds::default();
                    parked::forget_all(&mut self.database).await?;
                    let message = ControlMessage::ReturnIdle {
                        reclaim_id,
                        account: None,
                        granted: None,
                    };
                    // A grant whose message was lost is idle money as well: the gateway hears of all it has first.
                    for gateway in self.term.live().await?.iter() {
                        self.send_totals(*gateway).await?;
                        self.term.log.send_control(*gateway, &message).await?;
                    }
                    self.term.signals.hurry.notify_one();
                }
                AskMessage::Totals { gateway_id } => self.send_totals(gateway_id).await?,
            }
        }
        self.decide(asks, None).await
    }

    async fn notice(&mut self, notice: Notice) -> Result<(), ProjectorError> {
        match notice {
            Notice::Opened { gateway } => self.send_totals(gateway).await,
            Notice::Returned {
                gateway,
                reclaim_id,
            } => match self.rounds.returned(gateway, reclaim_id) {
                Some(finished) => self.finish(finished).await,
                None => Ok(()),
            },
        }
    }

    /// All totals of a gateway that has started.
    async fn send_totals(&mut self, gateway: GatewayId) -> Result<(), ProjectorError> {
        let leases = totals::of(&mut self.database, gateway).await?;
        let message = ControlMessage::Leases { leases };
        self.term.log.send_control(gateway, &message).await?;
        Ok(())
    }

    /// Everybody has answered, or the time is over: the asks of the round are decided for good, those that came
    /// during it begin the next one.
    async fn finish(&mut self, finished: Finished) -> Result<(), ProjectorError> {
        self.decide(finished.asks, Some(finished.silent)).await?;
        self.decide(finished.later, None).await
    }

    /// Decides asks in one transaction and tells what came of it. With `silent` what is short is denied.
    async fn decide(
        &mut self,
        asks: Vec<OneAsk>,
        silent: Option<Vec<GatewayId>>,
    ) -> Result<(), ProjectorError> {
        if asks.is_empty() {
            return Ok(());
        }
        let live = self.term.live().await?;
        let decide = Decide {
            generation: self.term.generation,
            now: self.term.clock.now(),
            live: &live,
            is_new: self.term.is_new(),
        };
        let decided = decide.run(&mut self.database, asks).await?;
        if let Some(position) = decided.position {
            self.term.signals.committed(position);
        }
        let mut told: BTreeMap<GatewayId, Vec<ControlLease>> = BTreeMap::new();
        for answer in decided.answers {
            let (gateway, lease) = match answer {
                Answer::Told { gateway, lease } => (gateway, lease),
                Answer::Short(short) => match self.short(short, silent.as_deref()).await? {
                    Some(told) => told,
                    None => continue,
                },
            };
            told.entry(gateway).or_default().push(lease);
        }
        for (gateway, leases) in told {
            self.term
                .log
                .send_control(gateway, &ControlMessage::Leases { leases })
                .await?;
        }
        Ok(())
    }

    /// An ask that cannot be met now: denied when that is certain, else idle parts are called back first.
    async fn short(
        &mut self,
        short: Short,
        silent: Option<&[GatewayId]>,
    ) -> Result<Option<(GatewayId, ControlLease)>, ProjectorError> {
        if let Some(silent) = silent {
            let silent = [silent, &short.away].concat();
            return Ok(Some(denied(&short, silent)));
        }
        match self.rounds.join(&short, own_reclaim(), Instant::now()) {
            Joined::Alone => {
                let away = short.away.clone();
                Ok(Some(denied(&short, away)))
            }
            Joined::Waiting => Ok(None),
            Joined::Begun(reclaim_id) => {
                for (holder, granted) in &short.holders {
                    let message = ControlMessage::ReturnIdle {
                        reclaim_id,
                        account: Some(short.ask.spec.id),
                        granted: Some(*granted),
                    };
                    self.term.log.send_control(*holder, &message).await?;
                }
                self.term.signals.hurry.notify_one();
                Ok(None)
            }
        }
    }
}

fn denied(short: &Short, mut silent: Vec<GatewayId>) -> (GatewayId, ControlLease) {
    silent.sort_unstable();
    silent.dedup();
    let denial = Denial {
        silent,
        ..short.figures.clone()
    };
    let lease = ControlLease {
        account: short.ask.spec.id,
        granted: short.granted,
        scarce: true,
        denial: Some(denial),
    };
    (short.ask.gateway, lease)
}
