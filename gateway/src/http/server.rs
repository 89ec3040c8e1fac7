//! The accept loop: one task a connection, HTTP/1.1 or HTTP/2 as the client begins, TLS when configured, caps, and a
//! drain at shutdown. It never ends because of what a client or the kernel does. Started by `startup`.

use std::{
    convert::Infallible, io, net::SocketAddr, panic::AssertUnwindSafe, sync::Arc, time::Duration,
};

use futures_util::FutureExt as _;
use http::{HeaderValue, Request, Response, Version, header};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use super::{
    body::AnswerBody,
    connection::{Connection, ConnectionCaps, OpenConnections, Place},
    early_answer,
    framing::{HeadLimits, Violation},
    guarded_io::{ClientTimeouts, GuardedIo},
    request_id,
};
use crate::{
    error::{Code, Dialect, GatewayError},
    shutdown::{Shutdown, TrackedExecutor},
};

/// What a client connection may do.
#[derive(Clone, Copy, Debug)]
pub struct TransportSettings {
    pub timeouts: ClientTimeouts,
    pub head: HeadLimits,
    pub caps: ConnectionCaps,
}

/// Answers requests. Implemented for functions; the gateway's is `http::router::answer`.
pub trait Handler: Clone + Send + Sync + 'static {
    type Answer: Future<Output = Response<AnswerBody>> + Send + 'static;

    fn call(&self, request: Request<Incoming>, connection: Arc<Connection>) -> Self::Answer;
}

impl<H, F> Handler for H
where
    H: Fn(Request<Incoming>, Arc<Connection>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<AnswerBody>> + Send + 'static,
{
    type Answer = F;

    fn call(&self, request: Request<Incoming>, connection: Arc<Connection>) -> F {
        self(request, connection)
    }
}

/// Accepts until `shutdown.stop`; the connections live on in `shutdown.tracker`.
pub async fn serve<H: Handler>(
    listener: TcpListener,
    settings: TransportSettings,
    tls: Option<TlsAcceptor>,
    handler: H,
    shutdown: Shutdown,
) {
    let server = Arc::new(Server {
        builder: builder(&settings, &shutdown),
        open: OpenConnections::new(settings.caps),
        settings,
        tls,
        handler,
        shutdown,
    });
    loop {
        let accepted = tokio::select! {
            biased;
            () = server.shutdown.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => server.admit(socket, peer),
            Err(error) => recover(&error).await,
        }
    }
}

/// A reset before `accept` is the client's affair; out of descriptors or memory needs a moment.
async fn recover(error: &io::Error) {
    let transient = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    );
    if !transient {
        tracing::warn!(%error, "cannot accept connections for a moment");
        tokio::time::sleep(ACCEPT_BACKOFF).await;
    }
}

struct Server<H> {
    builder: auto::Builder<TrackedExecutor>,
    settings: TransportSettings,
    tls: Option<TlsAcceptor>,
    open: Arc<OpenConnections>,
    handler: H,
    shutdown: Shutdown,
}

impl<H: Handler> Server<H> {
    fn admit(self: &Arc<Self>, socket: TcpStream, peer: SocketAddr) {
        let Some(place) = self.open.admit(peer.ip()) else {
            refuse(&socket, self.tls.is_some());
            return;
        };
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        let server = Arc::clone(self);
        self.shutdown
            .tracker
            .spawn(server.converse(socket, peer, place));
    }

    async fn converse(self: Arc<Self>, socket: TcpStream, peer: SocketAddr, place: Place) {
        let _place = place;
        match &self.tls {
            None => self.drive(socket, peer).await,
            Some(acceptor) => {
                let handshake = acceptor.accept(socket);
                match tokio::time::timeout(self.settings.timeouts.head, handshake).await {
                    Ok(Ok(socket)) => self.drive(socket, peer).await,
                    Ok(Err(error)) => tracing::debug!(%error, "tls handshake failed"),
                    Err(_) => tracing::debug!("tls handshake timed out"),
                }
            }
        }
    }

