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
    kept: Mutex<Option<(Instant, Arc<BTreeSet<GatewayId>>)>>,
}

impl Live {
    pub(crate) fn new(generation: u64) -> Self {
        Self {
            generation,
            kept: Mutex::new(None),
        }
    }

    pub(crate) async fn gateways(
        &self,
        log: &RedisLog,
        clock: &dyn Clock,
    ) -> Result<Arc<BTreeSet<GatewayId>>, ProjectorError> {
        if let Some((at, gateways)) = self
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            && at.elapsed() < KEPT
        {
            return Ok(Arc::clone(gateways));
        }
        let now = clock.now();
        let presences = log.presences(self.generation).await?;
        let live = presences
            .iter()
            .filter(|presence| now.since(presence.heartbeat_at) <= FRESH)
            .map(|presence| presence.gateway_id);
        let gateways: Arc<BTreeSet<GatewayId>> = Arc::new(live.collect());
        let kept = Some((Instant::now(), Arc::clone(&gateways)));
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = kept;
        Ok(gateways)
    }
}
