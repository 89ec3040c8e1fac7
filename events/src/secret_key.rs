//! Secrets that we hand out: a tenant's virtual key (`sk_…`) and an admin token (`adm_…`). Made by the admin, shown once,
//! stored as SHA-256 and mask; the gateway and the admin check the form of what a caller sends before any look-up.
//!
//! Form: prefix, 43 base62 digits (256 random bits), 6 base62 digits of the CRC-32 of those 43. Scanners know it by the
//! prefix, and a typo is told apart without a look-up. 256 random bits need neither a pepper nor a slow hash.

use std::fmt;

use zeroize::Zeroizing;

use crate::units::Sha256Digest;

macro_rules! secrets {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal, $length:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(Zeroizing<[u8; $length]>);

        impl $name {
            pub const PREFIX: &'static str = $prefix;
            pub const LENGTH: usize = $length;

            /// A new one, of 256 bits from the system's randomness.
            #[must_use]
            pub fn generate() -> Self {
                let mut text = Zeroizing::new([0; $length]);
                write_secret($prefix, text.as_mut_slice());
                Self(text)
            }

            /// `None` unless the bytes have the right prefix, length, digits and checksum.
            #[must_use]
            pub fn parse(bytes: &[u8]) -> Option<Self> {
                let text: &[u8; $length] = bytes.try_into().ok()?;
                is_well_formed($prefix, text).then(|| Self(Zeroizing::new(*text)))
            }

            /// What is stored, and what a look-up goes by.
            #[must_use]
            pub fn sha256(&self) -> Sha256Digest {
                Sha256Digest::of(self.0.as_slice())
            }

            /// First 6 and last 4 characters, such as `sk_Ab3…x9Qz`.
            #[must_use]
            pub fn preview(&self) -> String {
                mask(self.expose())
            }

            /// The whole text. Only for the one answer that reveals it and for the file that the operator asked for.
            #[must_use]
            pub fn expose(&self) -> &str {
                // Always ASCII: both ways to make one write or check base62 digits after an ASCII prefix.
                std::str::from_utf8(self.0.as_slice()).unwrap_or_default()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(redacted)"))
            }
        }
    )*};
}

secrets! {
    /// A virtual key of a tenant.
    SecretKey = "sk_", 52;
    /// A token for the admin API.
    AdminToken = "adm_", 53;
}

/// First 6 … last 4 characters of a secret. One of less than 20 characters is hidden whole, as the mask would tell most
/// of it.
#[must_use]
pub fn mask(secret: &str) -> String {
    let count = secret.chars().count();
    if count < MASKED_LENGTH_MIN {
        return "…".to_owned();
    }
    let head: String = secret.chars().take(6).collect();
    let tail: String = secret.chars().skip(count - 4).collect();
    format!("{head}…{tail}")
}

/// Fills `text`, whose length is that of the prefix and 49 digits.
fn write_secret(prefix: &str, text: &mut [u8]) {
    let mut bits = Zeroizing::new([0_u8; 32]);
    fill_random(bits.as_mut_slice());
    let (head, digits) = text.split_at_mut(prefix.len());
    head.copy_from_slice(prefix.as_bytes());
    let (random, checksum) = digits.split_at_mut(RANDOM_DIGITS);
    write_base62(bits.as_mut_slice(), random);
    write_base62(&mut crc32fast::hash(random).to_be_bytes(), checksum);
}

fn is_well_formed(prefix: &str, text: &[u8]) -> bool {
    let Some(digits) = text.strip_prefix(prefix.as_bytes()) else {
        return false;
    };
    let Some((random, checksum)) = digits.split_at_checked(RANDOM_DIGITS) else {
        return false;
    };
    let mut expected = [0; CHECKSUM_DIGITS];
    write_base62(&mut crc32fast::hash(random).to_be_bytes(), &mut expected);
    random.iter().all(u8::is_ascii_alphanumeric) && checksum == expected
}

/// Writes a big-endian number as base62, left-padded with `0`; `number` is used up.
fn write_base62(number: &mut [u8], digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        let mut remainder = 0_u32;
        for byte in number.iter_mut() {
            let value = remainder * 256 + u32::from(*byte);
            *byte = (value / 62) as u8;
            remainder = value % 62;
        }
        *digit = match remainder as u8 {
            value @ 0..10 => b'0' + value,
            value @ 10..36 => b'A' + value - 10,
            value => b'a' + value - 36,
        };
    }
}

