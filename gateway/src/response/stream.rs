//! A streamed answer on its way to the caller: pieces of the upstream pass through the dialect's reader, the call is
//! finished when the stream has said its last, and what goes wrong becomes the last frame. Made by `response`.

use std::{
    collections::VecDeque,
    convert::Infallible,
    ops::ControlFlow,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame};
use odock_events::payload::usage::{AttemptOutcome, UsageStatus};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::{
    dialect::openai_chat::stream::{StreamReader, StreamSummary},
    error::{Code, Dialect, GatewayError},
    pipeline::{
        call::ending_of,
        live::LiveCall,
        open_call::OpenCall,
        record::{Ending, Produced},
        reserve::refused,
    },
    provider::client::{Silence, UpstreamFailure},
    telemetry::metrics::Metrics,
};

mod top_up;

use self::top_up::TopUp;
pub(crate) use self::top_up::TopUps;

pub(crate) struct AnswerStream<B> {
    upstream: B,
    silence: Silence,
    reader: StreamReader,
    metrics: Arc<Metrics>,
    began: Instant,
    /// `None` once the call is finished.
    call: Option<OpenCall>,
    choices: u64,
    upstream_status: u16,
    out: VecDeque<Bytes>,
    ended: bool,
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
    live: LiveCall,
    marked: Mark,
    /// Under an elastic budget.
    top_ups: Option<Box<TopUps>>,
}

/// The last progress mark.
struct Mark {
    at: Instant,
    output: u64,
}

/// What a stream is made of.
pub(crate) struct StreamParts<B> {
    pub(crate) upstream: B,
    pub(crate) upstream_status: u16,
    pub(crate) silence: Silence,
    pub(crate) reader: StreamReader,
    pub(crate) call: OpenCall,
    pub(crate) choices: u64,
    pub(crate) top_ups: Option<Box<TopUps>>,
    /// Cancelled when the gateway can wait no longer.
    pub(crate) shutdown: CancellationToken,
    pub(crate) live: LiveCall,
    pub(crate) metrics: Arc<Metrics>,
}

