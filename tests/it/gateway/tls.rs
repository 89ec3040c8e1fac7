//! TLS on both sides: towards clients with a certificate of the operator's, towards upstreams with an authority of the
//! operator's beside the built-in ones.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use http::Version;
use odock_tests::{
    Stack, Tenant,
    accounting::assert_accounted,
    client::{Gateway, Versions, exchange, say},
    stack::Service,
    tenant::Key,
    tls::{Authority, TlsFront, Validity},
    wait::{wait_until, within},
};
use tokio::{io::AsyncReadExt as _, net::TcpStream};

#[tokio::test]
async fn clients_are_served_over_tls_in_the_version_that_they_agree_on() -> anyhow::Result<()> {
    let mut stack = Stack::builder().start().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    let dir = tempfile::tempdir()?;
    let authority = Authority::new()?;
    let identity = authority.certify(&["127.0.0.1", "localhost"], Validity::Now)?;
    let (certificate, private) = identity.write(dir.path())?;
    let address = stack.gateway(0)?.address().to_owned();
    let both = Gateway::over_tls(&address, &authority.pem, Versions::All)?;
    let old = Gateway::over_tls(&address, &authority.pem, Versions::Http1)?;
    stack.kill(Service::Gateway(0)).await?;
    stack.reach_gateway_by(0, both)?;
    let environment = [
        ("HTTP_ENABLE_TLS", "true"),
        (
            "HTTP_TLS_CERT_FILE",
            certificate.to_str().unwrap_or_default(),
        ),
        ("HTTP_TLS_KEY_FILE", private.to_str().unwrap_or_default()),
        ("HTTP_READ_TIMEOUT", "1s"),
    ];
    stack
        .restart_with(Service::Gateway(0), &environment)
        .await?;

    for (gateway, version) in [
        (stack.gateway(0)?, Version::HTTP_2),
        (&old, Version::HTTP_11),
    ] {
        let request = gateway
            .chat_request(&key.secret)
            .json(&say("demo-fast", "hi"));
        let answer = request.send().await?;
        assert_eq!((answer.status().as_u16(), answer.version()), (200, version));
        let stream = gateway.stream(&key.secret, &say("demo-fast", "hi")).await?;
        let answer = stream.rest().await;
        assert!(answer.done && answer.tokens() == 20, "{version:?}");
    }

    // In the clear there is no answer, and nothing that a call could be made of.
    let plain = b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n";
    let answer = exchange(&address, plain).await?;
    assert!(
        answer.closed && answer.statuses().is_empty(),
        "{}",
        answer.text()
    );
    // Who does not begin the handshake is not waited for.
    let mut silent = TcpStream::connect(&address).await?;
    let began = Instant::now();
    let mut nothing = [0; 1];
    let read = within("the end", Duration::from_secs(5), silent.read(&mut nothing)).await?;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    assert!(began.elapsed() >= Duration::from_millis(900));
    // A client that trusts others does not believe it.
    let stranger = Gateway::over_tls(&address, &Authority::new()?.pem, Versions::All)?;
    assert!(stranger.get("/v1/health").await.is_err());
    assert_accounted(&stack).await?;
    Ok(())
}

#[tokio::test]
async fn an_upstream_is_called_over_tls_in_its_version_and_one_that_cannot_prove_its_name_is_not()
-> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let authority = Authority::new()?;
    let roots = authority.write(dir.path())?;
    let stack = Stack::builder()
        .environment("UPSTREAM_CA_FILE", roots.to_str().unwrap_or_default())
        .start()
        .await?;
    let demo = stack.demo.url.trim_start_matches("http://").parse()?;
    let good = authority.certify(&["localhost"], Validity::Now)?;
    for (protocol, most_connections) in [("http/1.1", CALLS), ("h2", 4)] {
        let front = TlsFront::start(&good, &[protocol], demo).await?;
        let (tenant, key) = tenant_of(&stack, &front).await?;
        let gateway = stack.gateway(0)?;
        let stream = gateway.stream(&key.secret, &say("demo-fast", "hi")).await?;
        assert!(stream.rest().await.done, "{protocol}");
        let body = say("demo-slow", "hi");
        let calls = (0..CALLS).map(async |_| gateway.chat(&key.secret, &body).await?.expect(200));
        try_join_all(calls).await?;
        let agreed = front.agreed();
        assert!(
            agreed.iter().all(|agreed| agreed == protocol),
            "{protocol}: {agreed:?}"
        );
        assert!(
            agreed.len() <= most_connections + 1,
            "{protocol}: {} connections",
            agreed.len()
        );
        wait_until("all records", Duration::from_secs(5), async || {
            let records = tenant.all_usage().await?.len();
            anyhow::ensure!(records == CALLS + 1, "{records}");
            Ok(())
        })
        .await?;
    }

    let before = stack.demo.top().await?;
    for (what, identity) in [
        (
            "another name",
            authority.certify(&["other.test"], Validity::Now)?,
        ),
        (
            "an expired certificate",
            authority.certify(&["localhost"], Validity::Over)?,
        ),
        (
            "another authority",
            Authority::new()?.certify(&["localhost"], Validity::Now)?,
        ),
    ] {
        let front = TlsFront::start(&identity, &["h2", "http/1.1"], demo).await?;
        let (tenant, key) = tenant_of(&stack, &front).await?;
        let budget = tenant.key_budget(&key, 1_000_000_000).await?;
        let answer = stack
            .gateway(0)?
            .chat(&key.secret, &say("demo-fast", "hi"))
            .await?;
        answer
            .refused(502, "upstream_unreachable")
            .map_err(|error| error.context(what))?;
        let window = tenant.reclaimed(&budget).await?;
        assert_eq!((window.settled, window.held), (0, 0), "{what}");
    }
    assert_eq!(stack.demo.top().await?, before);
    assert_accounted(&stack).await?;
    Ok(())
}

/// A tenant whose provider is reached through a front, by name.
async fn tenant_of(stack: &Stack, front: &TlsFront) -> anyhow::Result<(Tenant, Key)> {
    let url = format!("https://localhost:{}", front.address.port());
    let tenant = Tenant::create(&stack.admin, &url).await?;
    let key = tenant.key().await?;
    Ok((tenant, key))
}

const CALLS: usize = 30;
