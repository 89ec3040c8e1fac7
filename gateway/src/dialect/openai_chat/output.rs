//! How much a model has said: the text in a `message` or a `delta`, whatever members a provider puts it into. Answers
//! and streams count with it, for the estimate that stands in for a missing usage.

use crate::dialect::json_scan::{Cursor, Kind, ScanError};

/// Text that was seen in an answer or a chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OutputText {
    pub(super) bytes: u64,
    /// Runs of characters between white space. Counted only where asked for: it needs the text decoded.
    pub(super) words: u64,
}

/// Whether words are worth decoding for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Words {
    Count,
    Ignore,
}

impl OutputText {
    /// Adds all text in the next value. Names, ids and media are no text of the model's.
    pub(super) fn add(&mut self, cursor: &mut Cursor<'_>, words: Words) -> Result<(), ScanError> {
        match cursor.peek()? {
            Kind::String => {
                let text = cursor.string()?;
                self.bytes += text.decoded_len as u64;
                if words == Words::Count {
                    self.words += cursor.decode(text).split_whitespace().count() as u64;
                }
                Ok(())
            }
            Kind::Object => cursor
                .object(|cursor, key| {
                    if is_not_text(key.raw) {
                        cursor.skip()
                    } else {
                        self.add(cursor, words)
                    }
                })
                .map(drop),
            Kind::Array => cursor.array(|cursor, _| self.add(cursor, words)).map(drop),
            Kind::Number | Kind::True | Kind::False | Kind::Null => cursor.skip(),
        }
    }

    /// About four bytes a token, but no fewer tokens than words.
    pub(super) fn tokens(self) -> u64 {
        self.bytes.div_ceil(4).max(self.words)
    }
}

fn is_not_text(key: &str) -> bool {
    matches!(
        key,
        "role"
            | "id"
            | "type"
            | "index"
            | "tool_call_id"
            | "audio"
            | "images"
            | "annotations"
            | "citations"
            | "reasoning_details"
            | "signature"
    )
}