/// Fills from the system's randomness.
#[expect(
    clippy::expect_used,
    reason = "AWS-LC ends the process itself when the system has no randomness; there is no secret to go on with"
)]
pub(crate) fn fill_random(bytes: &mut [u8]) {
    aws_lc_rs::rand::fill(bytes).expect("the system gives randomness");
}

const RANDOM_DIGITS: usize = 43;
const CHECKSUM_DIGITS: usize = 6;
const MASKED_LENGTH_MIN: usize = 20;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn new_secrets_have_the_form_and_differ() {
        let mut seen = HashSet::new();
        for _ in 0..200 {
            let key = SecretKey::generate();
            assert_eq!(key.expose().len(), 52);
            assert!(key.expose().starts_with("sk_"));
            assert!(SecretKey::parse(key.expose().as_bytes()).is_some());
            assert!(seen.insert(key.expose().to_owned()));
        }
        let token = AdminToken::generate();
        assert_eq!(token.expose().len(), 53);
        assert!(AdminToken::parse(token.expose().as_bytes()).is_some());
        assert!(SecretKey::parse(token.expose().as_bytes()).is_none());
    }

    #[test]
    fn the_checksum_is_the_crc_32_in_base62() {
        // CRC-32 of 43 zeros by Python's zlib: 0x7849568f, 2018072207 in decimal.
        let digits = "0".repeat(43);
        assert!(SecretKey::parse(format!("sk_{digits}2CZclj").as_bytes()).is_some());
        assert!(SecretKey::parse(format!("sk_{digits}2CZclk").as_bytes()).is_none());
    }

    #[test]
    fn base62_counts_in_its_alphabet_and_pads_with_zeros() {
        let base62 = |number: u64| {
            let mut digits = [0; 6];
            write_base62(&mut number.to_be_bytes(), &mut digits);
            String::from_utf8(digits.to_vec()).unwrap()
        };
        assert_eq!(base62(0), "000000");
        assert_eq!(base62(61), "00000z");
        assert_eq!(base62(62), "000010");
        assert_eq!(base62(10), "00000A");
        assert_eq!(base62(36), "00000a");
        assert_eq!(base62(u64::from(u32::MAX)), "4gfFC3");
    }

    #[test]
    fn the_largest_number_fits_into_43_digits() {
        let mut number = [0xFF; 32];
        let mut digits = [0; RANDOM_DIGITS];
        write_base62(&mut number, &mut digits);
        assert_eq!(number, [0; 32]);
    }

    #[test]
    fn masks_show_six_and_four_and_hide_what_is_short() {
        let key = SecretKey::generate();
        let text = key.expose();
        assert_eq!(key.preview(), format!("{}…{}", &text[..6], &text[48..]));
        assert_eq!(mask("sk-proj-0123456789abcdef"), "sk-pro…cdef");
        assert_eq!(mask("hunter2"), "…");
        assert_eq!(mask("äöüäöüäöüäöüäöüäöüäöü"), "äöüäöü…üäöü");
    }

    #[test]
    fn debug_tells_nothing() {
        assert_eq!(
            format!("{:?}", SecretKey::generate()),
            "SecretKey(redacted)"
        );
        assert_eq!(
            format!("{:?}", AdminToken::generate()),
            "AdminToken(redacted)"
        );
    }

    #[test]
    fn the_digest_is_that_of_the_whole_text() {
        let key = SecretKey::generate();
        assert_eq!(key.sha256(), Sha256Digest::of(key.expose().as_bytes()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            prop_assert!(SecretKey::parse(&bytes).is_none());
        }

        #[test]
        fn one_changed_byte_is_noticed(place in 0..52_usize, flip in 1..=255_u8) {
            let mut bytes = SecretKey::generate().expose().as_bytes().to_vec();
            bytes[place] ^= flip;
            prop_assert!(SecretKey::parse(&bytes).is_none());
        }

        #[test]
        fn a_cut_or_longer_text_is_refused(length in 0..52_usize, more in "[0-9A-Za-z \n]{1,5}") {
            let key = SecretKey::generate();
            prop_assert!(SecretKey::parse(&key.expose().as_bytes()[..length]).is_none());
            let longer = format!("{}{more}", key.expose());
            prop_assert!(SecretKey::parse(longer.as_bytes()).is_none());
        }
    }
}
