//! Spans, as a collector gets them.

use std::time::{Duration, Instant};

use odock_tests::{
    Stack,
    accounting::assert_accounted,
    client::say,
    collector::{Collector, attribute, hex},
    stack::Service,
    tenant::DEMO_KEY,
    wait::wait_until,
};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;

/// DESIGN.md 8's stages, by span and gate.
const STAGES: [(&str, Option<&str>); 12] = [
    ("http.request", None),
    ("gateway.ratelimit.evaluate", Some("pre_auth")),
    ("gateway.auth", None),
    ("gateway.ratelimit.evaluate", Some("early")),
    ("gateway.request.decode", None),
    ("gateway.route.resolve", None),
    ("gateway.ratelimit.evaluate", Some("final")),
    ("gateway.budget.enforce", None),
    ("gateway.publish.usage", None),
    ("gateway.provider.call", None),
    ("gateway.provider.stream", None),
    ("gateway.usage.collect", None),
];

#[tokio::test]
async fn line_050_the_spans_of_a_call_are_the_stages_in_their_order_and_tell_no_secret()
-> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let stack = exporting(&format!("http://{}", collector.address))
        .start()
        .await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    tenant.key_budget(&key, 1_000_000_000).await?;
    let mut body = say("demo-fast", PROMPT);
    body["user"] = PERSON.into();
    let parent = "00f067aa0ba902b7";
    for (trace, stream) in [(WHOLE, false), (STREAM, true)] {
        body["stream"] = stream.into();
        let request = stack
            .gateway(0)?
            .chat_request(&key.secret)
            .header("traceparent", format!("00-{trace}-{parent}-01"));
        let answer = stack.gateway(0)?.send(request.json(&body)).await?;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let spans = wait_until("the spans", Duration::from_secs(15), async || {
            let spans = collector.trace(trace);
            anyhow::ensure!(spans.len() >= STAGES.len(), "{} spans", spans.len());
            Ok(spans)
        })
        .await?;
        let stages = spans.iter().map(|span| {
            let gate = attribute(span, "gateway.stage");
            (span.name.as_str(), gate)
        });
        assert_eq!(stages.collect::<Vec<_>>(), STAGES, "stream: {stream}");
        let root = &spans[0];
        assert_eq!(hex(&root.parent_span_id), parent);
        for span in &spans[1..] {
            assert_eq!(span.parent_span_id, root.span_id, "{span:?}");
        }
        // One stage after the other: none begins before the one before it has ended.
        for pair in spans[1..10].windows(2) {
            assert!(
                pair[0].end_time_unix_nano <= pair[1].start_time_unix_nano,
                "{pair:?}"
            );
        }
    }
    // A refused call has spans up to the stage that refused it.
    let refused = stack
        .gateway(0)?
        .chat_request("sk_nobody")
        .header("traceparent", format!("00-{REFUSED}-{parent}-01"));
    let answer = stack.gateway(0)?.send(refused.json(&body)).await?;
    answer.refused(401, "unauthorized")?;
    let names = wait_until("its spans", Duration::from_secs(15), async || {
        let spans = collector.trace(REFUSED);
        anyhow::ensure!(spans.len() >= 3, "{}", spans.len());
        Ok(spans.into_iter().map(|span| span.name).collect::<Vec<_>>())
    })
    .await?;
    assert_eq!(
        names,
        ["http.request", "gateway.ratelimit.evaluate", "gateway.auth"]
    );

    assert!(collector.strange().is_empty(), "{:?}", collector.strange());
    let told = String::from_utf8_lossy(&collector.bytes()).into_owned();
    let hash = hex(&Sha256::digest(key.secret.as_bytes()));
    for secret in [
        &key.secret,
        &hash,
        DEMO_KEY,
        PROMPT,
        PERSON,
        " a a a",
        "sk_nobody",
        "127.0.0.1",
    ] {
        assert!(!told.contains(secret), "a span says {secret}");
    }
    Ok(())
}

#[tokio::test]
async fn a_collector_that_is_away_or_says_nothing_costs_no_call() -> anyhow::Result<()> {
    // One that takes connections and never answers; then one that is not there.
    let mute = TcpListener::bind("127.0.0.1:0").await?;
    let address = mute.local_addr()?;
    let mut stack = exporting(&format!("http://{address}")).start().await?;
    let tenant = stack.tenant().await?;
    let key = tenant.key().await?;
    for there in [true, false] {
        let mut slowest = Duration::ZERO;
        // More than the exporter's queue holds.
        for _ in 0..400 {
            let began = Instant::now();
            let answer = stack
                .gateway(0)?
                .chat(&key.secret, &say("demo-fast", "hi"))
                .await?;
            answer.expect(200)?;
            slowest = slowest.max(began.elapsed());
        }
        assert!(
            slowest < Duration::from_secs(1),
            "there: {there}, slowest {slowest:?}"
        );
        if there {
            let began = Instant::now();
            let pid = stack.terminate(Service::Gateway(0))?;
            odock_tests::keeper::wait_gone(pid, Duration::from_secs(10)).await?;
            assert!(
                began.elapsed() < Duration::from_secs(6),
                "its end took {:?}",
                began.elapsed()
            );
            let away = [("OBSERVABILITY_OTEL_ENDPOINT", "http://127.0.0.1:9")];
            stack.restart_with(Service::Gateway(0), &away).await?;
        }
    }
    let accounted = assert_accounted(&stack).await?;
    assert_eq!(accounted.rows.len(), 800);
    Ok(())
}

fn exporting(endpoint: &str) -> odock_tests::stack::StackBuilder {
    Stack::builder()
        .environment("OBSERVABILITY_OTEL_EXPORTER", "otlphttp")
        .environment("OBSERVABILITY_OTEL_ENDPOINT", endpoint)
        .environment("OBSERVABILITY_SAMPLE_RATE", "1")
}

const PROMPT: &str = "the prompt of line fifty";
const PERSON: &str = "alice@example.org";
const WHOLE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const STREAM: &str = "4bf92f3577b34da6a3ce929d0e0e4737";
const REFUSED: &str = "4bf92f3577b34da6a3ce929d0e0e4738";
