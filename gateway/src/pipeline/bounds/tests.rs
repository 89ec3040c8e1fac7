//! Each kind of request: its bound worked out by hand, or why there is none.

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::pipeline::testing::priced_model;

/// 1,000 nanos a token in, 2,000 out, and what is given besides.
fn model(pricing: Value, config: Value) -> Model {
    let mut all = json!({ "input_per_million_nanos": 1_000_000_000, "output_per_million_nanos": 2_000_000_000 });
    merge(&mut all, pricing);
    let mut model = priced_model(Some(serde_json::from_value(all).unwrap()));
    let mut caps = json!({ "max_output_tokens": 100 });
    merge(&mut caps, config);
    model.body.config = serde_json::from_value(caps).unwrap();
    model
}

fn merge(all: &mut Value, more: Value) {
    let Value::Object(more) = more else { return };
    all.as_object_mut().unwrap().extend(more);
}

fn request(members: Value) -> ChatRequest {
    let mut body = json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }] });
    merge(&mut body, members);
    ChatRequest::parse(Bytes::from(body.to_string())).unwrap()
}

fn parts(parts: impl Into<Value>) -> ChatRequest {
    let parts: Value = parts.into();
    request(json!({ "messages": [{ "role": "user", "content": parts }] }))
}

/// The nanos that R is above that of the text alone, by its own byte bound.
fn beyond_text(request: &ChatRequest, model: &Model) -> i64 {
    let text =
        request.input.text_upper + request.input.messages * 16 + request.input.tools * 64 + 512;
    bound(request, model) - text as i64 * 1_000
}

fn bound(request: &ChatRequest, model: &Model) -> i64 {
    Bounds::of(request, model).cost.unwrap().0
}

fn why(request: &ChatRequest, model: &Model) -> String {
    let refused = Bounds::of(request, model).cost.unwrap_err();
    let error = refused.under("a hard budget");
    assert_eq!(error.code(), Code::CostUnbounded);
    refused.to_string()
}

#[test]
fn text_costs_at_most_its_bytes_and_every_answer_its_limit() {
    let model = model(json!({}), json!({}));
    let plain = request(json!({}));
    assert_eq!(beyond_text(&plain, &model), 100 * 2_000);
    let bounds = Bounds::of(&plain, &model);
    assert_eq!(bounds.requests, 1);
    assert_eq!(bounds.tokens_out, Ok(100));
    assert_eq!(bounds.tokens_in, Ok(plain.input.text_upper + 16 + 512));
    let three = request(json!({ "n": 3, "max_tokens": 40 }));
    assert_eq!(beyond_text(&three, &model), 3 * 40 * 2_000);
    let more_than_the_model = request(json!({ "max_completion_tokens": 4_000 }));
    assert_eq!(beyond_text(&more_than_the_model, &model), 100 * 2_000);
}

#[test]
fn tools_and_schemas_are_text_with_an_allowance_each() {
    let model = model(json!({}), json!({}));
    let tool = json!({ "type": "function", "function": { "name": "f", "parameters": { "type": "object" } } });
    let with = request(json!({
        "tools": [tool, tool],
        "response_format": { "type": "json_schema", "json_schema": { "name": "s", "schema": { "type": "object" } } },
    }));
    assert_eq!(with.input.tools, 2);
    assert!(with.input.text_upper as usize >= with.body().len());
    assert_eq!(beyond_text(&with, &model), 100 * 2_000);
}

#[test]
fn a_call_without_an_end_is_refused_and_says_how_to_give_it_one() {
    let mut endless = model(json!({}), json!({}));
    endless.body.config.max_output_tokens = None;
    assert!(why(&request(json!({})), &endless).contains("`max_output_tokens`"));
    assert_eq!(
        beyond_text(&request(json!({ "max_tokens": 7 })), &endless),
        14_000
    );
}

#[test]
fn line_131_a_model_without_a_price_has_bounds_in_tokens_and_none_in_money() {
    let bounds = Bounds::of(&request(json!({})), &priced_model(None));
    assert!(bounds.tokens_in.is_ok());
    let refused = bounds.cost.unwrap_err().to_string();
    assert!(refused.contains("set `pricing` on the model"), "{refused}");
}

