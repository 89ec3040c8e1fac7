//! What the gateway refuses, with which status and code: CONTRACT.md 4's table.

use std::collections::BTreeSet;

use odock_tests::{
    Stack,
    client::{exchange, say},
    tenant::token_pricing,
};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn line_021_errors_are_in_openais_shape() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let body = stack
        .gateway(0)?
        .chat("sk_x", &say("demo-fast", "hi"))
        .await?
        .refused(401, "unauthorized")?;
    let members: BTreeSet<_> = body["error"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect();
    assert!(
        ["message", "type", "param", "code"]
            .iter()
            .all(|name| members.contains(name)),
        "{body}"
    );
    assert!(
        body["error"]["message"]
            .as_str()
            .is_some_and(|message| !message.is_empty())
    );
    assert!(body["error"]["param"].is_null());
    Ok(())
}

#[tokio::test]
async fn line_020_a_wrong_method_and_too_much_header_are_refused_and_the_process_goes_on()
-> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let gateway = stack.gateway(0)?;
    for (method, path) in [
        (Method::GET, "/v1/chat/completions"),
        (Method::PUT, "/v1/chat/completions"),
        (Method::POST, "/v1/models"),
        (Method::DELETE, "/v1/health"),
        (Method::GET, "/v1/keys/validate"),
    ] {
        let answer = gateway.send(gateway.request(method, path)).await?;
        answer.refused(405, "method_not_allowed")?;
        assert!(answer.header("allow").is_some(), "{path}");
    }
    gateway
        .get("/v1/nowhere")
        .await?
        .refused(404, "not_found")?;

    let big = format!(
        "GET /v1/health HTTP/1.1\r\nHost: x\r\nX-Big: {}\r\n\r\n",
        "a".repeat(17_000)
    );
    assert_eq!(
        exchange(gateway.address(), big.as_bytes())
            .await?
            .statuses(),
        [431]
    );
    let many: Vec<String> = (0..101)
        .map(|number| format!("x-{number}: 1\r\n"))
        .collect();
    let many = many.concat();
    let many = format!("GET /v1/health HTTP/1.1\r\nHost: x\r\n{many}\r\n");
    assert_eq!(
        exchange(gateway.address(), many.as_bytes())
            .await?
            .statuses(),
        [431]
    );
    gateway.get("/v1/health").await?.expect(200)?;
    Ok(())
}

#[tokio::test]
async fn a_body_that_is_no_chat_is_refused() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let gateway = stack.gateway(0)?;
    let deep = |depth: usize| {
        let nested = "[".repeat(depth) + &"]".repeat(depth);
        format!(
            r#"{{"model":"demo-fast","messages":[{{"role":"user","content":"hi"}}],"metadata":{nested}}}"#
        )
    };
    let wrong: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"{".to_vec(),
        b"[]".to_vec(),
        b"\"text\"".to_vec(),
        br#"{"messages":[]}"#.to_vec(),
        br#"{"model":7,"messages":[{"role":"user","content":"hi"}]}"#.to_vec(),
        br#"{"model":"demo-fast","messages":"hi"}"#.to_vec(),
        br#"{"model":"demo-fast","model":"demo-fee","messages":[{"role":"user","content":"hi"}]}"#.to_vec(),
        br#"{"model":"demo-fast","Model":"demo-fee","messages":[{"role":"user","content":"hi"}]}"#.to_vec(),
        br#"{"model":"demo-fast","messages":[{"role":"user","content":"hi"}],"max_tokens":-1}"#.to_vec(),
        br#"{"model":"demo-fast","messages":[{"role":"user","content":"hi"}],"max_tokens":1e400}"#.to_vec(),
        br#"{"model":"demo-fast","messages":[{"role":"user","content":"hi"}],"max_tokens":99999999999999999999}"#.to_vec(),
        br#"{"model":"demo-fast","messages":[{"role":"user","content":"hi"}],"n":1.5}"#.to_vec(),
        br#"{"model":"demo-fast","messages":[{"role":"user","content":"hi"}]} {}"#.to_vec(),
        b"{\"model\":\"demo-fast\",\"messages\":[{\"role\":\"user\",\"content\":\"\xff\xfe\"}]}".to_vec(),
        deep(65).into_bytes(),
        deep(100_000).into_bytes(),
    ];
    let before = tenant.all_usage().await?.len();
    for body in wrong {
        let shown = String::from_utf8_lossy(&body)
            .chars()
            .take(100)
            .collect::<String>();
        let answer = gateway.chat_bytes(&key.secret, body).await?;
        assert_eq!(answer.status, 400, "{shown}: {}", answer.text());
        let code = answer.json()?["error"]["code"].clone();
        assert!(
            code == "invalid_request_body" || code == "invalid_request",
            "{shown}: {code}"
        );
    }
    gateway
        .chat_bytes(&key.secret, deep(50))
        .await?
        .expect(200)?;
    // What was refused before an upstream was tried has no record.
    odock_tests::wait::wait_until(
        "the record of the good call",
        std::time::Duration::from_secs(2),
        async || {
            anyhow::ensure!(tenant.all_usage().await?.len() == before + 1);
            Ok(())
        },
    )
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_body_over_ten_mebibytes_or_of_another_type_is_refused() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let gateway = stack.gateway(0)?;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n",
        key.secret
    );
    let declared = format!("{head}Content-Length: 10485761\r\n\r\n");
    assert_eq!(
        exchange(gateway.address(), declared.as_bytes())
            .await?
            .statuses(),
        [413]
    );
    let mut chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..11 {
        chunked.extend_from_slice(b"100000\r\n");
        chunked.extend(std::iter::repeat_n(b' ', 1 << 20));
        chunked.extend_from_slice(b"\r\n");
    }
    assert_eq!(
        exchange(gateway.address(), &chunked).await?.statuses(),
        [413]
    );

    for (name, value) in [("content-type", "text/plain"), ("content-encoding", "gzip")] {
        let request = gateway.chat_request(&key.secret).header(name, value);
        let answer = gateway
            .send(request.body(say("demo-fast", "hi").to_string()))
            .await?;
        answer.refused(415, "unsupported_media_type")?;
    }
    Ok(())
}

