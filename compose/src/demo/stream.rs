//! Writes the SSE bytes of a streamed answer, a round of tokens (one for each choice) after another. Pure; played by the body.

use super::answer::{Answer, Ending, TOKEN, quote};

/// Bytes that go out together, and what the ledger counts when they do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) bytes: Vec<u8>,
    pub(super) tokens: u64,
    /// The usage is among the bytes.
    pub(super) tells_usage: bool,
}

/// The settings of a stream that do not change its meaning.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct StreamStyle {
    pub(super) crlf: bool,
    pub(super) omit_done: bool,
    pub(super) usage_null: bool,
}

/// Where a stream stands.
#[derive(Debug)]
pub(super) struct StreamWriter {
    answer: Answer,
    style: StreamStyle,
    /// All of a chunk before the choice's index.
    head: String,
    /// All of a chunk after the finish reason.
    tail: String,
    next_round: u64,
    rounds: u64,
}

impl StreamWriter {
    pub(super) fn new(answer: Answer, style: StreamStyle) -> Self {
        let eol = if style.crlf { "\r\n\r\n" } else { "\n\n" };
        let usage = if style.usage_null && answer.tells_usage {
            r#","usage":null"#
        } else {
            ""
        };
        let head = format!("{}{{\"index\":", chunk_head(&answer));
        let tail = format!("}}]{usage}}}{eol}");
        let rounds = if answer.tool.is_some() {
            TOOL_ROUNDS
        } else {
            answer.tokens.max(1)
        };
        Self {
            answer,
            style,
            head,
            tail,
            next_round: 0,
            rounds,
        }
    }

    /// The next round alone; with the last one comes all that follows it. `None` when all is written.
    pub(super) fn write_round(&mut self) -> Option<Piece> {
        let mut piece = Piece {
            bytes: Vec::with_capacity(512),
            tokens: 0,
            tells_usage: false,
        };
        self.append_round(&mut piece).then_some(piece)
    }

    /// As many rounds as make a full write.
    pub(super) fn write_many(&mut self) -> Option<Piece> {
        let mut piece = Piece {
            bytes: Vec::with_capacity(FULL_WRITE),
            tokens: 0,
            tells_usage: false,
        };
        let mut written = false;
        while piece.bytes.len() < FULL_WRITE && self.append_round(&mut piece) {
            written = true;
        }
        written.then_some(piece)
    }

    pub(super) fn is_done(&self) -> bool {
        self.next_round == self.rounds
    }

    fn append_round(&mut self, piece: &mut Piece) -> bool {
        if self.is_done() {
            return false;
        }
        let round = self.next_round;
        self.next_round += 1;
        let delta = self.delta(round);
        let is_last = self.is_done() && self.answer.ending == Ending::Whole;
        for index in 0..self.answer.choices {
            self.append_chunk(&mut piece.bytes, index, &delta, is_last);
        }
        piece.tokens += self.tokens(round) * self.answer.choices;
        if is_last {
            self.append_end(piece);
        }
        true
    }

