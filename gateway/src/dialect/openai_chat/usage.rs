//! A provider's `usage` member, brought to our token classes. Answers and streams both call it.
//!
//! What the provider reports wins, also zero. A report that cannot be true is no report: a negative or broken number, a
//! part larger than its whole, more than a thousand million tokens. Nothing of it is used then, and the caller
//! estimates: a provider that is wrong in one place is not believed in another.

use odock_events::pricing::{ServiceTier, TokenDetails, TokenUsage};

use crate::dialect::json_scan::{Cursor, Key, Kind, ScanError};

/// What one answer used, as its provider reports it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The classes do not overlap.
    pub tokens: TokenUsage,
    /// Parts of them.
    pub details: TokenDetails,
    /// Searches that the provider ran, if it says how many.
    pub web_searches: Option<u64>,
    /// The tier that served the call, if the answer names one that has a price.
    pub service_tier: Option<ServiceTier>,
    /// The provider told the cache writes that are kept longer from the others.
    pub tells_long_cache: bool,
}

#[cfg(test)]
impl Usage {
    /// For golden files.
    pub(crate) fn in_brief(&self) -> String {
        let TokenUsage {
            input,
            cached_input,
            cache_write,
            output,
            reasoning,
        } = self.tokens;
        let TokenDetails {
            input_audio,
            output_audio,
            ..
        } = self.details;
        format!(
            "Usage {{ input: {input}, cached_input: {cached_input}, cache_write: {cache_write}, output: {output}, \
             reasoning: {reasoning}, input_audio: {input_audio}, output_audio: {output_audio} }}"
        )
    }

    /// Text in, text out.
    pub(crate) fn text(input: u64, output: u64) -> Self {
        let tokens = TokenUsage {
            input,
            output,
            ..TokenUsage::default()
        };
        Self {
            tokens,
            ..Self::default()
        }
    }
}

/// What the cursor found at a `usage` member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReportedUsage {
    /// Null, or not an object.
    None,
    Usable(Usage),
    /// An object that cannot be true.
    Unusable,
}

/// No answer has more tokens of one class.
const MOST_TOKENS: u64 = 1_000_000_000;

/// Reads the value of a `usage` member.
pub(super) fn read_usage(cursor: &mut Cursor<'_>) -> Result<ReportedUsage, ScanError> {
    if cursor.peek()? != Kind::Object {
        cursor.skip()?;
        return Ok(ReportedUsage::None);
    }
    let mut report = Report::default();
    cursor.object(|cursor, key| report.read_member(cursor, &key))?;
    Ok(report
        .normalise()
        .map_or(ReportedUsage::Unusable, ReportedUsage::Usable))
}

/// Reads the value of a `service_tier` member: the tier, if it is one that prices know.
pub(super) fn read_service_tier(cursor: &mut Cursor<'_>) -> Result<Option<ServiceTier>, ScanError> {
    if cursor.peek()? != Kind::String {
        cursor.skip()?;
        return Ok(None);
    }
    let text = cursor.string()?;
    Ok(match &*cursor.decode(text) {
        "default" | "standard" => Some(ServiceTier::Standard),
        "batch" => Some(ServiceTier::Batch),
        "flex" => Some(ServiceTier::Flex),
        "priority" => Some(ServiceTier::Priority),
        _ => None,
    })
}

/// The numbers as the provider names them; absent and null are `None`.
#[derive(Default)]
struct Report {
    prompt: Option<u64>,
    completion: Option<u64>,
    total: Option<u64>,
    cached: Option<u64>,
    cache_write: Option<u64>,
    reasoning: Option<u64>,
    input_audio: Option<u64>,
    input_image: Option<u64>,
    cached_audio: Option<u64>,
    cached_image: Option<u64>,
    cache_write_1h: Option<u64>,
    output_audio: Option<u64>,
    output_image: Option<u64>,
    accepted_prediction: Option<u64>,
    rejected_prediction: Option<u64>,
    web_searches: Option<u64>,
    broken: bool,
}

