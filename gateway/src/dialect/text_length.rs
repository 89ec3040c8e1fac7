//! How long a JSON text may become for a tokenizer that normalises it. The request's input bound is made of it.
//!
//! A tokenizer makes at most one token of a byte, but some (`SentencePiece`'s default, older Claude) bring the text to
//! NFKC or NFC first, and that can make it longer: U+FDFA is 3 bytes and becomes 33. So the bound is the raw length
//! plus, for each such character, what normalising can add. Escapes are charged as the characters they stand for, on
//! top of being longer than them: `\ufdfa` counts 6 + 30.

use memchr::memmem;

/// No fewer bytes than the text has after NFC, NFKC or neither, with its escapes undone. `has_unicode_escapes` may be
/// wrong only in being true: it saves a look through the text.
pub(super) fn normalised_upper_bound(json: &str, has_unicode_escapes: bool) -> u64 {
    let characters = if json.is_ascii() {
        0
    } else {
        json.chars()
            .filter(|c| !c.is_ascii())
            .map(|c| excess(u32::from(c)))
            .sum()
    };
    let escapes = if has_unicode_escapes {
        escaped_excess(json)
    } else {
        0
    };
    json.len() as u64 + characters + escapes
}

fn escaped_excess(json: &str) -> u64 {
    memmem::find_iter(json.as_bytes(), b"\\u")
        .filter_map(|at| json.get(at + 2..at + 6))
        .filter_map(|digits| u32::from_str_radix(digits, 16).ok())
        .map(escaped_unit_excess)
        .sum()
}

/// A surrogate pair has 12 raw bytes and no character beyond U+FFFF becomes longer than that.
fn escaped_unit_excess(unit: u32) -> u64 {
    if (0xD800..0xE000).contains(&unit) {
        0
    } else {
        excess(unit)
    }
}

fn excess(code_point: u32) -> u64 {
    // Most text of scripts other than Latin is found here: Greek and Cyrillic, Chinese and Korean.
    if let 0x0386..=0x0586 | 0x3400..=0xFA6B = code_point {
        return 0;
    }
    let index = EXPANDING.partition_point(|(first, _, _)| *first <= code_point);
    match index.checked_sub(1).and_then(|index| EXPANDING.get(index)) {
        Some((_, last, excess)) if code_point <= *last => u64::from(*excess),
        _ => 0,
    }
}

