//! The contract's models and rules: answers, usage, the ledger's rows, models, keys, errors.

use std::time::{Duration, Instant};

use http::Request;
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::client::{Upstream, call, options};
use crate::demo::ledger::Ledger;

#[tokio::test]
async fn a_unary_answer_is_whole_and_in_the_ledger() {
    let upstream = Upstream::start().await;
    let body = call("demo-fast", &json!({}));
    let reply = upstream.chat(&body).await;
    assert_eq!(reply.headers["content-type"], "application/json");
    let answer = reply.json();
    let row = upstream.last_row().await;
    assert_eq!(
        answer,
        json!({
            "id": row["id"], "object": "chat.completion", "created": answer["created"], "model": "demo-fast",
            "choices": [{"index": 0, "logprobs": null, "finish_reason": "stop", "message": {
                "role": "assistant", "content": " a".repeat(20), "refusal": null, "annotations": [],
            }}],
            "usage": usage(5, 20), "service_tier": "default", "system_fingerprint": "fp_demo",
        })
    );
    assert!(answer["created"].as_i64().unwrap() > 1_700_000_000);
    assert_eq!(row["client_request_id"], "att_1");
    assert_eq!(
        (&row["outcome"], &row["status"], &row["stream"]),
        (&json!("completed"), &json!(200), &json!(false))
    );
    assert_eq!(
        (
            &row["prompt_tokens"],
            &row["completion_tokens"],
            &row["usage_sent"]
        ),
        (&json!(5), &json!(20), &json!(true))
    );
    assert!(row["finished_at"].as_str() >= row["received_at"].as_str());
    let kept = upstream.get("/_ledger/1/body").await;
    assert_eq!(kept.text(), body.to_string());
    assert_eq!(upstream.get("/_ledger/2/body").await.status, 404);
}

#[tokio::test]
async fn a_stream_is_a_chunk_a_token_and_done() {
    let upstream = Upstream::start().await;
    let reply = upstream
        .chat(&call("demo-fast", &json!({"stream": true})))
        .await;
    assert_eq!(
        reply.headers["content-type"],
        "text/event-stream; charset=utf-8"
    );
    let events = reply.events();
    assert_eq!(events.len(), 21);
    assert_eq!(events[20], "[DONE]");
    let row = upstream.last_row().await;
    for (index, event) in events[..20].iter().enumerate() {
        assert_eq!(
            (&event["object"], &event["id"]),
            (&json!("chat.completion.chunk"), &row["id"])
        );
        let choice = &event["choices"][0];
        assert_eq!(choice["delta"]["content"], " a");
        assert_eq!(choice["delta"]["role"].is_string(), index == 0);
        assert_eq!(
            choice["finish_reason"],
            if index == 19 {
                json!("stop")
            } else {
                Value::Null
            }
        );
        assert_eq!(event.get("usage"), None);
    }
    assert_eq!(
        (
            &row["completion_tokens"],
            &row["usage_sent"],
            &row["stream"]
        ),
        (&json!(20), &json!(false), &json!(true))
    );
}

#[tokio::test]
async fn usage_is_streamed_only_when_it_is_asked_for() {
    let upstream = Upstream::start().await;
    let asked = json!({"stream": true, "stream_options": {"include_usage": true}});
    let events = upstream.chat(&call("demo-fee", &asked)).await.events();
    assert_eq!(events.len(), 22);
    assert_eq!(
        (&events[20]["choices"], &events[20]["usage"]),
        (&json!([]), &usage(5, 20))
    );
    assert_eq!(upstream.last_row().await["usage_sent"], true);

    for more in [asked, json!({"stream": true}), json!({})] {
        let text = upstream.chat(&call("demo-no-usage", &more)).await.text();
        assert!(!text.contains("usage\":"), "{text}");
        let row = upstream.last_row().await;
        assert_eq!(
            (&row["usage_sent"], &row["completion_tokens"]),
            (&json!(false), &json!(20))
        );
    }
}

#[tokio::test]
async fn tokens_are_bounded_by_the_call_and_multiplied_by_n() {
    let upstream = Upstream::start().await;
    for (more, tokens, reason) in [
        (json!({"max_tokens": 3}), 3, "length"),
        (
            json!({"max_completion_tokens": 4, "max_tokens": 9, "n": 3}),
            12,
            "length",
        ),
        (json!({"max_tokens": 20, "n": 2}), 40, "stop"),
        (json!({"max_tokens": 0}), 0, "length"),
    ] {
        let answer = upstream.chat(&call("demo-fast", &more)).await.json();
        let choices = answer["choices"].as_array().unwrap();
        assert_eq!(answer["usage"], usage(5, tokens));
        let content: String = choices
            .iter()
            .map(|choice| choice["message"]["content"].as_str().unwrap())
            .collect();
        assert_eq!(content.matches(" a").count() as u64, tokens);
        assert!(
            choices
                .iter()
                .all(|choice| choice["finish_reason"] == reason)
        );
        assert_eq!(upstream.last_row().await["completion_tokens"], tokens);

        let mut streamed = more.clone();
        streamed["stream"] = json!(true);
        streamed["stream_options"] = json!({"include_usage": true});
        let events = upstream.chat(&call("demo-fast", &streamed)).await.events();
        let text = events
            .iter()
            .flat_map(|event| event["choices"].as_array().cloned().unwrap_or_default());
        assert_eq!(
            text.filter(|choice| choice["delta"]["content"] == " a")
                .count() as u64,
            tokens
        );
        assert_eq!(events[events.len() - 2]["usage"], usage(5, tokens));
        assert_eq!(upstream.last_row().await["completion_tokens"], tokens);
    }
}

