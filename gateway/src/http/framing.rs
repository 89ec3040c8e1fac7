//! Watches the bytes of an HTTP/1 connection go by and keeps its own account of where messages begin and end, because
//! the HTTP library silently repairs what two proxies could read differently: `Content-Length` beside
//! `Transfer-Encoding`, repeated lengths, bare line feeds. Fed by `guarded_io`; a pure state machine.

use memchr::memchr;

mod host;

/// What a client did that its request is refused for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Violation {
    /// `Content-Length` together with `Transfer-Encoding`, or either of them twice or unreadable.
    AmbiguousLength = 1,
    /// A line that ends without CR, a folded header, or a CR inside a line.
    MalformedLine = 2,
    HeadTooLarge = 3,
    MalformedChunk = 4,
    /// HTTP/1.1 without `Host`, or one that is there twice or names no host.
    WrongHost = 5,
}

impl Violation {
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        [
            Self::AmbiguousLength,
            Self::MalformedLine,
            Self::HeadTooLarge,
            Self::MalformedChunk,
            Self::WrongHost,
        ]
        .into_iter()
        .find(|violation| *violation as u8 == number)
    }
}

/// Bounds of a header section.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    pub bytes: usize,
    pub fields: usize,
}

pub(crate) struct Framing {
    limits: HeadLimits,
    state: State,
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
    head: Head,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between messages.
    Start,
    Head,
    Body {
        remaining: u64,
    },
    ChunkSize,
    ChunkData {
        remaining: u64,
    },
    Trailers,
    /// HTTP/2, or no longer worth following.
    Opaque,
}

#[derive(Default)]
struct Head {
    bytes: usize,
    fields: usize,
    length: Option<u64>,
    chunked: bool,
    needs_host: bool,
    has_host: bool,
}

impl Framing {
    pub(crate) fn new(limits: HeadLimits) -> Self {
        Self {
            limits,
            state: State::Start,
            partial: Vec::new(),
            head: Head::default(),
        }
    }

    /// Messages are told apart: it is HTTP/1, and in order so far.
    pub(crate) fn is_followed(&self) -> bool {
        self.state != State::Opaque
    }

    /// A header section has begun and is not complete.
    pub(crate) fn in_head(&self) -> bool {
        self.state == State::Head
    }

    /// A message has begun and not all of it has been read.
    pub(crate) fn in_message(&self) -> bool {
        !matches!(self.state, State::Start | State::Opaque)
    }

    /// Takes in the next bytes. After a violation nothing more is followed: the connection is going to be closed.
    pub(crate) fn observe(&mut self, mut bytes: &[u8]) -> Option<Violation> {
        while !bytes.is_empty() {
            let step = match self.state {
                State::Opaque => return None,
                State::Body { remaining } => {
                    self.skip_body(&mut bytes, remaining);
                    Ok(())
                }
                State::ChunkData { remaining } => self.skip_chunk(&mut bytes, remaining),
                State::Start | State::Head | State::ChunkSize | State::Trailers => {
                    self.take_line(&mut bytes)
                }
            };
            if let Err(violation) = step {
                self.state = State::Opaque;
                self.partial = Vec::new();
                return Some(violation);
            }
        }
        None
    }

    fn skip_body(&mut self, bytes: &mut &[u8], remaining: u64) {
        let left = advance(bytes, remaining);
        self.state = if left == 0 {
            State::Start
        } else {
            State::Body { remaining: left }
        };
    }

    /// `remaining` counts the data and the CR LF behind it.
    fn skip_chunk(&mut self, bytes: &mut &[u8], remaining: u64) -> Result<(), Violation> {
        let mut left = advance(bytes, remaining.saturating_sub(2));
        left += remaining.min(2);
        while (1..=2).contains(&left) && !bytes.is_empty() {
            let expected = if left == 2 { b'\r' } else { b'\n' };
            if bytes.first() != Some(&expected) {
                return Err(Violation::MalformedChunk);
            }
            left = advance(bytes, 1) + left - 1;
        }
        self.state = if left == 0 {
            State::ChunkSize
        } else {
            State::ChunkData { remaining: left }
        };
        Ok(())
    }

