//! The newest events in memory, so that the shipper need not read back what was just written. What has fallen out of it
//! is read from the segments.

use std::collections::VecDeque;

use bytes::Bytes;

use super::JournalEvent;

/// The newest consecutive events, bounded in bytes.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    events: VecDeque<JournalEvent>,
    bytes: usize,
}

/// Older events than these bytes hold are on disk only.
const MOST_BYTES: usize = 4 << 20;

impl Tail {
    pub(crate) fn push(&mut self, seq: u64, event: &[u8]) {
        self.bytes += event.len();
        let bytes = Bytes::copy_from_slice(event);
        self.events.push_back(JournalEvent { seq, bytes });
        while self.bytes > MOST_BYTES && self.pop() {}
    }

    /// Shipped: whoever wants them again reads the segments.
    pub(crate) fn forget(&mut self, up_to: u64) {
        while self.events.front().is_some_and(|event| event.seq <= up_to) && self.pop() {}
    }

    /// Events from `from` to `up_to`, cut to `limit`. `None`: `from` is not here.
    pub(crate) fn read(
        &self,
        from: u64,
        up_to: u64,
        limit: BatchLimit,
    ) -> Option<Vec<JournalEvent>> {
        let first = self.events.front()?.seq;
        let skipped = usize::try_from(from.checked_sub(first)?).ok()?;
        let wanted = self.events.range(skipped.min(self.events.len())..);
        let mut events = Vec::new();
        let mut left = limit.bytes;
        for event in wanted
            .take_while(|event| event.seq <= up_to)
            .take(limit.events)
        {
            left = left.saturating_sub(event.bytes.len());
            events.push(event.clone());
            if left == 0 {
                break;
            }
        }
        (!events.is_empty()).then_some(events)
    }

    fn pop(&mut self) -> bool {
        let event = self.events.pop_front();
        self.bytes -= event.as_ref().map_or(0, |event| event.bytes.len());
        event.is_some()
    }
}

/// How much is taken at once. An event that crosses the bytes is the last one taken.
#[derive(Clone, Copy, Debug)]
pub struct BatchLimit {
    pub events: usize,
    pub bytes: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: BatchLimit = BatchLimit {
        events: 256,
        bytes: 1 << 20,
    };

    fn seqs(events: Option<Vec<JournalEvent>>) -> Option<Vec<u64>> {
        events.map(|events| events.iter().map(|event| event.seq).collect())
    }

    #[test]
    fn what_is_asked_for_comes_and_what_has_fallen_out_is_said() {
        let mut tail = Tail::default();
        (5..10).for_each(|seq| tail.push(seq, b"event"));
        assert_eq!(seqs(tail.read(5, 7, LIMIT)), Some(vec![5, 6, 7]));
        assert_eq!(seqs(tail.read(4, 7, LIMIT)), None);
        assert_eq!(seqs(tail.read(10, 12, LIMIT)), None);
        tail.forget(6);
        assert_eq!(seqs(tail.read(6, 9, LIMIT)), None);
        assert_eq!(seqs(tail.read(7, 99, LIMIT)), Some(vec![7, 8, 9]));
    }

    #[test]
    fn a_batch_ends_at_its_limits_and_holds_one_event_at_least() {
        let mut tail = Tail::default();
        (1..=4).for_each(|seq| tail.push(seq, &[0; 100]));
        let two = BatchLimit {
            events: 2,
            bytes: 1_000,
        };
        assert_eq!(seqs(tail.read(1, 4, two)), Some(vec![1, 2]));
        let small = BatchLimit {
            events: 9,
            bytes: 1,
        };
        assert_eq!(seqs(tail.read(2, 4, small)), Some(vec![2]));
    }

    #[test]
    fn memory_is_bounded() {
        let mut tail = Tail::default();
        let event = vec![0; MOST_BYTES / 4];
        (1..=10).for_each(|seq| tail.push(seq, &event));
        assert!(tail.bytes <= MOST_BYTES);
        assert_eq!(seqs(tail.read(10, 10, LIMIT)), Some(vec![10]));
    }
}
