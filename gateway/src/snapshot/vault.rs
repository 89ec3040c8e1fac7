//! Provider keys: their sealed envelopes, kept for as long as the configuration names them, and what was opened
//! lately. Filled by the follower; asked by the pipeline for each call.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use http::HeaderValue;
use odock_events::{
    clock::{Clock, Timestamp},
    ids::{ProviderId, ProviderKeyId, SealedSecretId},
    seal::{Envelope, PrivateKey, SealError, associated_data},
    state::ProviderKey,
    units::Sha256Digest,
};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::{Snapshot, load::StoredEnvelope};
use crate::error::{Code, GatewayError};

mod secret;
#[cfg(test)]
mod tests;

pub use self::secret::ProviderSecret;

/// Why a provider key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    #[error("this gateway has no private key to open provider keys with")]
    NoPrivateKey,
    /// Postgres has not given it yet; it is fetched off the request path.
    #[error("the sealed provider key has not arrived yet")]
    NotHere,
    #[error("the sealed provider key is not the one that was recorded")]
    Changed,
    #[error("the sealed provider key does not open: {0}")]
    Seal(#[from] SealError),
    #[error("the provider key has characters that no header may have")]
    NotHeaderSafe,
    #[error("opening the provider key was cut off")]
    Interrupted,
}

impl VaultError {
    /// A name for logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoPrivateKey => "no_private_key",
            Self::NotHere => "not_here",
            Self::Changed => "changed",
            Self::Seal(SealError::KeyId) => "other_key_pair",
            Self::Seal(_) => "does_not_open",
            Self::NotHeaderSafe => "not_header_safe",
            Self::Interrupted => "interrupted",
        }
    }

    /// Whether it may go away by itself.
    #[must_use]
    pub fn is_temporary(self) -> bool {
        match self {
            Self::NotHere | Self::Interrupted => true,
            Self::NoPrivateKey | Self::Changed | Self::Seal(_) | Self::NotHeaderSafe => false,
        }
    }
}

/// What the caller is told. That a key comes in a moment is temporary; the rest is for the operator to mend.
impl From<VaultError> for GatewayError {
    fn from(error: VaultError) -> Self {
        if error.is_temporary() {
            Self::from(Code::ModelLookupUnavailable)
                .with_retry_after(1)
                .with_cause(error)
        } else {
            Self::from(Code::ProviderApiKeyNotConfigured).with_cause(error)
        }
    }
}

type Outcome = Result<Arc<ProviderSecret>, VaultError>;

pub struct Vault {
    private_key: Option<Arc<PrivateKey>>,
    /// How long an opened key stays in memory.
    ttl: Duration,
    clock: Arc<dyn Clock>,
    envelopes: RwLock<HashMap<SealedSecretId, Arc<str>>>,
    slots: RwLock<HashMap<(ProviderKeyId, SealedSecretId), Arc<Slot>>>,
}

impl Vault {
    #[must_use]
    pub fn new(private_key: Option<PrivateKey>, ttl: Duration, clock: Arc<dyn Clock>) -> Self {
        Self {
            private_key: private_key.map(Arc::new),
            ttl,
            clock,
            envelopes: RwLock::default(),
            slots: RwLock::default(),
        }
    }