#[tokio::test]
async fn line_048_unknown_models_and_types_that_cannot_be_reached_are_told_apart()
-> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let mut tenant = stack.tenant().await?;
    let gateway = stack.gateway(0)?;
    let provider = json!({ "type": "anthropic", "name": "claude", "base_url": format!("{}/v1", stack.demo.url) });
    let provider = tenant
        .admin
        .create(&tenant.path("/providers"), &provider)
        .await?;
    let held = json!({ "provider_id": provider["id"], "name": "k", "value": "sk-ant-none" });
    let held = tenant
        .admin
        .create(&tenant.path("/provider-keys"), &held)
        .await?;
    let (own, own_key) = (tenant.provider_id.clone(), tenant.provider_key_id.clone());
    tenant.provider_id = odock_tests::tenant::id(&provider)?;
    tenant.provider_key_id = odock_tests::tenant::id(&held)?;
    tenant
        .add_model("claude", "claude-x", token_pricing())
        .await?;
    (tenant.provider_id, tenant.provider_key_id) = (own, own_key);
    let key = tenant.key().await?;
    gateway
        .chat(&key.secret, &say("claude", "hi"))
        .await?
        .refused(400, "provider_type_unsupported")?;
    gateway
        .chat(&key.secret, &say("no such", "hi"))
        .await?
        .refused(400, "model_not_found")?;
    Ok(())
}

