//! Streams: golden files, odd line ends and cuts, and that the pieces a stream comes in make no difference.

use proptest::prelude::*;

use super::*;
use crate::dialect::{sse::MAX_LINE, testdata};

const RENAMED: &str = "fast";

fn options(client_asked_usage: bool, model_name: Option<&str>) -> StreamOptions {
    StreamOptions {
        client_asked_usage,
        model_name: model_name.map(str::to_owned),
    }
}

/// What the client gets of a stream that comes in pieces of these sizes, and what was read of it.
fn run(options: StreamOptions, stream: &[u8], sizes: &[usize]) -> (Vec<u8>, StreamSummary) {
    let mut reader = StreamReader::new(options);
    let mut out = Vec::new();
    let mut rest = Bytes::copy_from_slice(stream);
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let before = out.len();
        reader
            .push(&rest.split_to((*size).clamp(1, rest.len())), &mut out)
            .unwrap();
        assert!(out.len() <= before + 1, "one buffer for one piece");
    }
    let summary = reader.finish(&mut out).clone();
    assert!(out.iter().all(|buffer| !buffer.is_empty()));
    (out.concat(), summary)
}

fn run_whole(options: StreamOptions, stream: &str) -> (String, StreamSummary) {
    let (client, summary) = run(options, stream.as_bytes(), &[usize::MAX]);
    (String::from_utf8(client).unwrap(), summary)
}

fn content(text: &str) -> String {
    format!(
        "data: {{\"id\":\"c\",\"model\":\"slug\",\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n"
    )
}

const USAGE: &str = "data: {\"id\":\"c\",\"model\":\"slug\",\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

fn describe(summary: &StreamSummary) -> String {
    format!(
        "id {:?} finish {:?} x{} done {} error {} estimate {} delivered {} unreadable {}\n{}",
        summary.id,
        summary.finish_reason,
        summary.finished_choices,
        summary.done_seen,
        summary.error_seen,
        summary.estimated_output_tokens(),
        summary.delivered_frames,
        summary.unreadable_frames,
        summary.usage.map_or_else(
            || "None".to_owned(),
            |usage| format!("Some({})", usage.in_brief())
        )
    )
}

#[test]
fn golden_streams() {
    let cases = testdata::cases("streams");
    assert!(cases.len() >= 10, "only {} cases", cases.len());
    for case in cases {
        let words = case.section("options");
        let name = words
            .split(' ')
            .find_map(|word| word.strip_prefix("model="));
        let options = options(words.contains("usage"), name);
        let upstream = case.section("upstream");
        let (client, summary) = run_whole(options.clone(), upstream);
        assert_eq!(
            describe(&summary),
            case.section("facts"),
            "facts of {}",
            case.name
        );
        assert_eq!(
            client,
            case.section("client"),
            "client's stream of {}",
            case.name
        );
        for size in 1..40 {
            let in_pieces = run(options.clone(), upstream.as_bytes(), &[size]);
            assert_eq!(
                in_pieces,
                (client.clone().into_bytes(), summary.clone()),
                "{} by {size}",
                case.name
            );
        }
    }
}

#[test]
fn a_piece_of_whole_frames_is_handed_on_as_the_same_buffer() {
    let piece = Bytes::from([content("a"), content("b"), DONE.to_owned()].concat());
    for name in [None, Some("slug")] {
        let mut reader = StreamReader::new(options(false, name));
        let mut out = Vec::new();
        reader.push(&piece, &mut out).unwrap();
        assert_eq!(out.concat(), piece);
        assert_eq!(out[0].as_ptr(), piece.as_ptr());
    }
}

#[test]
fn frames_before_an_open_one_and_behind_a_withheld_one_are_not_copied() {
    let mut reader = StreamReader::new(options(false, None));
    let mut out = Vec::new();
    let open = Bytes::from(content("a") + "data: {\"cho");
    reader.push(&open, &mut out).unwrap();
    assert_eq!(out[0], content("a"));
    assert_eq!(out[0].as_ptr(), open.as_ptr());

    let mut reader = StreamReader::new(options(false, None));
    let withheld = Bytes::from(USAGE.to_owned() + DONE);
    reader.push(&withheld, &mut out).unwrap();
    assert_eq!(out[1], DONE);
    assert_eq!(out[1].as_ptr(), withheld[USAGE.len()..].as_ptr());
}

