//! How a caller shows its key, and that every bad one is answered alike.

use odock_tests::{Stack, client::exchange};
use reqwest::Method;

#[tokio::test]
async fn line_024_a_key_counts_from_four_places() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let gateway = stack.gateway(0)?;
    let validate = || gateway.request(Method::POST, "/v1/keys/validate");
    for request in [
        validate().bearer_auth(&key.secret),
        validate().header("x-api-key", &key.secret),
        validate().header("x-goog-api-key", &key.secret),
        gateway.request(
            Method::POST,
            &format!("/v1/keys/validate?key={}", key.secret),
        ),
        validate()
            .bearer_auth(&key.secret)
            .header("x-api-key", &key.secret),
    ] {
        gateway.send(request).await?.expect(200)?;
    }
    Ok(())
}

#[tokio::test]
async fn two_keys_that_differ_are_refused() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let (one, other) = (tenant.key().await?, tenant.key().await?);
    let gateway = stack.gateway(0)?;
    let validate = || gateway.request(Method::POST, "/v1/keys/validate");
    for request in [
        validate()
            .bearer_auth(&one.secret)
            .header("x-api-key", &other.secret),
        validate()
            .header("x-goog-api-key", &one.secret)
            .header("x-api-key", &other.secret),
        gateway
            .request(
                Method::POST,
                &format!("/v1/keys/validate?key={}", one.secret),
            )
            .bearer_auth(&other.secret),
    ] {
        gateway.send(request).await?.refused(401, "unauthorized")?;
    }
    Ok(())
}

#[tokio::test]
async fn every_bad_credential_of_any_bytes_gets_one_and_the_same_answer() -> anyhow::Result<()> {
    let stack = Stack::shared().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let gateway = stack.gateway(0)?;
    let mut wrong_checksum = key.secret.clone();
    wrong_checksum.pop();
    wrong_checksum.push(if key.secret.ends_with('0') { '1' } else { '0' });
    let unknown = odock_events::secret_key::SecretKey::generate();
    let unknown = unknown.expose().to_owned();
    let absent = answer_to(gateway.address(), b"").await?;
    assert!(absent.starts_with("HTTP/1.1 401 "), "{absent}");
    let mut odd: Vec<Vec<u8>> = vec![
        b"Bearer ".to_vec(),
        b"Bearer sk_x".to_vec(),
        b"Basic YTpi".to_vec(),
        format!("Bearer {wrong_checksum}").into_bytes(),
        format!("Bearer {unknown}").into_bytes(),
        format!("Bearer {}x", key.secret).into_bytes(),
        b"Bearer ' OR 1=1; DROP TABLE api_key; --".to_vec(),
        b"Bearer %00%0d%0a".to_vec(),
        b"Bearer \xff\xfe\xc3\x28".to_vec(),
        "Bearer sk_\u{1F511}".as_bytes().to_vec(),
        b"Bearer\tsk_x".to_vec(),
    ];
    odd.push([b"Bearer ".as_slice(), &[b'a'; 15_000]].concat());
    for authorization in odd {
        let line = [b"Authorization: ".as_slice(), &authorization, b"\r\n"].concat();
        let answer = answer_to(gateway.address(), &line).await?;
        assert_eq!(
            answer,
            absent,
            "{}",
            String::from_utf8_lossy(&authorization)
        );
    }
    // A NUL is no header value at all, 64 KiB no header section.
    let nul = answer_to(gateway.address(), b"Authorization: Bearer a\0b\r\n").await?;
    assert!(nul.starts_with("HTTP/1.1 400 "), "{nul}");
    let long = [
        b"Authorization: Bearer ".as_slice(),
        &vec![b'a'; 65_536],
        b"\r\n",
    ]
    .concat();
    let long = answer_to(gateway.address(), &long).await?;
    assert!(long.starts_with("HTTP/1.1 431 "), "{long}");
    gateway.validate(&key.secret).await?.expect(200)?;
    Ok(())
}

/// The answer but for what differs from call to call.
async fn answer_to(address: &str, header: &[u8]) -> anyhow::Result<String> {
    let request = [
        b"POST /v1/keys/validate HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n"
            .as_slice(),
        header,
        b"\r\n",
    ]
    .concat();
    let answer = exchange(address, &request).await?;
    let text = answer.text();
    let changing = ["date:", "x-request-id:"];
    let lines = text.lines().filter(|line| {
        let line = line.to_ascii_lowercase();
        !changing.iter().any(|name| line.starts_with(name))
    });
    Ok(lines.collect::<Vec<_>>().join("\n"))
}
