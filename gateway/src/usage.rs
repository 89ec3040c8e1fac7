//! The gateway's usage stream from the journal to the log: what a start writes, the shipper that sends synced events on,
//! and a graceful end. Called by `startup`.

use odock_events::{
    clock::Clock,
    codec,
    envelope::{Envelope, Meta},
    kind::Event,
    payload::gateway::GatewayOpened,
};

use crate::journal::{Journal, JournalError, Recovered, settle_orphan, settled_by};

mod closing;
mod shipper;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use self::{
    closing::{Closed, Closing},
    shipper::{Shipped, Shipper, Standing},
};

/// Why the usage stream cannot go on. The last three are for good: the process must end.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Encode(#[from] codec::EncodeError),
    #[error("another process has this gateway's identity ({owner}); this one stops")]
    Fenced { owner: String },
    #[error(
        "the log knows seq {known} of this gateway and its journal wrote {own} at most: the disk was rolled back or \
         copied; the next start takes a new identity"
    )]
    RolledBack { known: u64, own: u64 },
    #[error(
        "the log has seq {top} of this gateway from another process ({owner}), which this journal can have shipped up to \
         {most}: the disk was rolled back or copied; the next start takes a new identity"
    )]
    Copied { owner: String, top: u64, most: u64 },
}

/// What a start writes before the first call: `gateway.opened`, and a `finished` for each call that was under way when
/// the process before this one ended. Returns how many those are.
pub fn open(
    journal: &Journal,
    recovered: Recovered,
    clock: &dyn Clock,
) -> Result<usize, UsageError> {
    let identity = journal.identity();
    let now = clock.now();
    let opened = GatewayOpened {
        gateway_id: identity.gateway_id,
        epoch: identity.epoch,
        nonce: identity.nonce.clone(),
        predecessor: identity.predecessor,
        tail_unproven: recovered.tail_unproven,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let meta = Meta::new(identity.gateway_id.into(), 0, now);
    journal.event(&codec::encode(&Envelope {
        meta,
        event: Event::GatewayOpened(opened),
    })?)?;
    if recovered.tail_unproven {
        tracing::warn!("the machine went down: the journal's last milliseconds may be missing");
    }
    if let Some(reason) = recovered.unreadable {
        tracing::error!(
            reason,
            "calls that were under way cannot be read; their money stays held"
        );
    }
    let orphans = recovered.open.len();
    for call in recovered.open {
        let envelope = settle_orphan(call, now);
        let bytes = codec::encode(&envelope)?;
        if let Event::UsageFinished(usage) = &envelope.event {
            journal.finished(usage.usage_id, &bytes, &settled_by(usage))?;
        }
    }
    if orphans > 0 {
        tracing::warn!(
            orphans,
            "calls that were under way are settled as estimated"
        );
    }
    Ok(orphans)
}
