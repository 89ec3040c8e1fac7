//! Framing of records in a segment: length, CRC32C, payload. A torn tail is told apart from damage before it.

use std::ops::Range;

/// Bytes before the payload.
pub(crate) const HEADER: usize = 8;
/// No record is longer; a longer length is damage.
const LONGEST: usize = 16 << 20;

/// Adds a frame around what `fill` writes.
pub(crate) fn append(buffer: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; HEADER]);
    fill(buffer);
    let payload = buffer.get(start + HEADER..).unwrap_or_default();
    let (length, crc) = (payload.len() as u32, crc32c::crc32c(payload));
    if let Some(header) = buffer.get_mut(start..start + HEADER) {
        let (first, second) = header.split_at_mut(4);
        first.copy_from_slice(&length.to_le_bytes());
        second.copy_from_slice(&crc.to_le_bytes());
    }
}

/// What lies at an offset of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// The payload's range; the next frame begins at its end.
    Whole(Range<usize>),
    End,
    /// Cut off or never written whole.
    Torn(&'static str),
}

/// Reads the frame at `offset`.
pub(crate) fn read(bytes: &[u8], offset: usize) -> Frame {
    let rest = bytes.get(offset..).unwrap_or_default();
    if rest.is_empty() {
        return Frame::End;
    }
    let Some((header, body)) = rest.split_at_checked(HEADER) else {
        return Frame::Torn("the header is cut off");
    };
    let Some(length) = length(header) else {
        return Frame::Torn("the length cannot be");
    };
    let (length, crc) = (length as usize, word(header, 4));
    match body.get(..length) {
        None => Frame::Torn("the payload is cut off"),
        Some(payload) if crc32c::crc32c(payload) != crc => Frame::Torn("the checksum differs"),
        Some(_) => Frame::Whole(offset + HEADER..offset + HEADER + length),
    }
}

/// The payload's length that a header says; `None` when no payload is that long.
pub(crate) fn length(header: &[u8]) -> Option<u64> {
    let length = word(header, 0);
    (length > 0 && length as usize <= LONGEST).then_some(u64::from(length))
}

fn word(header: &[u8], at: usize) -> u32 {
    let bytes = header
        .get(at..at + 4)
        .and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u32::from_le_bytes)
}

/// Whether any whole frame lies after `offset`: then what is broken there is damage, not a torn tail.
pub(crate) fn has_whole_after(bytes: &[u8], offset: usize) -> bool {
    (offset + 1..bytes.len()).any(|start| matches!(read(bytes, start), Frame::Whole(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(payloads: &[&[u8]]) -> Vec<u8> {
        let mut buffer = Vec::new();
        for payload in payloads {
            append(&mut buffer, |buffer| buffer.extend_from_slice(payload));
        }
        buffer
    }

    #[test]
    fn frames_follow_one_another() {
        let bytes = framed(&[b"one", b"three"]);
        let Frame::Whole(first) = read(&bytes, 0) else {
            panic!("first frame")
        };
        assert_eq!(&bytes[first.clone()], b"one");
        let Frame::Whole(second) = read(&bytes, first.end) else {
            panic!("second frame")
        };
        assert_eq!(&bytes[second.clone()], b"three");
        assert_eq!(read(&bytes, second.end), Frame::End);
    }

    #[test]
    fn every_cut_is_a_torn_tail_and_every_flip_is_seen() {
        let bytes = framed(&[b"payload"]);
        for cut in 1..bytes.len() {
            assert!(
                matches!(read(&bytes[..cut], 0), Frame::Torn(_)),
                "cut at {cut}"
            );
        }
        for position in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[position] ^= 0x40;
            assert!(
                !matches!(read(&broken, 0), Frame::Whole(_)),
                "flip at {position}"
            );
        }
    }

    #[test]
    fn damage_before_the_tail_is_told_from_a_torn_tail() {
        let mut bytes = framed(&[b"first", b"second"]);
        bytes[HEADER] ^= 1;
        assert!(has_whole_after(&bytes, 0));
        assert!(!has_whole_after(&bytes[..HEADER + 5], 0));
    }
}