    fn take_line(&mut self, bytes: &mut &[u8]) -> Result<(), Violation> {
        let end = memchr(b'\n', bytes);
        let (piece, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
        *bytes = rest;
        self.head.bytes += piece.len();
        if self.head.bytes > self.limits.bytes {
            return Err(Violation::HeadTooLarge);
        }
        if self.state == State::Start && piece != b"\r" && piece != b"\n" && piece != b"\r\n" {
            self.state = State::Head;
        }
        if end.is_none() {
            self.partial.extend_from_slice(piece);
            return Ok(());
        }
        if self.partial.is_empty() {
            return self.end_line(piece);
        }
        let mut line = std::mem::take(&mut self.partial);
        line.extend_from_slice(piece);
        let outcome = self.end_line(&line);
        line.clear();
        self.partial = line;
        outcome
    }

    /// `line` ends with LF.
    fn end_line(&mut self, line: &[u8]) -> Result<(), Violation> {
        let Some(line) = line.strip_suffix(b"\r\n") else {
            return Err(Violation::MalformedLine);
        };
        if memchr(b'\r', line).is_some() {
            return Err(Violation::MalformedLine);
        }
        match self.state {
            State::Start => self.head = Head::default(),
            State::Head if self.head.fields == 0 && line == b"PRI * HTTP/2.0" => {
                self.state = State::Opaque;
            }
            State::Head if line.is_empty() => return self.end_head(),
            State::Head => return self.take_field(line),
            State::ChunkSize => {
                let size = chunk_size(line).ok_or(Violation::MalformedChunk)?;
                self.head.bytes = 0;
                self.state = if size == 0 {
                    State::Trailers
                } else {
                    State::ChunkData {
                        remaining: size.saturating_add(2),
                    }
                };
            }
            State::Trailers if line.is_empty() => self.restart(),
            State::Trailers | State::Body { .. } | State::ChunkData { .. } | State::Opaque => {}
        }
        Ok(())
    }

    /// The request line counts as the first field, so that it is told apart from the others.
    fn take_field(&mut self, line: &[u8]) -> Result<(), Violation> {
        self.head.fields += 1;
        if self.head.fields == 1 {
            self.head.needs_host = !line.ends_with(b"HTTP/1.0");
            return Ok(());
        }
        if self.head.fields > self.limits.fields + 1 {
            return Err(Violation::HeadTooLarge);
        }
        match line.first() {
            Some(b' ' | b'\t') => Err(Violation::MalformedLine),
            Some(b'c' | b'C') => self.take_length(line),
            Some(b't' | b'T') => self.take_encoding(line),
            Some(b'h' | b'H') => self.take_host(line),
            Some(_) | None => Ok(()),
        }
    }

    fn take_length(&mut self, line: &[u8]) -> Result<(), Violation> {
        let Some(value) = value_of(line, b"content-length") else {
            return Ok(());
        };
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let length = std::str::from_utf8(value).ok().filter(|_| digits);
        let length = length
            .and_then(|text| text.parse().ok())
            .ok_or(Violation::AmbiguousLength)?;
        if self.head.chunked || self.head.length.replace(length).is_some() {
            return Err(Violation::AmbiguousLength);
        }
        Ok(())
    }

    fn take_encoding(&mut self, line: &[u8]) -> Result<(), Violation> {
        let Some(value) = value_of(line, b"transfer-encoding") else {
            return Ok(());
        };
        let twice = std::mem::replace(&mut self.head.chunked, true);
        if twice || self.head.length.is_some() || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Violation::AmbiguousLength);
        }
        Ok(())
    }

    fn take_host(&mut self, line: &[u8]) -> Result<(), Violation> {
        let Some(value) = value_of(line, b"host") else {
            return Ok(());
        };
        let twice = std::mem::replace(&mut self.head.has_host, true);
        if twice || !host::is_valid(value) {
            return Err(Violation::WrongHost);
        }
        Ok(())
    }

    fn end_head(&mut self) -> Result<(), Violation> {
        if self.head.needs_host && !self.head.has_host {
            return Err(Violation::WrongHost);
        }
        let (chunked, length) = (self.head.chunked, self.head.length);
        self.restart();
        if chunked {
            self.state = State::ChunkSize;
        } else if let Some(remaining) = length.filter(|length| *length > 0) {
            self.state = State::Body { remaining };
        }
        Ok(())
    }

    fn restart(&mut self) {
        self.head = Head::default();
        self.state = State::Start;
    }
}

