//! The scanner against `serde_json` and against its documented extra refusals.

use proptest::prelude::*;

use super::*;

fn check(bytes: &[u8], surrogates: Surrogates) -> Result<Range<usize>, ScanError> {
    let mut cursor = Cursor::new(bytes, surrogates)?;
    let range = cursor.locate()?;
    cursor.finish()?;
    Ok(range)
}

fn strict(document: &str) -> Result<Range<usize>, ScanError> {
    check(document.as_bytes(), Surrogates::Refuse)
}

fn decode(document: &str, surrogates: Surrogates) -> String {
    let mut cursor = Cursor::new(document.as_bytes(), surrogates).unwrap();
    let text = cursor.string().unwrap();
    let decoded = cursor.decode(text).into_owned();
    assert_eq!(decoded.len(), text.decoded_len, "of {document}");
    decoded
}

#[test]
fn top_level_members_come_with_their_ranges() {
    let document = " { \"a\" : 1 , \"b\":[1,{}] ,\"c\":\"x\\n\" } ";
    let mut cursor = Cursor::new(document.as_bytes(), Surrogates::Refuse).unwrap();
    let mut members = Vec::new();
    let range = cursor
        .object::<ScanError>(|cursor, key| {
            let value = cursor.locate()?;
            members.push((key.raw, cursor.slice(value)));
            Ok(())
        })
        .unwrap();
    assert_eq!(cursor.slice(range), document.trim());
    assert_eq!(members, [("a", "1"), ("b", "[1,{}]"), ("c", "\"x\\n\"")]);
    assert!(cursor.finish().is_ok());
}

#[test]
fn documents_that_are_refused_say_why() {
    use ScanError as E;
    let cases: [(&str, E); 24] = [
        ("", E::UnexpectedEnd),
        ("  ", E::UnexpectedEnd),
        ("{", E::UnexpectedEnd),
        ("{\"a\"", E::UnexpectedEnd),
        ("{\"a\":1", E::UnexpectedEnd),
        ("tru", E::UnexpectedEnd),
        ("\"abc", E::UnexpectedEnd),
        ("\"\\", E::UnexpectedEnd),
        ("\"\\u12", E::UnexpectedEnd),
        ("-", E::UnexpectedEnd),
        ("1.", E::UnexpectedEnd),
        (
            "{a:1}",
            E::Unexpected {
                expected: "a key in quotes",
                at: 1,
            },
        ),
        (
            "{\"a\" 1}",
            E::Unexpected {
                expected: "':' after a key",
                at: 5,
            },
        ),
        (
            "{\"a\":1,}",
            E::Unexpected {
                expected: "a key in quotes",
                at: 7,
            },
        ),
        (
            "[1,]",
            E::Unexpected {
                expected: "a value",
                at: 3,
            },
        ),
        (
            "[1 2]",
            E::Unexpected {
                expected: "',' or ']'",
                at: 3,
            },
        ),
        (
            "nulL",
            E::Unexpected {
                expected: "null",
                at: 0,
            },
        ),
        (
            "01",
            E::Unexpected {
                expected: "the end of the document",
                at: 1,
            },
        ),
        (
            "\u{feff}{}",
            E::Unexpected {
                expected: "a value",
                at: 0,
            },
        ),
        ("\"a\nb\"", E::ControlCharacter(2)),
        ("\"a\0b\"", E::ControlCharacter(2)),
        ("\"\\x\"", E::InvalidEscape(1)),
        ("\"\\u12g4\"", E::InvalidEscape(1)),
        ("[1e400]", E::NumberOutOfRange(1)),
    ];
    for (document, error) in cases {
        assert_eq!(strict(document), Err(error), "of {document:?}");
    }
    assert_eq!(check(b"\"\xff\"", Surrogates::Refuse), Err(E::NotUtf8(1)));
    assert_eq!(
        check(b"\"\xed\xa0\x80\"", Surrogates::Pass),
        Err(E::NotUtf8(1))
    );
}

#[test]
fn numbers_are_refused_only_where_no_f64_holds_them() {
    let long = format!("1{}", "0".repeat(308));
    let longer = format!("1{}", "0".repeat(309));
    for fits in [
        "0",
        "-0",
        "1e308",
        "1.7976931348623157e308",
        "0e99999999999999999999",
        "1e-400",
        "9e+07",
        &long,
    ] {
        assert!(strict(fits).is_ok(), "{fits}");
    }
    for beyond in [
        "1e309",
        "-1e309",
        "1.8e308",
        "1e400",
        "0.1E99999999999999999999",
        &longer,
    ] {
        assert_eq!(
            strict(beyond),
            Err(ScanError::NumberOutOfRange(0)),
            "{beyond}"
        );
    }
}

#[test]
fn sixty_four_containers_are_the_limit_at_any_nesting() {
    for (open, close) in [("[", "]"), ("{\"k\":", "}")] {
        let nested = |depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
        assert!(strict(&nested(64)).is_ok());
        assert_eq!(
            strict(&nested(65)),
            Err(ScanError::TooDeep(64 * open.len()))
        );
        assert_eq!(
            strict(&open.repeat(100_000)),
            Err(ScanError::TooDeep(64 * open.len()))
        );
    }
    let siblings = format!("[{}[]]", "[[]],".repeat(1000));
    assert!(strict(&siblings).is_ok());
}

