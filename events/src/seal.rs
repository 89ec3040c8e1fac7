//! Envelopes around provider keys: AES-256-GCM under a random key of its own, which RSA-OAEP (SHA-256) wraps. A browser or
//! the admin seals with the public key; only gateways hold the private key and open, when they call the upstream.
//!
//! The associated data names the owner ([`associated_data`]), so an envelope moved to another tenant's row does not open.
//! No error here tells anything of the content.

pub(crate) mod aes;
mod envelope;
mod pem;

use std::fmt;

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der},
    rsa::{
        KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey,
        PrivateDecryptingKey, PublicEncryptingKey,
    },
};
use secrecy::SecretString;
use zeroize::Zeroizing;

pub use self::envelope::{ENVELOPE_MAX, Envelope};
use crate::{
    ids::{OrganisationId, ProviderId},
    units::Sha256Digest,
};

/// What binds an envelope to its owner: `<organisation_id>|<provider_id>`. A browser knows both before the row exists.
#[must_use]
pub fn associated_data(organisation: OrganisationId, provider: ProviderId) -> String {
    format!("{organisation}|{provider}")
}

/// A new RSA key pair of 3072 bits. Takes up to seconds: for first starts and tests, never on a request.
pub fn generate_key_pair() -> Result<KeyPair, SealError> {
    let private =
        PrivateDecryptingKey::generate(KeySize::Rsa3072).map_err(|_| SealError::KeyFile)?;
    let pkcs8: Pkcs8V1Der<'_> = private.as_der().map_err(|_| SealError::KeyFile)?;
    let public = PublicKey::new(private.public_key())?;
    Ok(KeyPair {
        key_id: public.key_id.clone(),
        private_pem: Zeroizing::new(pem::encode(PRIVATE_LABEL, pkcs8.as_ref())),
        public_pem: public.to_pem(),
    })
}

/// A new key pair as it goes to files: PKCS#8 and SPKI, both PEM.
pub struct KeyPair {
    pub key_id: String,
    pub private_pem: Zeroizing<String>,
    pub public_pem: String,
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair")
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

/// The public half: held by the admin, served to browsers.
pub struct PublicKey {
    key_id: String,
    spki: Vec<u8>,
    key: OaepPublicEncryptingKey,
}

impl PublicKey {
    /// Reads SPKI in PEM.
    pub fn from_pem(text: &str) -> Result<Self, SealError> {
        let der = pem::decode(PUBLIC_LABEL, text)?;
        Self::new(PublicEncryptingKey::from_der(&der).map_err(|_| SealError::KeyFile)?)
    }

    fn new(key: PublicEncryptingKey) -> Result<Self, SealError> {
        let spki: PublicKeyX509Der<'_> = key.as_der().map_err(|_| SealError::KeyFile)?;
        let spki = spki.as_ref().to_vec();
        let key = OaepPublicEncryptingKey::new(key).map_err(|_| SealError::KeyFile)?;
        Ok(Self {
            key_id: key_id_of(&spki),
            spki,
            key,
        })
    }

    /// Which key this is: the first 32 hex digits of the SHA-256 of its SPKI. Both halves give the same.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::encode(PUBLIC_LABEL, &self.spki)
    }

    /// Seals a secret of 1 to [`SECRET_MAX`] bytes.
    pub fn seal(&self, secret: &str, associated_data: &str) -> Result<Envelope, SealError> {
        if secret.is_empty() || secret.len() > SECRET_MAX {
            return Err(SealError::Size { member: "value" });
        }
        let content_key = aes::random_key();
        let (iv, ciphertext) = aes::Key::new(&content_key)
            .and_then(|key| key.seal(secret.as_bytes(), associated_data.as_bytes()))
            .map_err(|_| SealError::Content)?;
        let mut wrapped_key = vec![0; self.key.ciphertext_size()];
        self.key
            .encrypt(
                &OAEP_SHA256_MGF1SHA256,
                content_key.as_slice(),
                &mut wrapped_key,
                None,
            )
            .map_err(|_| SealError::WrappedKey)?;
        Ok(Envelope {
            key_id: self.key_id.clone(),
            wrapped_key,
            iv,
            ciphertext,
        })
    }

