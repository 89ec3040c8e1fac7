//! Calls through the whole gateway over real sockets: router, pipeline, journal, and an upstream that does what its
//! path says.

mod harness;
mod revocation;

use std::sync::Arc;

use http::StatusCode;
use odock_events::payload::usage::{AttemptOutcome, UsageStatus};
use serde_json::{Value, json};

use self::harness::{Harness, chat};
use super::Inbound;
use crate::{error::Code, http::request_id, pipeline::testing::CAP};

fn code(body: &Value) -> &str {
    body["error"]["code"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_call_goes_through_byte_for_byte_and_is_recorded() {
    let harness = Harness::start().await;
    let body =
        r#"{ "model" : "fast",  "messages":[{"role":"user","content":"hé\u00e9"}], "x":1.50 }"#;
    let answer = harness
        .post(&chat("fast"), body, &[("x-request-id", "mine-1")])
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header(request_id::HEADER.as_str()), "mine-1");
    assert_eq!(answer.header("x-odock-model"), "fast");
    assert_eq!(answer.header("x-odock-provider"), "custom");
    assert_eq!(answer.header("x-odock-attempts"), "1");
    assert_eq!(answer.header("x-odock-cost-nanos"), "45000");
    assert_eq!(
        answer.body,
        harness::COMPLETION.replace("demo-fast", "fast")
    );
    let seen = harness.seen();
    assert_eq!(seen.body, body.replace("\"fast\"", "\"demo-fast\""));
    assert_eq!(seen.headers["authorization"], "Bearer upstream-key");
    assert!(!seen.headers.contains_key("x-request-id"));
    let (meta, usage) = harness.only_record().await;
    assert_eq!(
        seen.headers["x-client-request-id"],
        usage.attempts[0].id.to_string()
    );
    assert_eq!(
        answer.header("x-odock-usage-id"),
        usage.usage_id.to_string()
    );
    assert_eq!(
        (usage.status, usage.cost.0),
        (UsageStatus::Completed, 45_000)
    );
    assert_eq!(usage.request_id, "mine-1");
    assert_eq!(meta.config_version, Some(1));
    assert!(!meta.estimated);
}

#[tokio::test]
async fn a_stream_hides_the_usage_that_only_we_asked_for() {
    let harness = Harness::start().await;
    let body = r#"{"model":"stream","stream":true,"messages":[]}"#;
    let answer = harness.post(&chat("stream"), body, &[]).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("content-type"), "text/event-stream");
    assert!(answer.body.ends_with("data: [DONE]\n\n") && !answer.body.contains("usage"));
    assert!(
        answer.body.contains("\"model\":\"stream\""),
        "{}",
        answer.body
    );
    assert!(harness.seen().body.contains("include_usage"));
    let (_, usage) = harness.only_record().await;
    assert!(usage.stream && usage.first_byte_at.is_some());
    assert_eq!(usage.cost.0, 45_000);
}

#[tokio::test]
async fn what_the_upstream_does_wrong_has_a_code_and_a_record() {
    for (model, status, expected, outcome) in [
        (
            "error-500",
            502,
            "upstream_error",
            AttemptOutcome::UpstreamError,
        ),
        (
            "error-401",
            502,
            "upstream_error",
            AttemptOutcome::UpstreamError,
        ),
        (
            "redirect",
            502,
            "upstream_error",
            AttemptOutcome::UpstreamError,
        ),
        (
            "not-json",
            502,
            "upstream_error",
            AttemptOutcome::UpstreamError,
        ),
        (
            "error-in-200",
            502,
            "upstream_error",
            AttemptOutcome::UpstreamError,
        ),
        ("hang", 504, "upstream_timeout", AttemptOutcome::Timeout),
        (
            "unreachable",
            502,
            "upstream_unreachable",
            AttemptOutcome::Unreachable,
        ),
    ] {
        let harness = Harness::start().await;
        let answer = harness
            .post(&chat(model), &harness::request(model), &[])
            .await;
        assert_eq!(answer.status.as_u16(), status, "{model}: {}", answer.body);
        assert_eq!(code(&answer.json()), expected, "{model}");
        let (_, usage) = harness.only_record().await;
        assert_eq!(usage.attempts[0].outcome, outcome, "{model}");
        assert_eq!(usage.tokens.output, 0, "{model}");
    }
}

#[tokio::test]
async fn the_upstream_s_word_on_the_request_passes_as_it_is() {
    let harness = Harness::start().await;
    let answer = harness
        .post(&chat("error-429"), &harness::request("error-429"), &[])
        .await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.header("retry-after"), "7");
    assert_eq!(answer.body, "{\"error\":{\"message\":\"as asked: 429\"}}");
    let (_, usage) = harness.only_record().await;
    assert_eq!((usage.http_status, usage.cost.0), (429, 0));
}

#[tokio::test]
async fn a_caller_who_hangs_up_stops_the_upstream_and_is_recorded() {
    let harness = Harness::start().await;
    let call = harness.post_in_background(&harness::request("hang"));
    harness
        .wait_until(|harness| harness.books().journal.open_calls() == 1)
        .await;
    harness
        .wait_until(|harness| harness.running_upstream_calls() == 1)
        .await;
    call.abort();
    let (meta, usage) = harness.only_record().await;
    assert_eq!(usage.status, UsageStatus::ClientClosed);
    assert!(meta.estimated);
    harness
        .wait_until(|harness| harness.running_upstream_calls() == 0)
        .await;
}