    /// A vault where these are open already.
    #[cfg(test)]
    pub(crate) fn holding<'a>(keys: impl IntoIterator<Item = (&'a ProviderKey, &'a str)>) -> Self {
        let clock = odock_events::clock::FixedClock::default();
        let vault = Self::new(None, Duration::from_secs(60), Arc::new(clock));
        for (provider_key, secret) in keys {
            let opened = ProviderSecret::new(secret.to_owned().into()).map(Arc::new);
            vault.slot(provider_key).outcome.get_or_init(|| opened);
        }
        vault
    }

    /// The opened key: at once when it was opened lately, else after about a millisecond on another thread. Callers
    /// that come meanwhile wait for the same one.
    pub async fn secret(&self, provider_key: &ProviderKey) -> Outcome {
        if let Some(outcome) = self.opened(provider_key) {
            return outcome;
        }
        let sealed = self.sealed(provider_key)?;
        let slot = self.slot(provider_key);
        let _turn = slot.turn.lock().await;
        if let Some(outcome) = slot.outcome.get() {
            return outcome.clone();
        }
        let opening = Arc::clone(&slot);
        let opened = tokio::task::spawn_blocking(move || opening.open(&sealed));
        opened.await.unwrap_or(Err(VaultError::Interrupted))
    }

    /// The value of `Authorization`, without waiting. A key that was not opened lately is opened here; whoever may
    /// wait asks for [`Vault::secret`] before.
    pub fn authorization(&self, provider_key: &ProviderKey) -> Result<HeaderValue, VaultError> {
        if let Some(outcome) = self.opened(provider_key) {
            return outcome.map(|secret| secret.authorization());
        }
        let sealed = self.sealed(provider_key)?;
        let slot = self.slot(provider_key);
        let outcome = leave_the_thread_to_others(|| slot.open(&sealed));
        outcome.map(|secret| secret.authorization())
    }

    /// Takes envelopes in. They are compared with what was recorded when they are opened.
    pub fn put_envelopes(&self, envelopes: impl IntoIterator<Item = (SealedSecretId, Arc<str>)>) {
        write(&self.envelopes).extend(envelopes);
    }

    pub(super) fn put_stored(&self, envelopes: Vec<StoredEnvelope>) {
        self.put_envelopes(
            envelopes
                .into_iter()
                .map(|stored| (stored.id, stored.json.into())),
        );
    }

    /// All envelopes, for the snapshot file.
    #[must_use]
    pub fn envelopes(&self) -> Vec<(SealedSecretId, Arc<str>)> {
        read(&self.envelopes)
            .iter()
            .map(|(id, json)| (*id, Arc::clone(json)))
            .collect()
    }

    /// Envelopes that this configuration needs and that are not here.
    #[must_use]
    pub fn missing(&self, snapshot: &Snapshot) -> Vec<SealedSecretId> {
        let here = read(&self.envelopes);
        let needed = live_keys(snapshot).map(|key| key.body.sealed_secret_id);
        needed.filter(|id| !here.contains_key(id)).collect()
    }

    /// Forgets what this configuration does not name any more, sealed and opened.
    pub fn keep_only(&self, snapshot: &Snapshot) {
        let needed: HashSet<_> = live_keys(snapshot)
            .map(|key| key.body.sealed_secret_id)
            .collect();
        write(&self.envelopes).retain(|id, _| needed.contains(id));
        let versions: HashMap<_, _> = live_keys(snapshot)
            .map(|key| (key.id, key.version))
            .collect();
        write(&self.slots).retain(|(id, _), slot| versions.get(id) == Some(&slot.version));
    }

    /// Drops what was opened too long ago, also if nobody asks for it again.
    pub fn forget_expired(&self) {
        let (now, ttl) = (self.clock.now(), self.ttl);
        if read(&self.slots)
            .values()
            .any(|slot| slot.is_expired(now, ttl))
        {
            write(&self.slots).retain(|_, slot| !slot.is_expired(now, ttl));
        }
    }

    fn opened(&self, provider_key: &ProviderKey) -> Option<Outcome> {
        let slots = read(&self.slots);
        let slot = slots
            .get(&place(provider_key))
            .filter(|slot| self.fits(slot, provider_key));
        slot.and_then(|slot| slot.outcome.get().cloned())
    }

    /// The slot to open into, new if there is none that fits.
    fn slot(&self, provider_key: &ProviderKey) -> Arc<Slot> {
        let mut slots = write(&self.slots);
        let place = place(provider_key);
        if let Some(slot) = slots
            .get(&place)
            .filter(|slot| self.fits(slot, provider_key))
        {
            return Arc::clone(slot);
        }
        let slot = Arc::new(Slot {
            version: provider_key.version,
            sha256: provider_key.body.sealed_sha256,
            provider: provider_key.body.provider_id,
            opened_at: self.clock.now(),
            turn: tokio::sync::Mutex::new(()),
            outcome: OnceLock::new(),
        });
        slots.insert(place, Arc::clone(&slot));
        slot
    }

    fn fits(&self, slot: &Slot, provider_key: &ProviderKey) -> bool {
        slot.sha256 == provider_key.body.sealed_sha256
            && slot.provider == provider_key.body.provider_id
            && !slot.is_expired(self.clock.now(), self.ttl)
    }

    fn sealed(&self, provider_key: &ProviderKey) -> Result<SealedKey, VaultError> {
        let private_key = self.private_key.clone().ok_or(VaultError::NoPrivateKey)?;
        let json = read(&self.envelopes)
            .get(&provider_key.body.sealed_secret_id)
            .cloned();
        Ok(SealedKey {
            private_key,
            json: json.ok_or(VaultError::NotHere)?,
            sha256: provider_key.body.sealed_sha256,
            owner: associated_data(provider_key.organisation_id, provider_key.body.provider_id),
        })
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").finish_non_exhaustive()
    }
}

/// One key being opened, or opened.
struct Slot {
    version: u64,
    sha256: Sha256Digest,
    provider: ProviderId,
    opened_at: Timestamp,
    /// Of those who wait without holding a thread.
    turn: tokio::sync::Mutex<()>,
    /// A key that does not open is remembered too: trying takes as long as opening.
    outcome: OnceLock<Outcome>,
}

impl Slot {
    /// A clock that was set back ends it too: it must not keep a secret for longer.
    fn is_expired(&self, now: Timestamp, ttl: Duration) -> bool {
        now < self.opened_at || now.since(self.opened_at) >= ttl
    }

    fn open(&self, sealed: &SealedKey) -> Outcome {
        self.outcome
            .get_or_init(|| sealed.open().map(Arc::new))
            .clone()
    }
}

struct SealedKey {
    private_key: Arc<PrivateKey>,
    json: Arc<str>,
    sha256: Sha256Digest,
    owner: String,
}

impl SealedKey {
    fn open(&self) -> Result<ProviderSecret, VaultError> {
        if Sha256Digest::of(self.json.as_bytes()) != self.sha256 {
            return Err(VaultError::Changed);
        }
        let envelope = Envelope::from_json(self.json.as_bytes())?;
        ProviderSecret::new(self.private_key.open(&envelope, &self.owner)?)
    }
}

/// Runs `work` of about a millisecond while the runtime's other tasks move to another thread, where it has more.
fn leave_the_thread_to_others<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        Ok(_) | Err(_) => work(),
    }
}

/// Provider keys that may be called with.
fn live_keys(snapshot: &Snapshot) -> impl Iterator<Item = &Arc<ProviderKey>> {
    snapshot.provider_keys().filter(|key| !key.body.revoked)
}

fn place(provider_key: &ProviderKey) -> (ProviderKeyId, SealedSecretId) {
    (provider_key.id, provider_key.body.sealed_secret_id)
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
