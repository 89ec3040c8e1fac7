//! A bare socket: for what no HTTP library would send.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::wait::within;

/// What came back until the other side closed, or was silent.
#[derive(Clone, Debug)]
pub struct RawAnswer {
    pub bytes: Vec<u8>,
    pub closed: bool,
}

impl RawAnswer {
    /// The status of each answer in it: an answer too many is a smuggled request.
    pub fn statuses(&self) -> Vec<u16> {
        let text = String::from_utf8_lossy(&self.bytes);
        let lines = text.split("HTTP/1.1 ").skip(1);
        lines
            .filter_map(|line| line.get(..3)?.parse().ok())
            .collect()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// Sends bytes and reads what comes, until the other side closes or has been silent for half a second.
pub async fn exchange(address: &str, bytes: &[u8]) -> anyhow::Result<RawAnswer> {
    let mut socket = within("connect", LONGEST, TcpStream::connect(address)).await??;
    let (mut reader, mut writer) = socket.split();
    // A refusal may come, and the socket close, before all is written.
    let write = async { drop(writer.write_all(bytes).await) };
    let read = async {
        let mut read = Vec::new();
        let mut chunk = vec![0; 65_536];
        let closed = loop {
            let patience = if read.is_empty() { LONGEST } else { SILENCE };
            match tokio::time::timeout(patience, reader.read(&mut chunk)).await {
                Ok(Ok(0) | Err(_)) => break true,
                Ok(Ok(count)) => read.extend(chunk.iter().take(count)),
                Err(_) => break false,
            }
        };
        RawAnswer {
            bytes: read,
            closed,
        }
    };
    let both = async { tokio::join!(write, read).1 };
    within("the exchange", LONGEST * 2, both).await
}

const LONGEST: Duration = Duration::from_secs(15);
const SILENCE: Duration = Duration::from_millis(500);
