//! The body of every answer: bytes at hand, or a stream that produces its own frames. Made by the router and
//! `response`, polled by hyper.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::{connection::ActiveCall, unread::Handed};

/// A stream that has already turned every failure into its last frame.
pub type BoxedStream = Pin<Box<dyn Body<Data = Bytes, Error = Infallible> + Send + 'static>>;

pub struct AnswerBody {
    content: Content,
    /// Tells the connection that the answer is on its way out, when hyper drops the body.
    active: Option<ActiveCall>,
    /// Over HTTP/2: whether the client takes it.
    handed: Option<Arc<Handed>>,
}

enum Content {
    Whole(Bytes),
    Stream(BoxedStream),
}

impl AnswerBody {
    #[must_use]
    pub fn whole(bytes: Bytes) -> Self {
        Self {
            content: Content::Whole(bytes),
            active: None,
            handed: None,
        }
    }

    #[must_use]
    pub fn stream(stream: BoxedStream) -> Self {
        Self {
            content: Content::Stream(stream),
            active: None,
            handed: None,
        }
    }

    pub(crate) fn track(&mut self, active: ActiveCall, handed: Option<Arc<Handed>>) {
        self.active = Some(active);
        self.handed = handed;
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let polled = match &mut self.content {
            Content::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Content::Stream(stream) => stream.as_mut().poll_frame(context),
        };
        if let Some(handed) = &self.handed {
            match polled {
                Poll::Ready(_) => handed.over(),
                Poll::Pending => handed.waits_for_more(),
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(bytes) => bytes.is_empty(),
            Content::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Stream(stream) => stream.size_hint(),
        }
    }
}