#[test]
fn lone_surrogates_are_refused_in_requests_and_passed_in_answers() {
    for (document, decoded) in [
        (r#""\ud83d""#, "\u{fffd}"),
        (r#""\ude00x""#, "\u{fffd}x"),
        (r#""\ud83dA""#, "\u{fffd}A"),
        (r#""\ud83d\n""#, "\u{fffd}\n"),
        (r#""\ud83d\ud83d\ude00""#, "\u{fffd}\u{1f600}"),
        (r#""\ud83d\u0041""#, "\u{fffd}A"),
    ] {
        assert_eq!(strict(document), Err(ScanError::LoneSurrogate(1)));
        assert_eq!(decode(document, Surrogates::Pass), decoded);
    }
    assert_eq!(
        decode(
            r#""\ud83d\ude00\uFDFA\u00e9\u0041\/\\""#,
            Surrogates::Refuse
        ),
        "😀\u{fdfa}éA/\\"
    );
}

#[test]
fn the_end_of_a_string_is_found_at_every_offset() {
    for length in 0..200 {
        for special in ['"', '\\', '\u{1f}', '\0'] {
            let document = format!(
                "\"{}{special}",
                "é~\u{7f} "[..]
                    .repeat(40)
                    .chars()
                    .take(length)
                    .collect::<String>()
            );
            let at = document.len() - 1;
            let expected = match special {
                '"' => Ok(0..at + 1),
                '\\' => Err(ScanError::UnexpectedEnd),
                _ => Err(ScanError::ControlCharacter(at)),
            };
            assert_eq!(strict(&document), expected, "length {length}, {special:?}");
        }
    }
}

/// Any JSON value, not deeper than the limit.
pub(crate) fn any_value() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::String),
        "[a-z \"\\\\\n]{0,80}".prop_map(Value::String),
    ];
    leaf.prop_recursive(6, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::vec(("[a-zA-Z_\u{17f}é\"]{0,8}", inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn escape(units: &[u16]) -> String {
    units.iter().fold(String::new(), |escaped, unit| {
        escaped + &format!("\\u{unit:04x}")
    })
}

/// One change of one byte: the kind of damage that a careless scanner lets through.
fn mutate(document: &mut Vec<u8>, at: usize, byte: u8, how: u8) {
    if document.is_empty() {
        return;
    }
    let at = at % document.len();
    match how % 3 {
        0 => document[at] = byte,
        1 => document.insert(at, byte),
        _ => drop(document.remove(at)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn arbitrary_bytes_never_panic_and_agree_with_serde_json(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        prop_assert_eq!(
            check(&bytes, Surrogates::Refuse).is_ok(),
            serde_json::from_slice::<serde_json::Value>(&bytes).is_ok()
        );
    }

    #[test]
    fn json_like_bytes_agree_with_serde_json(
        bytes in "[\\[\\]{}\":,0-9eE+.\\-truefalsn \\\\\u{d}dD89ab]{0,24}",
    ) {
        prop_assert_eq!(
            strict(&bytes).is_ok(),
            serde_json::from_str::<serde_json::Value>(&bytes).is_ok(),
            "{}", bytes
        );
    }

    #[test]
    fn generated_and_damaged_documents_agree_with_serde_json(
        value in any_value(),
        pretty in any::<bool>(),
        damage in prop::collection::vec((any::<usize>(), prop_oneof![any::<u8>(), Just(b'"'), Just(b'\\'), Just(b',')], any::<u8>()), 0..3),
    ) {
        let mut document = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
        prop_assert_eq!(check(&document, Surrogates::Refuse), Ok(0..document.len()));
        for (at, byte, how) in damage {
            mutate(&mut document, at, byte, how);
        }
        prop_assert_eq!(
            check(&document, Surrogates::Refuse).is_ok(),
            serde_json::from_slice::<serde_json::Value>(&document).is_ok(),
            "{}", String::from_utf8_lossy(&document)
        );
    }

    #[test]
    fn strings_decode_as_serde_json_decodes_them(
        pieces in prop::collection::vec(prop_oneof![
            "[a-z ]{0,70}",
            any::<char>().prop_map(|c| escape(c.encode_utf16(&mut [0; 2]))),
            any::<u16>().prop_map(|unit| escape(&[unit])),
            any::<String>().prop_map(|text| {
                let quoted = serde_json::to_string(&text).unwrap();
                quoted[1..quoted.len() - 1].to_owned()
            }),
            Just("\\\"\\\\\\/\\b\\f\\n\\r\\t".to_owned()),
        ], 0..12),
    ) {
        let document = format!("\"{}\"", pieces.concat());
        if let Ok(expected) = serde_json::from_str::<String>(&document) {
            prop_assert_eq!(decode(&document, Surrogates::Refuse), expected);
        } else {
            prop_assert!(strict(&document).is_err());
        }
    }
}
