//! An opened provider key. Its memory is overwritten when the last user lets it go.

use std::fmt;

use bytes::Bytes;
use http::HeaderValue;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::VaultError;

pub struct ProviderSecret {
    secret: SecretString,
    /// `Bearer <secret>`, built once: a call clones a pointer.
    authorization: HeaderValue,
}

impl ProviderSecret {
    pub(super) fn new(secret: SecretString) -> Result<Self, VaultError> {
        let text = Zeroizing::new([b"Bearer ", secret.expose_secret().as_bytes()].concat());
        let bytes = Bytes::from_owner(Wiped(text));
        let mut authorization =
            HeaderValue::from_maybe_shared(bytes).map_err(|_| VaultError::NotHeaderSafe)?;
        authorization.set_sensitive(true);
        Ok(Self {
            secret,
            authorization,
        })
    }

    /// The provider's own text.
    #[must_use]
    pub fn secret(&self) -> &SecretString {
        &self.secret
    }

    /// The value of `Authorization` for providers that take a bearer token.
    #[must_use]
    pub fn authorization(&self) -> HeaderValue {
        self.authorization.clone()
    }
}

impl fmt::Debug for ProviderSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderSecret").finish_non_exhaustive()
    }
}

/// Bytes that a header shares and the last of its clones overwrites.
struct Wiped(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
