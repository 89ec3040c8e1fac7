//! HTTP/2 as an attacker speaks it: what it does is bounded, its connection ends, and others do not notice.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use odock_tests::{
    Stack, Tenant,
    accounting::assert_accounted,
    client::{
        http2::{
            CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, FrameReader, GOAWAY, HEADERS,
            INITIAL_WINDOW_SIZE, PING, RST_STREAM, RawHttp2, SETTINGS, WINDOW_UPDATE, fields,
            frame, remembered, request,
        },
        say,
    },
    keeper,
    stack::Service,
    tenant::Key,
    wait::{wait_until, within},
};
use tokio::sync::Mutex;

#[tokio::test]
async fn a_flood_of_resets_ends_its_connection_and_no_other() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let RawHttp2 {
        mut reader,
        mut writer,
    } = bench.connect(&[]).await?;
    let bearer = format!("Bearer {}", bench.key.secret);
    let head = request("GET", "/v1/models", &[("authorization", &bearer)]);
    let flood = async {
        let mut sent = 0;
        for number in 0..50_000_u32 {
            let stream = number * 2 + 1;
            let mut both = frame(HEADERS, END_STREAM | END_HEADERS, stream, &head);
            both.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
            if writer.write(&both).await.is_err() {
                break;
            }
            sent += 1;
        }
        sent
    };
    let (sent, frames, others) = tokio::join!(flood, reader.rest(), bench.others());
    others?;
    assert!(sent < 50_000, "it took all of them");
    assert_eq!(bench.last_words(&frames?), Some(ENHANCE_YOUR_CALM));
    bench.unharmed().await
}

#[tokio::test]
async fn a_header_section_without_end_is_cut_off() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    // Each piece is small, so that only their number or sum can be refused; then nothing but empty ones.
    for piece in [fields(&[("a", "b")]).repeat(100), Vec::new()] {
        let RawHttp2 {
            mut reader,
            mut writer,
        } = bench.connect(&[]).await?;
        let head = request("GET", "/v1/health", &[]);
        let flood = async {
            writer.frame(HEADERS, END_STREAM, 1, &head).await?;
            let mut sent = 0_u32;
            while sent < 100_000 && writer.frame(CONTINUATION, 0, 1, &piece).await.is_ok() {
                sent += 1;
            }
            anyhow::Ok(sent)
        };
        let (sent, frames, others) = tokio::join!(flood, reader.rest(), bench.others());
        others?;
        assert!(sent? < 100_000, "it took all of them");
        frames?;
    }
    // One that simply does not go on.
    let mut slow = bench.connect(&[]).await?;
    let head = request("GET", "/v1/health", &[]);
    slow.writer.frame(HEADERS, END_STREAM, 1, &head).await?;
    let ended = within("its end", Duration::from_secs(10), slow.reader.rest());
    ended.await??;
    bench.unharmed().await
}

#[tokio::test]
async fn more_streams_and_larger_heads_than_are_taken_are_refused() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    // As many calls at a time as a client likes: all of them unfinished.
    let RawHttp2 {
        mut reader,
        mut writer,
    } = bench.connect(&[]).await?;
    let bearer = format!("Bearer {}", bench.key.secret);
    let head = request(
        "POST",
        "/v1/chat/completions",
        &[("authorization", &bearer)],
    );
    let open = async {
        for number in 0..2_000_u32 {
            let sent = writer.frame(HEADERS, END_HEADERS, number * 2 + 1, &head);
            if sent.await.is_err() {
                break;
            }
        }
    };
    let (frames, (), others) = tokio::join!(reader.rest(), open, bench.others());
    others?;
    let frames = frames?;
    // Refused beyond the 256 that were offered; those were told that their body did not come, or the whole ended.
    let answered = frames.iter().filter(|frame| frame.kind == HEADERS).count();
    assert!(answered <= 256, "{answered} were served at a time");
    let refused = frames.iter().filter(|frame| frame.kind == RST_STREAM);
    assert!(
        refused.count() > 0 || bench.last_words(&frames).is_some(),
        "none was refused"
    );
    assert_eq!(bench.stack.demo.rows(0).await?.len(), bench.called());

    // Headers that are many, long, or short on the wire and long when they are read.
    let long = "b".repeat(15_000);
    let (first, again) = remembered("x-bomb", &"x".repeat(3_000));
    for (what, block) in [
        ("many", request("GET", "/v1/health", &[("x-a", "b"); 150])),
        ("long", request("GET", "/v1/health", &[("x-a", &*long); 2])),
        (
            "a bomb",
            [request("GET", "/v1/health", &[]), first, vec![again; 8_000]].concat(),
        ),
    ] {
        let mut client = bench.connect(&[]).await?;
        let pieces: Vec<&[u8]> = block.chunks(16_000).collect();
        for (number, piece) in pieces.iter().enumerate() {
            let kind = if number == 0 { HEADERS } else { CONTINUATION };
            let last = if number + 1 == pieces.len() {
                END_HEADERS
            } else {
                0
            };
            let end = if number == 0 { END_STREAM } else { 0 };
            let sent = client.writer.frame(kind, last | end, 1, piece);
            if sent.await.is_err() {
                break;
            }
        }
        let answer = wait_for_answer(&mut client.reader).await?;
        assert!(
            answer.as_ref().is_none_or(|frame| frame.kind == GOAWAY
                || frame.kind == RST_STREAM
                || status(frame) == Some("431")),
            "{what}: {answer:?}"
        );
        bench.others().await?;
    }
    bench.unharmed().await
}

