//! Requests: golden files, refusals by name, and that a splice changes what it should and nothing else.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::dialect::{json_scan::tests::any_value, testdata};

mod asked;

fn parse(body: &str) -> Result<ChatRequest, RequestError> {
    ChatRequest::parse(Bytes::copy_from_slice(body.as_bytes()))
}

/// A request around `members`, which begin with a comma.
fn with(members: &str) -> Result<ChatRequest, RequestError> {
    parse(&format!(r#"{{"model":"m","messages":[]{members}}}"#))
}

fn message(message: &str) -> Result<ChatRequest, RequestError> {
    parse(&format!(r#"{{"model":"m","messages":[{message}]}}"#))
}

/// `slug=… limit=… field=… usage`, all but the first optional.
fn read_edits(line: &str) -> Edits<'_> {
    let mut edits = Edits {
        slug: "",
        inject_max_tokens: None,
        limit_field: LimitField::MaxCompletionTokens,
        ask_for_usage: false,
    };
    for word in line.split(' ') {
        match word.split_once('=').unwrap_or((word, "")) {
            ("slug", slug) => edits.slug = slug,
            ("limit", limit) => edits.inject_max_tokens = Some(limit.parse().unwrap()),
            ("field", "max_tokens") => edits.limit_field = LimitField::MaxTokens,
            ("usage", _) => edits.ask_for_usage = true,
            other => panic!("unknown edit {other:?}"),
        }
    }
    edits
}

fn describe(request: &ChatRequest) -> String {
    let InputSize {
        text_upper,
        text_bytes,
        messages,
        tools,
        media,
    } = request.input;
    let images = media.images;
    let mut text = format!(
        "model {:?} stream {} include_usage {} max_tokens {:?} max_completion_tokens {:?} n {}\n\
         InputSize {{ text_upper: {text_upper}, text_bytes: {text_bytes}, messages: {messages}, tools: {tools}, images: {images} }}\n\
         unbounded: {}",
        request.model,
        request.stream,
        request.include_usage,
        request.max_tokens,
        request.max_completion_tokens,
        request.choices,
        request.unbounded.unwrap_or("no")
    );
    let Media {
        audios,
        videos,
        files,
        ..
    } = media;
    if audios + videos + files > 0 {
        let counts = format!("\naudios {audios} videos {videos} files {files}");
        text.push_str(&counts);
    }
    text
}

#[test]
fn golden_requests() {
    let cases = testdata::cases("requests");
    assert!(cases.len() >= 25, "only {} cases", cases.len());
    for case in cases {
        let request = parse(case.section("request")).unwrap();
        assert_eq!(
            describe(&request),
            case.section("facts"),
            "facts of {}",
            case.name
        );
        let upstream = request.upstream_body(&read_edits(case.section("edits")));
        let upstream = std::str::from_utf8(&upstream).unwrap();
        assert_eq!(
            upstream,
            case.section("upstream"),
            "upstream body of {}",
            case.name
        );
    }
}

#[test]
fn a_request_with_nothing_to_change_is_the_same_buffer() {
    let body = Bytes::from_static(
        br#"{"model":"m","messages":[],"stream":true,"max_tokens":5,"stream_options":{"include_usage":true}}"#,
    );
    let request = ChatRequest::parse(body.clone()).unwrap();
    let edits = Edits {
        slug: "m",
        inject_max_tokens: Some(5),
        limit_field: LimitField::MaxCompletionTokens,
        ask_for_usage: true,
    };
    let upstream = request.upstream_body(&edits);
    assert_eq!(upstream.as_ptr(), body.as_ptr());
    assert_eq!(upstream, body);
}

#[test]
fn refusals_name_the_field() {
    for (body, message) in [
        ("", "the body is not valid JSON: it ends too early"),
        ("[]", "the body must be a JSON object"),
        (
            "{\"model\":\"m\"",
            "the body is not valid JSON: it ends too early",
        ),
        (
            "{\"model\":\"m\",\"messages\":[]}x",
            "the body is not valid JSON: expected the end of the document at byte 27",
        ),
        (r#"{"messages":[]}"#, "`model` is missing"),
        (r#"{"model":"m"}"#, "`messages` is missing"),
        (
            r#"{"model":"m","messages":{}}"#,
            "`messages` must be an array",
        ),
        (
            r#"{"model":"m","messages":null}"#,
            "`messages` must be an array",
        ),
        (
            r#"{"model":1,"messages":[]}"#,
            "`model` must be a string of 1 to 256 bytes without control characters",
        ),
        (
            r#"{"model":"","messages":[]}"#,
            "`model` must be a string of 1 to 256 bytes without control characters",
        ),
        (
            r#"{"model":"a\u0000","messages":[]}"#,
            "`model` must be a string of 1 to 256 bytes without control characters",
        ),
        (
            r#"{"model":"m","model":"m","messages":[]}"#,
            "`model` is given twice",
        ),
        (
            r#"{"model":"m","messages":[],"Model":"x"}"#,
            "`Model` is not a known field; did you mean `model`?",
        ),
    ] {
        assert_eq!(parse(body).unwrap_err().to_string(), message, "{body}");
    }
}

#[test]
fn refusals_name_the_member() {
    for (members, message) in [
        (r#","stream":"true""#, "`stream` must be true or false"),
        (r#","stream":1"#, "`stream` must be true or false"),
        (
            r#","STREAM":true"#,
            "`STREAM` is not a known field; did you mean `stream`?",
        ),
        (r#","n":0"#, "`n` must be an integer from 1 to 128"),
        (r#","n":129"#, "`n` must be an integer from 1 to 128"),
        (r#","n":1.5"#, "`n` must be an integer from 1 to 128"),
        (r#","n":"1""#, "`n` must be an integer from 1 to 128"),
        (
            r#","max_tokens":0"#,
            "`max_tokens` must be an integer from 1 to 4294967295",
        ),
        (
            r#","max_tokens":-5"#,
            "`max_tokens` must be an integer from 1 to 4294967295",
        ),
        (
            r#","max_tokens":1e2"#,
            "`max_tokens` must be an integer from 1 to 4294967295",
        ),
        (
            r#","max_tokens":4294967296"#,
            "`max_tokens` must be an integer from 1 to 4294967295",
        ),
        (
            r#","max_completion_tokens":"5""#,
            "`max_completion_tokens` must be an integer from 1 to 4294967295",
        ),
        (
            r#","max_tokens":1,"max_tokens":2"#,
            "`max_tokens` is given twice",
        ),
        (
            r#","stream_options":true"#,
            "`stream_options` must be an object",
        ),
        (
            r#","stream_options":{"include_usage":1}"#,
            "`stream_options.include_usage` must be true or false",
        ),
        (
            r#","stream_options":{"include_usage":true,"include_usage":false}"#,
            "`stream_options.include_usage` is given twice",
        ),
        (
            r#","stream_options":{"Include_Usage":true}"#,
            "`stream_options.Include_Usage` is not a known field; did you mean `stream_options.include_usage`?",
        ),
        (r#","tools":{}"#, "`tools` must be an array"),
        (r#","tools":[1]"#, "`tools[0]` must be an object"),
        (
            r#","tools":[{"type":1}]"#,
            "`tools[0].type` must be a string",
        ),
        (
            r#","tools":[{"type":"a","type":"b"}]"#,
            "`tools[0].type` is given twice",
        ),
        (r#","functions":[[]]"#, "`functions[0]` must be an object"),
        (r#","service_tier":1"#, "`service_tier` must be a string"),
        (
            r#","modalities":"text""#,
            "`modalities` must be an array of strings",
        ),
        (
            r#","temperature":1e400"#,
            "the body is not valid JSON: number out of range at byte 41",
        ),
        (
            r#","user":"\ud800""#,
            "the body is not valid JSON: half a surrogate pair at byte 35",
        ),
    ] {
        assert_eq!(with(members).unwrap_err().to_string(), message, "{members}");
    }
}

#[test]
fn refusals_name_the_message_and_the_part() {
    for (body, expected) in [
        ("1", "`messages[0]` must be an object"),
        (
            r#"{"content":1}"#,
            "`messages[0].content` must be a string or an array of parts",
        ),
        (
            r#"{"content":"a","content":"b"}"#,
            "`messages[0].content` is given twice",
        ),
        (
            r#"{},{"Content":"a"}"#,
            "`messages[1].Content` is not a known field; did you mean `messages[1].content`?",
        ),
        (
            r#"{"content":[1]}"#,
            "`messages[0].content[0]` must be a string or an object",
        ),
        (
            r#"{"content":[{"type":null}]}"#,
            "`messages[0].content[0].type` must be a string",
        ),
        (
            r#"{"content":[{},{"type":"text","type":"image_url"}]}"#,
            "`messages[0].content[1].type` is given twice",
        ),
        (
            r#"{"content":[{"Type":"text"}]}"#,
            "`messages[0].content[0].Type` is not a known field; did you mean `messages[0].content[0].type`?",
        ),
    ] {
        assert_eq!(message(body).unwrap_err().to_string(), expected, "{body}");
    }
}

#[test]
fn counts_are_bounded() {
    let many = |count: usize| vec!["{}"; count].join(",");
    assert!(message(&many(65_536)).is_ok());
    assert_eq!(
        message(&many(65_537)),
        Err(RequestError::TooMany {
            field: "messages",
            limit: 65_536
        })
    );
    let tools = |count| with(&format!(r#","functions":[{}]"#, many(count)));
    assert!(tools(4_096).is_ok());
    assert_eq!(
        tools(4_097),
        Err(RequestError::TooMany {
            field: "functions",
            limit: 4_096
        })
    );
}

#[test]
fn what_has_no_bound_is_told() {
    for members in [
        r#","search_parameters":{"mode":"auto"}"#,
        r#","enable_search":true"#,
        r#","plugins":[]"#,
        r#","models":["a"]"#,
        r#","prediction":{"type":"content","content":"x"}"#,
        r#","best_of":3"#,
        r#","chat_template":"x""#,
        r#","extra_body":{}"#,
        r#","modalities":["text","smell"]"#,
        r#","speed":"fast""#,
        r#","inference_geo":"us""#,
        r#","tools":[{"type":"web_search"}]"#,
        r#","tools":[{"google_search":{}}]"#,
    ] {
        assert!(with(members).unwrap().unbounded.is_some(), "{members}");
    }
    for content in [
        r#"{"type":"file"}"#,
        r#"{"type":"input_audio","text":"x"}"#,
        r#"{"type":"document","source":{}}"#,
        r"{}",
    ] {
        let body = format!(r#"{{"role":"user","content":[{content}]}}"#);
        assert!(message(&body).unwrap().unbounded.is_some(), "{content}");
    }
}

#[test]
fn what_has_a_bound_is_let_through() {
    for members in [
        r#","web_search_options":null,"enable_search":false,"service_tier":null,"modalities":null,"tools":null"#,
        r#","service_tier":"auto""#,
        r#","service_tier":"default","modalities":["text"]"#,
        r#","tools":[{"type":"function","function":{}},{"type":"custom","custom":{}},{"function":{}}]"#,
    ] {
        assert_eq!(with(members).unwrap().unbounded, None, "{members}");
    }
    let parts = r#"{"audio":null,"content":["a",{"type":"text","text":"b","image_url":null},{"text":""},{"type":"refusal","refusal":"c"}]}"#;
    assert_eq!(message(parts).unwrap().unbounded, None);
}

#[test]
fn images_count_by_what_a_part_carries() {
    let count = |part: &str| {
        let with_image = message(&format!(r#"{{"content":[{part}]}}"#)).unwrap();
        (
            with_image.input.media.images,
            with_image.body().len() as u64 - with_image.input.text_upper,
        )
    };
    assert_eq!(
        count(r#"{"type":"image_url","image_url":{"url":"data:x"}}"#),
        (1, 16)
    );
    assert_eq!(
        count(r#"{"image_url":{"url":"data:x"},"type":"image_url"}"#),
        (1, 16)
    );
    assert_eq!(count(r#"{"image_url":"data:x"}"#), (1, 8));
    assert_eq!(count(r#"{"type":"image_url"}"#), (1, 0));
    // An upstream may go by either word of a part that contradicts itself, so it counts as both.
    assert_eq!(
        count(r#"{"type":"text","text":"x","image_url":"data:x"}"#),
        (1, 0)
    );
}

fn request_members() -> impl Strategy<Value = Value> {
    let limit = prop_oneof![Just(Value::Null), (1_u64..5000).prop_map(Value::from)];
    let options = prop_oneof![
        Just(Value::Null),
        Just(json!({})),
        Just(json!({"include_usage": null})),
        any::<bool>().prop_map(|asked| json!({"other": 1, "include_usage": asked})),
        Just(json!({"continuous": {"include_usage": true}})),
    ];
    (
        "[a-z\"\\\\é😀]{1,12}",
        prop::collection::vec("[a-z\"\\\\\né😀]{0,20}", 0..4),
        prop::option::of(any::<bool>()),
        prop::option::of(limit.clone()),
        prop::option::of(limit),
        prop::option::of(options),
        prop::option::of(any_value()),
    )
        .prop_map(|(model, texts, stream, old, new, options, extra)| {
            let messages: Vec<_> = texts
                .iter()
                .map(|text| json!({"role": "user", "content": text}))
                .collect();
            let mut request = json!({"model": model, "messages": messages});
            for (name, value) in [
                ("stream", stream.map(Value::from)),
                ("max_tokens", old),
                ("max_completion_tokens", new),
                ("stream_options", options),
                ("x_extra", extra),
            ] {
                if let Some(value) = value {
                    request[name] = value;
                }
            }
            request
        })
}

/// The request as it should go upstream, by editing the tree.
fn edit_tree(mut request: Value, edits: &Edits<'_>) -> Value {
    request["model"] = edits.slug.into();
    if let Some(limit) = edits.inject_max_tokens {
        let names = ["max_tokens", "max_completion_tokens"];
        for name in names {
            if request[name].as_u64().is_some_and(|given| given > limit) {
                request[name] = limit.into();
            }
        }
        if names
            .iter()
            .all(|name| request.get(name).is_none_or(Value::is_null))
        {
            request[names[usize::from(edits.limit_field == LimitField::MaxCompletionTokens)]] =
                limit.into();
        }
    }
    if edits.ask_for_usage && request["stream"] == true {
        request["stream_options"]["include_usage"] = true.into();
    }
    request
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_splice_changes_the_edited_members_and_no_other_byte(
        request in request_members(),
        pretty in any::<bool>(),
        slug in "[a-z\"\\\\é]{1,8}",
        inject_max_tokens in prop::option::of(1_u64..5000),
        old_field in any::<bool>(),
        ask_for_usage in any::<bool>(),
    ) {
        let body = if pretty { serde_json::to_vec_pretty(&request) } else { serde_json::to_vec(&request) }.unwrap();
        // As read from the body: a float may change in its last digit on the way there.
        let sent: Value = serde_json::from_slice(&body).unwrap();
        let limit_field = if old_field { LimitField::MaxTokens } else { LimitField::MaxCompletionTokens };
        let edits = Edits { slug: &slug, inject_max_tokens, limit_field, ask_for_usage };
        let upstream = ChatRequest::parse(body.into()).unwrap().upstream_body(&edits);
        let seen: Value = serde_json::from_slice(&upstream).unwrap();
        prop_assert_eq!(seen, edit_tree(sent, &edits));
        // What went upstream reads as edited, and asks for no further edit.
        let again = ChatRequest::parse(upstream.clone()).unwrap();
        prop_assert_eq!(&again.model, &slug);
        prop_assert_eq!(again.upstream_body(&edits), upstream);
    }

    #[test]
    fn parsing_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = ChatRequest::parse(bytes.into());
    }

    #[test]
    fn damaged_requests_never_panic_and_pass_only_as_json(
        request in request_members(),
        at in any::<usize>(),
        byte in any::<u8>(),
    ) {
        let mut body = serde_json::to_vec(&request).unwrap();
        let at = at % body.len();
        body[at] = byte;
        if ChatRequest::parse(body.clone().into()).is_ok() {
            prop_assert!(serde_json::from_slice::<Value>(&body).is_ok());
        }
    }
}