#[test]
fn cached_input_and_reasoning_are_within_the_dearest_class_of_their_side() {
    let dear_cache = model(
        json!({ "cache_write_per_million_nanos": 1_250_000_000 }),
        json!({}),
    );
    let plain = request(json!({}));
    let text = plain.input.text_upper + 16 + 512;
    assert_eq!(bound(&plain, &dear_cache), text as i64 * 1_250 + 200_000);
    let thinks = model(
        json!({ "reasoning_per_million_nanos": 5_000_000_000_i64 }),
        json!({}),
    );
    assert_eq!(beyond_text(&plain, &thinks), 100 * 5_000);
}

#[test]
fn a_longer_cache_counts_where_the_request_may_ask_for_it() {
    let model = model(
        json!({ "cache_write_1h_per_million_nanos": 3_000_000_000_i64 }),
        json!({}),
    );
    let plain = request(json!({}));
    assert_eq!(beyond_text(&plain, &model), 200_000);
    for asks in [
        request(json!({ "prompt_cache_retention": "24h" })),
        parts(
            json!([{ "type": "text", "text": "hi", "cache_control": { "type": "ephemeral", "ttl": "1h" } }]),
        ),
    ] {
        let text = asks.input.text_upper + 16 + 512;
        assert_eq!(bound(&asks, &model), text as i64 * 3_000 + 200_000);
    }
    let short = request(json!({ "prompt_cache_retention": "in_memory" }));
    assert_eq!(beyond_text(&short, &model), 200_000);
}

#[test]
fn the_dearer_list_of_a_long_input_is_in_the_bound_only_where_it_can_be_reached() {
    let lists = json!({ "long_context": [
        { "above_input_tokens": 1_000, "rates": { "input_per_million_nanos": 9_000_000_000_i64 } },
        { "above_input_tokens": 90_000, "rates": { "input_per_million_nanos": 99_000_000_000_i64 } },
    ] });
    let model = model(lists, json!({}));
    assert_eq!(beyond_text(&request(json!({})), &model), 200_000);
    let long = parts(json!("x".repeat(2_000)));
    let text = long.input.text_upper + 16 + 512;
    assert_eq!(bound(&long, &model), text as i64 * 9_000 + 200_000);
}

#[test]
fn tiers_are_bounded_by_the_dearest_that_may_serve_the_call() {
    let tiers = json!({ "service_tiers": {
        "flex": { "rates": { "output_per_million_nanos": 1_000_000_000 } },
        "priority": { "rates": { "output_per_million_nanos": 4_000_000_000_i64 } },
    } });
    let model = model(tiers, json!({}));
    let with = |tier: Value| beyond_text(&request(json!({ "service_tier": tier })), &model);
    assert_eq!(with(json!("default")), 100 * 2_000);
    // It may be served by the standard tier all the same.
    assert_eq!(with(json!("flex")), 100 * 2_000);
    assert_eq!(with(json!("priority")), 100 * 4_000);
    // The provider's settings decide.
    assert_eq!(with(json!("auto")), 100 * 4_000);
    assert_eq!(with(Value::Null), 100 * 4_000);
    let plain = priced_model(Some(Pricing::of_tokens(1, 1)));
    for unpriced in ["priority", "flex", "scale"] {
        let refused = why(
            &request(json!({ "service_tier": unpriced, "max_tokens": 1 })),
            &plain,
        );
        assert!(refused.contains("`service_tiers`"), "{refused}");
    }
}

#[test]
fn images_cost_at_most_what_the_model_says_by_their_detail() {
    let image = |detail: &str| json!({ "type": "image_url", "image_url": { "url": "https://x/y.png", "detail": detail } });
    let two = parts(json!([image("high"), image("low")]));
    let refused = why(&two, &model(json!({}), json!({})));
    assert!(refused.contains("`max_image_tokens`"), "{refused}");
    let capped = model(json!({}), json!({ "max_image_tokens": 1_000 }));
    assert_eq!(beyond_text(&two, &capped), 2_000 * 1_000 + 200_000);
    let both = json!({ "max_image_tokens": 1_000, "max_low_detail_image_tokens": 85 });
    assert_eq!(
        beyond_text(&two, &model(json!({}), both)),
        1_085 * 1_000 + 200_000
    );
    let dearer = json!({ "input_image_per_million_nanos": 3_000_000_000_i64, "units_per_million_nanos": { "input_images": 5_000_000 } });
    let dearer = model(dearer, json!({ "max_image_tokens": 1_000 }));
    assert_eq!(beyond_text(&two, &dearer), 2_000 * 3_000 + 2 * 5 + 200_000);
    let unpriced = model(
        json!({ "unpriced": ["input_image"] }),
        json!({ "max_image_tokens": 1 }),
    );
    assert!(why(&two, &unpriced).contains("images have no price"));
}