#[tokio::test]
async fn who_opens_no_window_for_an_answer_is_hung_up_on_and_its_money_is_free()
-> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let budget = bench.tenant.key_budget(&bench.key, 1_000_000_000).await?;
    let bearer = format!("Bearer {}", bench.key.secret);
    for (model, stream) in [
        ("demo-slow", true),
        ("demo-fast", true),
        ("demo-fast", false),
    ] {
        let mut body = say(model, "hi");
        body["stream"] = stream.into();
        let mut client = bench.connect(&[(INITIAL_WINDOW_SIZE, 0)]).await?;
        let head = [
            ("authorization", &*bearer),
            ("content-type", "application/json"),
        ];
        let head = request("POST", "/v1/chat/completions", &head);
        client.writer.frame(HEADERS, END_HEADERS, 1, &head).await?;
        let body = serde_json::to_vec(&body)?;
        client.writer.frame(DATA, END_STREAM, 1, &body).await?;
        let frames = lively(client)
            .await
            .with_context(|| format!("{model}, stream: {stream}"))?;
        assert!(
            !frames
                .iter()
                .any(|frame| frame.kind == DATA && !frame.payload.is_empty()),
            "data without a window"
        );
        bench.others().await?;
    }
    bench.unharmed().await?;
    let window = bench.tenant.reclaimed(&budget).await?;
    assert_eq!(window.held, 0, "{window:?}");
    let rows = bench.stack.demo.rows(0).await?;
    let slow = rows.iter().find(|row| row.model == "demo-slow");
    let slow = slow.context("the slow call")?;
    assert_eq!(slow.outcome, "client_closed", "{slow:?}");
    Ok(())
}

#[tokio::test]
async fn floods_of_what_is_no_request_are_bounded() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let settings: Vec<u8> = [0, 4, 0, 0, 0xff, 0xff].to_vec();
    for (what, one) in [
        ("pings", frame(PING, 0, 0, &[7; 8])),
        ("settings", frame(SETTINGS, 0, 0, &settings)),
        ("windows", frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())),
        ("empty data", frame(DATA, 0, 1, b"")),
        ("a frame too large", frame(DATA, 0, 1, &vec![0; 20_000])),
    ] {
        // It never reads what it is answered.
        let RawHttp2 {
            reader: _unread,
            mut writer,
        } = bench.connect(&[]).await?;
        let many = one.repeat(1_000);
        let flood = async {
            for _ in 0..200 {
                let sent = tokio::time::timeout(Duration::from_secs(5), writer.write(&many));
                if !matches!(sent.await, Ok(Ok(()))) {
                    break;
                }
            }
        };
        let ((), others) = tokio::join!(flood, bench.others());
        others.with_context(|| what.to_owned())?;
    }
    bench.unharmed().await
}

/// A gateway with short patience, a caller that uses it well, and how much memory it had.
struct Bench {
    stack: Stack,
    tenant: Tenant,
    key: Key,
    honest: Key,
    before: u64,
    called: std::sync::atomic::AtomicUsize,
}