#[test]
fn the_usage_chunk_is_withheld_exactly_when_nobody_asked() {
    let stream = [&content("a"), &content("b"), USAGE, DONE].concat();
    let (client, summary) = run_whole(options(false, None), &stream);
    assert_eq!(client, [&content("a"), &content("b"), DONE].concat());
    assert_eq!(summary.usage, Some(Usage::text(5, 2)));
    assert_eq!((summary.text_deltas, summary.delivered_frames), (2, 3));

    let (client, asked) = run_whole(options(true, None), &stream);
    assert_eq!(client, stream);
    assert_eq!(asked.usage, summary.usage);
}

#[test]
fn usage_beside_choices_is_not_withheld() {
    let stream = "data: {\"choices\":[{\"delta\":{}}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":0}}\n\n";
    let (client, summary) = run_whole(options(false, None), stream);
    assert_eq!(client, stream);
    assert_eq!(summary.usage, Some(Usage::text(1, 0)));
}

#[test]
fn the_last_usage_that_can_be_true_wins() {
    let usage = |prompt: &str| {
        format!("data: {{\"usage\":{{\"prompt_tokens\":{prompt},\"completion_tokens\":0}}}}\n\n")
    };
    let stream = [usage("5"), usage("7"), usage("-1")].concat();
    let (client, summary) = run_whole(options(false, None), &stream);
    assert_eq!(summary.usage, Some(Usage::text(7, 0)));
    // One that cannot be true is still only a usage chunk.
    assert_eq!(client, "");
}

#[test]
fn a_line_feed_in_the_next_piece_goes_the_way_of_its_carriage_return() {
    let usage = USAGE.replace('\n', "\r\n");
    let done = DONE.replace('\n', "\r\n");
    let stream = [usage.as_str(), &done].concat();
    for cut in 1..stream.len() {
        let (client, summary) = run(options(false, None), stream.as_bytes(), &[cut, usize::MAX]);
        assert_eq!(client, done.as_bytes(), "cut at {cut}");
        assert!(summary.done_seen && summary.usage.is_some());
    }
}

#[test]
fn a_byte_order_mark_and_data_in_many_lines_are_read_through() {
    let stream = "\u{feff}data: {\"model\":\ndata:\"slug\",\r: x\ndata: \"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
    let (client, summary) = run_whole(options(false, Some(RENAMED)), stream);
    assert_eq!(client, stream.replace("slug", RENAMED));
    assert_eq!((summary.text_deltas, summary.unreadable_frames), (1, 0));
}

#[test]
fn a_stream_that_is_cut_ends_before_the_cut_frame() {
    let stream = content("a") + &content("b");
    for cut in 0..content("b").len() {
        let cut_stream = &stream[..stream.len() - cut];
        let (client, summary) = run_whole(options(false, None), cut_stream);
        // One or both line ends may be missing: the data is whole.
        let expected = if cut <= 2 { cut_stream } else { &content("a") };
        assert_eq!(client, expected, "{cut} bytes cut");
        assert_eq!(summary.text_deltas, if cut <= 2 { 2 } else { 1 });
        assert!(!summary.done_seen);
    }
}

#[test]
fn an_error_frame_is_an_event_of_its_own_behind_any_cut() {
    for (stream, separator) in [
        (content("a"), ""),
        (content("a") + "data: {\"choi", ""),
        (content("a").trim_end().to_owned(), "\n\n"),
    ] {
        let mut reader = StreamReader::new(options(false, None));
        let mut out = Vec::new();
        reader.push(&Bytes::from(stream), &mut out).unwrap();
        reader.finish(&mut out);
        let frame = reader.error_frame("{\"error\":{}}");
        assert_eq!(frame, format!("{separator}data: {{\"error\":{{}}}}\n\n"));
    }
}

