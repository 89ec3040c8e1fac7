//! The money of a stream under an elastic budget, while it runs: the next chunk is reserved before the last is used up,
//! and what is not paid for is not passed on. Part of `response::stream`.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use odock_events::ledger::purse::Refusal;

use crate::{
    money::{Money, Reservation},
    pipeline::elastic::Chunks,
};

type Asked = Pin<Box<dyn Future<Output = Result<Reservation, Refusal>> + Send>>;

/// Boxed in the stream: most have none.
pub(crate) struct TopUps {
    chunks: Chunks,
    money: Arc<Money>,
    /// How far the next chunk reaches, and the answer on it.
    asked: Option<(u64, Asked)>,
}

/// What became of a reservation.
pub(crate) enum TopUp {
    /// The stream goes on with what it has.
    Nothing,
    /// To be written down before the stream goes on.
    Taken(Reservation),
    /// The stream ends.
    Refused(Box<Refusal>),
}

impl TopUps {
    pub(crate) fn new(chunks: Chunks, money: Arc<Money>) -> Self {
        Self {
            chunks,
            money,
            asked: None,
        }
    }

    /// Looks before the next piece is taken from the upstream. Pending: all that is paid for is produced, and the
    /// answer on more is still out.
    pub(crate) fn poll(&mut self, produced: u64, context: &mut Context<'_>) -> Poll<TopUp> {
        if self.asked.is_none() {
            let Some(next) = self.chunks.due(produced) else {
                return Poll::Ready(TopUp::Nothing);
            };
            let asked = self.ask();
            self.asked = Some((next, asked));
        }
        let Some((next, asked)) = &mut self.asked else {
            return Poll::Ready(TopUp::Nothing);
        };
        let unpaid = produced >= self.chunks.covered();
        match asked.as_mut().poll(context) {
            Poll::Pending if unpaid => Poll::Pending,
            Poll::Pending => Poll::Ready(TopUp::Nothing),
            Poll::Ready(Ok(reservation)) => {
                self.chunks.taken(*next);
                self.asked = None;
                Poll::Ready(TopUp::Taken(reservation))
            }
            // Nobody answered: asked again as long as there is something left.
            Poll::Ready(Err(Refusal::Unanswered { .. } | Refusal::Crowded)) if !unpaid => {
                self.asked = None;
                Poll::Ready(TopUp::Nothing)
            }
            Poll::Ready(Err(refusal)) => Poll::Ready(TopUp::Refused(Box::new(refusal))),
        }
    }

    fn ask(&self) -> Asked {
        let (money, wants) = (Arc::clone(&self.money), self.chunks.wants());
        Box::pin(async move { money.hold(&wants).await })
    }
}