/// Moves on by at most `count` bytes and returns what is left of `count`.
fn advance(bytes: &mut &[u8], count: u64) -> u64 {
    let step = usize::try_from(count)
        .unwrap_or(usize::MAX)
        .min(bytes.len());
    *bytes = bytes.split_at(step).1;
    count - step as u64
}

/// The trimmed value if the field has this name.
fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (found, rest) = line.split_at_checked(name.len())?;
    if !found.eq_ignore_ascii_case(name) {
        return None;
    }
    rest.trim_ascii_start()
        .strip_prefix(b":")
        .map(<[u8]>::trim_ascii)
}

/// Hexadecimal digits, then nothing or `;` and an extension.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let end = memchr(b';', line).unwrap_or(line.len());
    let digits = line
        .get(..end)
        .filter(|digits| (1..=16).contains(&digits.len()))?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: HeadLimits = HeadLimits {
        bytes: 512,
        fields: 8,
    };

    fn violation_of(bytes: &[u8]) -> Option<Violation> {
        Framing::new(LIMITS).observe(bytes)
    }

    #[test]
    fn what_two_proxies_could_read_differently_is_seen() {
        let ambiguous: &[&str] = &[
            "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length : 3\r\nContent-Length: 4\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n",
        ];
        for text in ambiguous {
            assert_eq!(
                violation_of(text.as_bytes()),
                Some(Violation::AmbiguousLength),
                "{text}"
            );
        }
        for text in [
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\rc\r\n\r\n",
        ] {
            assert_eq!(
                violation_of(text.as_bytes()),
                Some(Violation::MalformedLine),
                "{text}"
            );
        }
        for chunk in [
            "3 \r\n",
            "0x3\r\n",
            "-1\r\n",
            "\r\n",
            "3\n",
            "3\r\nabcd",
            "11111111111111111\r\n",
        ] {
            let text =
                format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}");
            assert!(violation_of(text.as_bytes()).is_some(), "{text}");
        }
    }

    #[test]
    fn http_1_1_names_one_host_and_http_1_0_may() {
        for head in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHosts: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost:\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nhOST: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: a b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        ] {
            assert_eq!(
                violation_of(head.as_bytes()),
                Some(Violation::WrongHost),
                "{head}"
            );
        }
        for head in [
            "GET / HTTP/1.1\r\nHost: a:8080\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
        ] {
            assert_eq!(violation_of(head.as_bytes()), None, "{head}");
        }
    }

    #[test]
    fn a_head_is_bounded_in_bytes_and_fields() {
        let long = format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(600));
        assert_eq!(violation_of(long.as_bytes()), Some(Violation::HeadTooLarge));
        let many = |n: usize| {
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
                "A: b\r\n".repeat(n - 1)
            )
        };
        assert_eq!(
            violation_of(many(9).as_bytes()),
            Some(Violation::HeadTooLarge)
        );
        assert_eq!(violation_of(many(8).as_bytes()), None);
    }

    #[test]
    fn http_2_is_not_looked_into() {
        assert_eq!(
            violation_of(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\n\n\n"),
            None
        );
    }

    proptest! {
        #[test]
        fn messages_are_followed_whatever_the_reads(cuts in proptest::collection::vec(1usize..40, 0..60)) {
            let good = "\r\nPOST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nGET / x\n\n\r\nx\
                POST /b HTTP/1.1\r\nhost : b:1\r\nTransfer-Encoding: Chunked\r\n\r\n5;a=b\r\nhel\nl\r\n1A\r\n01234567890123456789012345\r\n0\r\nT: v\r\n\r\n\
                GET /c HTTP/1.0\r\n\r\n";
            let bad = format!("{good}GET /d HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n");
            for (text, expected) in [(good, None), (bad.as_str(), Some(Violation::AmbiguousLength))] {
                let mut framing = Framing::new(LIMITS);
                let mut rest = text.as_bytes();
                let mut found = None;
                for cut in &cuts {
                    let (piece, tail) = rest.split_at((*cut).min(rest.len()));
                    found = found.or_else(|| framing.observe(piece));
                    rest = tail;
                }
                found = found.or_else(|| framing.observe(rest));
                prop_assert_eq!(found, expected);
                prop_assert_eq!(framing.in_head(), false);
            }
        }
    }
}
