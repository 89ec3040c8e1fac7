//! Writes the few JSON values that are spliced into somebody else's document.

/// Appends `text` as a JSON string, with its quotes.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut plain = text.as_bytes();
    while let Some(at) = plain
        .iter()
        .position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f))
    {
        let (before, from) = plain.split_at(at);
        out.extend_from_slice(before);
        let Some((special, rest)) = from.split_first() else {
            break;
        };
        write_escape(out, *special);
        plain = rest;
    }
    out.extend_from_slice(plain);
    out.push(b'"');
}

/// Appends `number` in decimal digits.
pub fn write_number(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let mut rest = number;
    let mut length = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        length += 1;
        if rest == 0 {
            break;
        }
    }
    out.extend(digits.iter().skip(digits.len() - length));
}

fn write_escape(out: &mut Vec<u8>, special: u8) {
    const HEX: [u8; 16] = *b"0123456789abcdef";
    let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
    if special < 0x20 {
        out.extend_from_slice(b"\\u00");
        out.extend([digit(special >> 4), digit(special & 15)]);
    } else {
        out.extend([b'\\', special]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn strings_and_numbers_read_back_as_written(text in any::<String>(), number in any::<u64>()) {
            let mut out = Vec::new();
            write_string(&mut out, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
            out.clear();
            write_number(&mut out, number);
            prop_assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }
}
