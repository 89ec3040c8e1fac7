//! Reads events back for shipping, in order, from any seq. Keeps its place, so that reading on is cheap.

use std::{
    fs,
    io::{Read as _, Seek as _, SeekFrom},
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;

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
    pub bytes: Bytes,
}

/// How much of a segment is read at once.
const READ_BYTES: u64 = 1 << 20;

impl JournalReader {
    pub(crate) fn new(segments: Arc<Segments>) -> Self {
        Self {
            segments,
            place: None,
        }
    }

    /// Events `from ..= up_to`, at most `count` and about a megabyte. Empty when there are none. Blocks on the disk:
    /// call it off the request path.
    pub fn read(
        &mut self,
        from: u64,
        up_to: u64,
        count: usize,
    ) -> Result<Vec<JournalEvent>, JournalError> {
        let mut events = Vec::new();
        if from > up_to || !self.find(from) {
            return Ok(events);
        }
        while events.len() < count {
            let Some(place) = &mut self.place else { break };
            let bytes = match read_at(&place.path, place.offset) {
                Ok(bytes) => bytes,
                Err(error) => {
                    self.place = None;
                    return Err(error);
                }
            };
            let consumed = collect(&bytes, place, up_to, count, &mut events);
            let enough = !events.is_empty() && bytes.len() as u64 >= READ_BYTES;
            if place.next_seq > up_to || enough || (consumed == 0 && !self.go_on()?) {
                break;
            }
        }
        Ok(events)
    }

    /// Whether a segment holds this seq; the place is in it then.
    fn find(&mut self, seq: u64) -> bool {
        if self
            .place
            .as_ref()
            .is_some_and(|place| place.next_seq == seq)
        {
            return true;
        }
        let segment = self.segment_with(seq);
        self.place = segment.map(|segment| Place {
            path: segment.path,
            offset: 0,
            next_seq: seq,
        });
        self.place.is_some()
    }

    /// Moves to the segment after the present one, where the next event must be.
    fn go_on(&mut self) -> Result<bool, JournalError> {
        let Some(Place {
            path,
            offset,
            next_seq,
        }) = self.place.take()
        else {
            return Ok(false);
        };
        match self.segment_with(next_seq) {
            Some(segment) if segment.path != path => {
                self.place = Some(Place {
                    path: segment.path,
                    offset: 0,
                    next_seq,
                });
                Ok(true)
            }
            Some(_) => Err(JournalError::Damaged {
                path,
                offset,
                reason: format!("seq {next_seq} should follow"),
            }),
            None => Ok(false),
        }
    }

    /// The segment that holds a seq.
    fn segment_with(&self, seq: u64) -> Option<Segment> {
        let mut list = self.segments.list();
        list.retain(|segment| (segment.first_seq..=segment.last_seq).contains(&seq));
        list.pop()
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
        let Frame::Whole(range) = frame::read(bytes, offset) else {
            break;
        };
        let record = bytes.get(range.clone()).map(Record::parse);
        if let Some(Ok(Record::Event { seq, bytes })) = record
            && seq >= place.next_seq
        {
            events.push(JournalEvent {
                seq,
                bytes: Bytes::copy_from_slice(bytes),
            });
            place.next_seq = seq + 1;
        }
        offset = range.end;
    }
    place.offset += offset as u64;
    offset
}

fn read_at(path: &PathBuf, offset: u64) -> Result<Vec<u8>, JournalError> {
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
