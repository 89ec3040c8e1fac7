//! HTTP/2 frame by frame, without TLS: for what no HTTP library would send.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use crate::wait::within;

/// A connection whose client is the test.
#[derive(Debug)]
pub struct RawHttp2 {
    pub reader: FrameReader,
    pub writer: FrameWriter,
}

#[derive(Debug)]
pub struct FrameReader(OwnedReadHalf);

#[derive(Debug)]
pub struct FrameWriter(OwnedWriteHalf);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
/// Flags of `HEADERS` and `DATA`.
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
/// A setting.
pub const INITIAL_WINDOW_SIZE: u16 = 4;

impl RawHttp2 {
    /// Sends the preface and these settings.
    pub async fn connect(address: &str, settings: &[(u16, u32)]) -> anyhow::Result<Self> {
        let socket = within("connect", LONGEST, TcpStream::connect(address)).await??;
        socket.set_nodelay(true)?;
        let (reader, writer) = socket.into_split();
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend(name.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        let mut writer = FrameWriter(writer);
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
        writer.frame(SETTINGS, 0, 0, &payload).await?;
        Ok(Self {
            reader: FrameReader(reader),
            writer,
        })
    }
}

impl FrameWriter {
    pub async fn frame(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
    ) -> io::Result<()> {
        self.write(&frame(kind, flags, stream, payload)).await
    }

    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await
    }
}

impl FrameReader {
    /// The next frame; `None` when the server has closed.
    pub async fn next(&mut self) -> anyhow::Result<Option<Frame>> {
        let mut head = [0; 9];
        if within("a frame", LONGEST, self.0.read_exact(&mut head))
            .await?
            .is_err()
        {
            return Ok(None);
        }
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        if self.0.read_exact(&mut payload).await.is_err() {
            return Ok(None);
        }
        Ok(Some(Frame {
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
            payload,
        }))
    }

    /// Reads to the end of the connection: how many frames of each kind came.
    pub async fn rest(&mut self) -> anyhow::Result<Vec<Frame>> {
        let mut all = Vec::new();
        while let Some(frame) = self.next().await? {
            all.push(frame);
        }
        Ok(all)
    }
}

/// One frame as it is sent.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
    let mut bytes = vec![a, b, c, kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A header block of these fields, none of them remembered by the other side.
pub fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0x00);
        text(&mut block, name);
        text(&mut block, value);
    }
    block
}

/// A field that the other side remembers, under index 62, and how it is named again.
pub fn remembered(name: &str, value: &str) -> (Vec<u8>, u8) {
    let mut block = vec![0x40];
    text(&mut block, name);
    text(&mut block, value);
    (block, 0x80 | 0x3e)
}

/// The head of a request.
pub fn request(method: &str, path: &str, others: &[(&str, &str)]) -> Vec<u8> {
    let mut all = vec![
        (":method", method),
        (":scheme", "http"),
        (":path", path),
        (":authority", "x"),
    ];
    all.extend_from_slice(others);
    fields(&all)
}

fn text(block: &mut Vec<u8>, text: &str) {
    let mut length = text.len();
    if length < 0x7f {
        block.push(length as u8);
    } else {
        block.push(0x7f);
        length -= 0x7f;
        while length >= 0x80 {
            block.push((length % 0x80) as u8 | 0x80);
            length /= 0x80;
        }
        block.push(length as u8);
    }
    block.extend_from_slice(text.as_bytes());
}

const LONGEST: Duration = Duration::from_secs(20);
