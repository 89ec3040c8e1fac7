//! Sealed provider keys come from Postgres, never on the request path: with the delta that needs them if Postgres is
//! quick, else here, for as long as it takes.

use std::time::Duration;

use odock_events::ids::SealedSecretId;
use tokio_util::sync::CancellationToken;

use super::{Shared, backoff::Backoff};
use crate::snapshot::{
    Snapshot,
    load::{LoadError, load_envelopes},
};

/// One quick try before `snapshot` comes into force; what is missing then is fetched by [`run`].
pub(super) async fn fetch_for(shared: &Shared, snapshot: &Snapshot) {
    let missing = shared.parts.vault.missing(snapshot);
    if missing.is_empty() {
        return;
    }
    let reason = match fetch(shared, &missing, QUICK).await {
        Ok(()) => "postgres does not have them".to_owned(),
        Err(error) => error.to_string(),
    };
    let missing = shared.parts.vault.missing(snapshot).len();
    if missing > 0 {
        tracing::warn!(missing, reason, "sealed provider keys come later");
        shared.secrets_missing.notify_one();
    }
}

/// Fetches what is missing whenever it is told that something is.
pub(super) async fn run(shared: &Shared, stop: &CancellationToken) {
    while stop
        .run_until_cancelled(shared.secrets_missing.notified())
        .await
        .is_some()
    {
        if stop
            .run_until_cancelled(fetch_all(shared, stop))
            .await
            .is_none()
        {
            return;
        }
    }
}

async fn fetch_all(shared: &Shared, stop: &CancellationToken) {
    let mut backoff = Backoff::new(Duration::from_secs(10));
    loop {
        let missing = shared.parts.vault.missing(&shared.parts.cell.load());
        if missing.is_empty() {
            shared.unsaved.notify_one();
            return;
        }
        if let Err(error) = fetch(shared, &missing, PATIENT).await {
            tracing::debug!(%error, missing = missing.len(), "sealed provider keys not fetched");
        }
        if !shared
            .parts
            .vault
            .missing(&shared.parts.cell.load())
            .is_empty()
        {
            backoff.pause(stop).await;
        }
    }
}

async fn fetch(
    shared: &Shared,
    ids: &[SealedSecretId],
    patience: Duration,
) -> Result<(), LoadError> {
    let fetched = tokio::time::timeout(patience, load_envelopes(&shared.parts.pool, ids)).await;
    shared
        .parts
        .vault
        .put_stored(fetched.map_err(|_| LoadError::Timeout)??);
    Ok(())
}

const QUICK: Duration = Duration::from_millis(150);
const PATIENT: Duration = Duration::from_secs(5);