#[test]
fn audio_video_and_files_need_a_price_and_a_bound() {
    let audio = parts(
        json!([{ "type": "input_audio", "input_audio": { "data": "AAAA", "format": "wav" } }]),
    );
    let window = json!({ "context_window": 5_000 });
    let refused = why(&audio, &model(json!({}), window.clone()));
    assert!(
        refused.contains("`input_audio_per_million_nanos`"),
        "{refused}"
    );
    let price = json!({ "input_audio_per_million_nanos": 4_000_000_000_i64 });
    let refused = why(&audio, &model(price.clone(), json!({})));
    assert!(refused.contains("`max_audio_tokens`"), "{refused}");
    let by_window = model(price.clone(), window.clone());
    assert_eq!(beyond_text(&audio, &by_window), 5_000 * 4_000 + 200_000);
    let capped = model(
        price,
        json!({ "max_audio_tokens": 300, "context_window": 5_000 }),
    );
    assert_eq!(beyond_text(&audio, &capped), 300 * 4_000 + 200_000);

    let video = parts(json!([{ "type": "video_url", "video_url": { "url": "https://x/y.mp4" } }]));
    assert!(
        why(&video, &model(json!({}), window.clone())).contains("`input_video_per_million_nanos`")
    );
    let priced = model(
        json!({ "input_video_per_million_nanos": 2_000_000_000_i64 }),
        window.clone(),
    );
    assert_eq!(beyond_text(&video, &priced), 5_000 * 2_000 + 200_000);

    let file = parts(json!([{ "type": "file", "file": { "file_id": "file-1" } }]));
    assert!(why(&file, &model(json!({}), json!({}))).contains("`max_file_tokens`"));
    assert_eq!(
        beyond_text(&file, &model(json!({}), window)),
        5_000 * 1_000 + 200_000
    );
}

#[test]
fn audio_in_answers_is_within_the_output_limit_at_its_own_price() {
    let asks = request(
        json!({ "modalities": ["text", "audio"], "audio": { "voice": "x", "format": "wav" } }),
    );
    assert!(why(&asks, &model(json!({}), json!({}))).contains("`output_audio_per_million_nanos`"));
    let priced = model(
        json!({ "output_audio_per_million_nanos": 7_000_000_000_i64 }),
        json!({}),
    );
    assert_eq!(beyond_text(&asks, &priced), 100 * 7_000);
    let unknown = request(json!({ "modalities": ["text", "smell"] }));
    assert!(why(&unknown, &priced).contains("`modalities`"));
}

#[test]
fn searches_need_a_price_a_limit_and_a_window() {
    let search = request(json!({ "web_search_options": { "search_context_size": "high" } }));
    let window = json!({ "context_window": 5_000, "max_web_searches": 2 });
    assert!(why(&search, &model(json!({}), window.clone())).contains("`web_search_low`"));
    let price = json!({ "units_per_million_nanos": { "web_search_high": 30_000_000_000_000_i64 } });
    let refused = why(
        &search,
        &model(price.clone(), json!({ "context_window": 5_000 })),
    );
    assert!(refused.contains("`max_web_searches`"), "{refused}");
    let refused = why(
        &search,
        &model(price.clone(), json!({ "max_web_searches": 2 })),
    );
    assert!(refused.contains("`context_window`"), "{refused}");
    // Two searches at 0.03 USD, and all that they find.
    let bounded = model(price, window);
    assert_eq!(
        beyond_text(&search, &bounded),
        60_000_000 + 5_000_000 + 200_000
    );
}

#[test]
fn what_the_price_does_not_say_is_refused() {
    let gap = model(json!({ "unpriced": ["every_call"] }), json!({}));
    assert!(why(&request(json!({})), &gap).contains("set `pricing` on the model"));
    for members in [
        json!({ "prediction": { "type": "content", "content": "x" } }),
        json!({ "speed": "fast" }),
        json!({ "inference_geo": "us" }),
        json!({ "tools": [{ "type": "web_search" }] }),
    ] {
        let priced = model(json!({}), json!({}));
        assert!(!why(&request(members), &priced).is_empty());
    }
}
