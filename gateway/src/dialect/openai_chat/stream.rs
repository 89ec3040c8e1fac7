//! A chat stream on its way to the client: passed on to the byte, except for the model's name and the usage chunk that
//! only we asked for; counted meanwhile. The stream step feeds it each piece the upstream sends.
//!
//! Only whole frames are passed on, so that what ends a broken stream never lands within half an event. A piece that
//! holds whole frames with nothing to change is handed on as the same buffer.

mod chunk;

use std::ops::Range;

use bytes::Bytes;
use odock_events::pricing::ServiceTier;

pub use self::chunk::FinishReason;
use self::chunk::{ChunkFacts, read_chunk};
use super::usage::{ReportedUsage, Usage};
use crate::dialect::{
    json_write::write_string,
    sse::{self, DataLine, DataLines, FrameEnds, StreamError},
};

/// How a stream differs from what the upstream sends.
#[derive(Clone, Debug, Default)]
pub struct StreamOptions {
    /// Otherwise the chunk that carries nothing but usage is withheld.
    pub client_asked_usage: bool,
    /// The model's name for the client; `None` passes the upstream's on.
    pub model_name: Option<String>,
}

/// Reads one stream from its first byte to its last.
pub struct StreamReader {
    withholds_usage: bool,
    /// The model's name as a JSON string.
    model: Option<Vec<u8>>,
    ends: FrameEnds,
    /// The frame that is not whole yet.
    open_frame: Vec<u8>,
    /// Frames read so far, withheld ones too.
    frames: u64,
    last_frame_withheld: bool,
    /// The last bytes passed on do not end a frame.
    open_tail: bool,
    failed: Option<StreamError>,
    summary: StreamSummary,
}

/// What a stream has said so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamSummary {
    /// The last one that could be true: providers that report while they go on report totals.
    pub usage: Option<Usage>,
    /// The tier that serves the call, by the last chunk that named one.
    pub service_tier: Option<ServiceTier>,
    /// The upstream's own id of the call.
    pub id: Option<String>,
    pub finish_reason: Option<FinishReason>,
    /// How many choices have said why they ended.
    pub finished_choices: u64,
    pub done_seen: bool,
    /// A frame with an `error` member that is not null.
    pub error_seen: bool,
    /// Deltas with text in them: one token each with most providers.
    pub text_deltas: u64,
    pub text_bytes: u64,
    /// Frames passed on, whatever they hold.
    pub delivered_frames: u64,
    /// Frames whose data is neither JSON nor `[DONE]`. They are passed on as they are.
    pub unreadable_frames: u64,
}

/// What becomes of a frame.
enum Verdict {
    Pass,
    Withhold,
    /// The value of `model` stands here in the frame, and is not the client's name for it.
    Rename(Range<usize>),
}

impl StreamReader {
    pub fn new(options: StreamOptions) -> Self {
        let model = options.model_name.map(|name| {
            let mut quoted = Vec::with_capacity(name.len() + 2);
            write_string(&mut quoted, &name);
            quoted
        });
        Self {
            withholds_usage: !options.client_asked_usage,
            model,
            ends: FrameEnds::default(),
            open_frame: Vec::new(),
            frames: 0,
            last_frame_withheld: false,
            open_tail: false,
            failed: None,
            summary: StreamSummary::default(),
        }
    }

