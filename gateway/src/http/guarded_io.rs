//! A client's socket with its timers and its framing watch. hyper sees an ordinary stream; one lazily re-armed timer a
//! connection serves all of header, idle and write time-outs, so that a request costs no timer of its own.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

use super::{
    connection::Connection,
    early_answer,
    framing::{Framing, HeadLimits},
};
use crate::error::Code;

/// How long a client may take. All of them bound silence or slowness of the client, never the length of an answer.
#[derive(Clone, Copy, Debug)]
pub struct ClientTimeouts {
    /// From the first byte of a header section to its last.
    pub head: Duration,
    /// Between calls.
    pub idle: Duration,
    /// Without one byte of an answer being taken.
    pub write: Duration,
}

impl ClientTimeouts {
    fn shortest(&self) -> Duration {
        self.head.min(self.idle).min(self.write)
    }
}

pub(crate) struct GuardedIo<T> {
    inner: T,
    connection: Arc<Connection>,
    framing: Framing,
    timeouts: ClientTimeouts,
    /// The last byte read, or the last time the timer saw a call. Over HTTP/2 only the latter: a client that says
    /// nothing but that it is alive is idle.
    last_active: Instant,
    seen_calls: usize,
    head_since: Option<Instant>,
    blocked_since: Option<Instant>,
    /// Never further away than the shortest time-out, so that no deadline passes unseen.
    timer: Pin<Box<Sleep>>,
    closing: Closing,
}

/// What is left of a refused request is read and forgotten after the answer: closing a socket with unread bytes resets
/// it, and the client would never see why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    No,
    /// hyper gave up on the request.
    Refused,
    Lingering {
        bytes: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expired {
    Head,
    Idle,
    Write,
}

impl<T> GuardedIo<T> {
    pub(crate) fn new(
        inner: T,
        connection: Arc<Connection>,
        limits: HeadLimits,
        timeouts: ClientTimeouts,
    ) -> Self {
        Self {
            inner,
            connection,
            framing: Framing::new(limits),
            timeouts,
            last_active: Instant::now(),
            seen_calls: 0,
            head_since: None,
            blocked_since: None,
            timer: Box::pin(tokio::time::sleep(timeouts.shortest())),
            closing: Closing::No,
        }
    }

    fn took_in(&mut self, bytes: &[u8]) {
        if let Some(violation) = self.framing.observe(bytes) {
            self.connection.set_violation(violation);
        }
        if self.framing.is_followed() {
            self.last_active = Instant::now();
        }
        if self.framing.in_head() {
            self.head_since.get_or_insert(self.last_active);
        } else {
            self.head_since = None;
        }
    }

    /// The deadline that is running, if any: at most one matters at a time for reads, and one for writes.
    fn deadlines(&self) -> [Option<(Instant, Expired)>; 2] {
        let left = self.connection.unread.since();
        let write = self
            .blocked_since
            .into_iter()
            .chain(left)
            .min()
            .map(|since| (since + self.timeouts.write, Expired::Write));
        let read = match self.head_since {
            Some(since) => Some((since + self.timeouts.head, Expired::Head)),
            None if self.connection.active_calls() == 0 => {
                Some((self.last_active + self.timeouts.idle, Expired::Idle))
            }
            None => None,
        };
        [read, write]
    }

    /// Polls the timer; called whenever the socket has nothing for us.
    fn poll_expired(&mut self, context: &mut Context<'_>) -> Poll<Expired> {
        while self.timer.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            let begun = self.connection.begun_calls();
            if self.connection.active_calls() > 0 || begun != self.seen_calls {
                (self.last_active, self.seen_calls) = (now, begun);
            }
            let mut next = now + self.timeouts.shortest();
            for (deadline, expired) in self.deadlines().into_iter().flatten() {
                if deadline <= now {
                    return Poll::Ready(expired);
                }
                next = next.min(deadline);
            }
            self.timer.as_mut().reset(next);
        }
        Poll::Pending
    }
}

impl<T: AsyncWrite + Unpin> GuardedIo<T> {
    /// A client that began a request and did not finish it is told so, if its socket takes it at once.
    fn expire(&mut self, context: &mut Context<'_>, expired: Expired) -> Poll<io::Result<()>> {
        match expired {
            // End of file: hyper closes as if the client had.
            Expired::Idle => return Poll::Ready(Ok(())),
            Expired::Head => {
                let answer = early_answer::render(Code::RequestTimeout);
                let _ = Pin::new(&mut self.inner).poll_write(context, &answer);
            }
            Expired::Write => {}
        }
        Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut)))
    }

    fn settle_write<R>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if outcome.is_ready() {
            self.blocked_since = None;
            return outcome;
        }
        self.blocked_since.get_or_insert_with(Instant::now);
        match self.poll_expired(context) {
            Poll::Ready(_) => Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> GuardedIo<T> {
    /// Reads and forgets until the client closes, the bound is reached, or the time for a header section is over.
    fn poll_linger(&mut self, context: &mut Context<'_>, mut left: usize) -> Poll<io::Result<()>> {
        let mut scratch = [0; 8192];
        while left > 0 {
            if self.timer.as_mut().poll(context).is_ready() {
                break;
            }
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.inner).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    left = left.saturating_sub(buffer.filled().len());
                }
                Poll::Ready(_) => break,
                Poll::Pending => {
                    self.closing = Closing::Lingering { bytes: left };
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for GuardedIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        match Pin::new(&mut this.inner).poll_read(context, buffer) {
            Poll::Ready(Ok(())) => {
                let new = buffer.filled().get(before..).unwrap_or_default();
                if !new.is_empty() {
                    this.took_in(new);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => match this.poll_expired(context) {
                Poll::Ready(expired) => this.expire(context, expired),
                Poll::Pending => Poll::Pending,
            },
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for GuardedIo<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = match early_answer::instead_of(bytes) {
            None => Pin::new(&mut self.inner).poll_write(context, bytes),
            // hyper closes right after it, so what the socket does not take at once is lost with the connection.
            Some(answer) => {
                self.closing = Closing::Refused;
                Pin::new(&mut self.inner)
                    .poll_write(context, &answer)
                    .map_ok(|_| bytes.len())
            }
        };
        self.settle_write(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = bytes {
            return self.poll_write(context, only);
        }
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(context, bytes);
        self.settle_write(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_flush(context);
        self.settle_write(context, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Closing::Lingering { bytes } = self.closing {
            return self.poll_linger(context, bytes);
        }
        let outcome = Pin::new(&mut self.inner).poll_shutdown(context);
        let unread = self.framing.in_message()
            || self.closing == Closing::Refused
            || self.connection.violation().is_some();
        if unread && matches!(outcome, Poll::Ready(Ok(()))) {
            let until = Instant::now() + self.timeouts.head;
            self.timer.as_mut().reset(until);
            return self.poll_linger(context, LINGER);
        }
        self.settle_write(context, outcome)
    }
}

const LINGER: usize = 16 << 20;
