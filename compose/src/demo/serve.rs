//! The demo upstream's sockets: accepts, serves HTTP/1.1 and HTTP/2 (prior knowledge), and lets go at shutdown.
//! Called by `demo::run`.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::{rt::TokioIo, server::conn::auto};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::routes::{self, Demo};

/// Binds with a backlog that takes a burst of a thousand callers.
pub(super) fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

/// Serves until `shutdown`, then a second longer for what is running.
pub(super) async fn serve(listener: TcpListener, demo: Arc<Demo>, shutdown: CancellationToken) {
    let tasks = TaskTracker::new();
    let abort = CancellationToken::new();
    let builder = build_protocol(tasks.clone());
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection =
                    serve_connection(builder.clone(), stream, demo.clone(), shutdown.clone());
                tasks.spawn(abort.clone().run_until_cancelled_owned(connection));
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(GRACE, tasks.wait()).await.is_err() {
        demo.ledger().stop();
        abort.cancel();
        // HTTP/2 streams run in tasks of their own, which end with their connection.
        if tokio::time::timeout(GRACE, tasks.wait()).await.is_err() {
            tracing::warn!(calls = tasks.len(), "calls did not end at shutdown");
        }
    }
}

async fn serve_connection(
    builder: auto::Builder<TrackedExecutor>,
    stream: TcpStream,
    demo: Arc<Demo>,
    shutdown: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "connection was gone before it was served");
        return;
    }
    let service = service_fn(move |request| routes::answer(demo.clone(), request));
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "connection ended early");
    }
}

fn build_protocol(tasks: TaskTracker) -> auto::Builder<TrackedExecutor> {
    let mut builder = auto::Builder::new(TrackedExecutor(tasks));
    // No timer closes an idle connection: callers' pools are not what is tested here.
    builder
        .http1()
        .header_read_timeout(None)
        .max_buf_size(HTTP1_BUFFER);
    builder
        .http2()
        .max_concurrent_streams(MAX_HTTP2_STREAMS)
        .adaptive_window(true);
    builder
}

/// Runs hyper's HTTP/2 streams under our tracker.
#[derive(Clone)]
struct TrackedExecutor(TaskTracker);

impl<F> hyper::rt::Executor<F> for TrackedExecutor
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

const BACKLOG: u32 = 4096;
const GRACE: Duration = Duration::from_secs(1);
/// Out of file descriptors: give the running calls time to free some.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// Small, so that what a caller who does not read has been counted for is nearly what was written.
const HTTP1_BUFFER: usize = 64 * 1024;
const MAX_HTTP2_STREAMS: u32 = 4096;
