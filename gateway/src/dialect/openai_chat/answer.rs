//! A unary answer: what settlement needs of it, and the model's name put back. The encode step calls it with the whole
//! body before the first header goes out.

use std::ops::Range;

use bytes::Bytes;

use super::{
    output::{OutputText, Words},
    usage::{ReportedUsage, Usage, read_service_tier, read_usage},
};
use crate::dialect::{
    json_scan::{Cursor, Kind, ScanError, Surrogates},
    json_write::write_string,
};

/// The longest id of the upstream's that is kept.
pub(super) const MAX_ID: usize = 256;

/// What an answer says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// `None` if the upstream reported none, or one that cannot be true.
    pub usage: Option<Usage>,
    /// The value of `model` with its quotes, where it is a string: for [`splice_model`].
    pub model_place: Option<Range<usize>>,
    /// The upstream's own id of the call.
    pub id: Option<String>,
    /// An `error` member that is not null: some upstreams send one with a 200.
    pub is_error: bool,
    text: OutputText,
}

/// A body that is no chat answer, so that nothing of it may be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    #[error("the answer is not valid JSON: {0}")]
    Json(#[from] ScanError),
    #[error("the answer is not a JSON object")]
    NotAnObject,
}

/// Checks the whole body and reads what settlement needs.
pub fn read_answer(body: &[u8]) -> Result<Answer, AnswerError> {
    let answer = read_with(body, Words::Ignore)?;
    if answer.usage.is_some() {
        Ok(answer)
    } else {
        read_with(body, Words::Count)
    }
}

/// The answer with `name` for its model; the same buffer where it says so already.
pub fn splice_model(body: &Bytes, model_place: &Range<usize>, name: &str) -> Bytes {
    let (Some(before), Some(behind)) = (body.get(..model_place.start), body.get(model_place.end..))
    else {
        return body.clone();
    };
    let mut out = Vec::with_capacity(body.len() + name.len() + 2);
    out.extend_from_slice(before);
    write_string(&mut out, name);
    out.extend_from_slice(behind);
    if out == *body {
        body.clone()
    } else {
        Bytes::from(out)
    }
}

impl Answer {
    /// Output tokens for an answer without usage.
    pub fn estimated_output_tokens(&self) -> u64 {
        self.text.tokens()
    }
}

fn read_with(body: &[u8], words: Words) -> Result<Answer, AnswerError> {
    let mut cursor = Cursor::new(body, Surrogates::Pass)?;
    if cursor.peek()? != Kind::Object {
        return Err(AnswerError::NotAnObject);
    }
    let mut answer = Answer::default();
    let mut service_tier = None;
    cursor.object(|cursor, key| match &*key.decode() {
        "usage" => {
            if let ReportedUsage::Usable(usage) = read_usage(cursor)? {
                answer.usage = Some(usage);
            }
            Ok(())
        }
        "id" => {
            answer.id = read_id(cursor)?;
            Ok(())
        }
        "model" => {
            let is_name = cursor.peek()? == Kind::String;
            answer.model_place = Some(cursor.locate()?).filter(|_| is_name);
            Ok(())
        }
        "service_tier" => {
            service_tier = read_service_tier(cursor)?;
            Ok(())
        }
        "error" => {
            answer.is_error = cursor.peek()? != Kind::Null;
            cursor.skip()
        }
        "choices" if cursor.peek()? == Kind::Array => cursor
            .array(|cursor, _| read_choice(cursor, &mut answer.text, words))
            .map(drop),
        _ => cursor.skip(),
    })?;
    cursor.finish()?;
    if let Some(usage) = &mut answer.usage {
        usage.service_tier = service_tier;
    }
    Ok(answer)
}

fn read_choice(
    cursor: &mut Cursor<'_>,
    text: &mut OutputText,
    words: Words,
) -> Result<(), ScanError> {
    if cursor.peek()? != Kind::Object {
        return cursor.skip();
    }
    cursor
        .object(|cursor, key| {
            if key.raw == "message" {
                text.add(cursor, words)
            } else {
                cursor.skip()
            }
        })
        .map(drop)
}

/// The value of an `id`, if it is a string of sensible length.
pub(super) fn read_id(cursor: &mut Cursor<'_>) -> Result<Option<String>, ScanError> {
    if cursor.peek()? != Kind::String {
        cursor.skip()?;
        return Ok(None);
    }
    let text = cursor.string()?;
    let sensible = (1..=MAX_ID).contains(&text.decoded_len);
    Ok(sensible.then(|| cursor.decode(text).into_owned()))
}

#[cfg(test)]
mod tests;
