//! `?wait=all`: what a receipt promises, on every gateway, under load.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use odock_tests::{Stack, client::say, stack::Service, wait::within};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::test]
async fn line_177_after_a_receipt_no_call_of_a_revoked_key_reaches_the_upstream_under_load()
-> anyhow::Result<()> {
    let stack = Stack::builder().gateways(2).start().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let stop = AtomicBool::new(false);
    let hammer = async |index: usize| {
        let mut answered = 0;
        while !stop.load(Ordering::Relaxed) {
            let answer = stack
                .gateway(index % 2)?
                .chat(&key.secret, &say("demo-fast", "hi"))
                .await?;
            answered += u32::from(answer.status == 200);
        }
        anyhow::Ok(answered)
    };
    let revoke = async {
        odock_tests::wait::wait_until(
            "load on the upstream",
            Duration::from_secs(10),
            async || {
                anyhow::ensure!(stack.demo.top().await? > 50);
                Ok(())
            },
        )
        .await?;
        let path = tenant.path(&format!("/keys/{}/revoke?wait=all", key.id));
        let revoked = tenant.admin.act(&path).await?.expect(200)?;
        let at_receipt = stack.demo.top().await?;
        let receipt = &revoked["receipt"];
        assert_eq!(receipt["complete"], true, "{receipt}");
        let gateways = receipt["gateways"].as_array().cloned().unwrap_or_default();
        assert_eq!(gateways.len(), 2, "{receipt}");
        for gateway in &gateways {
            assert!(
                gateway["applied_version"].as_u64() >= receipt["config_version"].as_u64(),
                "{receipt}"
            );
        }
        // Both gateways go on being asked: nothing more may arrive.
        for round in 0..200 {
            let gateway = stack.gateway(round % 2)?;
            gateway
                .chat(&key.secret, &say("demo-fast", "late"))
                .await?
                .refused(401, "api_key_revoked")?;
        }
        stop.store(true, Ordering::Relaxed);
        anyhow::Ok(at_receipt)
    };
    let (at_receipt, ..) = tokio::try_join!(revoke, hammer(0), hammer(1), hammer(2), hammer(3))?;
    // A call that had begun before the receipt may have its row just after; none that began later has one.
    let late = stack.demo.rows(at_receipt).await?;
    for row in &late {
        let body = String::from_utf8_lossy(&stack.demo.body(row.seq).await?).into_owned();
        assert!(!body.contains("late"), "{row:?}");
    }
    odock_tests::accounting::assert_accounted(&stack).await?;
    Ok(())
}

#[tokio::test]
async fn line_177_an_upload_that_began_before_the_revocation_does_not_reach_the_upstream()
-> anyhow::Result<()> {
    let stack = Stack::builder().gateways(2).start().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let body = say("demo-fast", "an upload that takes its time").to_string();
    let (first, last) = body.split_at(body.len() - 1);
    let mut sockets = Vec::new();
    for gateway in stack.gateways() {
        let mut socket = tokio::net::TcpStream::connect(gateway.address()).await?;
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{first}",
            key.secret,
            body.len()
        );
        socket.write_all(head.as_bytes()).await?;
        sockets.push(socket);
    }
    let before = stack.demo.top().await?;
    let path = tenant.path(&format!("/keys/{}/revoke?wait=all", key.id));
    let revoked = tenant.admin.act(&path).await?.expect(200)?;
    assert_eq!(revoked["receipt"]["complete"], true);
    for mut socket in sockets {
        socket.write_all(last.as_bytes()).await?;
        let mut answer = String::new();
        within(
            "the refusal",
            Duration::from_secs(5),
            socket.read_to_string(&mut answer),
        )
        .await??;
        assert!(
            answer.starts_with("HTTP/1.1 401") && answer.contains("api_key_revoked"),
            "{answer}"
        );
    }
    assert_eq!(stack.demo.top().await?, before);
    Ok(())
}

#[tokio::test]
async fn line_177_running_streams_of_a_revoked_key_are_cut_and_others_are_not() -> anyhow::Result<()>
{
    let stack = Stack::shared().await?;
    let mut tenant = stack.tenant().await?;
    tenant
        .add_model(
            "long",
            "demo-fast@tokens=200,gap_ms=20",
            odock_tests::tenant::token_pricing(),
        )
        .await?;
    let (doomed, safe) = (tenant.key().await?, tenant.key().await?);
    let mut streams = Vec::new();
    for gateway in stack.gateways() {
        for key in [&doomed, &safe] {
            let mut stream = gateway.stream(&key.secret, &say("long", "hi")).await?;
            stream.read_at_least(1).await?;
            streams.push((key.id == doomed.id, stream));
        }
    }
    let path = tenant.path(&format!("/keys/{}/revoke?wait=all", doomed.id));
    tenant.admin.act(&path).await?.expect(200)?;
    for (cut, stream) in streams {
        let usage_id = stream
            .header("x-odock-usage-id")
            .unwrap_or_default()
            .to_owned();
        let answer = within(
            "the end of the stream",
            Duration::from_secs(10),
            stream.rest(),
        )
        .await?;
        assert_eq!(
            answer.done,
            !cut,
            "{}",
            String::from_utf8_lossy(&answer.raw)
        );
        if cut {
            assert_eq!(answer.error_code(), Some("api_key_revoked"));
            assert!(answer.tokens() < 150, "it went on: {}", answer.tokens());
        }
        let record = tenant.usage(&usage_id).await?;
        assert_eq!(record["estimated"], cut, "{record}");
    }
    Ok(())
}

#[tokio::test]
async fn line_177_a_receipt_names_a_gateway_that_does_not_answer() -> anyhow::Result<()> {
    let stack = Stack::builder().gateways(2).start().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    stack.kill(Service::Gateway(1)).await?;
    let path = tenant.path(&format!("/keys/{}/revoke?wait=all&wait_seconds=1", key.id));
    let revoked = tenant.admin.act(&path).await?.expect(200)?;
    let receipt = &revoked["receipt"];
    assert_eq!(receipt["complete"], false, "{receipt}");
    let version = receipt["config_version"].as_u64();
    let gateways = receipt["gateways"].as_array().cloned().unwrap_or_default();
    let behind = gateways
        .iter()
        .filter(|gateway| gateway["applied_version"].as_u64() < version)
        .count();
    assert_eq!((gateways.len(), behind), (2, 1), "{receipt}");
    stack
        .gateway(0)?
        .chat(&key.secret, &say("demo-fast", "hi"))
        .await?
        .refused(401, "api_key_revoked")?;
    assert_eq!(revoked["revoked"], json!(true));
    Ok(())
}
