//! A TCP proxy that misbehaves on command: between a service and its store, or between a gateway and its upstream.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What happens to every byte that comes through, both ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Each piece waits this long.
    Delay(Duration),
    /// Nothing passes, nothing closes: a network that drops packets.
    Stall,
    /// Connections are closed, and new ones as soon as they are taken.
    Cut,
    /// The same by resets.
    Reset,
    /// The server's side says that it has finished, and hears on.
    HalfClose,
}

impl Fault {
    fn ends_connections(self) -> bool {
        matches!(self, Self::Cut | Self::Reset)
    }
}

/// A running proxy; dropped, all its connections close.
#[derive(Debug)]
pub struct FaultProxy {
    pub address: SocketAddr,
    fault: Arc<watch::Sender<Fault>>,
    stop: CancellationToken,
    _tasks: TaskTracker,
}

impl FaultProxy {
    pub async fn start(target: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let fault = Arc::new(watch::Sender::new(Fault::None));
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (faults, token, tracker) = (fault.subscribe(), stop.clone(), tasks.clone());
        tasks.spawn(async move {
            let accepted = accept(listener, target, faults, &tracker);
            token.run_until_cancelled(accepted).await;
        });
        Ok(Self {
            address,
            fault,
            stop,
            _tasks: tasks,
        })
    }

    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// A URL of the server behind, as it is written for this proxy.
    pub fn instead_of(&self, url: &str) -> anyhow::Result<String> {
        let server = Self::server_of(url)?.to_string();
        Ok(url.replacen(&server, &self.address.to_string(), 1))
    }

    /// Where the server of a URL listens.
    pub fn server_of(url: &str) -> anyhow::Result<SocketAddr> {
        let (_, rest) = url.split_once("://").context("a URL without a scheme")?;
        let authority = rest.split('/').next().unwrap_or_default();
        let address = authority.rsplit('@').next().unwrap_or_default();
        address
            .parse()
            .with_context(|| format!("the address in {authority}"))
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.fault.send_replace(Fault::Cut);
        self.stop.cancel();
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    faults: watch::Receiver<Fault>,
    tasks: &TaskTracker,
) {
    while let Ok((client, _)) = listener.accept().await {
        let now = *faults.borrow();
        if now.ends_connections() {
            close(&client, now);
            continue;
        }
        tasks.spawn(connect(client, target, faults.clone()));
    }
}

async fn connect(client: TcpStream, target: SocketAddr, mut faults: watch::Receiver<Fault>) {
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    drop((client.set_nodelay(true), server.set_nodelay(true)));
    let (mut client_reader, mut client_writer) = client.into_split();
    let (mut server_reader, mut server_writer) = server.into_split();
    let mut until = faults.clone();
    tokio::select! {
        () = pass(&mut client_reader, &mut server_writer, faults.clone()) => {}
        () = answer(&mut server_reader, &mut client_writer, faults.clone()) => {}
        _ = until.wait_for(|fault| fault.ends_connections()) => {}
    }
    let now = *faults.borrow_and_update();
    close(client_reader.as_ref(), now);
    close(server_reader.as_ref(), now);
}

/// Decides how the socket ends when it is dropped.
fn close(socket: &TcpStream, fault: Fault) {
    if fault == Fault::Reset {
        drop(socket.set_zero_linger());
    }
}

/// From the server, until half of the connection is closed; then nothing more passes this way.
async fn answer(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, faults: watch::Receiver<Fault>) {
    let mut until = faults.clone();
    tokio::select! {
        () = pass(from, to, faults) => return,
        _ = until.wait_for(|fault| *fault == Fault::HalfClose) => {}
    }
    drop(to.shutdown().await);
    std::future::pending::<()>().await;
}

async fn pass(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    mut faults: watch::Receiver<Fault>,
) {
    let mut piece = vec![0; 16_384];
    while let Ok(count @ 1..) = from.read(&mut piece).await {
        let now = *faults.borrow_and_update();
        if let Fault::Delay(time) = now {
            tokio::time::sleep(time).await;
        }
        if faults
            .wait_for(|fault| *fault != Fault::Stall)
            .await
            .is_err()
        {
            return;
        }
        if to
            .write_all(piece.get(..count).unwrap_or_default())
            .await
            .is_err()
        {
            return;
        }
    }
}