impl Report {
    fn read_member(&mut self, cursor: &mut Cursor<'_>, key: &Key<'_>) -> Result<(), ScanError> {
        match &*key.decode() {
            "prompt_tokens" => self.prompt = self.tokens(cursor)?,
            "completion_tokens" => self.completion = self.tokens(cursor)?,
            "total_tokens" => self.total = self.tokens(cursor)?,
            "prompt_tokens_details" => self.details(cursor, Self::read_prompt_detail)?,
            "completion_tokens_details" => self.details(cursor, Self::read_completion_detail)?,
            // Anthropic's split, as gateways that speak this dialect for it hand it on.
            "cache_creation" => self.details(cursor, Self::read_cache_creation)?,
            "server_tool_use" => self.details(cursor, Self::read_tool_use)?,
            "num_search_queries" => self.web_searches = self.tokens(cursor)?,
            _ => cursor.skip()?,
        }
        Ok(())
    }

    fn read_prompt_detail(&mut self, cursor: &mut Cursor<'_>, key: &str) -> Result<(), ScanError> {
        match key {
            "cached_tokens" => self.cached = self.tokens(cursor)?,
            "cache_creation_tokens" | "cache_write_tokens" => {
                self.cache_write = self.tokens(cursor)?;
            }
            "audio_tokens" => self.input_audio = self.tokens(cursor)?,
            "image_tokens" => self.input_image = self.tokens(cursor)?,
            "cached_tokens_details" => self.details(cursor, Self::read_cached_detail)?,
            "cache_creation_token_details" => self.details(cursor, Self::read_cache_creation)?,
            _ => cursor.skip()?,
        }
        Ok(())
    }

    fn read_cached_detail(&mut self, cursor: &mut Cursor<'_>, key: &str) -> Result<(), ScanError> {
        match key {
            "audio_tokens" => self.cached_audio = self.tokens(cursor)?,
            "image_tokens" => self.cached_image = self.tokens(cursor)?,
            _ => cursor.skip()?,
        }
        Ok(())
    }

    fn read_cache_creation(&mut self, cursor: &mut Cursor<'_>, key: &str) -> Result<(), ScanError> {
        match key {
            "ephemeral_1h_input_tokens" => self.cache_write_1h = self.tokens(cursor)?,
            _ => cursor.skip()?,
        }
        Ok(())
    }

    fn read_completion_detail(
        &mut self,
        cursor: &mut Cursor<'_>,
        key: &str,
    ) -> Result<(), ScanError> {
        match key {
            "reasoning_tokens" => self.reasoning = self.tokens(cursor)?,
            "audio_tokens" => self.output_audio = self.tokens(cursor)?,
            "image_tokens" => self.output_image = self.tokens(cursor)?,
            "accepted_prediction_tokens" => self.accepted_prediction = self.tokens(cursor)?,
            "rejected_prediction_tokens" => self.rejected_prediction = self.tokens(cursor)?,
            _ => cursor.skip()?,
        }
        Ok(())
    }

    fn read_tool_use(&mut self, cursor: &mut Cursor<'_>, key: &str) -> Result<(), ScanError> {
        match key {
            "web_search_requests" => self.web_searches = self.tokens(cursor)?,
            _ => cursor.skip()?,
        }
        Ok(())
    }

