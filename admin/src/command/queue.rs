//! One queue for each organisation in this process, so that only other admins' commands conflict with ours.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use odock_events::ids::OrganisationId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The queues that somebody is in.
#[derive(Default)]
pub(crate) struct Queues {
    places: Mutex<HashMap<Option<OrganisationId>, Arc<Semaphore>>>,
}

/// The head of a queue, until it is dropped.
pub(crate) struct Turn<'a> {
    queues: &'a Queues,
    boundary: Option<OrganisationId>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Queues {
    /// Waits for its turn; `None` when `patience` is over first.
    pub(crate) async fn enter(
        &self,
        boundary: Option<OrganisationId>,
        patience: Duration,
    ) -> Option<Turn<'_>> {
        let queue = {
            let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(
                places
                    .entry(boundary)
                    .or_insert_with(|| Arc::new(Semaphore::new(1))),
            )
        };
        // Made first, so that a queue which nobody waits in is forgotten also when this one gives up.
        let mut turn = Turn {
            queues: self,
            boundary,
            permit: None,
        };
        turn.permit = tokio::time::timeout(patience, queue.acquire_owned())
            .await
            .ok()?
            .ok();
        turn.permit.is_some().then_some(turn)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.places
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        drop(self.permit.take());
        let mut places = self
            .queues
            .places
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Only the map holds it: nobody waits and nobody has a turn.
        if places
            .get(&self.boundary)
            .is_some_and(|queue| Arc::strong_count(queue) == 1)
        {
            places.remove(&self.boundary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_at_a_time_for_each_organisation_and_empty_queues_are_forgotten() {
        let queues = Queues::default();
        let here = Some(OrganisationId::generate());
        let at_once = Duration::ZERO;
        let first = queues.enter(here, at_once).await.unwrap();
        assert!(
            queues.enter(None, at_once).await.is_some(),
            "another boundary does not wait"
        );
        assert!(queues.enter(here, at_once).await.is_none());
        drop(first);
        assert!(queues.enter(here, at_once).await.is_some());
        assert_eq!(queues.len(), 0);
    }
}