    async fn drive<T>(&self, socket: T, peer: SocketAddr)
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let connection = Connection::new(peer);
        let settings = &self.settings;
        let io = GuardedIo::new(
            socket,
            Arc::clone(&connection),
            settings.head,
            settings.timeouts,
        );
        let handler = self.handler.clone();
        let limits = settings.head;
        let service = service_fn(move |request| answer(&handler, request, &connection, limits));
        let mut running = std::pin::pin!(self.builder.serve_connection(TokioIo::new(io), service));
        let outcome = tokio::select! {
            biased;
            outcome = running.as_mut() => outcome,
            () = self.shutdown.stop.cancelled() => {
                running.as_mut().graceful_shutdown();
                tokio::select! {
                    biased;
                    outcome = running.as_mut() => outcome,
                    () = self.shutdown.kill.cancelled() => return,
                }
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "connection ended");
        }
    }
}

fn answer<H: Handler>(
    handler: &H,
    request: Request<Incoming>,
    connection: &Arc<Connection>,
    limits: HeadLimits,
) -> impl Future<Output = Result<Response<AnswerBody>, Infallible>> + use<H> {
    let active = connection.begin_call();
    let http2 = request.version() == Version::HTTP_2;
    // Of HTTP/1 the framing watch counts the fields, of HTTP/2 the library bounds only their sum.
    let too_many = || http2 && request.headers().len() > limits.fields;
    let violation = connection.violation();
    let refused = violation
        .or_else(|| too_many().then_some(Violation::HeadTooLarge))
        .map(refusal);
    // On the heap: hyper moves what this returns into its connection, and a call's future is large.
    let call = refused
        .is_none()
        .then(|| Box::pin(handler.call(request, Arc::clone(connection))));
    let watched = http2.then(|| Arc::clone(connection));
    async move {
        let mut response = match (call, refused) {
            (Some(call), _) => AssertUnwindSafe(call)
                .catch_unwind()
                .await
                .unwrap_or_else(|_| panicked()),
            (None, Some(response)) => response,
            (None, None) => refusal(Violation::MalformedLine),
        };
        let handed = watched.map(|connection| connection.unread.watch());
        response.body_mut().track(active, handed);
        Ok(response)
    }
}

/// The answer to a request whose bytes were not in order. Nothing after them on this connection can be trusted.
fn refusal(violation: Violation) -> Response<AnswerBody> {
    let error = match violation {
        Violation::AmbiguousLength => {
            GatewayError::new(Code::InvalidRequest, "the length of the body is ambiguous")
        }
        Violation::MalformedLine => {
            GatewayError::new(Code::InvalidRequest, "a header line is malformed")
        }
        Violation::MalformedChunk => {
            GatewayError::new(Code::InvalidRequest, "a chunk of the body is malformed")
        }
        Violation::WrongHost => {
            GatewayError::new(Code::InvalidRequest, "exactly one valid Host is needed")
        }
        Violation::HeadTooLarge => GatewayError::from(Code::HeadersTooLarge),
    };
    let mut response = error.to_response(Dialect::OpenAi);
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    headers.insert(request_id::HEADER, request_id::fresh(uuid::Uuid::now_v7()));
    response
}

fn panicked() -> Response<AnswerBody> {
    tracing::error!(code = Code::InternalError.name(), "a call panicked");
    let mut response = GatewayError::from(Code::InternalError).to_response(Dialect::OpenAi);
    let label = request_id::fresh(uuid::Uuid::now_v7());
    response.headers_mut().insert(request_id::HEADER, label);
    response
}

/// Says why, if the socket takes it at once; a TLS client would not understand it.
fn refuse(socket: &TcpStream, tls: bool) {
    tracing::warn!("a cap on connections is reached");
    if !tls {
        let _ = socket.try_write(&early_answer::render(Code::Overloaded));
    }
}

fn builder(settings: &TransportSettings, shutdown: &Shutdown) -> auto::Builder<TrackedExecutor> {
    let mut builder = auto::Builder::new(TrackedExecutor(shutdown.tracker.clone()));
    builder
        .http1()
        .timer(TokioTimer::new())
        // `GuardedIo` times header sections: hyper's timer would also count idle time, and close without a word.
        .header_read_timeout(None)
        .max_buf_size(READ_BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(settings.head.bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(HTTP2_STREAMS)
        .max_pending_accept_reset_streams(HTTP2_RESETS)
        .keep_alive_interval(settings.timeouts.idle)
        .keep_alive_timeout(settings.timeouts.head);
    builder
}

const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);
/// hyper's bound on a header section and its read-ahead on bodies.
const READ_BUFFER: usize = 64 * 1024;
const HTTP2_STREAMS: u32 = 256;
const HTTP2_RESETS: usize = 32;

#[cfg(test)]
mod tests;