    fn append_chunk(&self, bytes: &mut Vec<u8>, index: u64, delta: &str, is_last: bool) {
        bytes.extend_from_slice(self.head.as_bytes());
        bytes.extend_from_slice(index.to_string().as_bytes());
        bytes.extend_from_slice(br#","delta":{"#);
        bytes.extend_from_slice(delta.as_bytes());
        bytes.extend_from_slice(br#"},"logprobs":null,"finish_reason":"#);
        if is_last {
            bytes.extend_from_slice(quote(self.answer.finish_reason).as_bytes());
        } else {
            bytes.extend_from_slice(b"null");
        }
        bytes.extend_from_slice(self.tail.as_bytes());
    }

    fn append_end(&self, piece: &mut Piece) {
        let eol = if self.style.crlf { "\r\n\r\n" } else { "\n\n" };
        if self.answer.tells_usage {
            let (head, usage) = (chunk_head(&self.answer), self.answer.usage());
            piece
                .bytes
                .extend_from_slice(format!("{head}],\"usage\":{usage}}}{eol}").as_bytes());
            piece.tells_usage = true;
        }
        if !self.style.omit_done {
            piece
                .bytes
                .extend_from_slice(format!("data: [DONE]{eol}").as_bytes());
        }
    }

    /// The members of a round's delta.
    fn delta(&self, round: u64) -> String {
        match (&self.answer.tool, round) {
            (None, _) => {
                let text = if self.answer.tokens == 0 { "" } else { TOKEN };
                let role = if round == 0 {
                    r#""role":"assistant","refusal":null,"#
                } else {
                    ""
                };
                format!(r#"{role}"content":"{text}""#)
            }
            (Some(tool), 0) => format!(
                r#""role":"assistant","content":null,"refusal":null,"tool_calls":[{{"index":0,"id":"{}","type":"function","function":{{"name":{},"arguments":""}}}}]"#,
                self.answer.tool_call_id(),
                quote(tool)
            ),
            (Some(_), 1) => {
                r#""tool_calls":[{"index":0,"function":{"arguments":"{}"}}]"#.to_owned()
            }
            (Some(_), _) => String::new(),
        }
    }

    /// A tool call's tokens do not come one a chunk: its opening counts one, its arguments the rest.
    fn tokens(&self, round: u64) -> u64 {
        let all = self.answer.tokens;
        match (&self.answer.tool, round) {
            (None, _) | (Some(_), 0) => all.min(1),
            (Some(_), 1) => all.saturating_sub(1),
            (Some(_), _) => 0,
        }
    }
}

fn chunk_head(answer: &Answer) -> String {
    format!(
        r#"data: {{"id":"{}","object":"chat.completion.chunk","created":{},"model":{},"service_tier":"default","system_fingerprint":"fp_demo","choices":["#,
        answer.id,
        answer.created,
        quote(&answer.model)
    )
}

/// Opening, arguments, finish reason.
const TOOL_ROUNDS: u64 = 3;
/// Enough for one write, little enough that a slow reader is not counted far ahead.
const FULL_WRITE: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(tokens: u64, choices: u64) -> Answer {
        Answer {
            id: "chatcmpl-1".to_owned(),
            created: 1,
            model: "demo-fast".to_owned(),
            choices,
            tokens,
            prompt_tokens: 3,
            tool: None,
            finish_reason: "stop",
            ending: Ending::Whole,
            tells_usage: true,
        }
    }

    fn play(writer: &mut StreamWriter) -> (String, u64, usize) {
        let (mut text, mut tokens, mut pieces) = (String::new(), 0, 0);
        while let Some(piece) = writer.write_round() {
            text += std::str::from_utf8(&piece.bytes).unwrap();
            tokens += piece.tokens;
            pieces += 1;
        }
        (text, tokens, pieces)
    }

    #[test]
    fn rounds_one_by_one_are_the_same_bytes_as_many_at_once() {
        let style = StreamStyle {
            crlf: true,
            ..StreamStyle::default()
        };
        let (text, tokens, pieces) = play(&mut StreamWriter::new(answer(300, 2), style));
        assert_eq!((tokens, pieces), (600, 300));
        let mut writer = StreamWriter::new(answer(300, 2), style);
        let (mut whole, mut tokens) = (Vec::new(), 0);
        while let Some(piece) = writer.write_many() {
            tokens += piece.tokens;
            whole.extend(piece.bytes);
        }
        assert_eq!(tokens, 600);
        assert_eq!(String::from_utf8(whole).unwrap(), text);
        assert!(writer.is_done());
    }

    #[test]
    fn a_cut_stream_has_neither_finish_reason_nor_usage_nor_done() {
        let cut = Answer {
            ending: Ending::Cut,
            ..answer(5, 1)
        };
        let (text, tokens, _) = play(&mut StreamWriter::new(cut, StreamStyle::default()));
        assert_eq!((tokens, text.matches("data: ").count()), (5, 5));
        assert_eq!(text.matches(r#""finish_reason":null"#).count(), 5);
        assert!(!text.contains("usage") && !text.contains("[DONE]"));
    }

    #[test]
    fn no_tokens_still_make_a_chunk_with_the_finish_reason() {
        let (text, tokens, pieces) =
            play(&mut StreamWriter::new(answer(0, 1), StreamStyle::default()));
        assert_eq!((tokens, pieces), (0, 1));
        assert!(
            text.contains(r#""content":""},"logprobs":null,"finish_reason":"stop""#),
            "{text}"
        );
    }
}