impl Bench {
    async fn new() -> anyhow::Result<Self> {
        let stack = Stack::builder()
            .environment("HTTP_READ_TIMEOUT", "2s")
            .environment("HTTP_BODY_TIMEOUT", "2s")
            .environment("HTTP_WRITE_TIMEOUT", "2s")
            .environment("HTTP_IDLE_TIMEOUT", "3s")
            .start()
            .await?;
        let tenant = stack.tenant().await?;
        let bench = Self {
            key: tenant.key().await?,
            honest: tenant.key().await?,
            before: keeper::resident_kib(stack.pid(Service::Gateway(0))?)?,
            called: 0.into(),
            tenant,
            stack,
        };
        bench.others().await?;
        Ok(bench)
    }

    async fn connect(&self, settings: &[(u16, u32)]) -> anyhow::Result<RawHttp2> {
        RawHttp2::connect(self.stack.gateway(0)?.address(), settings).await
    }

    /// Calls of somebody else meanwhile.
    async fn others(&self) -> anyhow::Result<()> {
        for _ in 0..20 {
            let began = Instant::now();
            let answer = self
                .stack
                .gateway(0)?
                .chat(&self.honest.secret, &say("demo-fast", "hi"))
                .await?;
            answer.expect(200)?;
            self.called
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let took = began.elapsed();
            anyhow::ensure!(took < Duration::from_secs(1), "another waited {took:?}");
        }
        Ok(())
    }

    fn called(&self) -> usize {
        self.called.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// The reason of the last GOAWAY.
    #[expect(clippy::unused_self, reason = "it reads as what the bench saw")]
    fn last_words(&self, frames: &[Frame]) -> Option<u32> {
        let goaway = frames.iter().rfind(|frame| frame.kind == GOAWAY)?;
        let code = goaway.payload.get(4..8)?;
        Some(u32::from_be_bytes(code.try_into().ok()?))
    }

    /// The same process, with about the memory it had, and books that agree.
    async fn unharmed(&self) -> anyhow::Result<()> {
        let pid = self.stack.pid(Service::Gateway(0))?;
        wait_until("memory", Duration::from_secs(5), async || {
            let now = keeper::resident_kib(pid)?;
            anyhow::ensure!(
                now < self.before + GROWTH_KIB,
                "{} to {now} KiB",
                self.before
            );
            Ok(())
        })
        .await?;
        self.others().await?;
        assert_accounted(&self.stack).await?;
        Ok(())
    }
}

/// Reads to the end of a connection that is kept busy, and answers what asks whether it is alive.
async fn lively(client: RawHttp2) -> anyhow::Result<Vec<Frame>> {
    let RawHttp2 { mut reader, writer } = client;
    let writer = Mutex::new(writer);
    let busy = async {
        for number in 1_u64.. {
            let number = number.to_be_bytes();
            if writer
                .lock()
                .await
                .frame(PING, 0, 0, &number)
                .await
                .is_err()
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        std::future::pending::<()>().await;
    };
    let read = async {
        let mut all = Vec::new();
        while let Some(frame) = reader.next().await? {
            if frame.kind == PING && frame.flags & ACK == 0 {
                drop(
                    writer
                        .lock()
                        .await
                        .frame(PING, ACK, 0, &frame.payload)
                        .await,
                );
            }
            all.push(frame);
        }
        anyhow::Ok(all)
    };
    tokio::select! {
        frames = within("its end", Duration::from_secs(12), read) => frames?,
        () = busy => Ok(Vec::new()),
    }
}

/// The first frame that says something about the request.
async fn wait_for_answer(reader: &mut FrameReader) -> anyhow::Result<Option<Frame>> {
    while let Some(frame) = reader.next().await? {
        if matches!(frame.kind, HEADERS | RST_STREAM | GOAWAY) {
            return Ok(Some(frame));
        }
    }
    Ok(None)
}

/// The status of an answer, when it is none of those with a short form: three digits by Huffman's code.
fn status(frame: &Frame) -> Option<&'static str> {
    // `:status` by its index, then two or three bytes of text.
    let block = &frame.payload;
    let value = match block.as_slice() {
        [0x08 | 0x48, length, rest @ ..] => rest.get(..usize::from(length & 0x7f))?,
        _ => return None,
    };
    [("431", &HUFFMAN_431[..]), ("431", b"431")]
        .into_iter()
        .find_map(|(status, bytes)| (bytes == value).then_some(status))
}

/// 4 is 011010, 3 is 011001, 1 is 00001; ones fill the byte.
const HUFFMAN_431: [u8; 3] = [0b0110_1001, 0b1001_0000, 0b1111_1111];
const ACK: u8 = 1;
const ENHANCE_YOUR_CALM: u32 = 11;
const GROWTH_KIB: u64 = 96 * 1024;