    /// What can be told of an envelope without the private key: that it is for this key, and of the right sizes.
    pub fn check(&self, envelope: &Envelope) -> Result<(), SealError> {
        check_key(envelope, &self.key_id, self.key.ciphertext_size())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKey")
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

/// The private half: held by gateways only.
pub struct PrivateKey {
    public: PublicKey,
    key: OaepPrivateDecryptingKey,
}

impl PrivateKey {
    /// Reads PKCS#8 in PEM.
    pub fn from_pem(text: &str) -> Result<Self, SealError> {
        let der = pem::decode(PRIVATE_LABEL, text)?;
        let key = PrivateDecryptingKey::from_pkcs8(&der).map_err(|_| SealError::KeyFile)?;
        let public = PublicKey::new(key.public_key())?;
        let key = OaepPrivateDecryptingKey::new(key).map_err(|_| SealError::KeyFile)?;
        Ok(Self { public, key })
    }

    #[must_use]
    pub fn key_id(&self) -> &str {
        self.public.key_id()
    }

    /// The public half that belongs to it.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The secret, if the envelope was sealed for this key and this owner.
    pub fn open(
        &self,
        envelope: &Envelope,
        associated_data: &str,
    ) -> Result<SecretString, SealError> {
        self.public.check(envelope)?;
        let mut buffer = Zeroizing::new(vec![0; self.key.min_output_size()]);
        let content_key = self
            .key
            .decrypt(
                &OAEP_SHA256_MGF1SHA256,
                &envelope.wrapped_key,
                &mut buffer,
                None,
            )
            .map_err(|_| SealError::WrappedKey)?;
        let content_key: &[u8; aes::KEY_LENGTH] = (&*content_key)
            .try_into()
            .map_err(|_| SealError::WrappedKey)?;
        let secret = aes::Key::new(content_key)
            .and_then(|key| {
                key.open(
                    envelope.iv,
                    &envelope.ciphertext,
                    associated_data.as_bytes(),
                )
            })
            .map_err(|_| SealError::Content)?;
        let text = std::str::from_utf8(&secret).map_err(|_| SealError::NotText)?;
        Ok(SecretString::from(text))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey")
            .field("key_id", &self.key_id())
            .finish_non_exhaustive()
    }
}

/// Why an envelope is not taken or does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("the envelope is longer than {ENVELOPE_MAX} bytes")]
    TooLarge,
    #[error("the envelope must be an object of v, alg, keyId, wrappedKey, iv and ciphertext")]
    Malformed,
    #[error("the envelope's version is not 1")]
    Version,
    #[error("the envelope's algorithm is not RSA-OAEP-256/A256GCM")]
    Algorithm,
    #[error("`{member}` is not base64 (standard alphabet, padded)")]
    Base64 { member: &'static str },
    #[error("`{member}` has an impossible size")]
    Size { member: &'static str },
    #[error("the envelope was sealed for another key")]
    KeyId,
    #[error("the wrapped key does not open: the envelope is damaged or was made with another key")]
    WrappedKey,
    /// AES-GCM cannot tell a changed ciphertext from a foreign owner.
    #[error(
        "the content does not open: it is damaged or belongs to another organisation or provider"
    )]
    Content,
    #[error("the sealed value is not UTF-8 text")]
    NotText,
    #[error("the key file is not an RSA key of at least 2048 bits in the expected PEM form")]
    KeyFile,
}

fn check_key(envelope: &Envelope, key_id: &str, wrapped_size: usize) -> Result<(), SealError> {
    if envelope.key_id != key_id {
        return Err(SealError::KeyId);
    }
    if envelope.wrapped_key.len() != wrapped_size {
        return Err(SealError::Size {
            member: "wrappedKey",
        });
    }
    Ok(())
}

fn key_id_of(spki: &[u8]) -> String {
    let mut hex = Sha256Digest::of(spki).to_string();
    hex.truncate(32);
    hex
}

/// The longest secret, in bytes; its envelope stays below [`ENVELOPE_MAX`].
pub const SECRET_MAX: usize = 4 * 1024;
const PRIVATE_LABEL: &str = "PRIVATE KEY";
const PUBLIC_LABEL: &str = "PUBLIC KEY";

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use proptest::prelude::*;
    use secrecy::ExposeSecret as _;
    use uuid::Uuid;

