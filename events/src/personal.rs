//! Personal fields: a user's name and e-mail, an invitation's address, an actor's IP. Ciphertext under a key per person,
//! from the first event on: events are for ever, keys can be destroyed. Sealed and opened by the admin; events, folded
//! tables and configuration rows carry the same [`Sealed`] bytes.
//!
//! A person's data key is random, wrapped by the master key of `SUBJECT_KEY_FILE` and stored in the private table
//! `subject_key`. Destroying that row erases the person from every copy of the log. Nothing is encrypted
//! deterministically: equal fields do not look equal, so a search decrypts.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::seal::aes;

/// One personal field: nonce, ciphertext, tag. Bytes in `MessagePack`, base64 in JSON.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Sealed(pub Vec<u8>);

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

impl Serialize for Sealed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&STANDARD.encode(&self.0))
        } else {
            serde_bytes::serialize(&self.0, serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Sealed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The form is told by what is there, as a tagged enum buffers its members and forgets the format.
        deserializer.deserialize_any(SealedVisitor)
    }
}

struct SealedVisitor;

impl de::Visitor<'_> for SealedVisitor {
    type Value = Sealed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("base64 text or bytes")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Sealed, E> {
        STANDARD
            .decode(text)
            .map(Sealed)
            .map_err(|_| E::custom("a sealed field is not base64"))
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Sealed, E> {
        Ok(Sealed(bytes.to_vec()))
    }

    fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Sealed, E> {
        Ok(Sealed(bytes))
    }
}

/// The master key: makes and opens the keys of persons.
pub struct SubjectKeys {
    master: aes::Key,
}

impl SubjectKeys {
    /// Text for a new `SUBJECT_KEY_FILE`: 64 hex digits and a newline.
    #[must_use]
    pub fn generate_file() -> Zeroizing<String> {
        let key = aes::random_key();
        let mut text = Zeroizing::new(String::with_capacity(2 * aes::KEY_LENGTH + 1));
        for byte in key.iter() {
            text.push(hex_digit(byte >> 4));
            text.push(hex_digit(byte & 15));
        }
        text.push('\n');
        text
    }

    /// Reads the text of `SUBJECT_KEY_FILE`.
    pub fn from_file(text: &str) -> Result<Self, PersonalError> {
        let digits = text.trim_ascii().as_bytes();
        if digits.len() != 2 * aes::KEY_LENGTH {
            return Err(PersonalError::MasterKey);
        }
        let mut key = Zeroizing::new([0; aes::KEY_LENGTH]);
        let (pairs, _) = digits.as_chunks::<2>();
        for (byte, [high, low]) in key.iter_mut().zip(pairs) {
            let value = |digit: u8| {
                char::from(digit)
                    .to_digit(16)
                    .ok_or(PersonalError::MasterKey)
            };
            *byte = (value(*high)? << 4 | value(*low)?) as u8;
        }
        Self::new(&key)
    }

    pub fn new(master: &[u8; aes::KEY_LENGTH]) -> Result<Self, PersonalError> {
        let master = aes::Key::new(master).map_err(|_| PersonalError::MasterKey)?;
        Ok(Self { master })
    }

    /// A key for a new person, and the same wrapped: the row of `subject_key`, written before the first event.
    pub fn new_subject(&self, subject: Uuid) -> Result<(SubjectKey, WrappedKey), PersonalError> {
        let data_key = aes::random_key();
        let wrapped = seal_joined(&self.master, data_key.as_slice(), subject.as_bytes())?;
        Ok((SubjectKey::new(subject, &data_key)?, WrappedKey(wrapped)))
    }

    /// The key of a person from its row.
    pub fn open_subject(
        &self,
        subject: Uuid,
        wrapped: &WrappedKey,
    ) -> Result<SubjectKey, PersonalError> {
        let data_key = open_joined(&self.master, &wrapped.0, subject.as_bytes())
            .ok_or(PersonalError::SubjectKey)?;
        let data_key = data_key
            .as_slice()
            .try_into()
            .map_err(|_| PersonalError::SubjectKey)?;
        SubjectKey::new(subject, data_key)
    }
}

impl fmt::Debug for SubjectKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubjectKeys(redacted)")
    }
}