    /// Takes the next piece and puts what is to go on into `out`: nothing or one buffer. After an error the stream is
    /// over; `out` still gets the whole frames before it.
    pub fn push(&mut self, piece: &Bytes, out: &mut Vec<Bytes>) -> Result<(), StreamError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let mut output = Output {
            piece,
            passed_from: 0,
            built: Vec::new(),
        };
        let mut at = self.take_pending_line_feed(&mut output);
        let result = loop {
            let rest = piece.get(at..).unwrap_or_default();
            match self.ends.next_end(rest) {
                Ok(Some(length)) => {
                    self.end_frame(at..at + length, &mut output);
                    at += length;
                }
                Ok(None) => {
                    self.open_frame.extend_from_slice(rest);
                    break Ok(());
                }
                Err(error) => {
                    self.failed = Some(error);
                    self.open_frame = Vec::new();
                    break Err(error);
                }
            }
        };
        output.finish(at, out);
        result
    }

    /// The upstream has ended the stream. Data that is whole but for the empty line is still passed on; the rest of an
    /// unfinished frame is dropped, as every client does.
    pub fn finish(&mut self, out: &mut Vec<Bytes>) -> &StreamSummary {
        let frame = std::mem::take(&mut self.open_frame);
        if DataLines::of(&frame).next().is_some() {
            let before = self.summary.clone();
            let verdict = self.read_frame(&frame);
            if self.summary.unreadable_frames > before.unreadable_frames {
                self.summary = before;
            } else {
                let mut rest = Vec::new();
                self.write_frame(&frame, &verdict, &mut rest);
                self.open_tail = !rest.is_empty();
                out.extend(self.open_tail.then(|| Bytes::from(rest)));
            }
        }
        &self.summary
    }

    /// The last frame of a stream that failed, apart from what was passed on before it.
    pub fn error_frame(&self, json: &str) -> Bytes {
        let frame = sse::error_frame(json);
        if self.open_tail {
            Bytes::from([b"\n\n", &frame[..]].concat())
        } else {
            frame
        }
    }

    pub fn summary(&self) -> &StreamSummary {
        &self.summary
    }

    /// A LF that belongs to the CR at the end of the piece before goes the way of that CR.
    fn take_pending_line_feed(&mut self, output: &mut Output<'_>) -> usize {
        if !self.ends.take_pending_line_feed(output.piece) {
            return 0;
        }
        if !self.open_frame.is_empty() {
            self.open_frame.push(b'\n');
            output.leave_out(0..1);
        } else if self.last_frame_withheld {
            output.leave_out(0..1);
        }
        1
    }

    /// The current frame ends with `place` of the piece.
    fn end_frame(&mut self, place: Range<usize>, output: &mut Output<'_>) {
        let end_of_frame = output.piece.get(place.clone()).unwrap_or_default();
        if self.open_frame.is_empty() {
            match self.read_frame(end_of_frame) {
                Verdict::Pass => {}
                Verdict::Withhold => output.leave_out(place),
                Verdict::Rename(within) => {
                    let within = place.start + within.start..place.start + within.end;
                    output.replace(within, self.model.as_deref().unwrap_or_default());
                }
            }
            return;
        }
        let mut frame = std::mem::take(&mut self.open_frame);
        frame.extend_from_slice(end_of_frame);
        let verdict = self.read_frame(&frame);
        output.leave_out(place);
        self.write_frame(&frame, &verdict, &mut output.built);
        frame.clear();
        self.open_frame = frame;
    }

    fn write_frame(&self, frame: &[u8], verdict: &Verdict, out: &mut Vec<u8>) {
        match verdict {
            Verdict::Pass => out.extend_from_slice(frame),
            Verdict::Withhold => {}
            Verdict::Rename(place) => {
                out.extend_from_slice(frame.get(..place.start).unwrap_or_default());
                out.extend_from_slice(self.model.as_deref().unwrap_or_default());
                out.extend_from_slice(frame.get(place.end..).unwrap_or_default());
            }
        }
    }

    fn read_frame(&mut self, frame: &[u8]) -> Verdict {
        let first = self.frames == 0;
        self.frames += 1;
        let skipped = if first && frame.starts_with(BYTE_ORDER_MARK) {
            BYTE_ORDER_MARK.len()
        } else {
            0
        };
        let mut lines = DataLines::of(frame.get(skipped..).unwrap_or_default());
        let verdict = match (lines.next(), lines.next()) {
            (None, _) => Verdict::Pass,
            (Some(line), None) => self.read_data(line.value, |place| {
                let start = skipped + line.start;
                start + place.start..start + place.end
            }),
            (Some(first), Some(second)) => {
                let data = JoinedData::of([first, second].into_iter().chain(lines));
                self.read_data(&data.joined, |place| data.place_in_frame(&place, skipped))
            }
        };
        self.last_frame_withheld = matches!(verdict, Verdict::Withhold);
        self.summary.delivered_frames += u64::from(!self.last_frame_withheld);
        verdict
    }

    fn read_data(
        &mut self,
        data: &[u8],
        place_in_frame: impl FnOnce(Range<usize>) -> Range<usize>,
    ) -> Verdict {
        if data.trim_ascii() == b"[DONE]" {
            self.summary.done_seen = true;
            return Verdict::Pass;
        }
        let Ok(facts) = read_chunk(data, self.summary.id.is_none()) else {
            self.summary.unreadable_frames += 1;
            return Verdict::Pass;
        };
        let is_usage_only = facts.is_usage_only();
        let model_place = facts.model.clone();
        self.summary.add(facts);
        if is_usage_only && self.withholds_usage {
            return Verdict::Withhold;
        }
        match (model_place, &self.model) {
            (Some(place), Some(model)) if data.get(place.clone()) != Some(model) => {
                Verdict::Rename(place_in_frame(place))
            }
            (Some(_) | None, _) => Verdict::Pass,
        }
    }
}

