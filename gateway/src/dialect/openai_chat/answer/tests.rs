//! Answers: golden files, and that only the model's name changes.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::dialect::{json_scan::tests::any_value, testdata};

fn describe(answer: &Answer) -> String {
    format!(
        "id {:?} error {} estimate {}\n{}",
        answer.id,
        answer.is_error,
        answer.estimated_output_tokens(),
        answer.usage.map_or_else(
            || "None".to_owned(),
            |usage| format!("Some({})", usage.in_brief())
        )
    )
}

#[test]
fn golden_answers() {
    let cases = testdata::cases("answers");
    assert!(cases.len() >= 12, "only {} cases", cases.len());
    for case in cases {
        let upstream = Bytes::copy_from_slice(case.section("upstream").as_bytes());
        match read_answer(&upstream) {
            Ok(answer) => {
                assert_eq!(
                    describe(&answer),
                    case.section("facts"),
                    "facts of {}",
                    case.name
                );
                let client = answer.model_place.map_or_else(
                    || upstream.clone(),
                    |place| splice_model(&upstream, &place, "fast"),
                );
                let client = std::str::from_utf8(&client).unwrap();
                assert_eq!(
                    client,
                    case.section("client"),
                    "client's body of {}",
                    case.name
                );
            }
            Err(error) => {
                assert_eq!(
                    error.to_string(),
                    case.section("facts"),
                    "error of {}",
                    case.name
                );
                assert_eq!(case.find("client"), None);
            }
        }
    }
}

#[test]
fn an_answer_that_says_the_name_already_is_the_same_buffer() {
    let body = Bytes::from_static(br#"{"model":"fast","choices":[]}"#);
    let place = read_answer(&body).unwrap().model_place.unwrap();
    assert_eq!(splice_model(&body, &place, "fast").as_ptr(), body.as_ptr());
    // A place of another body changes nothing.
    assert_eq!(splice_model(&body, &(5..500), "x"), body);
}

proptest! {
    #[test]
    fn a_splice_changes_the_model_and_nothing_else(
        extra in any_value(),
        model in any::<String>(),
        name in any::<String>(),
    ) {
        let answer = serde_json::json!({"choices": [], "model": model, "x": extra, "zz": {"model": 1}});
        let body = Bytes::from(serde_json::to_vec(&answer).unwrap());
        let place = read_answer(&body).unwrap().model_place.unwrap();
        let client = splice_model(&body, &place, &name);
        let mut expected: Value = serde_json::from_slice(&body).unwrap();
        expected["model"] = name.into();
        prop_assert_eq!(serde_json::from_slice::<Value>(&client).unwrap(), expected);
    }

    #[test]
    fn reading_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..80), value in any_value()) {
        let _ = read_answer(&bytes);
        let around = serde_json::json!({
            "usage": value, "choices": [{"message": value}, value], "id": value, "model": value,
        });
        prop_assert!(read_answer(&serde_json::to_vec(&around).unwrap()).is_ok());
    }
}