    use super::*;

    /// Made by Node's `WebCrypto`, as a browser makes them.
    const PRIVATE_PEM: &str = include_str!("seal/fixtures/webcrypto_private.pem");
    const PUBLIC_PEM: &str = include_str!("seal/fixtures/webcrypto_public.pem");
    const ENVELOPE: &str = include_str!("seal/fixtures/webcrypto_envelope.json");
    const OWNER: &str =
        "org_019354d0e7f07000800000000000000a|prov_019354d0e7f07000800000000000000b";

    fn private_key() -> PrivateKey {
        PrivateKey::from_pem(PRIVATE_PEM).unwrap()
    }

    fn envelope() -> Envelope {
        Envelope::from_json(ENVELOPE.as_bytes()).unwrap()
    }

    /// The fixture with one member replaced by any JSON.
    fn with_member(member: &str, value: serde_json::Value) -> Result<Envelope, SealError> {
        let mut json: serde_json::Value = serde_json::from_str(ENVELOPE).unwrap();
        json[member] = value;
        Envelope::from_json(json.to_string().as_bytes())
    }

    #[test]
    fn an_envelope_made_by_webcrypto_opens() {
        let secret = private_key().open(&envelope(), OWNER).unwrap();
        assert_eq!(secret.expose_secret(), "sk-made-by-webcrypto-äöü");
    }

    #[test]
    fn the_owner_is_organisation_and_provider() {
        let id = |last: u128| Uuid::from_u128(0x0193_54d0_e7f0_7000_8000_0000_0000_0000 + last);
        assert_eq!(
            associated_data(OrganisationId(id(10)), ProviderId(id(11))),
            OWNER
        );
    }

    #[test]
    fn a_new_pair_seals_and_opens_and_both_halves_know_their_id() {
        let pair = generate_key_pair().unwrap();
        let public = PublicKey::from_pem(&pair.public_pem).unwrap();
        let private = PrivateKey::from_pem(&pair.private_pem).unwrap();
        assert_eq!(public.key_id(), pair.key_id);
        assert_eq!(private.key_id(), pair.key_id);
        assert_eq!(private.public().to_pem(), pair.public_pem);
        let envelope = public.seal("sk-1", OWNER).unwrap();
        assert_eq!(envelope.wrapped_key.len(), 384);
        assert_eq!(
            private.open(&envelope, OWNER).unwrap().expose_secret(),
            "sk-1"
        );
        assert_eq!(
            private_key().open(&envelope, OWNER).unwrap_err(),
            SealError::KeyId
        );
        assert!(!format!("{pair:?}{private:?}{envelope:?}").contains("PRIVATE"));
    }

    #[test]
    fn keys_read_back_to_the_pem_that_others_wrote() {
        assert_eq!(
            PublicKey::from_pem(PUBLIC_PEM).unwrap().to_pem(),
            PUBLIC_PEM
        );
        assert_eq!(private_key().public().to_pem(), PUBLIC_PEM);
        assert_eq!(
            PrivateKey::from_pem(PUBLIC_PEM).unwrap_err(),
            SealError::KeyFile
        );
        assert_eq!(PublicKey::from_pem("").unwrap_err(), SealError::KeyFile);
        let cut = PRIVATE_PEM.replacen("MII", "", 1);
        assert_eq!(PrivateKey::from_pem(&cut).unwrap_err(), SealError::KeyFile);
    }

    #[test]
    fn a_row_moved_to_another_owner_does_not_open() {
        let moved = OWNER.replace("00b", "00c");
        assert_eq!(
            private_key().open(&envelope(), &moved).unwrap_err(),
            SealError::Content
        );
    }