impl<B> AnswerStream<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    pub(crate) fn new(parts: StreamParts<B>) -> Self {
        Self {
            upstream: parts.upstream,
            silence: parts.silence,
            reader: parts.reader,
            metrics: parts.metrics,
            began: Instant::now(),
            call: Some(parts.call),
            choices: parts.choices,
            upstream_status: parts.upstream_status,
            out: VecDeque::new(),
            ended: false,
            shutdown: Box::pin(parts.shutdown.cancelled_owned()),
            live: parts.live,
            marked: Mark {
                at: Instant::now(),
                output: 0,
            },
            top_ups: parts.top_ups,
        }
    }

    /// Takes the next piece of the upstream, or its end.
    fn poll_upstream(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.live.poll_cut(context).is_ready() {
            self.fail_cut(Code::ApiKeyRevoked);
            return Poll::Ready(());
        }
        if self.shutdown.as_mut().poll(context).is_ready() {
            self.fail_cut(Code::ShuttingDown);
            return Poll::Ready(());
        }
        if ready!(self.poll_top_up(context)).is_break() {
            return Poll::Ready(());
        }
        match ready!(self.silence.poll_next(&mut self.upstream, context)) {
            Ok(Some(frame)) => {
                if let Ok(piece) = frame.into_data() {
                    self.take_in(&piece);
                }
            }
            Ok(None) => self.end(),
            Err(failure) => self.fail(&GatewayError::from(failure.code()), &failure),
        }
        Poll::Ready(())
    }

    /// Money for what comes next, under an elastic budget. Broken off, the stream has ended.
    fn poll_top_up(&mut self, context: &mut Context<'_>) -> Poll<ControlFlow<()>> {
        let (Some(top_ups), Some(call)) = (&mut self.top_ups, &mut self.call) else {
            return Poll::Ready(ControlFlow::Continue(()));
        };
        let produced = self.reader.summary().estimated_output_tokens();
        let error = match ready!(top_ups.poll(produced, context)) {
            TopUp::Nothing => return Poll::Ready(ControlFlow::Continue(())),
            TopUp::Taken(more) => match call.top_up(more) {
                Ok(()) => return Poll::Ready(ControlFlow::Continue(())),
                Err(error) => GatewayError::from(Code::JournalUnavailable).with_cause(error),
            },
            TopUp::Refused(refusal) => {
                let said = format!("the stream was cut after about {produced} tokens of output");
                refused(&self.metrics, *refusal, call.now(), |_| said)
            }
        };
        self.last_words(&error);
        self.finish(UsageStatus::ClientClosed, AttemptOutcome::ClientClosed);
        self.ended = true;
        Poll::Ready(ControlFlow::Break(()))
    }

    fn take_in(&mut self, piece: &Bytes) {
        let mut out = Vec::with_capacity(1);
        let read = self.reader.push(piece, &mut out);
        self.out.extend(out);
        self.note_progress();
        if let Err(error) = read {
            let failure = UpstreamFailure::Broken(error.into());
            self.fail(&GatewayError::from(Code::UpstreamError), &failure);
        } else if self.reader.summary().done_seen {
            // Finished before the caller can know it and hang up.
            self.conclude();
        }
    }

    fn note_progress(&mut self) {
        let Some(call) = &mut self.call else { return };
        let summary = self.reader.summary();
        call.produced(produced(summary));
        let output = summary.estimated_output_tokens();
        let due =
            output >= self.marked.output + MARK_TOKENS || self.marked.at.elapsed() >= MARK_EVERY;
        if due && output > self.marked.output {
            call.mark();
            self.marked = Mark {
                at: Instant::now(),
                output,
            };
        }
    }

    /// The upstream closed the stream: whole, or in the middle.
    fn end(&mut self) {
        let mut out = Vec::new();
        self.reader.finish(&mut out);
        self.out.extend(out);
        let summary = self.reader.summary();
        if summary.done_seen || summary.finished_choices >= self.choices {
            self.conclude();
        } else if self.call.is_some() {
            let failure = UpstreamFailure::Broken("the stream ended without its end".into());
            self.fail(&GatewayError::from(Code::UpstreamError), &failure);
        }
        self.ended = true;
    }

    fn conclude(&mut self) {
        let failed = self.reader.summary().error_seen;
        let (status, outcome) = if failed {
            (UsageStatus::UpstreamError, AttemptOutcome::UpstreamError)
        } else {
            (UsageStatus::Completed, AttemptOutcome::Success)
        };
        self.finish(status, outcome);
    }

    fn fail_cut(&mut self, code: Code) {
        self.ended = true;
        if self.call.is_some() {
            self.last_words(&GatewayError::from(code));
        }
        // The gateway hung up on the upstream, as a caller would have.
        self.finish(UsageStatus::ClientClosed, AttemptOutcome::ClientClosed);
    }

    fn fail(&mut self, error: &GatewayError, failure: &UpstreamFailure) {
        if self.call.is_some() {
            tracing::warn!(code = error.code().name(), cause = %failure, "stream failed");
            self.last_words(error);
        }
        let ending = ending_of(
            failure,
            Some(self.upstream_status),
            produced(self.reader.summary()),
        );
        self.finish(ending.status, ending.outcome);
        self.ended = true;
    }

    fn last_words(&mut self, error: &GatewayError) {
        let body = error.body(Dialect::OpenAi);
        self.out.push_back(
            self.reader
                .error_frame(std::str::from_utf8(&body).unwrap_or_default()),
        );
    }

    fn finish(&mut self, status: UsageStatus, outcome: AttemptOutcome) {
        let Some(call) = self.call.take() else { return };
        self.metrics.streamed(self.began.elapsed());
        let summary = self.reader.summary();
        call.finish(Ending {
            status,
            outcome,
            upstream_status: Some(self.upstream_status),
            http_status: self.upstream_status,
            produced: produced(summary),
            provider_request_id: summary.id.clone(),
        });
    }
}

/// An error frame before any text, and no usage: the upstream failed, nothing is billed.
fn produced(summary: &StreamSummary) -> Produced {
    match summary.usage {
        Some(usage) => Produced::Reported(usage),
        None if summary.error_seen && summary.text_deltas == 0 => Produced::Nothing,
        None => Produced::Counted {
            output: summary.estimated_output_tokens(),
        },
    }
}

impl<B> Body for AnswerStream<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            if let Some(bytes) = self.out.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            ready!(self.poll_upstream(context));
        }
    }
}

const MARK_TOKENS: u64 = 256;
const MARK_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

#[cfg(test)]
mod tests;
