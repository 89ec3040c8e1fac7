//! Strings: found at the speed of memory, measured in decoded bytes, decoded only when somebody reads them.

use std::{borrow::Cow, ops::Range};

use super::{Cursor, ScanError, Surrogates};

/// A string in the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text {
    start: usize,
    end: usize,
    /// UTF-8 bytes with all escapes undone. Smaller than the raw length exactly when there are escapes.
    pub decoded_len: usize,
}

impl Text {
    /// Where it stands, without its quotes.
    pub fn range(&self) -> Range<usize> {
        self.start..self.end
    }

    /// Where it stands, with its quotes.
    pub fn quoted(&self) -> Range<usize> {
        self.start.saturating_sub(1)..self.end + 1
    }

    pub(super) fn decode_raw<'a>(&self, raw: &'a str) -> Cow<'a, str> {
        if self.decoded_len == self.end - self.start {
            Cow::Borrowed(raw)
        } else {
            Cow::Owned(unescape(raw, self.decoded_len))
        }
    }
}

impl<'a> Cursor<'a> {
    /// Reads a string.
    pub fn string(&mut self) -> Result<Text, ScanError> {
        self.skip_white_space();
        match self.byte() {
            Some(b'"') => self.at += 1,
            Some(_) => return Err(self.unexpected("a string")),
            None => return Err(ScanError::UnexpectedEnd),
        }
        let start = self.at;
        let mut saved = 0;
        loop {
            self.at += plain_length(self.rest());
            match self.byte() {
                Some(b'"') => break,
                Some(b'\\') => saved += self.escape()?,
                Some(_) => return Err(ScanError::ControlCharacter(self.at)),
                None => return Err(ScanError::UnexpectedEnd),
            }
        }
        let end = self.at;
        self.at += 1;
        Ok(Text {
            start,
            end,
            decoded_len: end - start - saved,
        })
    }

    /// The string with its escapes undone.
    pub fn decode(&self, text: Text) -> Cow<'a, str> {
        text.decode_raw(self.slice(text.range()))
    }

    /// Reads one escape; answers by how many bytes its character is shorter.
    fn escape(&mut self) -> Result<usize, ScanError> {
        let start = self.at;
        self.at += 2;
        match self.text.as_bytes().get(start + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => return Ok(1),
            Some(b'u') => {}
            Some(_) => return Err(ScanError::InvalidEscape(start)),
            None => return Err(ScanError::UnexpectedEnd),
        }
        self.unicode_escapes = true;
        let unit = self.hex_unit(start)?;
        if !(0xD800..0xE000).contains(&unit) {
            return Ok(6 - char::from_u32(unit).map_or(3, char::len_utf8));
        }
        if unit < 0xDC00 && self.rest().starts_with(b"\\u") {
            let first_half_ends = self.at;
            self.at += 2;
            if (0xDC00..0xE000).contains(&self.hex_unit(first_half_ends)?) {
                return Ok(12 - 4);
            }
            self.at = first_half_ends;
        }
        match self.surrogates {
            Surrogates::Refuse => Err(ScanError::LoneSurrogate(start)),
            Surrogates::Pass => Ok(6 - char::REPLACEMENT_CHARACTER.len_utf8()),
        }
    }

    fn hex_unit(&mut self, escape: usize) -> Result<u32, ScanError> {
        let Some(digits) = self.text.as_bytes().get(self.at..self.at + 4) else {
            return Err(ScanError::UnexpectedEnd);
        };
        self.at += 4;
        parse_hex(digits).ok_or(ScanError::InvalidEscape(escape))
    }
}

fn parse_hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, digit| {
        Some(value << 4 | char::from(*digit).to_digit(16)?)
    })
}

/// How many bytes from the front are neither a quote, nor a backslash, nor a control character.
///
/// Wide blocks are only asked whether they hold one, which compiles to vector instructions; the block that does is
/// asked where, eight bytes at a time.
fn plain_length(bytes: &[u8]) -> usize {
    let (words, _) = bytes.as_chunks::<8>();
    // Most strings of a chat are short: two words before the wide loop is worth its start.
    for (index, word) in words.iter().take(2).enumerate() {
        if let Some(offset) = special_in_word(*word) {
            return index * 8 + offset;
        }
    }
    let mut at = words.len().min(2) * 8;
    let (blocks, _) = bytes.get(at..).unwrap_or_default().as_chunks::<64>();
    at += blocks
        .iter()
        .take_while(|block| !holds_special(block))
        .count()
        * 64;

    let (words, rest) = bytes.get(at..).unwrap_or_default().as_chunks::<8>();
    for word in words {
        if let Some(offset) = special_in_word(*word) {
            return at + offset;
        }
        at += 8;
    }
    at + rest.iter().take_while(|byte| !is_special(**byte)).count()
}

fn holds_special(block: &[u8; 64]) -> bool {
    block
        .iter()
        .fold(false, |found, byte| found | is_special(*byte))
}

fn is_special(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | 0..=0x1f)
}

/// The lowest special byte of a word. The subtractions may borrow, but only upwards from a byte that is itself one.
fn special_in_word(word: [u8; 8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let word = u64::from_le_bytes(word);
    let quote = word ^ (ONES * u64::from(b'"'));
    let backslash = word ^ (ONES * u64::from(b'\\'));
    let found = ((quote.wrapping_sub(ONES) & !quote)
        | (backslash.wrapping_sub(ONES) & !backslash)
        | (word.wrapping_sub(ONES * 0x20) & !word))
        & HIGH;
    (found != 0).then(|| found.trailing_zeros() as usize / 8)
}

/// Undoes the escapes of a string that [`Cursor::string`] has accepted.
fn unescape(raw: &str, decoded_len: usize) -> String {
    let mut out = String::with_capacity(decoded_len);
    let mut rest = raw;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        out.push_str(plain);
        let (character, length) = unescape_one(escaped);
        out.push(character);
        rest = escaped.get(length..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

/// The character of the escape whose backslash stands before `escaped`, and its length without that backslash.
fn unescape_one(escaped: &str) -> (char, usize) {
    let simple = match escaped.bytes().next() {
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return unescape_unit(escaped),
        other => other.map_or(char::REPLACEMENT_CHARACTER, char::from),
    };
    (simple, 1)
}

fn unescape_unit(escaped: &str) -> (char, usize) {
    let unit = |range: Range<usize>| escaped.get(range).and_then(|hex| parse_hex(hex.as_bytes()));
    let first = unit(1..5).unwrap_or_default();
    if (0xD800..0xDC00).contains(&first)
        && escaped.get(5..7) == Some("\\u")
        && let Some(second @ 0xDC00..0xE000) = unit(7..11)
    {
        let code_point = 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00);
        return (
            char::from_u32(code_point).unwrap_or(char::REPLACEMENT_CHARACTER),
            11,
        );
    }
    (
        char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER),
        5,
    )
}
