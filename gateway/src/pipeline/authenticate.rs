//! Who calls: the key of the request, valid now. Also asked by `/v1/models` and `/v1/keys/validate`, and once more right
//! before an upstream is called, if the configuration has changed since.

use std::sync::Arc;

use aws_lc_rs::digest;
use http::request::Parts;
use odock_events::{clock::Timestamp, units::Sha256Digest};
use subtle::ConstantTimeEq as _;
use tokio::sync::mpsc::OwnedPermit;

use super::{admit::Inbound, open_call::Unfinished, pre_auth_gate::Addressed};
use crate::{
    auth::credential,
    error::{Code, GatewayError},
    snapshot::{KeyEntry, Snapshot, SnapshotCell, cell::StalePolicy, misses::Found},
    state::Gateway,
};

/// A caller whose key is valid in the configuration that decides the whole call.
pub(crate) struct Caller {
    pub(crate) secret: Sha256Digest,
    pub(crate) entry: Arc<KeyEntry>,
    pub(crate) snapshot: Arc<Snapshot>,
}

pub(crate) struct Authenticated {
    pub(crate) inbound: Inbound,
    pub(crate) place: OwnedPermit<Unfinished>,
    pub(crate) caller: Caller,
}

pub(crate) async fn call(
    gateway: &Gateway,
    addressed: Addressed,
) -> Result<Authenticated, GatewayError> {
    let Addressed { inbound, place } = addressed;
    let caller = authenticate(gateway, &inbound.head, inbound.received_at).await?;
    Ok(Authenticated {
        inbound,
        place,
        caller,
    })
}

/// The caller of a request. Waits for nothing unless the snapshot has no room for all keys.
pub(crate) async fn authenticate(
    gateway: &Gateway,
    head: &Parts,
    now: Timestamp,
) -> Result<Caller, GatewayError> {
    check_age(&gateway.snapshot, now)?;
    let key = credential::find(&head.headers, &head.uri)?;
    let mut secret = Sha256Digest([0; 32]);
    let hashed = digest::digest(&digest::SHA256, key.expose().as_bytes());
    secret.0.copy_from_slice(hashed.as_ref());
    let snapshot = gateway.snapshot.load();
    if let Some(entry) = find(&snapshot, &secret) {
        return Ok(Caller {
            entry: valid(entry, now)?,
            secret,
            snapshot,
        });
    }
    if snapshot.is_complete() {
        return Err(not_found(&gateway.snapshot, now));
    }
    match Box::pin(gateway.misses.find(secret)).await {
        Found::Key(entry) => Ok(Caller {
            entry: valid(&entry, now)?,
            secret,
            // One that the look-up has waited for.
            snapshot: gateway.snapshot.load(),
        }),
        Found::Nothing => Err(not_found(&gateway.snapshot, now)),
        Found::Unknown => Err(GatewayError::from(Code::ConfigStale).with_retry_after(1)),
    }
}

/// The same caller in the configuration of this moment: whoever was revoked meanwhile is refused.
pub(crate) fn check_again(
    gateway: &Gateway,
    caller: &Caller,
    now: Timestamp,
) -> Result<(), GatewayError> {
    if gateway.snapshot.version() == caller.snapshot.version {
        return Ok(());
    }
    let snapshot = gateway.snapshot.load();
    if let Some(entry) = find(&snapshot, &caller.secret) {
        return valid(entry, now).map(drop);
    }
    if snapshot.is_complete() {
        return Err(not_found(&gateway.snapshot, now));
    }
    // It made room for others, or was changed: then it has to be looked up again.
    let (since, key) = (caller.snapshot.version, caller.entry.key.id);
    if gateway.misses.is_unchanged_since(since, key) {
        return valid(&caller.entry, now).map(drop);
    }
    Err(GatewayError::from(Code::ConfigStale).with_retry_after(1))
}

fn check_age(cell: &SnapshotCell, now: Timestamp) -> Result<(), GatewayError> {
    let closed = cell.policy == StalePolicy::Close && cell.is_stale(now);
    if closed || !cell.is_loaded() {
        return Err(GatewayError::from(Code::ConfigStale).with_retry_after(1));
    }
    Ok(())
}

fn find<'a>(snapshot: &'a Snapshot, secret: &Sha256Digest) -> Option<&'a Arc<KeyEntry>> {
    let found = snapshot.key(secret);
    // The map compared the digests already; this one comparison does not depend on where they differ.
    found.filter(|entry| bool::from(entry.key.body.secret_sha256.0.ct_eq(&secret.0)))
}

fn not_found(cell: &SnapshotCell, now: Timestamp) -> GatewayError {
    let may_be_new = cell.policy == StalePolicy::KnownKeysOnly && cell.is_stale(now);
    if may_be_new {
        GatewayError::from(Code::ConfigStale).with_retry_after(1)
    } else {
        GatewayError::from(Code::Unauthorized)
    }
}

fn valid(entry: &Arc<KeyEntry>, now: Timestamp) -> Result<Arc<KeyEntry>, GatewayError> {
    let key = &entry.key.body;
    if key.revoked {
        return Err(GatewayError::from(Code::ApiKeyRevoked));
    }
    if key.expires_at.is_some_and(|expires_at| expires_at <= now) {
        return Err(GatewayError::from(Code::ApiKeyExpired));
    }
    Ok(Arc::clone(entry))
}
