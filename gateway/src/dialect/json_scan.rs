//! A pull scanner over a JSON document: it checks every byte once and builds no tree. All dialects read with it.
//!
//! The caller walks the parts it wants and skips the rest; both are held to RFC 8259 the same way. Beyond it are
//! refused: more than [`MAX_DEPTH`] nested containers, numbers that no `f64` holds (`1e400`) and, in requests, halves
//! of surrogate pairs (`"\ud83d"`): they stand for no character, and upstreams differ in what they make of them.
//! Duplicate keys are not this module's matter: see [`super::json_keys`].

mod number;
mod text;

use std::ops::Range;

pub use text::Text;

/// How many containers may be open at once; the outermost is the first.
pub const MAX_DEPTH: u32 = 64;

/// Reads one document from the front to the back.
///
/// Every method leaves the cursor behind what it read. After an error the position means nothing.
pub struct Cursor<'a> {
    text: &'a str,
    at: usize,
    depth: u32,
    surrogates: Surrogates,
    unicode_escapes: bool,
}

/// What to do with half a surrogate pair in a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surrogates {
    /// For requests.
    Refuse,
    /// For answers: an upstream that cuts a pair between two chunks is passed on as it is. Decodes as U+FFFD.
    Pass,
}

/// What a value's first byte says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Object,
    Array,
    String,
    Number,
    True,
    False,
    Null,
}

/// A member's key as it stands in the document, without its quotes.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    pub raw: &'a str,
    pub text: Text,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    #[error("it is not UTF-8 at byte {0}")]
    NotUtf8(usize),
    #[error("it ends too early")]
    UnexpectedEnd,
    #[error("expected {expected} at byte {at}")]
    Unexpected { expected: &'static str, at: usize },
    #[error("control character in a string at byte {0}")]
    ControlCharacter(usize),
    #[error("invalid escape at byte {0}")]
    InvalidEscape(usize),
    #[error("half a surrogate pair at byte {0}")]
    LoneSurrogate(usize),
    #[error("number out of range at byte {0}")]
    NumberOutOfRange(usize),
    #[error("more than 64 nested arrays and objects at byte {0}")]
    TooDeep(usize),
}

impl<'a> Cursor<'a> {
    /// Refuses bytes that are not UTF-8 at once, so that everything after works on text.
    pub fn new(bytes: &'a [u8], surrogates: Surrogates) -> Result<Self, ScanError> {
        let text = std::str::from_utf8(bytes).map_err(|e| ScanError::NotUtf8(e.valid_up_to()))?;
        Ok(Self {
            text,
            at: 0,
            depth: 0,
            surrogates,
            unicode_escapes: false,
        })
    }