    fn details(
        &mut self,
        cursor: &mut Cursor<'_>,
        read: impl Fn(&mut Self, &mut Cursor<'_>, &str) -> Result<(), ScanError>,
    ) -> Result<(), ScanError> {
        match cursor.peek()? {
            Kind::Object => cursor
                .object(|cursor, key| read(self, cursor, &key.decode()))
                .map(drop),
            Kind::Null => cursor.skip(),
            Kind::Array | Kind::String | Kind::Number | Kind::True | Kind::False => {
                self.broken = true;
                cursor.skip()
            }
        }
    }

    fn tokens(&mut self, cursor: &mut Cursor<'_>) -> Result<Option<u64>, ScanError> {
        match cursor.peek()? {
            Kind::Null => {
                cursor.skip()?;
                Ok(None)
            }
            Kind::Number => {
                let count = cursor.unsigned()?.filter(|count| *count <= MOST_TOKENS);
                self.broken |= count.is_none();
                Ok(count)
            }
            Kind::Object | Kind::Array | Kind::String | Kind::True | Kind::False => {
                self.broken = true;
                cursor.skip()?;
                Ok(None)
            }
        }
    }

    fn normalise(&self) -> Option<Usage> {
        if self.broken {
            return None;
        }
        let (prompt, completion) = (self.prompt?, self.completion?);
        let cached_input = self.cached.unwrap_or(0);
        let cache_write = self.cache_write.unwrap_or(0);
        let reasoning = self.reasoning.unwrap_or(0);
        let tokens = TokenUsage {
            input: prompt.checked_sub(cached_input + cache_write)?,
            cached_input,
            cache_write,
            output: if self.adds_reasoning(prompt, completion, reasoning) {
                completion
            } else {
                completion.checked_sub(reasoning)?
            },
            reasoning,
        };
        let details = TokenDetails {
            input_audio: self.input_audio.unwrap_or(0),
            cached_input_audio: self.cached_audio.unwrap_or(0),
            input_image: self.input_image.unwrap_or(0),
            cached_input_image: self.cached_image.unwrap_or(0),
            cache_write_1h: self.cache_write_1h.unwrap_or(0),
            output_audio: self.output_audio.unwrap_or(0),
            output_image: self.output_image.unwrap_or(0),
            accepted_prediction: self.accepted_prediction.unwrap_or(0),
            rejected_prediction: self.rejected_prediction.unwrap_or(0),
            ..TokenDetails::default()
        };
        let possible = details.input_audio + details.input_image <= prompt
            && details.cached_input_audio <= details.input_audio
            && details.cached_input_image <= details.input_image
            && details.cached_input_audio + details.cached_input_image <= cached_input
            && details.cache_write_1h <= cache_write
            && details.output_audio + details.output_image <= completion
            && details.accepted_prediction + details.rejected_prediction <= completion;
        possible.then_some(Usage {
            tokens,
            details,
            web_searches: self.web_searches,
            service_tier: None,
            tells_long_cache: self.cache_write_1h.is_some(),
        })
    }

    /// OpenAI counts reasoning within the completion; some (xAI) count it beside. Their total tells them apart.
    fn adds_reasoning(&self, prompt: u64, completion: u64, reasoning: u64) -> bool {
        reasoning > 0 && self.total == Some(prompt + completion + reasoning)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::json_scan::Surrogates;

    fn read(usage: &str) -> ReportedUsage {
        let mut cursor = Cursor::new(usage.as_bytes(), Surrogates::Pass).unwrap();
        let reported = read_usage(&mut cursor).unwrap();
        cursor.finish().unwrap();
        reported
    }

    #[test]
    fn classes_do_not_overlap() {
        let usage = read(
            r#"{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150,
                "prompt_tokens_details":{"cached_tokens":40,"cache_creation_tokens":10,"audio_tokens":5},
                "completion_tokens_details":{"reasoning_tokens":20,"audio_tokens":3,"accepted_prediction_tokens":7,"rejected_prediction_tokens":2},
                "queue_time":0.25}"#,
        );
        let expected = Usage {
            tokens: TokenUsage {
                input: 50,
                cached_input: 40,
                cache_write: 10,
                output: 30,
                reasoning: 20,
            },
            details: TokenDetails {
                input_audio: 5,
                output_audio: 3,
                accepted_prediction: 7,
                rejected_prediction: 2,
                ..TokenDetails::default()
            },
            ..Usage::default()
        };
        assert_eq!(usage, ReportedUsage::Usable(expected));
    }

    #[test]
    fn media_cache_and_searches_are_told_apart_where_the_provider_does() {
        let usage = read(
            r#"{"prompt_tokens":1000,"completion_tokens":90,"num_search_queries":2,
                "prompt_tokens_details":{"cached_tokens":600,"audio_tokens":300,"image_tokens":100,"text_tokens":600,
                    "cached_tokens_details":{"text_tokens":380,"audio_tokens":200,"image_tokens":20},
                    "cache_write_tokens":50,"cache_creation_token_details":{"ephemeral_5m_input_tokens":20,"ephemeral_1h_input_tokens":30}},
                "completion_tokens_details":{"audio_tokens":40,"image_tokens":10}}"#,
        );
        let expected = Usage {
            tokens: TokenUsage {
                input: 350,
                cached_input: 600,
                cache_write: 50,
                output: 90,
                reasoning: 0,
            },
            details: TokenDetails {
                input_audio: 300,
                cached_input_audio: 200,
                input_image: 100,
                cached_input_image: 20,
                cache_write_1h: 30,
                output_audio: 40,
                output_image: 10,
                ..TokenDetails::default()
            },
            web_searches: Some(2),
            service_tier: None,
            tells_long_cache: true,
        };
        assert_eq!(usage, ReportedUsage::Usable(expected));
        let ReportedUsage::Usable(usage) = read(
            r#"{"prompt_tokens":1,"completion_tokens":1,"server_tool_use":{"web_search_requests":3}}"#,
        ) else {
            panic!("usable");
        };
        assert_eq!(usage.web_searches, Some(3));
    }

