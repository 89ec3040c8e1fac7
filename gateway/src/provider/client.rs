//! Calls upstreams: one pooled client for all of them, a deadline for each phase, no redirects, no decompression.
//! `pipeline` makes one call for each attempt and learns from [`UpstreamFailure`] what the caller is told.

use std::{error::Error, path::Path, pin::Pin, sync::Arc, time::Duration};

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, Client},
    rt::TokioTimer,
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::{
    address::AddressRule,
    connector::{ConnectError, Connector},
};
use crate::{error::Code, shutdown::TrackedExecutor};

/// How long an upstream may take, and how much it may say. The time to the first byte is the provider's own.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamLimits {
    pub connect: Duration,
    /// Between two pieces of an answer.
    pub idle: Duration,
    /// Of an answer that is read whole.
    pub answer_bytes: usize,
}

/// Why there is no answer, or no whole one.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamFailure {
    /// Nothing of the request left the gateway.
    #[error("no connection to the provider")]
    Unreachable(#[source] Box<dyn Error + Send + Sync>),
    #[error("the provider's address is not allowed")]
    AddressRefused,
    /// Nothing of the request left the gateway.
    #[error("connecting to the provider took longer than {} ms", .0.as_millis())]
    ConnectTimeout(Duration),
    #[error("the provider was silent for {} ms", .0.as_millis())]
    Timeout(Duration),
    #[error("the provider's answer broke off")]
    Broken(#[source] Box<dyn Error + Send + Sync>),
    #[error("the provider's answer is larger than {0} bytes")]
    TooLarge(usize),
}

impl UpstreamFailure {
    /// What the caller is told.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Unreachable(_) => Code::UpstreamUnreachable,
            Self::AddressRefused => Code::ProviderNotAllowed,
            Self::ConnectTimeout(_) | Self::Timeout(_) => Code::UpstreamTimeout,
            Self::Broken(_) | Self::TooLarge(_) => Code::UpstreamError,
        }
    }
}

pub struct UpstreamClient {
    client: Client<HttpsConnector<Connector>, Full<Bytes>>,
    limits: UpstreamLimits,
}

impl UpstreamClient {
    /// A client that trusts the compiled-in roots and, if given, the certificates in `extra_roots`.
    pub fn new(
        limits: UpstreamLimits,
        rule: AddressRule,
        extra_roots: Option<&Path>,
        tracker: TaskTracker,
    ) -> anyhow::Result<Self> {
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls_config(extra_roots)?)
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(Connector {
                rule,
                timeout: limits.connect,
            });
        let client = Client::builder(TrackedExecutor(tracker))
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(POOL_SIZE)
            .http2_keep_alive_interval(HTTP2_PING)
            .http2_adaptive_window(true)
            .build(connector);
        Ok(Self { client, limits })
    }

    /// Sends a request and waits for the head of the answer. Redirects are answers like any other.
    pub async fn send(
        &self,
        request: Request<Full<Bytes>>,
        first_byte: Duration,
    ) -> Result<Response<Incoming>, UpstreamFailure> {
        match tokio::time::timeout(first_byte, self.client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(classify(error)),
            Err(_) => Err(UpstreamFailure::Timeout(first_byte)),
        }
    }

    /// The whole of an answer that is not a stream.
    pub async fn read_whole<B>(&self, body: B) -> Result<Bytes, UpstreamFailure>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        read_whole(body, self.limits).await
    }

    /// The longest silence between two pieces of a stream.
    #[must_use]
    pub fn idle(&self) -> Duration {
        self.limits.idle
    }
}

async fn read_whole<B>(mut body: B, limits: UpstreamLimits) -> Result<Bytes, UpstreamFailure>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut silence = Silence::new(limits.idle);
    while let Some(frame) = silence.next(&mut body).await? {
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let total = data.len()
            + if rest.is_empty() {
                first.len()
            } else {
                rest.len()
            };
        if total > limits.answer_bytes {
            return Err(UpstreamFailure::TooLarge(limits.answer_bytes));
        }
        if first.is_empty() {
            first = data;
            continue;
        }
        if rest.is_empty() {
            let expected = usize::try_from(body.size_hint().lower()).unwrap_or(0);
            rest.reserve((total + expected).min(limits.answer_bytes));
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

/// Waits for the pieces of an upstream's body, with one lazily re-armed timer for all of them.
pub(crate) struct Silence {
    longest: Duration,
    last_piece: Option<Instant>,
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Silence {
    pub(crate) fn new(longest: Duration) -> Self {
        Self {
            longest,
            last_piece: None,
            timer: None,
        }
    }

    pub(crate) async fn next<B>(
        &mut self,
        body: &mut B,
    ) -> Result<Option<http_body::Frame<Bytes>>, UpstreamFailure>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        std::future::poll_fn(|context| self.poll_next(body, context)).await
    }

    pub(crate) fn poll_next<B>(
        &mut self,
        body: &mut B,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<Option<http_body::Frame<Bytes>>, UpstreamFailure>>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        use std::task::Poll;
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(context) {
            self.last_piece = None;
            let frame = frame.transpose();
            return Poll::Ready(frame.map_err(|error| UpstreamFailure::Broken(error.into())));
        }
        // The silence begins when we first find nothing; the timer may be older and is then moved on.
        let since = *self.last_piece.get_or_insert_with(Instant::now);
        let longest = self.longest;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(since + longest)));
        while timer.as_mut().poll(context).is_ready() {
            if Instant::now() >= since + longest {
                return Poll::Ready(Err(UpstreamFailure::Timeout(longest)));
            }
            timer.as_mut().reset(since + longest);
        }
        Poll::Pending
    }
}

fn classify(error: legacy::Error) -> UpstreamFailure {
    if !error.is_connect() {
        return UpstreamFailure::Broken(error.into());
    }
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(current) = cause {
        match current.downcast_ref::<ConnectError>() {
            Some(ConnectError::PrivateAddress) => return UpstreamFailure::AddressRefused,
            Some(ConnectError::Timeout(after)) => return UpstreamFailure::ConnectTimeout(*after),
            Some(ConnectError::NoHost | ConnectError::Resolve(_) | ConnectError::Connect(_))
            | None => {}
        }
        cause = current.source();
    }
    UpstreamFailure::Unreachable(error.into())
}

fn tls_config(extra_roots: Option<&Path>) -> anyhow::Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if let Some(path) = extra_roots {
        let unreadable = || format!("UPSTREAM_CA_FILE {} does not read", path.display());
        for certificate in CertificateDer::pem_file_iter(path).with_context(unreadable)? {
            roots
                .add(certificate.with_context(unreadable)?)
                .with_context(unreadable)?;
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

const POOL_IDLE: Duration = Duration::from_secs(50);
const POOL_SIZE: usize = 1024;
const HTTP2_PING: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests;
