//! Requests that no honest client sends: smuggling, broken framing, slow and endless ones.

use odock_tests::{
    Stack,
    client::{exchange, say},
};

#[tokio::test]
async fn nothing_is_smuggled_past_the_framing() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let address = stack.gateway(0)?.address().to_owned();
    let start = "POST /v1/keys/validate HTTP/1.1\r\nHost: x\r\n";
    let inner = "GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n";
    for (what, request) in [
        (
            "length and chunked",
            format!(
                "{start}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}"
            ),
        ),
        (
            "two lengths that differ",
            format!("{start}Content-Length: 0\r\nContent-Length: 40\r\n\r\n{inner}"),
        ),
        (
            "two lengths in one",
            format!("{start}Content-Length: 0, 40\r\n\r\n{inner}"),
        ),
        (
            "a length that is none",
            format!("{start}Content-Length: +4\r\n\r\nabcd{inner}"),
        ),
        (
            "chunked twice",
            format!(
                "{start}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}"
            ),
        ),
        (
            "chunked but not last",
            format!("{start}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{inner}"),
        ),
        (
            "an unknown coding",
            format!("{start}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{inner}"),
        ),
        (
            "a folded header",
            format!("{start}X-A: 1\r\n 2\r\nContent-Length: 0\r\n\r\n{inner}"),
        ),
        (
            "a space before the colon",
            format!("{start}Content-Length : 0\r\n\r\n{inner}"),
        ),
        (
            "a bare line feed and a NUL in a value",
            format!("{start}X-A: 1\0\r\nContent-Length: 0\r\n\r\n{inner}"),
        ),
        (
            "a carriage return in a value",
            format!("{start}X-A: 1\r2\r\nContent-Length: 0\r\n\r\n{inner}"),
        ),
        ("no Host", format!("GET /v1/health HTTP/1.1\r\n\r\n{inner}")),
        (
            "two Hosts",
            format!("{start}Host: x\r\nContent-Length: 0\r\n\r\n{inner}"),
        ),
        (
            "a Host that is none",
            format!("GET /v1/health HTTP/1.1\r\nHost: x/y\r\n\r\n{inner}"),
        ),
        (
            "a bad chunk size",
            format!("{start}Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n{inner}"),
        ),
        (
            "a chunk size that overflows",
            format!(
                "{start}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc\r\n0\r\n\r\n{inner}"
            ),
        ),
    ] {
        let answer = exchange(&address, request.as_bytes()).await?;
        let statuses = answer.statuses();
        assert!(
            statuses.len() <= 1,
            "{what}: the request behind it was answered: {}",
            answer.text()
        );
        assert!(
            statuses
                .first()
                .is_none_or(|status| (400..500).contains(status)),
            "{what}: {}",
            answer.text()
        );
        assert!(
            answer.closed,
            "{what}: the connection stays open: {}",
            answer.text()
        );
    }
    stack.gateway(0)?.get("/v1/health").await?.expect(200)?;
    Ok(())
}

#[tokio::test]
async fn neither_absolute_targets_nor_double_slashes_reach_another_route() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let address = stack.gateway(0)?.address().to_owned();
    for target in [
        "//v1/models",
        "/v1//models",
        "/v1/models/",
        "/V1/models",
        "/v1/%6dodels",
        "/v1/health/../models",
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let statuses = exchange(&address, request.as_bytes()).await?.statuses();
        assert!(
            matches!(statuses.as_slice(), [404 | 400 | 401]),
            "{target}: {statuses:?}"
        );
    }
    let request = "GET http://elsewhere/v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let statuses = exchange(&address, request.as_bytes()).await?.statuses();
    assert!(matches!(statuses.as_slice(), [400 | 401]), "{statuses:?}");
    Ok(())
}

#[tokio::test]
async fn a_request_cannot_choose_the_upstream_or_its_key() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let gateway = stack.gateway(0)?;
    let mut body = say("demo-fast", "hi");
    for (name, value) in [
        ("api_base", "http://127.0.0.1:9"),
        ("base_url", "http://127.0.0.1:9"),
        ("api_key", "x"),
        ("provider", "evil"),
    ] {
        body[name] = value.into();
    }
    // Passed on as unknown members, and without any effect of ours.
    let request = gateway
        .request(
            reqwest::Method::POST,
            "/v1/chat/completions?api_base=http://127.0.0.1:9",
        )
        .bearer_auth(&key.secret)
        .header("x-odock-base-url", "http://127.0.0.1:9");
    let answer = gateway.send(request.json(&body)).await?;
    answer.expect(200)?;
    let record = tenant
        .usage(answer.header("x-odock-usage-id").unwrap_or_default())
        .await?;
    let row = stack
        .demo
        .row_of(record["attempts"][0]["id"].as_str().unwrap_or_default())
        .await?;
    let sent: serde_json::Value = serde_json::from_slice(&stack.demo.body(row.seq).await?)?;
    assert_eq!(sent, body);
    Ok(())
}

#[tokio::test]
async fn http_1_1_without_one_valid_host_is_answered_400() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let address = stack.gateway(0)?.address().to_owned();
    for (head, status) in [
        ("GET /v1/health HTTP/1.1\r\nConnection: close\r\n", 400),
        (
            "GET /v1/health HTTP/1.1\r\nHost: x\r\nHost: x\r\nConnection: close\r\n",
            400,
        ),
        (
            "GET /v1/health HTTP/1.1\r\nHost: x y\r\nConnection: close\r\n",
            400,
        ),
        (
            "GET /v1/health HTTP/1.1\r\nHost:\r\nConnection: close\r\n",
            400,
        ),
        (
            "GET http://x/v1/health HTTP/1.1\r\nConnection: close\r\n",
            400,
        ),
        ("GET /v1/health HTTP/1.0\r\n", 200),
        (
            "GET /v1/health HTTP/1.1\r\nHost: x:1\r\nConnection: close\r\n",
            200,
        ),
    ] {
        let answer = exchange(&address, format!("{head}\r\n").as_bytes()).await?;
        let text = answer.text();
        let expected = text.starts_with(&format!("HTTP/1.1 {status} "))
            || text.starts_with(&format!("HTTP/1.0 {status} "));
        assert!(expected, "{head:?}: {text}");
        assert!(status == 200 || text.contains("invalid_request"), "{text}");
    }
    Ok(())
}