/// A person's data key under the master key, bound to the person: nonce, ciphertext, tag.
#[derive(Clone, PartialEq, Eq)]
pub struct WrappedKey(pub Vec<u8>);

impl fmt::Debug for WrappedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WrappedKey(redacted)")
    }
}

/// The data key of one person.
pub struct SubjectKey {
    subject: Uuid,
    key: aes::Key,
}

impl SubjectKey {
    fn new(subject: Uuid, data_key: &[u8; aes::KEY_LENGTH]) -> Result<Self, PersonalError> {
        let key = aes::Key::new(data_key).map_err(|_| PersonalError::SubjectKey)?;
        Ok(Self { subject, key })
    }

    #[must_use]
    pub fn subject(&self) -> Uuid {
        self.subject
    }

    /// Seals one field, bound to the person and to the field's name.
    pub fn seal(&self, field: &str, plain: &str) -> Result<Sealed, PersonalError> {
        seal_joined(&self.key, plain.as_bytes(), &self.associated_data(field)).map(Sealed)
    }

    /// The field's text, if it was sealed for this person under this name.
    pub fn open(&self, field: &str, sealed: &Sealed) -> Result<Zeroizing<String>, PersonalError> {
        let plain = open_joined(&self.key, &sealed.0, &self.associated_data(field))
            .ok_or(PersonalError::Field)?;
        let text = std::str::from_utf8(&plain).map_err(|_| PersonalError::Field)?;
        Ok(Zeroizing::new(text.to_owned()))
    }

    /// The 16 bytes of the subject's id, then the field's name: no two pairs give the same bytes.
    fn associated_data(&self, field: &str) -> Vec<u8> {
        [self.subject.as_bytes().as_slice(), field.as_bytes()].concat()
    }
}

impl fmt::Debug for SubjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubjectKey(redacted)")
    }
}

/// Why a personal field or a key does not open. Tells nothing of the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PersonalError {
    #[error("the subject key file must hold 64 hex digits")]
    MasterKey,
    #[error("the person's key does not open: wrong subject key file, wrong person, or damaged")]
    SubjectKey,
    #[error("the field does not open: another person's, another field's, or damaged")]
    Field,
    #[error("the field could not be sealed")]
    Seal,
}

fn seal_joined(key: &aes::Key, plain: &[u8], aad: &[u8]) -> Result<Vec<u8>, PersonalError> {
    let (nonce, ciphertext) = key.seal(plain, aad).map_err(|_| PersonalError::Seal)?;
    Ok([nonce.as_slice(), &ciphertext].concat())
}

fn open_joined(key: &aes::Key, bytes: &[u8], aad: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, ciphertext) = bytes.split_first_chunk()?;
    key.open(*nonce, ciphertext, aad).ok()
}

