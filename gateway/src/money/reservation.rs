//! What a caller holds while it waits for money and once it has some. Dropping either only posts a note; the money is
//! moved by the task that reads the notes.

use std::sync::{Arc, Mutex, PoisonError};

use odock_events::{
    ledger::purse::{CallNumber, Refusal},
    payload::account::AccountId,
};
use tokio::sync::{Notify, oneshot};

use super::Uses;

/// Money that is taken for a call. Must be kept (its call is in the journal and will be settled) or released; one that
/// is dropped is released soon after.
#[derive(Debug)]
#[must_use = "a reservation that is dropped is released"]
pub struct Reservation {
    uses: Uses,
    mailbox: Arc<Mailbox>,
}

impl Reservation {
    pub(super) fn new(uses: Uses, mailbox: Arc<Mailbox>) -> Self {
        Self { uses, mailbox }
    }

    /// What it takes of each account.
    pub(crate) fn uses(&self) -> &[(AccountId, i64)] {
        &self.uses
    }

    /// The call has a `started` record: from now on it is settled by its `finished`, whoever is dropped. Gives back
    /// what `Money::settle` is told then.
    pub fn keep(mut self) -> Uses {
        std::mem::take(&mut self.uses)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.uses.is_empty() {
            self.mailbox
                .post(Left::Reservation(std::mem::take(&mut self.uses)));
        }
    }
}

/// A place in line.
pub(super) struct Place {
    call: CallNumber,
    /// `None` once there was an answer.
    mailbox: Option<Arc<Mailbox>>,
}

impl Place {
    pub(super) fn new(call: CallNumber, mailbox: Arc<Mailbox>) -> Self {
        Self {
            call,
            mailbox: Some(mailbox),
        }
    }

    /// Waits for the answer. An admission that nobody took is a dropped `Reservation`.
    pub(super) async fn wait(
        mut self,
        answer: oneshot::Receiver<Result<Reservation, Refusal>>,
    ) -> Result<Reservation, Refusal> {
        let answer = answer.await;
        self.mailbox = None;
        answer.unwrap_or(Err(Refusal::Crowded))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(mailbox) = self.mailbox.take() {
            mailbox.post(Left::Place(self.call));
        }
    }
}

/// What a caller that was dropped leaves behind.
#[derive(Debug)]
pub(super) enum Left {
    Place(CallNumber),
    Reservation(Uses),
}

/// Notes of callers that were dropped: at most one for each call under way, so it is bounded by them.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    notes: Mutex<Vec<Left>>,
    posted: Notify,
}

impl Mailbox {
    fn post(&self, left: Left) {
        self.notes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(left);
        self.posted.notify_one();
    }

    pub(super) async fn posted(&self) {
        self.posted.notified().await;
    }

    pub(super) fn take(&self) -> Vec<Left> {
        std::mem::take(&mut *self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