#[test]
fn a_line_without_end_stops_the_stream_behind_the_frames_before_it() {
    let stream = content("a") + "data: " + &"x".repeat(MAX_LINE);
    for size in [1 << 10, 1 << 16, usize::MAX] {
        let mut reader = StreamReader::new(options(false, None));
        let mut out = Vec::new();
        let mut rest = Bytes::from(stream.clone());
        let mut result = Ok(());
        while !rest.is_empty() && result.is_ok() {
            result = reader.push(&rest.split_to(size.min(rest.len())), &mut out);
        }
        assert_eq!(result, Err(StreamError::LineTooLong));
        assert_eq!(
            reader.push(&Bytes::from_static(b"\n\n"), &mut out),
            Err(StreamError::LineTooLong)
        );
        reader.finish(&mut out);
        assert_eq!(out.concat(), content("a").as_bytes());
    }
}

#[test]
fn tokens_are_estimated_by_deltas_or_by_bytes() {
    let (_, by_deltas) = run_whole(options(false, None), &content(" a").repeat(20));
    assert_eq!(by_deltas.estimated_output_tokens(), 20);
    let (_, by_bytes) = run_whole(options(false, None), &content(&"word ".repeat(20)));
    assert_eq!(by_bytes.estimated_output_tokens(), 25);
    let (_, none) = run_whole(options(false, None), &content(""));
    assert_eq!(none.estimated_output_tokens(), 0);
}

/// Frames, sane and not, with every kind of line end.
fn any_frame() -> impl Strategy<Value = String> {
    let data = prop_oneof![
        "[a-zé😀 \\n]{0,6}".prop_map(|text| {
            serde_json::json!({"id": "c", "model": "slug", "choices": [{"delta": {"content": text}}]}).to_string()
        }),
        Just(r#"{"model":"slug","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#.to_owned()),
        Just(r#"{"error":{"message":"x"}}"#.to_owned()),
        Just("[DONE]".to_owned()),
        Just("{\"choices\":[{\"delta\":{\"content\":\"\\ud83d\"}}],\"model\": \"slug\" }".to_owned()),
        "[\\[\\]{}\":,a-c0-9\0]{0,12}",
    ];
    let line_end = prop_oneof![Just("\n"), Just("\r\n"), Just("\r")];
    (
        prop_oneof![
            Just("data: "),
            Just("data:"),
            Just(": "),
            Just("event: x"),
            Just("")
        ],
        data,
        line_end.clone(),
        line_end,
    )
        .prop_map(|(field, data, first, second)| format!("{field}{data}{first}{second}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_pieces_give_the_same_stream(
        frames in prop::collection::vec(any_frame(), 0..8),
        cut in 0_usize..30,
        sizes in prop::collection::vec(1_usize..60, 1..6),
        client_asked_usage in any::<bool>(),
        renamed in any::<bool>(),
    ) {
        let stream = frames.concat().into_bytes();
        let stream = &stream[..stream.len().saturating_sub(cut)];
        let options = options(client_asked_usage, renamed.then_some(RENAMED));
        let whole = run(options.clone(), stream, &[usize::MAX]);
        prop_assert_eq!(run(options, stream, &sizes), whole);
    }

    #[test]
    fn a_stream_of_whole_frames_is_passed_on_to_the_byte(frames in prop::collection::vec(any_frame(), 0..8)) {
        // A CR and a LF that meet are one line end, so the last frame may need another.
        let stream = frames.concat() + "\n\n";
        let (client, _) = run_whole(options(true, None), &stream);
        prop_assert_eq!(client, stream);
    }

    #[test]
    fn no_bytes_panic(
        stream in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b'\r')], 0..200),
        sizes in prop::collection::vec(1_usize..20, 1..4),
    ) {
        let whole = run(options(false, Some(RENAMED)), &stream, &[usize::MAX]);
        prop_assert_eq!(run(options(false, Some(RENAMED)), &stream, &sizes), whole);
    }
}