#[tokio::test]
async fn the_forced_tool_is_called_once_with_an_empty_object() {
    let upstream = Upstream::start().await;
    let tools = json!([{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]);
    let named = json!({"type": "function", "function": {"name": "look_up"}});
    for choice in [json!("required"), named] {
        let more = json!({"tools": tools, "tool_choice": choice});
        let answer = upstream.chat(&call("demo-fast", &more)).await.json();
        let message = &answer["choices"][0]["message"];
        assert_eq!(
            (&message["content"], &answer["choices"][0]["finish_reason"]),
            (&Value::Null, &json!("tool_calls"))
        );
        let calls = message["tool_calls"].as_array().unwrap();
        assert_eq!(
            (calls.len(), &calls[0]["function"]),
            (1, &json!({"name": "look_up", "arguments": "{}"}))
        );
        assert_eq!(answer["usage"], usage(5, 20));

        let more = json!({"tools": tools, "tool_choice": choice, "stream": true});
        let events = upstream.chat(&call("demo-fast", &more)).await.events();
        let deltas: Vec<&Value> = events
            .iter()
            .map(|event| &event["choices"][0]["delta"]["tool_calls"][0])
            .collect();
        assert_eq!(
            (&deltas[0]["function"]["name"], &deltas[0]["type"]),
            (&json!("look_up"), &json!("function"))
        );
        assert!(deltas[0]["id"].as_str().unwrap().starts_with("call_"));
        assert_eq!(
            deltas[1],
            &json!({"index": 0, "function": {"arguments": "{}"}})
        );
        assert_eq!(events[2]["choices"][0]["finish_reason"], "tool_calls");
        assert_eq!((events.len(), &events[3]), (4, &json!("[DONE]")));
        assert_eq!(upstream.last_row().await["completion_tokens"], 20);
    }
    let free = upstream
        .chat(&call(
            "demo-fast",
            &json!({"tools": tools, "tool_choice": "auto"}),
        ))
        .await
        .json();
    assert_eq!(free["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn slow_tokens_come_one_by_one() {
    let upstream = Upstream::start().await;
    let started = Instant::now();
    let reply = upstream
        .chat(&call(
            "demo-slow@tokens=5,gap_ms=20,first_ms=50",
            &json!({"stream": true}),
        ))
        .await;
    assert!(started.elapsed() >= Duration::from_millis(50 + 4 * 20));
    assert_eq!(reply.frames.len(), 5);
    assert_eq!(reply.events().len(), 6);
    assert_eq!(
        reply.events()[0]["model"],
        "demo-slow@tokens=5,gap_ms=20,first_ms=50"
    );
    let unary = upstream
        .chat(&call("demo-slow@first_ms=1", &json!({})))
        .await
        .json();
    assert_eq!(unary["usage"]["completion_tokens"], 100);
}

#[tokio::test]
async fn errors_have_openai_bodies_and_cost_nothing() {
    let upstream = Upstream::start().await;
    let mut wrong_key = upstream.chat_request(call("demo-fast", &json!({})).to_string());
    wrong_key
        .headers_mut()
        .insert("authorization", "Bearer wrong".parse().unwrap());
    let mut no_key = upstream.chat_request(call("demo-fast", &json!({})).to_string());
    no_key.headers_mut().remove("authorization");
    let of = |model| upstream.chat_request(call(model, &json!({})).to_string());
    let invalid = upstream.chat_request(json!({"model": "demo-fast", "messages": 1}).to_string());
    for (request, status, code) in [
        (wrong_key, 401, json!("invalid_api_key")),
        (no_key, 401, json!("invalid_api_key")),
        (of("gpt-9"), 404, json!("model_not_found")),
        (of("demo-fast@speed=1"), 400, json!("invalid_model_setting")),
        (of("demo-error-500"), 500, Value::Null),
        (invalid, 400, json!("invalid_request_body")),
    ] {
        let reply = upstream.send(request).await;
        assert_eq!(reply.status, status);
        let error = &reply.json()["error"];
        assert_eq!(error["code"], code);
        assert!(
            error["message"].is_string()
                && error["type"].is_string()
                && error.get("param").is_some()
        );
        let row = upstream.last_row().await;
        assert_eq!(
            (&row["outcome"], &row["status"]),
            (&json!("error"), &json!(status))
        );
        assert_eq!(
            (
                &row["prompt_tokens"],
                &row["completion_tokens"],
                &row["usage_sent"]
            ),
            (&json!(0), &json!(0), &json!(false))
        );
    }
    let rows = upstream.rows().await.len();
    for broken in ["", "{\"model\":\"demo-fast\"", "[]", "\u{0}"] {
        let reply = upstream
            .send(upstream.chat_request(broken.to_owned()))
            .await;
        assert_eq!(
            (reply.status.as_u16(), &reply.json()["error"]["code"]),
            (400, &json!("invalid_request_body"))
        );
    }
    assert_eq!(upstream.rows().await.len(), rows);
}

#[tokio::test]
async fn the_other_routes_answer() {
    let upstream = Upstream::start().await;
    assert_eq!(upstream.get("/_health").await.status, 200);
    assert_eq!(upstream.get("/v1/models").await.status, 401);
    assert_eq!(upstream.get("/v1/chat/completions").await.status, 405);
    assert_eq!(
        upstream.get("/nothing").await.json()["error"]["type"],
        "invalid_request_error"
    );
    assert_eq!(
        upstream.get("/_ledger").await.json(),
        json!({"data": [], "next_after": 0})
    );
    for query in ["?after=x", "?limit=", "?other=1", "?after"] {
        assert_eq!(
            upstream.get(&format!("/_ledger{query}")).await.status,
            400,
            "{query}"
        );
    }
    let mut models = Request::get(format!("http://{}/v1/models", upstream.addr))
        .body(Full::default())
        .unwrap();
    models
        .headers_mut()
        .insert("authorization", "Bearer demo-upstream-key".parse().unwrap());
    let models = upstream.send(models).await.json();
    assert_eq!(models["data"].as_array().unwrap().len(), 7);
    assert_eq!(
        models["data"][0],
        json!({"id": "demo-fast", "object": "model", "created": 0, "owned_by": "odock"})
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_calls_at_once_make_a_thousand_rows() {
    let upstream = Upstream::start().await;
    let large = "x".repeat(300_000);
    let mut calls = JoinSet::new();
    for index in 0..1_000 {
        let content = if index % 100 == 0 {
            large.as_str()
        } else {
            "x"
        };
        let body = json!({"model": "demo-fast@first_ms=20", "stream": index % 2 == 0, "messages": [{"role": "user", "content": content}]});
        let client = upstream.client.clone();
        let request = upstream.chat_request(body.to_string());
        calls.spawn(async move { client.request(request).await.unwrap().status() });
    }
    while let Some(status) = calls.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    let page = upstream.get("/_ledger?after=990&limit=5").await.json();
    assert_eq!(
        (page["data"].as_array().unwrap().len(), &page["next_after"]),
        (5, &json!(995))
    );
    let rows = upstream.rows().await;
    assert_eq!(rows.len(), 1_000);
    assert_eq!(
        rows.iter()
            .filter(|row| row["prompt_tokens"] == 75_000)
            .count(),
        10
    );
}

#[tokio::test]
async fn http2_with_prior_knowledge_is_served_too() {
    let mut upstream = Upstream::start().await;
    upstream.client = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http();
    let events = upstream
        .chat(&call("demo-fast@gap_ms=1", &json!({"stream": true})))
        .await
        .events();
    assert_eq!((events.len(), &events[20]), (21, &json!("[DONE]")));
    let reply = upstream
        .chat(&call("demo-cut-stream", &json!({"stream": true})))
        .await;
    assert_eq!((reply.events().len(), reply.error.is_some()), (5, true));
    assert_eq!(upstream.last_row().await["outcome"], "cut");
}

#[tokio::test]
async fn the_ledger_outlives_a_restart() {
    let upstream = Upstream::start().await;
    upstream.chat(&call("demo-fast", &json!({}))).await;
    let before = upstream.rows().await;
    let directory = upstream.stop().await;
    let upstream = Upstream::start_in(directory).await;
    assert_eq!(upstream.rows().await, before);
    upstream.chat(&call("demo-fast", &json!({}))).await;
    let rows = upstream.rows().await;
    assert_eq!(
        (rows.len(), &rows[0], &rows[1]["seq"]),
        (2, &before[0], &json!(2))
    );
    let directory = upstream.stop().await;
    let clock = Box::new(odock_events::clock::SystemClock);
    let path = options(directory.path()).data_dir;
    assert_eq!(
        Ledger::open(&path, clock)
            .unwrap()
            .page(0, 10)
            .unwrap()
            .data
            .len(),
        2
    );
}

fn usage(prompt: u64, completion: u64) -> Value {
    json!({
        "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
        },
    })
}