fn hex_digit(value: u8) -> char {
    char::from(if value < 10 {
        b'0' + value
    } else {
        b'a' + value - 10
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALICE: Uuid = Uuid::from_u128(1);
    const BOB: Uuid = Uuid::from_u128(2);

    fn keys() -> SubjectKeys {
        SubjectKeys::new(&[7; 32]).unwrap()
    }

    #[test]
    fn a_field_opens_for_its_person_and_its_name_only() {
        let keys = keys();
        let (alice, _) = keys.new_subject(ALICE).unwrap();
        let (bob, _) = keys.new_subject(BOB).unwrap();
        let sealed = alice.seal("email", "alice@example.com").unwrap();
        assert_eq!(
            alice.open("email", &sealed).unwrap().as_str(),
            "alice@example.com"
        );
        assert_eq!(alice.open("name", &sealed), Err(PersonalError::Field));
        assert_eq!(bob.open("email", &sealed), Err(PersonalError::Field));
    }

    #[test]
    fn a_wrapped_key_opens_with_its_master_and_for_its_person_only() {
        let keys = keys();
        let (alice, wrapped) = keys.new_subject(ALICE).unwrap();
        let sealed = alice.seal("name", "Alice").unwrap();
        let again = keys.open_subject(ALICE, &wrapped).unwrap();
        assert_eq!(again.subject(), ALICE);
        assert_eq!(again.open("name", &sealed).unwrap().as_str(), "Alice");
        let refused = |keys: &SubjectKeys, subject, wrapped: &WrappedKey| {
            keys.open_subject(subject, wrapped).unwrap_err()
        };
        assert_eq!(refused(&keys, BOB, &wrapped), PersonalError::SubjectKey);
        let other = SubjectKeys::new(&[8; 32]).unwrap();
        assert_eq!(refused(&other, ALICE, &wrapped), PersonalError::SubjectKey);
        assert_eq!(
            refused(&keys, ALICE, &WrappedKey(vec![1; 5])),
            PersonalError::SubjectKey
        );
    }

    #[test]
    fn equal_fields_do_not_look_equal() {
        let (alice, _) = keys().new_subject(ALICE).unwrap();
        assert_ne!(
            alice.seal("name", "Alice").unwrap(),
            alice.seal("name", "Alice").unwrap()
        );
    }

    #[test]
    fn a_key_file_is_64_hex_digits() {
        let text = SubjectKeys::generate_file();
        assert_eq!(text.len(), 65);
        let (_, wrapped) = SubjectKeys::from_file(&text)
            .unwrap()
            .new_subject(ALICE)
            .unwrap();
        let upper = text.to_uppercase();
        assert!(
            SubjectKeys::from_file(&upper)
                .unwrap()
                .open_subject(ALICE, &wrapped)
                .is_ok()
        );
        let same = SubjectKeys::from_file(&"07".repeat(32)).unwrap();
        let (_, wrapped) = keys().new_subject(ALICE).unwrap();
        assert!(same.open_subject(ALICE, &wrapped).is_ok());
        for bad in [
            "",
            "07",
            &"0g".repeat(32),
            &"07".repeat(33),
            &"ü".repeat(32),
        ] {
            assert_eq!(
                SubjectKeys::from_file(bad).unwrap_err(),
                PersonalError::MasterKey
            );
        }
    }

    #[test]
    fn sealed_is_base64_in_json_and_bytes_in_messagepack() {
        let sealed = Sealed(vec![0, 1, 254, 255]);
        let json = serde_json::to_string(&sealed).unwrap();
        assert_eq!(json, r#""AAH+/w==""#);
        assert_eq!(serde_json::from_str::<Sealed>(&json).unwrap(), sealed);
        assert!(serde_json::from_str::<Sealed>(r#""not base64""#).is_err());
        let packed = rmp_serde::to_vec_named(&sealed).unwrap();
        assert_eq!(packed, [0xc4, 4, 0, 1, 254, 255]);
        assert_eq!(rmp_serde::from_slice::<Sealed>(&packed).unwrap(), sealed);
    }

    #[test]
    fn debug_tells_nothing() {
        let keys = keys();
        let (alice, wrapped) = keys.new_subject(ALICE).unwrap();
        let text = format!("{keys:?} {alice:?} {wrapped:?} {:?}", Sealed(vec![1, 2]));
        let expected =
            "SubjectKeys(redacted) SubjectKey(redacted) WrappedKey(redacted) Sealed(2 bytes)";
        assert_eq!(text, expected);
    }

    proptest! {
        #[test]
        fn any_text_comes_back(field in "[a-z]{1,12}", plain in ".{0,100}") {
            let (alice, _) = keys().new_subject(ALICE).unwrap();
            let sealed = alice.seal(&field, &plain).unwrap();
            prop_assert_eq!(sealed.0.len(), 12 + plain.len() + 16);
            let opened = alice.open(&field, &sealed).unwrap();
            prop_assert_eq!(opened.as_str(), plain);
        }

        #[test]
        fn a_flipped_bit_or_a_cut_is_noticed(place in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let (alice, WrappedKey(wrapped)) = keys().new_subject(ALICE).unwrap();
            let Sealed(sealed) = alice.seal("email", "alice@example.com").unwrap();
            let flip = |bytes: &[u8]| {
                let mut bytes = bytes.to_vec();
                let place = place.index(bytes.len());
                bytes[place] ^= 1 << bit;
                bytes
            };
            let cut = |bytes: &[u8]| bytes[..place.index(bytes.len())].to_vec();
            for bad in [flip(&sealed), cut(&sealed)] {
                prop_assert_eq!(alice.open("email", &Sealed(bad)), Err(PersonalError::Field));
            }
            for bad in [flip(&wrapped), cut(&wrapped)] {
                prop_assert!(keys().open_subject(ALICE, &WrappedKey(bad)).is_err());
            }
        }
    }
}
