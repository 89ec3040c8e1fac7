//! Reads events back for shipping, in order, from any seq. Keeps its place, so that reading on is cheap.

use std::{fs, path::PathBuf, sync::Arc};

use super::{
    JournalError,
    frame::{self, Frame},
    record::Record,
    segment::{Segment, Segments},
};

/// One reader of the segments; the shipper's.
pub struct JournalReader {
    segments: Arc<Segments>,
    place: Option<Place>,
}

/// Where the event after the last one read begins.
struct Place {
    path: PathBuf,
    offset: u64,
    next_seq: u64,
}

/// One event as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEvent {
    pub seq: u64,
    pub bytes: Vec<u8>,
}

/// How much of a segment is read at once.
const READ_BYTES: u64 = 1 << 20;

impl JournalReader {
    pub(crate) fn new(segments: Arc<Segments>) -> Self {
        Self { segments, place: None }
    }

    /// Events `from ..= up_to`, at most `count` and about a megabyte. Empty when there are none. Blocks on the disk:
    /// call it off the request path.
    pub fn read(
        &mut self,
        from: u64,
        up_to: u64,
        count: usize,
    ) -> Result<Vec<JournalEvent>, JournalError> {
        if from > up_to {
            return Ok(Vec::new());
        }
        if self.place.as_ref().is_none_or(|place| place.next_seq != from) {
            self.place = self.segment_with(from).map(|segment| Place {
                path: segment.path,
                offset: 0,
                next_seq: from,
            });
        }
        let mut events = Vec::new();
        while events.len() < count {
            let Some(place) = &mut self.place else { break };
            let bytes = read_at(&place.path, place.offset)?;
            let before = events.len();
            let consumed = collect(&bytes, place, up_to, count, &mut events);
            if consumed == 0 {
                // The end of this segment, or a frame longer than one read: go on in the next, or read all of it.
                if !self.go_on(up_to)? {
                    break;
                }
            } else if events.len() > before && bytes.len() as u64 >= READ_BYTES {
                break;
            }
        }
        Ok(events)
    }

    /// Moves to the segment after the present one, if the wanted event is there.
    fn go_on(&mut self, up_to: u64) -> Result<bool, JournalError> {
        let Some(place) = &self.place else { return Ok(false) };
        if place.next_seq > up_to {
            return Ok(false);
        }
        let next_seq = place.next_seq;
        match self.segment_with(next_seq) {
            Some(segment) if segment.path != place.path => {
                self.place = Some(Place { path: segment.path, offset: 0, next_seq });
                Ok(true)
            }
            Some(segment) => Err(JournalError::Damaged {
                path: segment.path,
                offset: place.offset,
                reason: format!("seq {next_seq} should follow"),
            }),
            None => Ok(false),
        }
    }

    /// The segment that holds a seq. Segments of earlier lives are read once to learn what they hold.
    fn segment_with(&self, seq: u64) -> Option<Segment> {
        let list = self.segments.list();
        for segment in list.iter().rev() {
            let segment = if segment.first_seq == 0 { self.learn(segment) } else { segment.clone() };
            if segment.first_seq <= seq && seq <= segment.last_seq {
                return Some(segment);
            }
        }
        None
    }

    fn learn(&self, segment: &Segment) -> Segment {
        let bytes = fs::read(&segment.path).unwrap_or_default();
        let (mut first, mut last, mut offset) = (u64::MAX, 0, 0);
        while let Frame::Whole(range) = frame::read(&bytes, offset) {
            offset = range.end;
            if let Some(Ok(Record::Event { seq, .. })) = bytes.get(range).map(Record::parse) {
                first = first.min(seq);
                last = last.max(seq);
            }
        }
        self.segments.set_range(&segment.path, first, last);
        Segment { path: segment.path.clone(), first_seq: first, last_seq: last }
    }
}

/// Takes whole frames from `bytes`, moves the place behind them; returns how many bytes were taken.
fn collect(
    bytes: &[u8],
    place: &mut Place,
    up_to: u64,
    count: usize,
    events: &mut Vec<JournalEvent>,
) -> usize {
    let mut offset = 0;
    while events.len() < count && place.next_seq <= up_to {
        let Frame::Whole(range) = frame::read(bytes, offset) else { break };
        let record = bytes.get(range.clone()).map(Record::parse);
        if let Some(Ok(Record::Event { seq, bytes })) = record
            && seq >= place.next_seq
        {
            events.push(JournalEvent { seq, bytes });
            place.next_seq = seq + 1;
        }
        offset = range.end;
    }
    place.offset += offset as u64;
    offset
}

fn read_at(path: &PathBuf, offset: u64) -> Result<Vec<u8>, JournalError> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let read = |limit: u64| {
        let mut file = fs::File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read(READ_BYTES).map_err(JournalError::io(path))?;
    // A single record longer than one read (a state with many open calls): read the rest of the segment.
    if bytes.len() as u64 == READ_BYTES && matches!(frame::read(&bytes, 0), Frame::Torn(_)) {
        return read(u64::MAX).map_err(JournalError::io(path));
    }
    Ok(bytes)
}
