//! Server-sent events as bytes: where a frame ends, which lines in it are data, and the frame that tells of a failure.
//! The stream side of every dialect reads with it.
//!
//! Lines end with CRLF, LF or CR, also mixed; a frame ends with an empty line. Nothing is decoded or rewritten here,
//! so what is passed on stays the same to the byte.

use bytes::Bytes;
use memchr::memchr2;

/// The longest line that is read, its end not counted.
pub const MAX_LINE: usize = 1 << 20;

/// The longest frame: many lines and no empty one among them.
pub const MAX_FRAME: usize = 4 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    #[error("a line of the stream is longer than 1 MiB")]
    LineTooLong,
    #[error("an event of the stream is longer than 4 MiB")]
    FrameTooLong,
}

/// Finds the ends of frames in bytes that come in pieces.
#[derive(Debug, Default)]
pub struct FrameEnds {
    /// Bytes of the current line so far.
    line: usize,
    /// Bytes of the current frame's lines before the current one.
    lines: usize,
    /// The last byte seen was a CR that ended a line; a LF now still belongs to that end.
    after_carriage_return: bool,
}

impl FrameEnds {
    /// Whether the next byte, if it is a LF, still belongs to the line end before it. Asked once for each piece of the
    /// stream, before the first [`Self::next_end`] on it: it forgets.
    pub fn take_pending_line_feed(&mut self, bytes: &[u8]) -> bool {
        if bytes.is_empty() {
            return false;
        }
        std::mem::take(&mut self.after_carriage_return) && bytes.first() == Some(&b'\n')
    }

    /// How many bytes of `bytes` go to the end of the current frame; `None` if it goes on behind them all.
    pub fn next_end(&mut self, bytes: &[u8]) -> Result<Option<usize>, StreamError> {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let Some(length) = memchr2(b'\n', b'\r', rest) else {
                self.grow_line(rest.len())?;
                return Ok(None);
            };
            self.grow_line(length)?;
            let end = self.line_end(bytes, at + length);
            let blank = self.line == 0;
            self.lines += self.line + 1;
            self.line = 0;
            at = end;
            if blank {
                self.lines = 0;
                return Ok(Some(at));
            }
        }
    }

    fn grow_line(&mut self, by: usize) -> Result<(), StreamError> {
        self.line += by;
        if self.line > MAX_LINE {
            return Err(StreamError::LineTooLong);
        }
        if self.lines + self.line > MAX_FRAME {
            return Err(StreamError::FrameTooLong);
        }
        Ok(())
    }

    /// Behind the line end that begins at `at`.
    fn line_end(&mut self, bytes: &[u8], at: usize) -> usize {
        if bytes.get(at) != Some(&b'\r') {
            return at + 1;
        }
        match bytes.get(at + 1) {
            Some(b'\n') => at + 2,
            Some(_) => at + 1,
            None => {
                self.after_carriage_return = true;
                at + 1
            }
        }
    }
}

/// The `data` lines of one frame.
pub struct DataLines<'a> {
    frame: &'a [u8],
    at: usize,
}

/// What one `data` line says, and where in its frame that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataLine<'a> {
    pub value: &'a [u8],
    pub start: usize,
}

impl<'a> DataLines<'a> {
    pub fn of(frame: &'a [u8]) -> Self {
        Self { frame, at: 0 }
    }
}

impl<'a> Iterator for DataLines<'a> {
    type Item = DataLine<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = self.frame.get(self.at..).filter(|rest| !rest.is_empty())?;
            let start = self.at;
            let length = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
            self.at = start + length + 1;
            if let Some((value, offset)) = rest.get(..length).and_then(data_value) {
                return Some(DataLine {
                    value,
                    start: start + offset,
                });
            }
        }
    }
}

/// The value of a line whose field is `data`, without the one space that may lead it, and its offset.
fn data_value(line: &[u8]) -> Option<(&[u8], usize)> {
    let after = line.strip_prefix(b"data")?;
    if after.is_empty() {
        return Some((after, 4));
    }
    let value = after.strip_prefix(b":")?;
    Some(
        value
            .strip_prefix(b" ")
            .map_or((value, 5), |value| (value, 6)),
    )
}

