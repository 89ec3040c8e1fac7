//! Connections by the thousand that do nothing, or what they do slowly.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use odock_tests::{
    Stack, Tenant,
    accounting::assert_accounted,
    client::{Gateway, RawAnswer, say},
    keeper,
    stack::Service,
    tenant::{Key, id, token_pricing, unique},
    wait::wait_until,
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

/// Of them a fifth begins a request and does not go on.
const CONNECTIONS: u64 = 10_000;
/// Who asks for a long answer and does not read it.
const UNREAD: usize = 20;
/// SECURITY.md 4.2.
const KIB_EACH: u64 = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_slow_and_deaf_connections_are_bounded_and_do_not_stop_others()
-> anyhow::Result<()> {
    let count = raise_limit()?.saturating_sub(1_000).min(CONNECTIONS);
    let stack = Stack::builder()
        .environment("HTTP_READ_TIMEOUT", "20s")
        .environment("HTTP_IDLE_TIMEOUT", "25s")
        .environment("HTTP_WRITE_TIMEOUT", "3s")
        .start()
        .await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let gateway = stack.gateway(0)?;
    let pid = stack.pid(Service::Gateway(0))?;
    let alone = slowest_but_one(gateway, &key).await?;
    let before = keeper::resident_kib(pid)?;

    let began = Instant::now();
    let opened = stream::iter(0..count).map(|number| open(gateway, number % 5 == 0));
    let opened: Vec<_> = opened.buffer_unordered(100).collect().await;
    let mut held = opened.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "the machine is so slow that the first are over: {:?}",
        began.elapsed()
    );
    let among = slowest_but_one(gateway, &key).await?;
    // Not how fast, which benches say, but that nobody stands still because of them.
    assert!(
        among < alone + Duration::from_secs(2),
        "{among:?} among {count}, {alone:?} alone"
    );
    let grown = keeper::resident_kib(pid)?.saturating_sub(before);
    assert!(
        grown < count * KIB_EACH,
        "{grown} KiB for {count} connections"
    );

    let deaf = deaf(&stack, &tenant).await?;
    slowest_but_one(gateway, &key).await?;
    // Slow heads are told; idle connections end without a word.
    let ends = stream::iter(held.iter_mut()).map(|(socket, slow)| async {
        let mut bytes = Vec::new();
        let read = socket.read_to_end(&mut bytes);
        let closed = tokio::time::timeout(Duration::from_secs(60), read).await;
        let answer = RawAnswer {
            bytes,
            closed: closed.is_ok(),
        };
        (answer, *slow)
    });
    let ends: Vec<_> = ends.buffer_unordered(held_at_once(count)).collect().await;
    for (answer, slow) in ends {
        assert!(answer.closed, "it stays open");
        let expected: &[u16] = if slow { &[408] } else { &[] };
        assert_eq!(answer.statuses(), expected, "{}", answer.text());
    }
    let accounted = assert_accounted(&stack).await?;
    let cut = accounted.with_status("client_closed").len();
    assert_eq!(cut, UNREAD, "answers that nobody read");
    drop(deaf);
    wait_until("descriptors", Duration::from_secs(10), async || {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count();
        anyhow::ensure!(open < 200, "{open} are open");
        Ok(())
    })
    .await
}

async fn open(gateway: &Gateway, slow: bool) -> anyhow::Result<(TcpStream, bool)> {
    let mut socket = TcpStream::connect(gateway.address()).await?;
    if slow {
        let head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Slow: ";
        socket.write_all(head).await?;
    }
    Ok((socket, slow))
}

/// Callers whose sockets take little, and who take nothing out of them.
async fn deaf(stack: &Stack, tenant: &Tenant) -> anyhow::Result<Vec<TcpStream>> {
    let body = json!({
        "name": unique("long"), "slug": "demo-fast@tokens=60000", "type": "chat",
        "pricing": token_pricing(), "provider_id": tenant.provider_id,
        "provider_key_id": tenant.provider_key_id,
        "config": { "context_window": 128_000, "max_output_tokens": 100_000 },
    });
    let model = tenant
        .admin
        .create(&tenant.path("/models?wait=all"), &body)
        .await?;
    let key = tenant.key().await?;
    let grant = json!({ "key_id": key.id, "target": { "type": "model", "id": id(&model)? } });
    tenant
        .admin
        .create(&tenant.path("/grants?wait=all"), &grant)
        .await?;
    let mut call = say(body["name"].as_str().unwrap_or_default(), "hi");
    call["stream"] = true.into();
    let call = call.to_string();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{call}",
        key.secret,
        call.len()
    );
    let mut all = Vec::new();
    for _ in 0..UNREAD {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4_096)?;
        let mut socket = socket.connect(stack.gateway(0)?.address().parse()?).await?;
        socket.write_all(request.as_bytes()).await?;
        all.push(socket);
    }
    Ok(all)
}

/// Of a hundred calls on a connection that is there.
async fn slowest_but_one(gateway: &Gateway, key: &Key) -> anyhow::Result<Duration> {
    let mut took = Vec::new();
    for _ in 0..100 {
        let began = Instant::now();
        gateway
            .chat(&key.secret, &say("demo-fast", "hi"))
            .await?
            .expect(200)?;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    Ok(took.get(98).copied().unwrap_or_default())
}

/// As many descriptors as this process may have; what it starts has them, too.
fn raise_limit() -> anyhow::Result<u64> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Ok(most)
}

fn held_at_once(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
