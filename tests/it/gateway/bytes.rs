//! Byte for byte, both ways, except for the fields that must change.

use odock_tests::{
    Stack, Tenant,
    client::Answer,
    tenant::{Key, token_pricing},
};

/// Odd but valid: key order, white space, escapes, unknown members, numbers as written.
const ODD: &str = "{ \"x_unknown\" : {\"b\":1.10,\"a\":[1e2,-0, 3]},\n\t\"messages\":[{\"content\":\"caf\\u00e9 \\ud83d\\ude00 \\/ \\\"q\\\" \u{1F511}\",\"role\":\"user\", \"name\" : \"\"}],  \"max_tokens\" : 7 ,\"model\" :\"demo-fast\",\"temperature\":0.30000000000000004, \"seed\":12345678901234567890 }\r\n";

#[tokio::test]
async fn a_body_whose_model_is_the_slug_reaches_the_upstream_as_it_was_sent() -> anyhow::Result<()>
{
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let answer = stack.gateway(0)?.chat_bytes(&key.secret, ODD).await?;
    answer.expect(200)?;
    let sent = sent_body(&stack, &tenant, &answer).await?;
    assert_eq!(String::from_utf8_lossy(&sent), ODD);
    Ok(())
}

#[tokio::test]
async fn only_the_model_is_replaced_where_name_and_slug_differ() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let mut tenant = stack.tenant().await?;
    tenant
        .add_model("odd \"name\" é", "demo-fast", token_pricing())
        .await?;
    let key = tenant.key().await?;
    let named = ODD.replace("\"demo-fast\"", "\"odd \\\"name\\\" \\u00e9\"");
    let answer = stack.gateway(1)?.chat_bytes(&key.secret, named).await?;
    answer.expect(200)?;
    let sent = sent_body(&stack, &tenant, &answer).await?;
    assert_eq!(String::from_utf8_lossy(&sent), ODD);
    Ok(())
}

#[tokio::test]
async fn a_limit_is_injected_where_a_budget_needs_one_and_nothing_else_changes()
-> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = limited_key(&tenant).await?;
    let open = ODD.replace("\"max_tokens\" : 7 ,", "");
    let answer = stack
        .gateway(0)?
        .chat_bytes(&key.secret, open.clone())
        .await?;
    answer.expect(200)?;
    let sent = sent_body(&stack, &tenant, &answer).await?;
    let parsed: serde_json::Value = serde_json::from_slice(&sent)?;
    let limits = [&parsed["max_tokens"], &parsed["max_completion_tokens"]];
    assert!(limits.iter().any(|limit| **limit == 200), "{parsed}");
    // Taken out again, it is what the client sent.
    let sent = String::from_utf8(sent.to_vec())?;
    let without = [
        ",\"max_tokens\":200",
        ",\"max_completion_tokens\":200",
        "\"max_tokens\":200,",
        "\"max_completion_tokens\":200,",
    ]
    .into_iter()
    .map(|limit| sent.replacen(limit, "", 1));
    assert!(without.clone().any(|body| body == open), "{sent}\n{open}");
    Ok(())
}

#[tokio::test]
async fn usage_is_asked_for_in_a_stream_and_nothing_else_changes() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let body = ODD.replacen('{', "{\"stream\":true,", 1);
    let answer = stack
        .gateway(0)?
        .chat_bytes(&key.secret, body.clone())
        .await?;
    assert_eq!(answer.status, 200);
    let sent = sent_body(&stack, &tenant, &answer).await?;
    let parsed: serde_json::Value = serde_json::from_slice(&sent)?;
    assert_eq!(parsed["stream_options"]["include_usage"], true);
    let sent = String::from_utf8(sent.to_vec())?;
    let option = "\"stream_options\":{\"include_usage\":true}";
    let without =
        [format!(",{option}"), format!("{option},")].map(|option| sent.replacen(&option, "", 1));
    assert!(without.contains(&body), "{sent}\n{body}");
    Ok(())
}

