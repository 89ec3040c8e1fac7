//! Rounds of calling idle parts back, one at a time per account: who has not answered yet, which asks wait for it,
//! and which came during it and need another one. In memory only: a lost round is asked for again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use odock_events::{
    ids::{GatewayId, ReclaimId},
    payload::account::AccountId,
};
use tokio::time::Instant;

use super::transaction::{OneAsk, Short};

/// Who has not answered by then is silent.
const PATIENCE: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(super) struct Rounds {
    rounds: BTreeMap<AccountId, Round>,
}

#[derive(Debug)]
struct Round {
    reclaim_id: ReclaimId,
    ends: Instant,
    waiting: BTreeSet<GatewayId>,
    asks: BTreeMap<GatewayId, OneAsk>,
    later: BTreeMap<GatewayId, OneAsk>,
}

/// What became of an ask that is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// Nobody who is live holds any of it.
    Alone,
    /// Holders are to be called with this id.
    Begun(ReclaimId),
    /// A round is under way.
    Waiting,
}

/// A round that is over.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) asks: Vec<OneAsk>,
    pub(super) silent: Vec<GatewayId>,
    /// Came when the round had begun.
    pub(super) later: Vec<OneAsk>,
}

impl Rounds {
    pub(super) fn join(&mut self, short: &Short, id: ReclaimId, now: Instant) -> Joined {
        let (account, gateway) = (short.ask.spec.id, short.ask.gateway);
        if let Some(round) = self.rounds.get_mut(&account) {
            if let Some(repeated) = round.asks.get_mut(&gateway) {
                *repeated = short.ask.clone();
            } else {
                round.later.insert(gateway, short.ask.clone());
            }
            return Joined::Waiting;
        }
        if short.holders.is_empty() {
            return Joined::Alone;
        }
        let round = Round {
            reclaim_id: id,
            ends: now + PATIENCE,
            waiting: short.holders.keys().copied().collect(),
            asks: BTreeMap::from([(gateway, short.ask.clone())]),
            later: BTreeMap::new(),
        };
        self.rounds.insert(account, round);
        Joined::Begun(id)
    }

    /// A holder has answered; the round is returned when it was the last.
    pub(super) fn returned(&mut self, gateway: GatewayId, id: ReclaimId) -> Option<Finished> {
        let (account, round) = self
            .rounds
            .iter_mut()
            .find(|(_, round)| round.reclaim_id == id)?;
        round.waiting.remove(&gateway);
        let account = round.waiting.is_empty().then_some(*account)?;
        self.rounds.remove(&account).map(Round::finish)
    }

    /// Takes out the rounds whose time is over.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<Finished> {
        let overdue: Vec<AccountId> = self
            .rounds
            .iter()
            .filter(|(_, round)| round.ends <= now)
            .map(|(account, _)| *account)
            .collect();
        overdue
            .iter()
            .filter_map(|account| self.rounds.remove(account))
            .map(Round::finish)
            .collect()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.rounds.values().map(|round| round.ends).min()
    }
}

impl Round {
    fn finish(self) -> Finished {
        Finished {
            asks: self.asks.into_values().collect(),
            silent: self.waiting.into_iter().collect(),
            later: self.later.into_values().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use odock_events::{examples, ids::GatewayId, kind::Event, kind::Kind, log::messages::Denial};

    use super::*;
    use crate::projections::gateway::own_reclaim;

    fn short(gateway: GatewayId, holders: &[GatewayId]) -> Short {
        let Event::LeaseGranted(granted) = examples::of_kind(Kind::LeaseGranted).event else {
            panic!("the example is another kind")
        };
        Short {
            ask: OneAsk {
                gateway,
                spec: granted.account,
                must: 10,
                want: 20,
            },
            granted: 0,
            figures: Denial {
                must: 10,
                limit: 5,
                settled: 5,
                held: 0,
                silent: Vec::new(),
                resets_at: None,
                too_many: false,
            },
            holders: holders.iter().map(|holder| (*holder, 1)).collect(),
            away: Vec::new(),
        }
    }

    #[test]
    fn a_round_ends_with_the_last_answer() {
        let (one, two) = (GatewayId::generate(), GatewayId::generate());
        let (mut rounds, id) = (Rounds::default(), own_reclaim());
        assert_eq!(
            rounds.join(&short(one, &[one, two]), id, Instant::now()),
            Joined::Begun(id)
        );
        assert_eq!(
            rounds.join(&short(one, &[two]), own_reclaim(), Instant::now()),
            Joined::Waiting
        );
        assert_eq!(
            rounds.join(&short(two, &[two]), own_reclaim(), Instant::now()),
            Joined::Waiting
        );
        assert!(rounds.returned(one, own_reclaim()).is_none());
        assert!(rounds.returned(one, id).is_none());
        let finished = rounds.returned(two, id).unwrap();
        assert_eq!((finished.asks.len(), finished.later.len()), (1, 1));
        assert!(finished.silent.is_empty());
        assert!(rounds.deadline().is_none());
    }

    #[test]
    fn who_does_not_answer_in_time_is_silent() {
        let (one, two) = (GatewayId::generate(), GatewayId::generate());
        let (mut rounds, id) = (Rounds::default(), own_reclaim());
        let began = Instant::now();
        rounds.join(&short(one, &[one, two]), id, began);
        rounds.returned(one, id);
        assert!(rounds.overdue(began).is_empty());
        let finished = rounds.overdue(began + PATIENCE).remove(0);
        assert_eq!(finished.silent, [two]);
    }

    #[test]
    fn without_holders_there_is_nobody_to_call() {
        let mut rounds = Rounds::default();
        let alone = rounds.join(
            &short(GatewayId::generate(), &[]),
            own_reclaim(),
            Instant::now(),
        );
        assert_eq!(alone, Joined::Alone);
        assert!(rounds.deadline().is_none());
    }
}
