//! The envelope on the wire: its members, sizes and bounds, checked without any key. Made by a browser or by the admin,
//! stored by the admin, fetched and opened by gateways.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use super::{SealError, aes};

/// A sealed provider key, version 1. Its parts have possible sizes; whether it opens only a private key can tell.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope {
    pub key_id: String,
    pub wrapped_key: Vec<u8>,
    pub iv: [u8; aes::NONCE_LENGTH],
    /// With the 16 bytes of the tag at its end, as `WebCrypto` gives it.
    pub ciphertext: Vec<u8>,
}

impl Envelope {
    /// Reads the JSON object. It is no `Deserialize` on purpose: serde's messages would quote what somebody put there by
    /// mistake, such as the plain key; take the member as `serde_json::value::RawValue` or `Value` and pass its text here.
    pub fn from_json(text: &[u8]) -> Result<Self, SealError> {
        if text.len() > ENVELOPE_MAX {
            return Err(SealError::TooLarge);
        }
        let wire: Wire = serde_json::from_slice(text).map_err(|_| SealError::Malformed)?;
        if wire.v != VERSION {
            return Err(SealError::Version);
        }
        if wire.alg != ALGORITHM {
            return Err(SealError::Algorithm);
        }
        if wire.key_id.is_empty() || wire.key_id.len() > KEY_ID_MAX {
            return Err(SealError::Size { member: "keyId" });
        }
        let iv = decode("iv", &wire.iv)?;
        let envelope = Self {
            key_id: wire.key_id,
            wrapped_key: decode("wrappedKey", &wire.wrapped_key)?,
            iv: iv
                .try_into()
                .map_err(|_| SealError::Size { member: "iv" })?,
            ciphertext: decode("ciphertext", &wire.ciphertext)?,
        };
        // An empty secret is none: at least one byte beside the tag.
        if envelope.ciphertext.len() <= aes::TAG_LENGTH {
            return Err(SealError::Size {
                member: "ciphertext",
            });
        }
        if envelope.wrapped_key.is_empty() {
            return Err(SealError::Size {
                member: "wrappedKey",
            });
        }
        Ok(envelope)
    }

    /// The JSON object in one canonical form: what is stored and hashed.
    #[must_use]
    pub fn to_json(&self) -> String {
        let wire = Wire {
            v: VERSION,
            alg: ALGORITHM.to_owned(),
            key_id: self.key_id.clone(),
            wrapped_key: STANDARD.encode(&self.wrapped_key),
            iv: STANDARD.encode(self.iv),
            ciphertext: STANDARD.encode(&self.ciphertext),
        };
        // A struct of numbers and strings always has a JSON form.
        serde_json::to_string(&wire).unwrap_or_default()
    }
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wire {
    v: u8,
    alg: String,
    key_id: String,
    wrapped_key: String,
    iv: String,
    ciphertext: String,
}

fn decode(member: &'static str, text: &str) -> Result<Vec<u8>, SealError> {
    STANDARD
        .decode(text)
        .map_err(|_| SealError::Base64 { member })
}

/// The longest envelope as JSON text, in bytes.
pub const ENVELOPE_MAX: usize = 8 * 1024;
const KEY_ID_MAX: usize = 64;
const VERSION: u8 = 1;
const ALGORITHM: &str = "RSA-OAEP-256/A256GCM";