#[tokio::test]
async fn an_answer_comes_back_as_the_upstream_gave_it() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let http = reqwest::Client::builder().no_proxy().build()?;
    let direct = http
        .post(format!("{}/v1/chat/completions", stack.demo.url))
        .bearer_auth(odock_tests::tenant::DEMO_KEY)
        .header("content-type", "application/json")
        .body(ODD)
        .send()
        .await?
        .bytes()
        .await?;
    let through = stack.gateway(0)?.chat_bytes(&key.secret, ODD).await?;
    let (direct, through) = (steady(&direct)?, steady(&through.body)?);
    assert_eq!(direct, through);
    Ok(())
}

#[tokio::test]
async fn of_the_clients_headers_only_the_harmless_ones_go_upstream() -> anyhow::Result<()> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let stack = Stack::shared().await?;
    let mut tenant = stack.tenant().await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/v1", listener.local_addr()?);
    let provider = serde_json::json!({ "type": "custom", "name": "listener", "base_url": url });
    tenant.provider_id = odock_tests::tenant::id(
        &tenant
            .admin
            .create(&tenant.path("/providers"), &provider)
            .await?,
    )?;
    let held = serde_json::json!({ "provider_id": tenant.provider_id, "name": "k", "value": "upstream-secret-1" });
    tenant.provider_key_id = odock_tests::tenant::id(
        &tenant
            .admin
            .create(&tenant.path("/provider-keys"), &held)
            .await?,
    )?;
    tenant
        .add_model("listened", "listened", token_pricing())
        .await?;
    let key = tenant.key().await?;
    let gateway = stack.gateway(0)?.clone();
    let request = gateway
        .chat_request(&key.secret)
        .header("user-agent", "me/1")
        .header("openai-organization", "org-1")
        .header("x-api-key", &key.secret)
        .header("cookie", "a=b")
        .header("x-forwarded-for", "1.2.3.4")
        .header("x-internal-admin", "1")
        .header("connection", "x-hop")
        .header("x-hop", "1");
    let call = gateway.send(request.json(&odock_tests::client::say("listened", "hi")));
    let serve = async {
        let (mut socket, _) = listener.accept().await?;
        let mut seen = Vec::new();
        while !seen.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
            let mut piece = [0; 4096];
            let count = socket.read(&mut piece).await?;
            anyhow::ensure!(count > 0, "closed early");
            seen.extend(piece.iter().take(count));
        }
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}").await?;
        Ok(String::from_utf8_lossy(&seen).to_ascii_lowercase())
    };
    let (answer, seen) = tokio::join!(call, serve);
    assert_eq!(answer?.status, 400);
    let seen = seen?;
    for there in [
        "authorization: bearer upstream-secret-1",
        "user-agent: me/1",
        "openai-organization: org-1",
        "x-client-request-id: att_",
    ] {
        assert!(seen.contains(there), "{there} is not in\n{seen}");
    }
    for never in [
        key.secret.to_ascii_lowercase().as_str(),
        "cookie",
        "x-forwarded-for",
        "x-internal-admin",
        "x-hop",
        "x-api-key",
    ] {
        assert!(!seen.contains(never), "{never} is in\n{seen}");
    }
    Ok(())
}

/// The request as the upstream got it.
async fn sent_body(
    stack: &Stack,
    tenant: &Tenant,
    answer: &Answer,
) -> anyhow::Result<bytes::Bytes> {
    let record = tenant
        .usage(answer.header("x-odock-usage-id").unwrap_or_default())
        .await?;
    let attempt = record["attempts"][0]["id"].as_str().unwrap_or_default();
    let row = stack.demo.row_of(attempt).await?;
    stack.demo.body(row.seq).await
}

async fn limited_key(tenant: &Tenant) -> anyhow::Result<Key> {
    let key = tenant.key().await?;
    tenant.key_budget(&key, 1_000_000_000).await?;
    Ok(key)
}

/// An answer's text without its id and time.
fn steady(body: &[u8]) -> anyhow::Result<String> {
    let mut text = String::from_utf8(body.to_vec())?;
    let parsed: serde_json::Value = serde_json::from_str(&text)?;
    text = text.replace(parsed["id"].as_str().unwrap_or("-"), "ID");
    Ok(text.replace(&parsed["created"].to_string(), "CREATED"))
}