#[tokio::test]
async fn line_051_a_refusal_at_a_step_stops_all_steps_after_it() {
    let harness = Harness::start().await;
    for (key, model, status, expected) in [
        ("sk_nonsense", "fast", 401, "unauthorized"),
        (harness.unknown_key.as_str(), "fast", 401, "unauthorized"),
        (harness.revoked_key.as_str(), "fast", 401, "api_key_revoked"),
        (harness.expired_key.as_str(), "fast", 401, "api_key_expired"),
        (harness.key.as_str(), "no-such", 400, "model_not_found"),
        (
            harness.key.as_str(),
            "not-granted",
            403,
            "model_not_allowed",
        ),
        (harness.key.as_str(), "disabled", 403, "provider_disabled"),
        (
            harness.key.as_str(),
            "gemini",
            400,
            "provider_type_unsupported",
        ),
        (
            harness.key.as_str(),
            "revoked-key",
            403,
            "provider_api_key_revoked",
        ),
    ] {
        let authorization = format!("Bearer {key}");
        let answer = harness
            .post_as(
                &authorization,
                "/v1/chat/completions",
                &harness::request(model),
                &[],
            )
            .await;
        assert_eq!(answer.status.as_u16(), status, "{model}: {}", answer.body);
        assert_eq!(code(&answer.json()), expected, "{model}");
    }
    assert_eq!(harness.calls(), 0);
    assert!(harness.records().await.is_empty());
}

#[tokio::test]
async fn bodies_that_cannot_be_read_are_refused() {
    let harness = Harness::start().await;
    let deep = format!(
        "{{\"model\":\"fast\",\"messages\":{}{}}}",
        "[".repeat(70),
        "]".repeat(70)
    );
    for body in [
        "",
        "{",
        "[]",
        "{\"messages\":[]}",
        "{\"model\":\"fast\",\"model\":\"x\"}",
        &deep,
    ] {
        let answer = harness.post(&chat("fast"), body, &[]).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(code(&answer.json()), "invalid_request_body", "{body}");
    }
    let answer = harness
        .post(
            &chat("fast"),
            "model=fast",
            &[("content-type", "text/plain")],
        )
        .await;
    assert_eq!(code(&answer.json()), "unsupported_media_type");
    assert_eq!(harness.calls(), 0);
}

#[tokio::test]
async fn other_paths_and_methods_are_told_so() {
    let harness = Harness::start().await;
    let answer = harness.post("/v1/nothing", "{}", &[]).await;
    assert_eq!(
        (answer.status.as_u16(), code(&answer.json())),
        (404, "not_found")
    );
    let answer = harness.get("/v1/chat/completions").await;
    assert_eq!(
        (answer.status.as_u16(), code(&answer.json())),
        (405, "method_not_allowed")
    );
    assert_eq!(answer.header("allow"), "POST");
    assert_eq!(answer.header(request_id::HEADER.as_str()).len(), 32);
}

#[tokio::test]
async fn the_small_endpoints_answer() {
    let harness = Harness::start().await;
    assert_eq!(
        harness.get("/v1/health").await.json(),
        json!({"status": "ok"})
    );
    assert_eq!(harness.get("/v1/ready").await.status, StatusCode::OK);
    let models = harness.get("/v1/models").await.json();
    assert_eq!(models["object"], "list");
    let fast = &models["data"]
        .as_array()
        .unwrap()
        .iter()
        .find(|m| m["id"] == "fast")
        .unwrap();
    assert_eq!(
        **fast,
        json!({"id":"fast","object":"model","created":0,"owned_by":"custom"})
    );
    let valid = harness.post("/v1/keys/validate", "", &[]).await.json();
    assert_eq!(
        (&valid["valid"], &valid["type"]),
        (&json!(true), &json!("organisation"))
    );
    let metrics = harness.get("/metrics").await.body;
    assert!(
        metrics.contains("gateway_requests_total{route=\"/v1/health\",status_class=\"2xx\"} 1")
    );
    harness.stop();
    assert_eq!(harness.ready_code(), Some(Code::ShuttingDown));
}

#[tokio::test]
async fn line_052_a_call_beyond_the_cap_is_refused_and_taken_when_there_is_room() {
    let harness = Harness::start().await;
    let hanging: Vec<_> = (0..CAP)
        .map(|_| harness.post_in_background(&harness::request("hang")))
        .collect();
    harness
        .wait_until(|harness| harness.books().journal.open_calls() == CAP)
        .await;
    let refused = harness
        .post(&chat("fast"), &harness::request("fast"), &[])
        .await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(code(&refused.json()), "overloaded");
    for call in hanging {
        call.abort();
    }
    harness
        .wait_until(|harness| harness.books().journal.open_calls() == 0)
        .await;
    let taken = harness
        .post(&chat("fast"), &harness::request("fast"), &[])
        .await;
    assert_eq!(taken.status, StatusCode::OK);
}
