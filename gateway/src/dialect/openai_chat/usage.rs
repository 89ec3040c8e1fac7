//! A provider's `usage` member, brought to our token classes. Answers and streams both call it.
//!
//! What the provider reports wins, also zero. A report that cannot be true is no report: a negative or broken number, a
//! part larger than its whole, more than a thousand million tokens. Nothing of it is used then, and the caller
//! estimates: a provider that is wrong in one place is not believed in another.

use crate::dialect::json_scan::{Cursor, Key, Kind, ScanError};

/// Tokens of one answer by class. The classes do not overlap, except that the audio ones are parts of input and output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Without those read from and written to the provider's cache.
    pub input: u64,
    pub cached_input: u64,
    pub cache_write: u64,
    /// Without reasoning.
    pub output: u64,
    pub reasoning: u64,
    pub input_audio: u64,
    pub output_audio: u64,
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
    output_audio: Option<u64>,
    broken: bool,
}

impl Report {
    fn read_member(&mut self, cursor: &mut Cursor<'_>, key: &Key<'_>) -> Result<(), ScanError> {
        match &*key.decode() {
            "prompt_tokens" => self.prompt = self.tokens(cursor)?,
            "completion_tokens" => self.completion = self.tokens(cursor)?,
            "total_tokens" => self.total = self.tokens(cursor)?,
            "prompt_tokens_details" => {
                self.details(cursor, |report, cursor, key| {
                    match key {
                        "cached_tokens" => report.cached = report.tokens(cursor)?,
                        "cache_creation_tokens" | "cache_write_tokens" => {
                            report.cache_write = report.tokens(cursor)?;
                        }
                        "audio_tokens" => report.input_audio = report.tokens(cursor)?,
                        _ => cursor.skip()?,
                    }
                    Ok(())
                })?;
            }
            "completion_tokens_details" => {
                self.details(cursor, |report, cursor, key| {
                    match key {
                        "reasoning_tokens" => report.reasoning = report.tokens(cursor)?,
                        "audio_tokens" => report.output_audio = report.tokens(cursor)?,
                        _ => cursor.skip()?,
                    }
                    Ok(())
                })?;
            }
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
        let usage = Usage {
            input: prompt.checked_sub(cached_input + cache_write)?,
            cached_input,
            cache_write,
            output: if self.adds_reasoning(prompt, completion, reasoning) {
                completion
            } else {
                completion.checked_sub(reasoning)?
            },
            reasoning,
            input_audio: self.input_audio.unwrap_or(0),
            output_audio: self.output_audio.unwrap_or(0),
        };
        (usage.input_audio <= prompt && usage.output_audio <= completion).then_some(usage)
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
                "completion_tokens_details":{"reasoning_tokens":20,"audio_tokens":3,"accepted_prediction_tokens":0},
                "queue_time":0.25}"#,
        );
        let expected = Usage {
            input: 50,
            cached_input: 40,
            cache_write: 10,
            output: 30,
            reasoning: 20,
            input_audio: 5,
            output_audio: 3,
        };
        assert_eq!(usage, ReportedUsage::Usable(expected));
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
            input: 32,
            output: 9,
            reasoning: 300,
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