impl StreamSummary {
    /// Output tokens for a stream without usage: one for each delta with text, or one for four bytes of it where the
    /// provider puts several tokens into one delta.
    pub fn estimated_output_tokens(&self) -> u64 {
        self.text_deltas.max(self.text_bytes.div_ceil(4))
    }

    fn add(&mut self, facts: ChunkFacts) {
        if let ReportedUsage::Usable(usage) = facts.usage {
            self.usage = Some(usage);
        }
        // The tier may be said before the usage is, in it, or behind it.
        self.service_tier = facts.service_tier.or(self.service_tier);
        if let Some(usage) = &mut self.usage {
            usage.service_tier = self.service_tier;
        }
        self.id = self.id.take().or(facts.id);
        self.finish_reason = facts.finish_reason.or(self.finish_reason);
        self.finished_choices += facts.finished_choices;
        self.error_seen |= facts.is_error;
        self.text_deltas += facts.text_deltas;
        self.text_bytes += facts.text_bytes;
    }
}

/// What goes on of one piece: the piece itself as long as nothing in it changes.
struct Output<'a> {
    piece: &'a Bytes,
    /// Bytes from here on are passed on and not yet in `built`.
    passed_from: usize,
    built: Vec<u8>,
}

impl Output<'_> {
    fn leave_out(&mut self, place: Range<usize>) {
        if place.start > self.passed_from {
            self.copy_until(place.start);
        }
        self.passed_from = place.end;
    }

    fn replace(&mut self, place: Range<usize>, new: &[u8]) {
        self.copy_until(place.start);
        self.built.extend_from_slice(new);
        self.passed_from = place.end;
    }

    fn copy_until(&mut self, end: usize) {
        if self.built.capacity() == 0 {
            self.built.reserve(self.piece.len() + 256);
        }
        let passed = self.piece.get(self.passed_from..end).unwrap_or_default();
        self.built.extend_from_slice(passed);
    }

    /// Nothing from `end` on belongs to a whole frame.
    fn finish(mut self, end: usize, out: &mut Vec<Bytes>) {
        let passed = self.passed_from..end;
        if !self.built.is_empty() {
            self.copy_until(end);
            out.push(Bytes::from(self.built));
        } else if !passed.is_empty() {
            out.push(self.piece.slice(passed));
        }
    }
}

/// Several `data` lines, as the one document they make.
struct JoinedData {
    joined: Vec<u8>,
    /// Where each line begins in `joined` and in the frame.
    lines: Vec<(usize, usize)>,
}

impl JoinedData {
    fn of<'a>(lines: impl Iterator<Item = DataLine<'a>>) -> Self {
        let mut data = Self {
            joined: Vec::new(),
            lines: Vec::new(),
        };
        for line in lines {
            if !data.lines.is_empty() {
                data.joined.push(b'\n');
            }
            data.lines.push((data.joined.len(), line.start));
            data.joined.extend_from_slice(line.value);
        }
        data
    }

    /// A JSON string has no line end in it, so it lies within one line.
    fn place_in_frame(&self, place: &Range<usize>, skipped: usize) -> Range<usize> {
        let line = self
            .lines
            .partition_point(|(joined, _)| *joined <= place.start);
        let (joined, frame) = line
            .checked_sub(1)
            .and_then(|line| self.lines.get(line))
            .copied()
            .unwrap_or_default();
        let start = skipped + frame + (place.start - joined);
        start..start + place.len()
    }
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

#[cfg(test)]
mod tests;
