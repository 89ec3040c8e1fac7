//! Which gateways are live: a heartbeat in Redis of at most three seconds ago. A hint for shares and for who can be
//! called for idle parts; nothing is freed by it.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use odock_events::{clock::Clock, ids::GatewayId, log::redis::RedisLog};
use tokio::time::Instant;

use crate::error::ProjectorError;

const FRESH: Duration = Duration::from_secs(3);
const KEPT: Duration = Duration::from_millis(250);

/// The live gateways as of a moment ago.
pub(crate) struct Live {
    generation: u64,
    /// After a raise gateways show themselves anew; until then those that were open count as live.
    grace: Option<(Instant, BTreeSet<GatewayId>)>,
    kept: Mutex<Option<(Instant, Arc<BTreeSet<GatewayId>>)>>,
}

impl Live {
    /// `open` are the gateways that were open when the generation was raised just now.
    pub(crate) fn new(generation: u64, open: Option<BTreeSet<GatewayId>>) -> Self {
        let grace = open.map(|open| (Instant::now() + FRESH, open));
        Self {
            generation,
            grace,
            kept: Mutex::new(None),
        }
    }

    /// Whether the generation is so new that not every gateway has shown itself in it.
    pub(crate) fn is_new(&self) -> bool {
        self.grace
            .as_ref()
            .is_some_and(|(until, _)| Instant::now() < *until)
    }

    /// The live gateways as of at most a quarter of a second ago.
    pub(crate) async fn lately(
        &self,
        log: &RedisLog,
        clock: &dyn Clock,
    ) -> Result<Arc<BTreeSet<GatewayId>>, ProjectorError> {
        let kept = self
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        match kept {
            Some((at, gateways)) if at.elapsed() < KEPT => Ok(gateways),
            Some(_) | None => self.now(log, clock).await,
        }
    }

    /// The live gateways now: who can be called for idle parts.
    pub(crate) async fn now(
        &self,
        log: &RedisLog,
        clock: &dyn Clock,
    ) -> Result<Arc<BTreeSet<GatewayId>>, ProjectorError> {
        let now = clock.now();
        let presences = log.presences(self.generation).await?;
        let live = presences
            .iter()
            .filter(|presence| now.since(presence.heartbeat_at) <= FRESH)
            .map(|presence| presence.gateway_id);
        let mut live: BTreeSet<GatewayId> = live.collect();
        if let Some((_, open)) = self.grace.as_ref().filter(|_| self.is_new()) {
            live.extend(open);
        }
        let gateways = Arc::new(live);
        let kept = Some((Instant::now(), Arc::clone(&gateways)));
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = kept;
        Ok(gateways)
    }
}
