//! Clients that hang up anywhere.

use odock_tests::{Stack, accounting::assert_accounted, client::say, tenant::token_pricing};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

#[tokio::test]
async fn line_171_clients_that_hang_up_at_any_byte_are_billed_for_what_was_made()
-> anyhow::Result<()> {
    let stack = Stack::builder().start().await?;
    let mut tenant = stack.tenant().await?;
    tenant
        .add_model("paced", "demo-fast@tokens=30,gap_ms=3", token_pricing())
        .await?;
    let key = tenant.key().await?;
    let budget = tenant.key_budget(&key, 1_000_000_000).await?;
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut received = Vec::new();
    for round in 0..60 {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let mut body = say("paced", "hang up");
        if round % 3 != 0 {
            body["stream"] = true.into();
        }
        // Every sixth hangs up while it still sends its request.
        let bytes = if round % 6 == 5 {
            0
        } else {
            (seed >> 33) as usize % 9_000
        };
        received.push(
            hang_up_after(
                &stack,
                &key.secret,
                &body.to_string(),
                bytes,
                round % 6 == 5,
                seed,
            )
            .await?,
        );
    }
    let accounted = assert_accounted(&stack).await?;
    let closed = accounted.with_status("client_closed");
    assert!(
        closed.len() > 5,
        "{} of {}",
        closed.len(),
        accounted.records.len()
    );
    for (usage_id, tokens) in received.iter().flatten() {
        let record = accounted
            .records
            .iter()
            .find(|record| &record.id == usage_id);
        let output = record.map_or(0, |record| record.output_tokens);
        assert!(
            output >= *tokens,
            "{usage_id}: billed {output}, received {tokens}"
        );
    }
    let window = tenant.reclaimed(&budget).await?;
    assert_eq!((window.settled, window.held), (accounted.cost(), 0));
    Ok(())
}

/// The usage id and the tokens that were received, where so much came back.
async fn hang_up_after(
    stack: &Stack,
    key: &str,
    body: &str,
    bytes: usize,
    in_request: bool,
    seed: u64,
) -> anyhow::Result<Option<(String, u64)>> {
    let mut socket = TcpStream::connect(stack.gateway(0)?.address()).await?;
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    if in_request {
        let part = seed as usize % request.len();
        socket
            .write_all(request.as_bytes().get(..part).unwrap_or_default())
            .await?;
        return Ok(None);
    }
    socket.write_all(request.as_bytes()).await?;
    let mut read = Vec::new();
    let mut chunk = [0; 512];
    while read.len() < bytes {
        let most = chunk.len().min(bytes - read.len());
        let Some(place) = chunk.get_mut(..most) else {
            break;
        };
        let count = socket.read(place).await?;
        if count == 0 {
            break;
        }
        read.extend(chunk.iter().take(count));
        if read.ends_with(b"0\r\n\r\n") || (!body.contains("stream") && read.ends_with(b"}")) {
            break;
        }
    }
    let text = String::from_utf8_lossy(&read);
    let usage_id = text
        .lines()
        .find_map(|line| line.strip_prefix("x-odock-usage-id: "));
    let tokens = text.matches("\"content\":\" a\"").count() as u64;
    Ok(usage_id.map(|usage_id| (usage_id.trim().to_owned(), tokens)))
}
