//! PEM: one block of a known kind, as the key files of `seal.rs` hold it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::SealError;

/// A block with lines of 64 characters.
pub(super) fn encode(label: &str, der: &[u8]) -> String {
    let body = Zeroizing::new(STANDARD.encode(der));
    // Room for all of it, so that no part of a private key is left behind in a buffer that was grown.
    let mut pem = String::with_capacity(body.len() + body.len() / 64 + 2 * label.len() + 40);
    pem.extend(["-----BEGIN ", label, "-----"]);
    for (place, character) in body.chars().enumerate() {
        if place % 64 == 0 {
            pem.push('\n');
        }
        pem.push(character);
    }
    pem.extend(["\n-----END ", label, "-----\n"]);
    pem
}

/// The content of a text that is one block of the wanted kind and nothing else.
pub(super) fn decode(label: &str, pem: &str) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let body = pem
        .trim()
        .strip_prefix(&format!("-----BEGIN {label}-----"))
        .and_then(|rest| rest.strip_suffix(&format!("-----END {label}-----")))
        .ok_or(SealError::KeyFile)?;
    let mut text = Zeroizing::new(String::with_capacity(body.len()));
    text.extend(
        body.chars()
            .filter(|character| !character.is_ascii_whitespace()),
    );
    STANDARD
        .decode(text.as_bytes())
        .map(Zeroizing::new)
        .map_err(|_| SealError::KeyFile)
}
