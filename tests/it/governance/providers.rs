//! Providers: their switch, address and time limit.

use odock_tests::{Stack, client::say, stack::Service, tenant::id};
use serde_json::json;

#[tokio::test]
async fn line_037_every_provider_type_can_be_kept_named_once_and_switched_off() -> anyhow::Result<()>
{
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let path = tenant.path("/providers");
    for kind in [
        "openai",
        "anthropic",
        "google",
        "azure_openai",
        "vllm",
        "mistral",
        "huggingface",
        "custom",
    ] {
        for number in 0..2 {
            let name = format!("{kind} {number}");
            let mut body =
                json!({ "type": kind, "name": name, "base_url": "https://upstream.example/v1" });
            if kind == "openai" {
                body = json!({ "type": kind, "name": name });
            }
            let made = tenant.admin.create(&path, &body).await?;
            assert_eq!(
                (&made["type"], &made["enabled"], &made["timeout_ms"]),
                (&json!(kind), &json!(true), &json!(600_000))
            );
        }
        let twice = json!({ "type": kind, "name": format!("{kind} 0"), "base_url": "https://upstream.example/v1" });
        tenant
            .admin
            .post(&path, &twice)
            .await?
            .refused(409, "name_taken")?;
    }
    tenant
        .admin
        .post(&path, &json!({ "type": "smoke", "name": "x" }))
        .await?
        .refused(422, "validation_failed")?;

    let key = tenant.key().await?;
    let own = tenant.path(&format!("/providers/{}", tenant.provider_id));
    tenant
        .admin
        .change(&own, &json!({ "enabled": false }))
        .await?;
    for gateway in stack.gateways() {
        gateway
            .chat(&key.secret, &say("demo-fast", "hi"))
            .await?
            .refused(403, "provider_disabled")?;
    }
    tenant
        .admin
        .change(&own, &json!({ "enabled": true }))
        .await?;
    stack
        .gateway(0)?
        .chat(&key.secret, &say("demo-fast", "hi"))
        .await?
        .expect(200)?;
    Ok(())
}

#[tokio::test]
async fn line_038_a_providers_own_address_and_time_limit_count() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let own = tenant.path(&format!("/providers/{}", tenant.provider_id));
    let gateway = stack.gateway(0)?;
    tenant
        .admin
        .change(&own, &json!({ "timeout_ms": 100 }))
        .await?;
    gateway
        .chat(&key.secret, &say("demo-slow", "hi"))
        .await?
        .refused(504, "upstream_timeout")?;
    tenant
        .admin
        .change(&own, &json!({ "base_url": "http://127.0.0.1:9/v1" }))
        .await?;
    gateway
        .chat(&key.secret, &say("demo-fast", "hi"))
        .await?
        .refused(502, "upstream_unreachable")?;
    tenant
        .admin
        .change(
            &own,
            &json!({ "base_url": format!("{}/v1", stack.demo.url) }),
        )
        .await?;
    gateway
        .chat(&key.secret, &say("demo-fast", "hi"))
        .await?
        .expect(200)?;
    Ok(())
}

#[tokio::test]
async fn addresses_that_no_provider_can_have_are_refused() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    for url in [
        "ftp://upstream.example/v1",
        "file:///etc/passwd",
        "http://user:pass@upstream.example/v1",
        "upstream.example",
        "http://",
        "http://upstream.example/v1?key=x",
        "http://upstream.example/v1#x",
    ] {
        let body = json!({ "type": "custom", "name": url, "base_url": url });
        let made = tenant.admin.post(&tenant.path("/providers"), &body).await?;
        assert_eq!(made.status, 422, "{url}: {}", made.text());
    }
    Ok(())
}

#[tokio::test]
async fn private_addresses_need_an_explicit_setting() -> anyhow::Result<()> {
    let mut stack = Stack::builder().start().await?;
    let mut tenant = stack.tenant().await?;
    let mut names = vec!["demo-fast".to_owned()];
    for (number, host) in PRIVATE.iter().enumerate() {
        let body =
            json!({ "type": "custom", "name": host, "base_url": format!("http://{host}/v1") });
        let made = tenant.admin.post(&tenant.path("/providers"), &body).await?;
        if made.status == 422 {
            continue;
        }
        tenant.provider_id = id(&made.expect(201)?)?;
        let held = json!({ "provider_id": tenant.provider_id, "name": host, "value": "secret" });
        let held = tenant
            .admin
            .create(&tenant.path("/provider-keys"), &held)
            .await?;
        tenant.provider_key_id = id(&held)?;
        let name = format!("private-{number}");
        tenant
            .add_model(&name, "x", odock_tests::tenant::token_pricing())
            .await?;
        names.push(name);
    }
    let key = tenant.key().await?;
    stack.kill(Service::Gateway(0)).await?;
    stack
        .restart_with(
            Service::Gateway(0),
            &[("UPSTREAM_ALLOW_PRIVATE_ADDRESSES", "false")],
        )
        .await?;
    for name in names {
        let answer = stack
            .gateway(0)?
            .chat(&key.secret, &say(&name, "hi"))
            .await?;
        answer
            .refused(400, "provider_not_allowed")
            .map_err(|error| error.context(name))?;
    }
    assert!(stack.demo.rows(0).await?.is_empty());
    Ok(())
}

const PRIVATE: &[&str] = &[
    "127.0.0.1:9",
    "localhost:9",
    "10.0.0.1:9",
    "172.16.0.1:9",
    "192.168.0.1:9",
    "100.64.0.1:9",
    "169.254.0.1:9",
    "0.0.0.0:9",
    "224.0.0.1:9",
    "[::1]:9",
    "[fe80::1]:9",
    "[fc00::1]:9",
    "[::ffff:127.0.0.1]:9",
    "[64:ff9b::7f00:1]:9",
    "2130706433:9",
    "0x7f.1:9",
    "0177.0.0.1:9",
    "localhost.:9",
];

#[tokio::test]
async fn redirects_of_an_upstream_are_not_followed() -> anyhow::Result<()> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let stack = Stack::shared().await?;
    let mut tenant = stack.tenant().await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let body = json!({ "type": "custom", "name": "moved", "base_url": format!("http://{}/v1", listener.local_addr()?) });
    tenant.provider_id = id(&tenant
        .admin
        .create(&tenant.path("/providers"), &body)
        .await?)?;
    let held = json!({ "provider_id": tenant.provider_id, "name": "k", "value": odock_tests::tenant::DEMO_KEY });
    tenant.provider_key_id = id(&tenant
        .admin
        .create(&tenant.path("/provider-keys"), &held)
        .await?)?;
    tenant
        .add_model("moved", "demo-fast", odock_tests::tenant::token_pricing())
        .await?;
    let key = tenant.key().await?;
    let gateway = stack.gateway(0)?.clone();
    let body = say("moved", "hi");
    let call = gateway.chat(&key.secret, &body);
    let target = format!("{}/v1/chat/completions", stack.demo.url);
    let serve = async {
        let (mut socket, _) = listener.accept().await?;
        let read = socket.read(&mut [0; 8192]).await?;
        let answer =
            format!("HTTP/1.1 307 Moved\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n");
        socket.write_all(answer.as_bytes()).await?;
        anyhow::Ok(read)
    };
    let (answer, served) = tokio::join!(call, serve);
    served?;
    answer?.refused(502, "upstream_error")?;
    Ok(())
}
