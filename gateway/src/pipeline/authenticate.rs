//! Who calls: the key of the request, valid now. Also asked by `/v1/models` and `/v1/keys/validate`, and once more right
//! before an upstream is called, if the configuration has changed since.

use std::sync::Arc;

use aws_lc_rs::digest;
use http::request::Parts;
use odock_events::{clock::Timestamp, units::Sha256Digest};
use subtle::ConstantTimeEq as _;
use tokio::sync::mpsc::OwnedPermit;

use super::{
    admit::{Admitted, Inbound},
    open_call::Unfinished,
};
use crate::{
    auth::credential,
    error::{Code, GatewayError},
    snapshot::{KeyEntry, Snapshot, SnapshotCell, cell::StalePolicy},
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

pub(crate) fn call(gateway: &Gateway, admitted: Admitted) -> Result<Authenticated, GatewayError> {
    let Admitted { inbound, place } = admitted;
    let caller = authenticate(gateway, &inbound.head, inbound.received_at)?;
    Ok(Authenticated {
        inbound,
        place,
        caller,
    })
}

/// The caller of a request.
pub(crate) fn authenticate(
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
    let entry = look_up(&gateway.snapshot, &snapshot, &secret, now)?;
    Ok(Caller {
        secret,
        entry,
        snapshot,
    })
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
    look_up(&gateway.snapshot, &snapshot, &caller.secret, now).map(drop)
}

fn check_age(cell: &SnapshotCell, now: Timestamp) -> Result<(), GatewayError> {
    let closed = cell.policy == StalePolicy::Close && cell.is_stale(now);
    if closed || !cell.is_loaded() {
        return Err(GatewayError::from(Code::ConfigStale).with_retry_after(1));
    }
    Ok(())
}

fn look_up(
    cell: &SnapshotCell,
    snapshot: &Snapshot,
    secret: &Sha256Digest,
    now: Timestamp,
) -> Result<Arc<KeyEntry>, GatewayError> {
    let found = snapshot.key(secret);
    // The map compared the digests already; this one comparison does not depend on where they differ.
    let entry = found.filter(|entry| bool::from(entry.key.body.secret_sha256.0.ct_eq(&secret.0)));
    let Some(entry) = entry else {
        let may_be_new = cell.policy == StalePolicy::KnownKeysOnly && cell.is_stale(now);
        return Err(if may_be_new {
            GatewayError::from(Code::ConfigStale).with_retry_after(1)
        } else {
            GatewayError::from(Code::Unauthorized)
        });
    };
    if entry.key.body.revoked {
        return Err(GatewayError::from(Code::ApiKeyRevoked));
    }
    if entry
        .key
        .body
        .expires_at
        .is_some_and(|expires_at| expires_at <= now)
    {
        return Err(GatewayError::from(Code::ApiKeyExpired));
    }
    Ok(Arc::clone(entry))
}