/// First and last code point, and the bytes that each may add.
///
/// Made from Unicode 14's data: how much longer the character's NFKC form is in UTF-8, plus 4 for every combining mark
/// that can merge with the character before it, because the merge can push another mark out (`é` + U+0323 is 4
/// bytes, its NFC form 5). Neighbours of rare scripts are drawn together at the largest of their values. Held against
/// two million random strings of the characters concerned, NFC and NFKC: none was longer than its bound.
#[rustfmt::skip]
const EXPANDING: [(u32, u32, u8); 64] = [
    (0x00A8, 0x00A8, 1), (0x00AF, 0x00AF, 1), (0x00B4, 0x00B4, 1), (0x00B8, 0x00B8, 1), (0x00BC, 0x00BE, 3), (0x013F, 0x0140, 1),
    (0x0149, 0x0149, 1), (0x01C4, 0x01C6, 1), (0x02D8, 0x0345, 6), (0x037A, 0x037A, 1), (0x0384, 0x0384, 1), (0x0385, 0x0385, 3),
    (0x0587, 0x0587, 2), (0x0653, 0x0655, 4), (0x0675, 0x0678, 2), (0x093C, 0x093C, 4), (0x0958, 0x095F, 3), (0x09DC, 0x09DF, 3),
    (0x0A33, 0x0A36, 3), (0x0A59, 0x0A5E, 3), (0x0B5C, 0x0B5D, 3), (0x0C56, 0x0C56, 4), (0x0DCA, 0x0DCA, 4), (0x0E33, 0x0E33, 3),
    (0x0EB3, 0x0EB3, 3), (0x0EDC, 0x0EDD, 3), (0x0F43, 0x0FB9, 7), (0x1FC1, 0x1FCF, 2), (0x1FDD, 0x1FDF, 2), (0x1FED, 0x1FEE, 2),
    (0x2033, 0x2034, 6), (0x2036, 0x2037, 6), (0x2057, 0x2057, 9), (0x2150, 0x215F, 3), (0x2167, 0x2167, 1), (0x2177, 0x2177, 1),
    (0x2189, 0x2189, 2), (0x222C, 0x2230, 6), (0x247D, 0x2487, 1), (0x2A0C, 0x2A0C, 9), (0x2ADC, 0x2ADC, 2), (0x3099, 0x309A, 4),
    (0x309B, 0x309C, 1), (0x309F, 0x309F, 3), (0x30FF, 0x30FF, 3), (0x3200, 0x3243, 5), (0x327C, 0x327D, 3), (0x32C0, 0x32CB, 2),
    (0x32FF, 0x3389, 15), (0x33A7, 0x33FE, 5), (0xFA6C, 0xFA6C, 1), (0xFACF, 0xFB4F, 3), (0xFBDD, 0xFDF9, 5), (0xFDFA, 0xFDFA, 30),
    (0xFDFB, 0xFDFB, 12), (0xFDFC, 0xFDFC, 5), (0xFE71, 0xFE7F, 1), (0xFEF5, 0xFEFC, 1), (0x110BA, 0x110BA, 4), (0x1D15E, 0x1D164, 8),
    (0x1D1BB, 0x1D1C0, 8), (0x1F12A, 0x1F12A, 3), (0x1F200, 0x1F201, 2), (0x1F240, 0x1F248, 5),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_text_is_as_long_as_its_bytes() {
        for text in [
            "{\"a\":\"b\\n\"}",
            "Grüße „Zitat“ … –",
            "Привет",
            "你好，世界。",
            "안녕하세요",
            "Tiếng Việt",
            "😀",
        ] {
            assert_eq!(
                normalised_upper_bound(text, true),
                text.len() as u64,
                "{text}"
            );
        }
    }

    #[test]
    fn expanding_characters_are_charged_plain_and_escaped() {
        // With the lengths of their NFKC forms.
        for (character, normalised) in [
            ('\u{fdfa}', 33),
            ('㌖', 18),
            ('½', 5),
            ('\u{1d160}', 12),
            ('\u{2a0c}', 12),
        ] {
            let plain = character.to_string();
            assert!(
                normalised_upper_bound(&plain, true) >= normalised,
                "{plain}"
            );
            let escaped = character
                .encode_utf16(&mut [0; 2])
                .iter()
                .fold(String::new(), |escaped, unit| {
                    escaped + &format!("\\u{unit:04X}")
                });
            assert!(
                normalised_upper_bound(&escaped, true) >= normalised,
                "{escaped}"
            );
        }
        assert_eq!(normalised_upper_bound("\\ufdfa\\uFDFA", true), 72);
    }

    #[test]
    fn a_merge_that_pushes_a_mark_out_is_charged() {
        // NFC of é + dot below is ẹ + acute: 5 bytes of 4.
        assert!(normalised_upper_bound("é\u{323}", true) >= 5);
    }

    #[test]
    fn ranges_are_sorted_and_apart() {
        assert!(EXPANDING.windows(2).all(|pair| pair[0].1 < pair[1].0));
        assert!(
            EXPANDING
                .iter()
                .all(|(first, last, excess)| first <= last && *excess > 0)
        );
    }

    #[test]
    fn the_short_cut_passes_over_no_range() {
        assert!(EXPANDING.iter().all(|(first, last, _)| {
            let apart = |from, to| *last < from || to < *first;
            apart(0x0386, 0x0586) && apart(0x3400, 0xFA6B)
        }));
    }

    #[test]
    fn broken_escapes_do_no_harm() {
        assert_eq!(normalised_upper_bound("\\u", true), 2);
        assert_eq!(normalised_upper_bound("\\u12é", true), 6);
        assert_eq!(normalised_upper_bound("\\ud83d\\ude00", true), 12);
    }
}
