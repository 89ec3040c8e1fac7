//! A TCP proxy that misbehaves on command: between a service and its store, or between a gateway and its upstream.

use std::{net::SocketAddr, sync::Arc, time::Duration};

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
    /// Connections are closed and new ones refused at once.
    Cut,
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
        if *faults.borrow() == Fault::Cut {
            continue;
        }
        let mut faults = faults.clone();
        tasks.spawn(async move {
            let Ok(server) = TcpStream::connect(target).await else {
                return;
            };
            drop((client.set_nodelay(true), server.set_nodelay(true)));
            let (client_reader, client_writer) = client.into_split();
            let (server_reader, server_writer) = server.into_split();
            tokio::select! {
                () = pass(client_reader, server_writer, faults.clone()) => {}
                () = pass(server_reader, client_writer, faults.clone()) => {}
                _ = faults.wait_for(|fault| *fault == Fault::Cut) => {}
            }
        });
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut faults: watch::Receiver<Fault>) {
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
