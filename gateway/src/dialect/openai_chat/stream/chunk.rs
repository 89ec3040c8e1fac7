//! One chunk of a chat stream: the few things that are read of it.

use std::ops::Range;

use odock_events::pricing::ServiceTier;

use crate::dialect::{
    json_scan::{Cursor, Kind, ScanError, Surrogates},
    openai_chat::{
        answer::read_id,
        output::{OutputText, Words},
        usage::{ReportedUsage, read_service_tier, read_usage},
    },
};

/// Why a choice ended, by the provider's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    Stop,
    Length,
    ToolCalls,
    FunctionCall,
    ContentFilter,
    Other,
}

pub(super) struct ChunkFacts {
    pub(super) id: Option<String>,
    /// The value of `model` with its quotes, if it is a string.
    pub(super) model: Option<Range<usize>>,
    pub(super) usage: ReportedUsage,
    pub(super) service_tier: Option<ServiceTier>,
    has_choices: bool,
    pub(super) is_error: bool,
    pub(super) finish_reason: Option<FinishReason>,
    pub(super) finished_choices: u64,
    pub(super) text_deltas: u64,
    pub(super) text_bytes: u64,
}

impl ChunkFacts {
    pub(super) fn is_usage_only(&self) -> bool {
        self.usage != ReportedUsage::None && !self.has_choices && !self.is_error
    }

    fn read_choice(&mut self, cursor: &mut Cursor<'_>) -> Result<(), ScanError> {
        self.has_choices = true;
        if cursor.peek()? != Kind::Object {
            return cursor.skip();
        }
        cursor
            .object(|cursor, key| match key.raw {
                "delta" | "message" => {
                    let mut text = OutputText::default();
                    text.add(cursor, Words::Ignore)?;
                    self.text_bytes += text.bytes;
                    self.text_deltas += u64::from(text.bytes > 0);
                    Ok(())
                }
                "finish_reason" if cursor.peek()? == Kind::String => {
                    let reason = cursor.string()?;
                    self.finish_reason = Some(finish_reason(&cursor.decode(reason)));
                    self.finished_choices += 1;
                    Ok(())
                }
                _ => cursor.skip(),
            })
            .map(drop)
    }
}

/// Checks and reads one chunk. The id is decoded only where it is still wanted.
pub(super) fn read_chunk(data: &[u8], wants_id: bool) -> Result<ChunkFacts, ScanError> {
    let mut cursor = Cursor::new(data, Surrogates::Pass)?;
    let mut facts = ChunkFacts {
        id: None,
        model: None,
        usage: ReportedUsage::None,
        service_tier: None,
        has_choices: false,
        is_error: false,
        finish_reason: None,
        finished_choices: 0,
        text_deltas: 0,
        text_bytes: 0,
    };
    if cursor.peek()? != Kind::Object {
        cursor.skip()?;
        cursor.finish()?;
        return Ok(facts);
    }
    cursor.object(|cursor, key| match &*key.decode() {
        "id" if wants_id => {
            facts.id = read_id(cursor)?;
            Ok(())
        }
        "model" => {
            let is_name = cursor.peek()? == Kind::String;
            facts.model = Some(cursor.locate()?).filter(|_| is_name);
            Ok(())
        }
        "usage" => {
            facts.usage = read_usage(cursor)?;
            Ok(())
        }
        "service_tier" => {
            facts.service_tier = read_service_tier(cursor)?;
            Ok(())
        }
        "error" => {
            facts.is_error = cursor.peek()? != Kind::Null;
            cursor.skip()
        }
        "choices" if cursor.peek()? == Kind::Array => cursor
            .array(|cursor, _| facts.read_choice(cursor))
            .map(drop),
        _ => cursor.skip(),
    })?;
    cursor.finish()?;
    Ok(facts)
}

fn finish_reason(reason: &str) -> FinishReason {
    match reason {
        "stop" => FinishReason::Stop,
        "length" => FinishReason::Length,
        "tool_calls" => FinishReason::ToolCalls,
        "function_call" => FinishReason::FunctionCall,
        "content_filter" => FinishReason::ContentFilter,
        _ => FinishReason::Other,
    }
}