    #[test]
    fn reported_zero_is_a_report() {
        for zero in [
            r#"{"prompt_tokens":0,"completion_tokens":0}"#,
            r#"{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0,"prompt_tokens_details":null,
                "completion_tokens_details":{"reasoning_tokens":null}}"#,
        ] {
            assert_eq!(read(zero), ReportedUsage::Usable(Usage::default()));
        }
    }

    #[test]
    fn reasoning_beside_the_completion_is_known_by_the_total() {
        let beside = read(
            r#"{"prompt_tokens":32,"completion_tokens":9,"total_tokens":341,"completion_tokens_details":{"reasoning_tokens":300}}"#,
        );
        let expected = Usage {
            tokens: TokenUsage {
                input: 32,
                output: 9,
                reasoning: 300,
                ..TokenUsage::default()
            },
            ..Usage::default()
        };
        assert_eq!(beside, ReportedUsage::Usable(expected));
    }

    #[test]
    fn what_cannot_be_true_is_no_report() {
        for broken in [
            r"{}",
            r#"{"prompt_tokens":5}"#,
            r#"{"prompt_tokens":5,"completion_tokens":null}"#,
            r#"{"prompt_tokens":-1,"completion_tokens":1}"#,
            r#"{"prompt_tokens":1.0,"completion_tokens":1}"#,
            r#"{"prompt_tokens":1e3,"completion_tokens":1}"#,
            r#"{"prompt_tokens":"5","completion_tokens":1}"#,
            r#"{"prompt_tokens":1000000001,"completion_tokens":1}"#,
            r#"{"prompt_tokens":99999999999999999999999,"completion_tokens":1}"#,
            r#"{"prompt_tokens":5,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":6}}"#,
            r#"{"prompt_tokens":5,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":-1}}"#,
            r#"{"prompt_tokens":5,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":3,"cache_write_tokens":3}}"#,
            r#"{"prompt_tokens":5,"completion_tokens":1,"prompt_tokens_details":{"audio_tokens":6}}"#,
            r#"{"prompt_tokens":5,"completion_tokens":1,"prompt_tokens_details":{"audio_tokens":3,"image_tokens":3}}"#,
            r#"{"prompt_tokens":5,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":3,"cached_tokens_details":{"audio_tokens":1}}}"#,
            r#"{"prompt_tokens":5,"completion_tokens":1,"prompt_tokens_details":{"cache_write_tokens":3},"cache_creation":{"ephemeral_1h_input_tokens":4}}"#,
            r#"{"prompt_tokens":5,"completion_tokens":1,"completion_tokens_details":{"rejected_prediction_tokens":2}}"#,
            r#"{"prompt_tokens":5,"completion_tokens":1,"num_search_queries":-1}"#,
            r#"{"prompt_tokens":5,"completion_tokens":1,"prompt_tokens_details":7}"#,
            r#"{"prompt_tokens":5,"completion_tokens":1,"completion_tokens_details":{"reasoning_tokens":2}}"#,
        ] {
            assert_eq!(read(broken), ReportedUsage::Unusable, "{broken}");
        }
        for absent in ["null", "[]", "3", "\"x\""] {
            assert_eq!(read(absent), ReportedUsage::None, "{absent}");
        }
    }
}
