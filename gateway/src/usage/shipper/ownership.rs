//! Whose stream it is. A copied or rolled-back disk makes two processes of one identity, and seqs alone do not tell them
//! apart: whatever moves the shipper's place but its own success may be the other's work. Part of the shipper.

use std::{collections::BTreeSet, time::Duration};

use odock_events::{clock::Timestamp, log::keys::Plane};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{Interrupted, Shipper, Term};
use crate::{journal::Abandoned, usage::UsageError};

/// What is known about this process and its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The log has not been asked yet.
    Asking,
    /// The log did not answer.
    Unanswered,
    /// All that the log has is this journal's.
    Own,
    /// Somebody else appended: either a new generation comes soon, or this disk is a copy.
    Doubted,
}

impl Standing {
    /// Before a gateway takes calls: a copy of another's disk finds out here, so that it serves none that nobody would
    /// ever bill. A log that does not answer is not waited for. Returns false when the shipper has given up.
    pub async fn settle(mut standing: watch::Receiver<Self>, patience: Duration) -> bool {
        let asked = standing.wait_for(|standing| *standing != Self::Asking);
        let asked = timeout(patience, asked)
            .await
            .map(|asked| asked.map(|standing| *standing));
        match asked {
            Err(_) => true,
            Ok(Err(_)) => false,
            Ok(Ok(_)) => standing
                .wait_for(|standing| *standing != Self::Doubted)
                .await
                .is_ok(),
        }
    }
}

impl Shipper {
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Whether what the log has above this shipper's own success can be this journal's. While it cannot, nothing is sent:
    /// after a loss a new generation is seeded with the owner that Postgres knows. Without one in time, the disk is a
    /// copy.
    pub(super) async fn owns(&self, term: &mut Term) -> Result<bool, Interrupted> {
        if term.owned {
            return Ok(true);
        }
        let identity = self.journal.identity();
        let owner = self
            .log
            .usage_owner(term.generation, identity.gateway_id)
            .await?;
        let top = term.top.max(term.watermark).max(term.next - 1);
        let most = identity.shipped_at_most_by(owner.as_ref());
        if top <= most {
            (term.owned, term.doubted_since) = (true, None);
            self.standing.send_replace(Standing::Own);
            return Ok(true);
        }
        let owner = owner.map_or_else(
            || "nobody".to_owned(),
            |(epoch, nonce)| format!("{epoch}:{nonce}"),
        );
        let since = *term.doubted_since.get_or_insert_with(|| {
            tracing::warn!(
                owner,
                top,
                most,
                "another process appended to this gateway's stream"
            );
            Instant::now()
        });
        self.standing.send_replace(Standing::Doubted);
        if since.elapsed() >= self.patience {
            return Err(UsageError::Copied { owner, top, most }.into());
        }
        Ok(false)
    }

    /// The end of this identity in this directory, where that is what the error means.
    pub(super) async fn give_up(&self, error: UsageError) -> UsageError {
        let is_over = match &error {
            UsageError::RolledBack { .. } | UsageError::Copied { .. } => true,
            UsageError::Journal(_) | UsageError::Encode(_) | UsageError::Fenced { .. } => false,
        };
        if !is_over {
            return error;
        }
        let why = if self.lives_elsewhere().await {
            Abandoned::LivesElsewhere
        } else {
            Abandoned::Lost
        };
        tracing::error!(
            gateway_id = %self.journal.identity().gateway_id,
            ?why,
            events = self.journal.next_seq() - 1 - self.first_own,
            "this identity is given up; what this start wrote is set aside"
        );
        match self.journal.identity().abandon(why) {
            Ok(()) => error,
            Err(error) => error.into(),
        }
    }

    /// Whether another process has this identity and is alive. Both write one presence, each with its own epoch; one that
    /// is dead left a single heartbeat.
    async fn lives_elsewhere(&self) -> bool {
        let began = Instant::now();
        let mut heartbeats = BTreeSet::new();
        while began.elapsed() < LISTENS && heartbeats.len() < 2 {
            if let Ok(Some(heartbeat)) = self.foreign_heartbeat().await {
                heartbeats.insert(heartbeat);
            }
            sleep(LISTENS_EVERY).await;
        }
        heartbeats.len() >= 2
    }

    async fn foreign_heartbeat(&self) -> Result<Option<Timestamp>, Interrupted> {
        let Some(generation) = self.log.generation(Plane::Config).await? else {
            return Ok(None);
        };
        let identity = self.journal.identity();
        let presences = self.log.presences(generation).await?;
        let foreign = presences.into_iter().find(|presence| {
            presence.gateway_id == identity.gateway_id && presence.epoch != identity.epoch
        });
        Ok(foreign.map(|presence| presence.heartbeat_at))
    }
}

/// How long a stranger is taken for what a loss in Redis left, until a new generation says otherwise.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// More than three heartbeats.
const LISTENS: Duration = Duration::from_millis(3_500);
const LISTENS_EVERY: Duration = Duration::from_millis(25);
