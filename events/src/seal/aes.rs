//! AES-256-GCM with a random 96-bit nonce for each message. Used by provider-key envelopes (`seal.rs`) and personal fields
//! (`personal.rs`).

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    error::Unspecified,
};
use zeroize::Zeroizing;

use crate::secret_key::fill_random;

/// A key that has been expanded; it is wiped when dropped.
pub(crate) struct Key(LessSafeKey);

impl Key {
    pub(crate) fn new(bytes: &[u8; KEY_LENGTH]) -> Result<Self, Unspecified> {
        UnboundKey::new(&AES_256_GCM, bytes).map(|key| Self(LessSafeKey::new(key)))
    }

    /// The new nonce, and the ciphertext with its tag at the end.
    pub(crate) fn seal(
        &self,
        plain: &[u8],
        aad: &[u8],
    ) -> Result<([u8; NONCE_LENGTH], Vec<u8>), Unspecified> {
        let mut nonce = [0; NONCE_LENGTH];
        fill_random(&mut nonce);
        // Room for the tag, so that the plain text is never left behind in a buffer that was grown.
        let mut buffer = Vec::with_capacity(plain.len() + TAG_LENGTH);
        buffer.extend_from_slice(plain);
        let aead_nonce = Nonce::assume_unique_for_key(nonce);
        self.0
            .seal_in_place_append_tag(aead_nonce, Aad::from(aad), &mut buffer)?;
        Ok((nonce, buffer))
    }

    /// The plain text, if key, nonce, ciphertext and associated data belong together.
    pub(crate) fn open(
        &self,
        nonce: [u8; NONCE_LENGTH],
        ciphertext: &[u8],
        aad: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Unspecified> {
        let mut buffer = Zeroizing::new(ciphertext.to_vec());
        let aead_nonce = Nonce::assume_unique_for_key(nonce);
        let length = self
            .0
            .open_in_place(aead_nonce, Aad::from(aad), &mut buffer)?
            .len();
        buffer.truncate(length);
        Ok(buffer)
    }
}

/// A random key.
pub(crate) fn random_key() -> Zeroizing<[u8; KEY_LENGTH]> {
    let mut key = Zeroizing::new([0; KEY_LENGTH]);
    fill_random(key.as_mut_slice());
    key
}

pub(crate) const KEY_LENGTH: usize = 32;
pub(crate) const NONCE_LENGTH: usize = 12;
pub(crate) const TAG_LENGTH: usize = 16;