/// The last frame of a stream that failed: no `[DONE]` follows it. `json` is one JSON document.
pub fn error_frame(json: &str) -> Bytes {
    let mut frame = Vec::with_capacity(json.len() + 8);
    frame.extend_from_slice(b"data: ");
    // Line ends in a document stand between its tokens, where a space says the same.
    frame.extend(json.bytes().map(|byte| {
        if matches!(byte, b'\n' | b'\r') {
            b' '
        } else {
            byte
        }
    }));
    frame.extend_from_slice(b"\n\n");
    Bytes::from(frame)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The frames of a stream that comes in pieces of the given sizes, the last one perhaps unfinished.
    fn split(stream: &[u8], sizes: &[usize]) -> Vec<Vec<u8>> {
        let mut ends = FrameEnds::default();
        let mut frames: Vec<Vec<u8>> = vec![Vec::new()];
        let mut sizes = sizes.iter().cycle();
        let mut rest = stream;
        while !rest.is_empty() {
            let size = (*sizes.next().unwrap()).clamp(1, rest.len());
            let (mut piece, behind) = rest.split_at(size);
            rest = behind;
            if ends.take_pending_line_feed(piece) {
                let finished = frames.len() - 1;
                let owner = if frames[finished].is_empty() && finished > 0 {
                    finished - 1
                } else {
                    finished
                };
                frames[owner].push(b'\n');
                piece = &piece[1..];
            }
            while let Some(end) = ends.next_end(piece).unwrap() {
                frames.last_mut().unwrap().extend_from_slice(&piece[..end]);
                frames.push(Vec::new());
                piece = &piece[end..];
            }
            frames.last_mut().unwrap().extend_from_slice(piece);
        }
        frames
    }

    #[test]
    fn frames_end_with_an_empty_line_of_any_kind() {
        for (stream, frames) in [
            ("a\n\nb\n\n", vec!["a\n\n", "b\n\n", ""]),
            ("a\r\n\r\nb\r\n\r\n", vec!["a\r\n\r\n", "b\r\n\r\n", ""]),
            ("a\r\rb\r\r", vec!["a\r\r", "b\r\r", ""]),
            (
                "a\n\rb\r\n\nc\r\r\nd",
                vec!["a\n\r", "b\r\n\n", "c\r\r\n", "d"],
            ),
            ("\n\r\n: x\n\n", vec!["\n", "\r\n", ": x\n\n", ""]),
        ] {
            for size in 1..=stream.len() {
                assert_eq!(
                    split(stream.as_bytes(), &[size]),
                    frames.iter().map(|f| f.as_bytes()).collect::<Vec<_>>(),
                    "{stream:?} by {size}"
                );
            }
        }
    }

    #[test]
    fn only_data_lines_are_data() {
        let frame = b"event: x\r\ndata: a\rdata:b\n: data: c\ndata\ndatab: d\ndata:  e\n\n";
        let lines: Vec<_> = DataLines::of(frame)
            .map(|line| (line.start, line.value))
            .collect();
        assert_eq!(lines, [(16, &b"a"[..]), (23, b"b"), (39, b""), (55, b" e")]);
        for line in DataLines::of(frame) {
            assert_eq!(
                &frame[line.start..line.start + line.value.len()],
                line.value
            );
        }
    }

    #[test]
    fn lines_and_frames_are_bounded_in_one_piece_and_in_many() {
        let line = vec![b'x'; MAX_LINE];
        for size in [1 << 13, MAX_LINE + 1] {
            let feed = |stream: &[u8]| {
                let mut ends = FrameEnds::default();
                stream
                    .chunks(size)
                    .try_for_each(|piece| ends.next_end(piece).map(drop))
            };
            assert_eq!(feed(&line), Ok(()));
            assert_eq!(feed(&[&line[..], b"\n"].concat()), Ok(()));
            assert_eq!(
                feed(&[&line[..], b"x"].concat()),
                Err(StreamError::LineTooLong)
            );
            assert_eq!(
                feed(&[&line[..], b"\n"].concat().repeat(4)),
                Err(StreamError::FrameTooLong)
            );
        }
    }

    #[test]
    fn an_error_frame_is_one_data_line() {
        assert_eq!(
            &error_frame("{\n\"error\":{}}")[..],
            b"data: { \"error\":{}}\n\n"
        );
    }

    proptest! {
        #[test]
        fn any_pieces_give_the_same_frames(stream in "[a\n\r]{0,40}", sizes in prop::collection::vec(1_usize..6, 1..8)) {
            prop_assert_eq!(split(stream.as_bytes(), &sizes), split(stream.as_bytes(), &[usize::MAX]));
        }
    }
}
