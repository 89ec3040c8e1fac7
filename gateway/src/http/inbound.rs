//! Reads a request's body: bounded in size, and in how slowly it may come. Called by the endpoints that take one.

use std::{future::Future as _, pin::Pin, task::Poll, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body::Body;
use tokio::time::{Instant, Sleep};

use crate::error::{Code, GatewayError};

/// What a body may be.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    pub bytes: usize,
    /// Longest silence between two pieces.
    pub idle: Duration,
    /// Bytes a second, counted after the first `idle`.
    pub least_rate: u64,
}

/// Only uncompressed JSON is read: nothing is inflated, so nothing can be inflated without bound.
pub(crate) fn check_media_type(headers: &HeaderMap) -> Result<(), GatewayError> {
    let encoded = headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|value| value != "identity");
    let json = headers.get(header::CONTENT_TYPE).is_none_or(|value| {
        let essence = value
            .as_bytes()
            .split(|byte| *byte == b';')
            .next()
            .unwrap_or_default();
        essence
            .trim_ascii()
            .eq_ignore_ascii_case(b"application/json")
    });
    if encoded || !json {
        return Err(GatewayError::from(Code::UnsupportedMediaType));
    }
    Ok(())
}

/// The whole body. A body that arrived in one piece is handed on without a copy.
pub(crate) async fn read_body<B>(mut body: B, limits: BodyLimits) -> Result<Bytes, GatewayError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let too_large = || GatewayError::from(Code::RequestTooLarge);
    if body.size_hint().lower() > limits.bytes as u64 {
        return Err(too_large());
    }
    let mut pace = Pace::new(limits);
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = pace.next(&mut body).await? {
        let Ok(data) = frame.into_data() else {
            continue;
        };
        pace.received += data.len() as u64;
        if pace.received > limits.bytes as u64 {
            return Err(too_large());
        }
        if first.is_empty() {
            first = data;
            continue;
        }
        if rest.is_empty() {
            let expected = usize::try_from(body.size_hint().lower()).unwrap_or(0);
            rest.reserve(first.len() + data.len() + expected.min(limits.bytes));
            rest.extend_from_slice(&first);
        }
        rest.extend_from_slice(&data);
    }
    Ok(if rest.is_empty() {
        first
    } else {
        rest.freeze()
    })
}

struct Pace {
    limits: BodyLimits,
    received: u64,
    /// Made when the body first makes us wait, which most never do.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Pace {
    fn new(limits: BodyLimits) -> Self {
        Self {
            limits,
            received: 0,
            waiting: None,
        }
    }

    async fn next<B>(
        &mut self,
        body: &mut B,
    ) -> Result<Option<http_body::Frame<Bytes>>, GatewayError>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut armed = false;
        std::future::poll_fn(|context| {
            if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(context) {
                return Poll::Ready(frame.transpose().map_err(|error| {
                    GatewayError::new(Code::InvalidRequest, "the body broke off or is malformed")
                        .with_cause(error)
                }));
            }
            if !armed {
                self.arm();
                armed = true;
            }
            let late = self
                .waiting
                .as_mut()
                .is_some_and(|(_, sleep)| sleep.as_mut().poll(context).is_ready());
            if late {
                return Poll::Ready(Err(GatewayError::from(Code::RequestTimeout)));
            }
            Poll::Pending
        })
        .await
    }

    /// The next deadline: a silence too long, or the moment at which the rate so far becomes too low.
    fn arm(&mut self) {
        let now = Instant::now();
        let silence = now + self.limits.idle;
        let earned = Duration::from_millis(
            self.received.saturating_mul(1000) / self.limits.least_rate.max(1),
        );
        match &mut self.waiting {
            None => self.waiting = Some((now, Box::pin(tokio::time::sleep_until(silence)))),
            Some((began, sleep)) => {
                let slow = *began + self.limits.idle + earned;
                sleep.as_mut().reset(silence.min(slow));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{StreamExt as _, stream};
    use http::HeaderValue;
    use http_body::Frame;
    use http_body_util::{BodyExt as _, Full, StreamBody};

    use super::*;

    const LIMITS: BodyLimits = BodyLimits {
        bytes: 100,
        idle: Duration::from_millis(200),
        least_rate: 100,
    };

    fn pieces(
        count: usize,
        size: usize,
        gap: Duration,
    ) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        let pieces = stream::iter(0..count).then(move |_| async move {
            tokio::time::sleep(gap).await;
            Ok(Frame::data(Bytes::from(vec![b'x'; size])))
        });
        StreamBody::new(Box::pin(pieces))
    }

    #[tokio::test]
    async fn one_piece_is_not_copied() {
        let bytes = Bytes::from_static(b"{}");
        let read = read_body(Full::new(bytes.clone()), LIMITS).await.unwrap();
        assert_eq!(read.as_ptr(), bytes.as_ptr());
    }

    #[tokio::test]
    async fn a_body_is_bounded_in_size_silence_and_slowness() {
        let code = |outcome: Result<Bytes, GatewayError>| outcome.unwrap_err().code();
        let large = pieces(11, 10, Duration::ZERO);
        assert_eq!(code(read_body(large, LIMITS).await), Code::RequestTooLarge);
        let announced = Full::new(Bytes::from(vec![0; 101])).boxed();
        assert_eq!(
            code(read_body(announced, LIMITS).await),
            Code::RequestTooLarge
        );
        let silent = pieces(2, 10, Duration::from_millis(400));
        assert_eq!(code(read_body(silent, LIMITS).await), Code::RequestTimeout);
        let trickle = pieces(50, 1, Duration::from_millis(40));
        assert_eq!(code(read_body(trickle, LIMITS).await), Code::RequestTimeout);
        let steady = pieces(9, 10, Duration::from_millis(20));
        assert_eq!(read_body(steady, LIMITS).await.unwrap().len(), 90);
    }

    #[test]
    fn only_plain_json_is_taken() {
        for (name, value, fine) in [
            ("content-type", "application/json", true),
            ("content-type", "Application/JSON; charset=utf-8", true),
            ("content-type", "text/plain", false),
            ("content-encoding", "gzip", false),
            ("content-encoding", "identity", true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            assert_eq!(check_media_type(&headers).is_ok(), fine, "{name}: {value}");
        }
    }
}
