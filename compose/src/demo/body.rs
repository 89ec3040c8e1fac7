//! The answer's body as hyper polls it: plays the pieces in time, counts what it hands over in the ledger, and ends whole or cut.
//! Dropped before its end (the caller hung up), the entry in it closes the ledger's row.

use std::{
    collections::VecDeque,
    fmt,
    future::Future as _,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::{
    answer::Ending,
    ledger::{Entry, Outcome},
    stream::{Piece, StreamWriter},
};

/// A body and the ledger entry it belongs to.
pub(super) struct AnswerBody {
    entry: Option<Entry>,
    /// What the row says once the last byte is handed over.
    outcome: Outcome,
    source: Option<StreamSource>,
    ready: VecDeque<Piece>,
    /// The bytes still announced by `Content-Length`.
    announced: Option<u64>,
    ending: Ending,
    chunk_bytes: Option<usize>,
    /// The last piece has to be flushed before the next one.
    flush: bool,
    linger: Option<Pin<Box<Sleep>>>,
}

/// A streamed answer being written.
struct StreamSource {
    writer: StreamWriter,
    gap: Option<Gap>,
}

/// The time between two rounds, kept from the start on so that it does not drift.
struct Gap {
    period: Duration,
    due: Instant,
    timer: Pin<Box<Sleep>>,
}

impl AnswerBody {
    /// A body without a ledger row.
    pub(super) fn plain(bytes: Vec<u8>) -> Self {
        let announced = Some(bytes.len() as u64);
        let piece = Piece {
            bytes,
            tokens: 0,
            tells_usage: false,
        };
        Self {
            ready: VecDeque::from([piece]),
            announced,
            ..Self::empty()
        }
    }

    /// A whole body that ends a row with `outcome`.
    pub(super) fn whole(entry: Entry, piece: Piece, outcome: Outcome) -> Self {
        let announced = Some(piece.bytes.len() as u64);
        let ready = VecDeque::from([piece]);
        Self {
            entry: Some(entry),
            outcome,
            ready,
            announced,
            ..Self::empty()
        }
    }

    /// A beginning of a body of `announced` bytes, after which the socket closes.
    pub(super) fn half(entry: Entry, piece: Piece, announced: u64) -> Self {
        let ready = VecDeque::from([piece]);
        let announced = Some(announced);
        Self {
            entry: Some(entry),
            ready,
            announced,
            ending: Ending::Cut,
            ..Self::empty()
        }
    }

    pub(super) fn stream(
        entry: Entry,
        writer: StreamWriter,
        gap: Duration,
        ending: Ending,
    ) -> Self {
        let gap = (!gap.is_zero()).then(|| {
            let due = Instant::now();
            Gap {
                period: gap,
                due,
                timer: Box::pin(tokio::time::sleep_until(due)),
            }
        });
        let source = Some(StreamSource { writer, gap });
        Self {
            entry: Some(entry),
            source,
            ending,
            ..Self::empty()
        }
    }

    /// Writes in pieces of so many bytes.
    pub(super) fn in_chunks_of(mut self, chunk_bytes: Option<usize>) -> Self {
        self.chunk_bytes = chunk_bytes;
        let ready = std::mem::take(&mut self.ready);
        for piece in ready {
            self.push(piece);
        }
        self
    }

    fn empty() -> Self {
        Self {
            entry: None,
            outcome: Outcome::Completed,
            source: None,
            ready: VecDeque::new(),
            announced: None,
            ending: Ending::Whole,
            chunk_bytes: None,
            flush: false,
            linger: None,
        }
    }

    /// The tokens count with the first part of a piece: never later than the caller can have read them.
    fn push(&mut self, piece: Piece) {
        let Some(size) = self.chunk_bytes else {
            self.ready.push_back(piece);
            return;
        };
        let Piece {
            bytes,
            mut tokens,
            mut tells_usage,
        } = piece;
        for part in bytes.chunks(size) {
            self.ready.push_back(Piece {
                bytes: part.to_vec(),
                tokens,
                tells_usage,
            });
            (tokens, tells_usage) = (0, false);
        }
    }

    /// Fills `ready` from the stream; false when nothing is left.
    fn poll_source(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        let Some(source) = &mut self.source else {
            return Poll::Ready(false);
        };
        let piece = match &mut source.gap {
            None => source.writer.write_many(),
            Some(gap) => {
                ready!(gap.timer.as_mut().poll(context));
                gap.due += gap.period;
                gap.timer.as_mut().reset(gap.due);
                source.writer.write_round()
            }
        };
        if source.writer.is_done() {
            self.source = None;
        }
        if let Some(piece) = piece {
            self.push(piece);
        }
        Poll::Ready(!self.ready.is_empty())
    }

    fn hand_over(&mut self, piece: Piece) -> Bytes {
        self.flush = self.chunk_bytes.is_some();
        if let Some(announced) = &mut self.announced {
            *announced = announced.saturating_sub(piece.bytes.len() as u64);
        }
        let is_last = self.is_exhausted();
        if let Some(entry) = &mut self.entry {
            entry.count(piece.tokens, piece.tells_usage);
            if !is_last {
                entry.note_progress();
            } else if self.ending == Ending::Whole {
                entry.finish(self.outcome);
            }
        }
        Bytes::from(piece.bytes)
    }

    fn is_exhausted(&self) -> bool {
        self.ready.is_empty() && self.source.is_none()
    }

    /// Waits until what was handed over has gone out, for an error drops what hyper still holds.
    fn poll_cut(&mut self, context: &mut Context<'_>) -> Poll<CutShort> {
        let linger = self
            .linger
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
        ready!(linger.as_mut().poll(context));
        if let Some(entry) = &mut self.entry {
            entry.finish(Outcome::Cut);
        }
        Poll::Ready(CutShort)
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = CutShort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        if std::mem::take(&mut self.flush) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.ready.is_empty() && !ready!(self.poll_source(context)) {
            return match self.ending {
                Ending::Whole => Poll::Ready(None),
                Ending::Cut => self.poll_cut(context).map(|cut| Some(Err(cut))),
            };
        }
        let piece = self.ready.pop_front();
        Poll::Ready(piece.map(|piece| Ok(Frame::data(self.hand_over(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_exhausted() && self.ending == Ending::Whole
    }

    fn size_hint(&self) -> SizeHint {
        self.announced
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Makes hyper close the connection (HTTP/1.1) or reset the stream (HTTP/2).
#[derive(Debug)]
pub(super) struct CutShort;

impl fmt::Display for CutShort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer is cut here on purpose")
    }
}

impl std::error::Error for CutShort {}

/// Long enough for the connection's task to flush.
const LINGER: Duration = Duration::from_millis(10);