#[tokio::test]
async fn line_022_upstream_failures_become_their_codes() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let mut tenant = stack.tenant().await?;
    let slugs = [
        ("failing", "demo-error-500", 502, "upstream_error"),
        ("forbidden", "demo-fast@status=403", 502, "upstream_error"),
        ("half", "demo-cut-stream", 502, "upstream_error"),
    ];
    for (name, slug, _, _) in slugs {
        tenant.add_model(name, slug, token_pricing()).await?;
    }
    tenant
        .add_model(
            "limited",
            "demo-fast@status=429,retry_after=7",
            token_pricing(),
        )
        .await?;
    tenant
        .add_model("absent", "no-such-model", token_pricing())
        .await?;
    let hanging = json!({ "timeout_ms": 300, "type": "custom", "name": "hasty", "base_url": format!("{}/v1", stack.demo.url) });
    let hasty = tenant
        .admin
        .create(&tenant.path("/providers"), &hanging)
        .await?;
    let gone = json!({ "type": "custom", "name": "gone", "base_url": "http://127.0.0.1:9/v1" });
    let gone = tenant
        .admin
        .create(&tenant.path("/providers"), &gone)
        .await?;
    for (name, slug, provider) in [("hang", "demo-hang", hasty), ("gone", "demo-fast", gone)] {
        let held = json!({ "provider_id": provider["id"], "name": name, "value": odock_tests::tenant::DEMO_KEY });
        let held = tenant
            .admin
            .create(&tenant.path("/provider-keys"), &held)
            .await?;
        let saved = (tenant.provider_id.clone(), tenant.provider_key_id.clone());
        tenant.provider_id = odock_tests::tenant::id(&provider)?;
        tenant.provider_key_id = odock_tests::tenant::id(&held)?;
        tenant.add_model(name, slug, token_pricing()).await?;
        (tenant.provider_id, tenant.provider_key_id) = saved;
    }
    let key = tenant.key().await?;
    let gateway = stack.gateway(0)?;
    for (name, _, status, code) in slugs {
        gateway
            .chat(&key.secret, &say(name, "hi"))
            .await?
            .refused(status, code)?;
    }
    gateway
        .chat(&key.secret, &say("hang", "hi"))
        .await?
        .refused(504, "upstream_timeout")?;
    gateway
        .chat(&key.secret, &say("gone", "hi"))
        .await?
        .refused(502, "upstream_unreachable")?;
    let limited = gateway.chat(&key.secret, &say("limited", "hi")).await?;
    assert_eq!(
        (limited.status, limited.header("retry-after")),
        (429, Some("7"))
    );
    let absent = gateway.chat(&key.secret, &say("absent", "hi")).await?;
    assert_eq!(absent.status, 404, "{}", absent.text());
    Ok(())
}

#[tokio::test]
async fn line_022_the_table_of_codes_is_the_contracts() -> anyhow::Result<()> {
    let text = std::fs::read_to_string(odock_tests::place::repository().join("docs/ERRORS.md"))?;
    let listed: BTreeSet<(String, String)> = text
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| ")?.split(" | ");
            let status = cells.next()?;
            let code = cells.next()?.trim_matches('`');
            status.parse::<u16>().ok()?;
            Some((status.to_owned(), code.to_owned()))
        })
        .collect();
    for (status, codes) in CONTRACT {
        for code in codes.split(' ') {
            assert!(
                listed.contains(&((*status).to_owned(), code.to_owned())),
                "{status} {code}"
            );
        }
    }
    Ok(())
}

const CONTRACT: &[(&str, &str)] = &[
    (
        "400",
        "invalid_request_body invalid_request model_not_found provider_not_configured \
         provider_api_key_not_configured provider_type_unsupported provider_not_allowed cost_unbounded",
    ),
    ("401", "unauthorized api_key_expired api_key_revoked"),
    ("402", "budget_exceeded"),
    (
        "403",
        "model_not_allowed provider_disabled provider_api_key_revoked",
    ),
    ("404", "not_found"),
    ("405", "method_not_allowed"),
    ("408", "request_timeout"),
    ("413", "request_too_large"),
    ("415", "unsupported_media_type"),
    ("431", "headers_too_large"),
    ("500", "internal_error"),
    ("502", "upstream_error"),
    ("502", "upstream_unreachable"),
    ("504", "upstream_timeout"),
    (
        "503",
        "budget_unavailable config_stale journal_unavailable overloaded shutting_down model_access_unavailable \
         model_lookup_unavailable",
    ),
];

#[tokio::test]
async fn line_131_no_price_is_recorded_without_cost_unless_a_hard_budget_applies()
-> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let mut tenant = stack.tenant().await?;
    tenant
        .add_model("priceless", "demo-fast", Value::Null)
        .await?;
    let key = tenant.key().await?;
    let gateway = stack.gateway(0)?;
    let free = gateway.chat(&key.secret, &say("priceless", "hi")).await?;
    free.expect(200)?;
    let record = tenant
        .usage(free.header("x-odock-usage-id").unwrap_or_default())
        .await?;
    assert_eq!(
        (&record["cost_nanos"], &record["tokens"]["output"]),
        (&json!(0), &json!(20))
    );

    tenant.key_budget(&key, 1_000_000_000).await?;
    let refused = gateway
        .chat(&key.secret, &say("priceless", "hi"))
        .await?
        .refused(400, "cost_unbounded")?;
    let message = refused["error"]["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("price"),
        "it does not say how to fix it: {message}"
    );
    gateway
        .chat(&key.secret, &say("demo-fast", "hi"))
        .await?
        .expect(200)?;
    Ok(())
}