    /// The whole document.
    pub fn document(&self) -> &'a str {
        self.text
    }

    /// The document's bytes in `range`; empty where the range is not one of this document.
    pub fn slice(&self, range: Range<usize>) -> &'a str {
        self.text.get(range).unwrap_or_default()
    }

    /// Whether any string read so far had an escape of the form `\u0041`.
    pub fn has_unicode_escapes(&self) -> bool {
        self.unicode_escapes
    }

    /// The first byte that is not read yet.
    pub fn position(&self) -> usize {
        self.at
    }

    /// What the next value is. Moves over white space only.
    pub fn peek(&mut self) -> Result<Kind, ScanError> {
        self.skip_white_space();
        match self.byte() {
            Some(b'"') => Ok(Kind::String),
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b't') => Ok(Kind::True),
            Some(b'f') => Ok(Kind::False),
            Some(b'n') => Ok(Kind::Null),
            Some(_) => Err(self.unexpected("a value")),
            None => Err(ScanError::UnexpectedEnd),
        }
    }

    /// Checks the next value, whatever it is.
    pub fn skip(&mut self) -> Result<(), ScanError> {
        self.locate().map(|_| ())
    }

    /// Checks the next value, whatever it is, and answers where it stands.
    pub fn locate(&mut self) -> Result<Range<usize>, ScanError> {
        match self.peek()? {
            Kind::String => self.string().map(|text| text.quoted()),
            Kind::Number => self.number(),
            Kind::Object => self.object(|cursor, _| cursor.skip()),
            Kind::Array => self.array(|cursor, _| cursor.skip()),
            Kind::True => self.literal("true"),
            Kind::False => self.literal("false"),
            Kind::Null => self.literal("null"),
        }
    }

    /// Reads an object. `member` is called behind each key and must read exactly one value.
    pub fn object<E: From<ScanError>>(
        &mut self,
        mut member: impl FnMut(&mut Self, Key<'a>) -> Result<(), E>,
    ) -> Result<Range<usize>, E> {
        let start = self.open(b'{', "an object")?;
        if !self.closes(b'}') {
            loop {
                let key = self.key()?;
                member(self, key)?;
                if !self.goes_on(b'}', "',' or '}'")? {
                    break;
                }
            }
        }
        self.depth -= 1;
        Ok(start..self.at)
    }

    /// Reads an array. `element` is called before each element with its index and must read exactly one value.
    pub fn array<E: From<ScanError>>(
        &mut self,
        mut element: impl FnMut(&mut Self, usize) -> Result<(), E>,
    ) -> Result<Range<usize>, E> {
        let start = self.open(b'[', "an array")?;
        if !self.closes(b']') {
            let mut index = 0;
            loop {
                element(self, index)?;
                index += 1;
                if !self.goes_on(b']', "',' or ']'")? {
                    break;
                }
            }
        }
        self.depth -= 1;
        Ok(start..self.at)
    }

    /// Only white space may follow.
    pub fn finish(mut self) -> Result<(), ScanError> {
        self.skip_white_space();
        if self.at == self.text.len() {
            Ok(())
        } else {
            Err(self.unexpected("the end of the document"))
        }
    }

    fn key(&mut self) -> Result<Key<'a>, ScanError> {
        self.skip_white_space();
        if !matches!(self.byte(), Some(b'"') | None) {
            return Err(self.unexpected("a key in quotes"));
        }
        let text = self.string()?;
        self.skip_white_space();
        match self.byte() {
            Some(b':') => self.at += 1,
            Some(_) => return Err(self.unexpected("':' after a key")),
            None => return Err(ScanError::UnexpectedEnd),
        }
        Ok(Key {
            raw: self.slice(text.range()),
            text,
        })
    }

    fn open(&mut self, bracket: u8, expected: &'static str) -> Result<usize, ScanError> {
        self.skip_white_space();
        match self.byte() {
            Some(byte) if byte == bracket => {}
            Some(_) => return Err(self.unexpected(expected)),
            None => return Err(ScanError::UnexpectedEnd),
        }
        if self.depth == MAX_DEPTH {
            return Err(ScanError::TooDeep(self.at));
        }
        self.depth += 1;
        self.at += 1;
        Ok(self.at - 1)
    }

    fn closes(&mut self, bracket: u8) -> bool {
        self.skip_white_space();
        let closes = self.byte() == Some(bracket);
        self.at += usize::from(closes);
        closes
    }

    fn goes_on(&mut self, bracket: u8, expected: &'static str) -> Result<bool, ScanError> {
        self.skip_white_space();
        let goes_on = match self.byte() {
            Some(b',') => true,
            Some(byte) if byte == bracket => false,
            Some(_) => return Err(self.unexpected(expected)),
            None => return Err(ScanError::UnexpectedEnd),
        };
        self.at += 1;
        Ok(goes_on)
    }

    fn literal(&mut self, word: &'static str) -> Result<Range<usize>, ScanError> {
        let start = self.at;
        let rest = self.rest();
        if rest.starts_with(word.as_bytes()) {
            self.at += word.len();
            Ok(start..self.at)
        } else if word.as_bytes().starts_with(rest) {
            Err(ScanError::UnexpectedEnd)
        } else {
            Err(self.unexpected(word))
        }
    }

    fn skip_white_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.byte() {
            self.at += 1;
        }
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn unexpected(&self, expected: &'static str) -> ScanError {
        ScanError::Unexpected {
            expected,
            at: self.at,
        }
    }
}

impl Key<'_> {
    /// The key with its escapes undone.
    pub fn decode(&self) -> std::borrow::Cow<'_, str> {
        self.text.decode_raw(self.raw)
    }
}

#[cfg(test)]
pub(super) mod tests;