    #[test]
    fn the_json_form_comes_back() {
        let json = envelope().to_json();
        assert_eq!(json, ENVELOPE.trim());
        assert_eq!(Envelope::from_json(json.as_bytes()).unwrap(), envelope());
    }

    #[test]
    fn each_kind_of_broken_envelope_has_its_own_error() {
        let error = |member, value| with_member(member, value).unwrap_err();
        assert_eq!(error("v", 2.into()), SealError::Version);
        assert_eq!(error("alg", "RSA1_5".into()), SealError::Algorithm);
        assert_eq!(
            error("keyId", "".into()),
            SealError::Size { member: "keyId" }
        );
        assert_eq!(error("iv", "AAAA".into()), SealError::Size { member: "iv" });
        assert_eq!(
            error("iv", "not base64".into()),
            SealError::Base64 { member: "iv" }
        );
        let tag_only = STANDARD.encode([0; 16]).into();
        assert_eq!(
            error("ciphertext", tag_only),
            SealError::Size {
                member: "ciphertext"
            }
        );
        assert_eq!(
            error("wrappedKey", "".into()),
            SealError::Size {
                member: "wrappedKey"
            }
        );
        assert_eq!(error("wrappedKey", 7.into()), SealError::Malformed);
        assert_eq!(error("extra", 7.into()), SealError::Malformed);
        assert_eq!(
            error("ciphertext", "A".repeat(8_192).into()),
            SealError::TooLarge
        );
        let twice = ENVELOPE.replacen('{', "{\"v\":1,", 1);
        assert_eq!(
            Envelope::from_json(twice.as_bytes()).unwrap_err(),
            SealError::Malformed
        );

        let short = with_member("wrappedKey", "AAAA".into()).unwrap();
        let size = SealError::Size {
            member: "wrappedKey",
        };
        assert_eq!(private_key().public().check(&short).unwrap_err(), size);
        assert_eq!(private_key().public().check(&envelope()), Ok(()));
    }

    #[test]
    fn no_error_quotes_what_was_sent() {
        for text in [
            r#""sk-live-secret""#,
            r#"{"sk-live-secret":1}"#,
            r#"{"v":"sk-live-secret"}"#,
        ] {
            let error = Envelope::from_json(text.as_bytes()).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("sk-live"), "{error}");
        }
    }

    #[test]
    fn the_longest_secret_fits_and_a_longer_or_empty_one_is_refused() {
        let key = private_key();
        let longest = "x".repeat(SECRET_MAX);
        let json = key.public().seal(&longest, OWNER).unwrap().to_json();
        let back = Envelope::from_json(json.as_bytes()).unwrap();
        assert_eq!(key.open(&back, OWNER).unwrap().expose_secret(), longest);
        let size = SealError::Size { member: "value" };
        assert_eq!(
            key.public()
                .seal(&format!("{longest}x"), OWNER)
                .unwrap_err(),
            size
        );
        assert_eq!(key.public().seal("", OWNER).unwrap_err(), size);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_secret_comes_back_and_is_never_sealed_alike(secret in "\\PC{1,200}", owner in "[a-z|_0-9]{0,80}") {
            let key = private_key();
            let one = key.public().seal(&secret, &owner).unwrap();
            let other = key.public().seal(&secret, &owner).unwrap();
            prop_assert_ne!(&one.ciphertext, &other.ciphertext);
            let opened = key.open(&one, &owner).unwrap();
            prop_assert_eq!(opened.expose_secret(), secret);
        }

        #[test]
        fn any_flipped_bit_is_noticed(part in 0..3_usize, place in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let mut envelope = envelope();
            let bytes: &mut [u8] = match part {
                0 => &mut envelope.wrapped_key,
                1 => &mut envelope.iv,
                _ => &mut envelope.ciphertext,
            };
            bytes[place.index(bytes.len())] ^= 1 << bit;
            let expected = if part == 0 { SealError::WrappedKey } else { SealError::Content };
            prop_assert_eq!(private_key().open(&envelope, OWNER).unwrap_err(), expected);
        }
    }
}
