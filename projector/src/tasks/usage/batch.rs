//! Entries of usage streams to batches: sliced at the cursor, joined per gateway, decoded and checked. Pure. The
//! rebuild reads the rows of `usage_batch` through the same functions.

use std::collections::BTreeMap;

use odock_events::{
    codec::{self, EncodeError},
    envelope::Envelope,
    ids::GatewayId,
    log::UsageEntry,
};
use serde_bytes::ByteBuf;

use super::plausible;

/// Events in one row of `usage_batch`, at most.
const LONGEST_BATCH: usize = 512;
/// The first byte of a row whose entry could not be taken apart: no `MessagePack` begins with it.
const DAMAGED: u8 = 0xc1;

/// Consecutive events of one gateway: a row of `usage_batch`.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) gateway_id: GatewayId,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) packed: Vec<u8>,
    pub(crate) events: Vec<UsageEvent>,
}

/// One event of a batch, or why it is none.
#[derive(Clone, Debug)]
pub(crate) struct UsageEvent {
    pub(crate) seq: u64,
    pub(crate) bytes: ByteBuf,
    pub(crate) read: Result<Envelope, String>,
}

/// A stream goes on after a hole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{gateway_id} goes on at {first} where {expected} is expected")]
pub(crate) struct Hole {
    gateway_id: GatewayId,
    first: u64,
    expected: u64,
}

impl Batch {
    /// Reads a batch from its packed form. What cannot be read keeps its place as a dead event.
    pub(crate) fn read(gateway_id: GatewayId, first: u64, last: u64, packed: Vec<u8>) -> Self {
        let count = last.saturating_sub(first) + 1;
        let unpacked = codec::unpack_batch(&packed).ok();
        let events = match unpacked.filter(|events| events.len() as u64 == count) {
            Some(events) => (first..)
                .zip(events)
                .map(|(seq, bytes)| read_event(gateway_id, seq, bytes))
                .collect(),
            None => (first..=last)
                .map(|seq| {
                    let raw = packed.strip_prefix(&[DAMAGED]).unwrap_or(&packed);
                    let bytes = if seq == first {
                        ByteBuf::from(raw)
                    } else {
                        ByteBuf::new()
                    };
                    UsageEvent {
                        seq,
                        bytes,
                        read: Err("the entry cannot be taken apart".into()),
                    }
                })
                .collect(),
        };
        Self {
            gateway_id,
            first,
            last,
            packed,
            events,
        }
    }

    /// The events that could be read, with their place in the batch.
    pub(crate) fn envelopes(&self) -> impl Iterator<Item = (usize, &Envelope)> {
        self.events
            .iter()
            .enumerate()
            .filter_map(|(ordinal, event)| Some((ordinal, event.read.as_ref().ok()?)))
    }
}

fn read_event(gateway_id: GatewayId, seq: u64, bytes: ByteBuf) -> UsageEvent {
    let read = match codec::decode(&bytes) {
        Ok(envelope) => plausible::check(gateway_id, &envelope).map(|()| envelope),
        Err(error) => Err(error.to_string()),
    };
    UsageEvent { seq, bytes, read }
}

/// Cuts entries at the cursors and joins what is consecutive. The cursors move along.
pub(crate) fn gather(
    cursors: &mut BTreeMap<GatewayId, u64>,
    entries: &[UsageEntry],
) -> Result<Vec<Batch>, GatherError> {
    let mut gathered = Gathered::default();
    for entry in entries {
        let cursor = cursors.entry(entry.gateway_id).or_insert(0);
        if entry.last <= *cursor {
            continue;
        }
        if entry.first > *cursor + 1 {
            let expected = *cursor + 1;
            return Err(Hole {
                gateway_id: entry.gateway_id,
                first: entry.first,
                expected,
            }
            .into());
        }
        gathered.take(entry, *cursor)?;
        *cursor = entry.last;
    }
    gathered.finish()
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum GatherError {
    #[error(transparent)]
    Hole(#[from] Hole),
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

#[derive(Default)]
struct Gathered {
    /// What is being joined, per gateway: the first seq and the events.
    open: BTreeMap<GatewayId, (u64, Vec<ByteBuf>)>,
    batches: Vec<Batch>,
}

impl Gathered {
    /// Takes the part of an entry that lies above the cursor.
    fn take(&mut self, entry: &UsageEntry, cursor: u64) -> Result<(), GatherError> {
        let skipped = usize::try_from(cursor + 1 - entry.first).unwrap_or(usize::MAX);
        let count = entry.last - entry.first + 1;
        let events = codec::unpack_batch(&entry.bytes)
            .ok()
            .filter(|e| e.len() as u64 == count);
        let Some(events) = events else {
            self.close(entry.gateway_id)?;
            let packed = [&[DAMAGED][..], &entry.bytes].concat();
            self.batches.push(Batch::read(
                entry.gateway_id,
                cursor + 1,
                entry.last,
                packed,
            ));
            return Ok(());
        };
        let joined = self
            .open
            .get(&entry.gateway_id)
            .map_or(0, |(_, events)| events.len());
        if joined > 0 && joined + events.len() > LONGEST_BATCH {
            self.close(entry.gateway_id)?;
        }
        let (_, open) = self
            .open
            .entry(entry.gateway_id)
            .or_insert((cursor + 1, Vec::new()));
        open.extend(events.into_iter().skip(skipped));
        Ok(())
    }

    fn close(&mut self, gateway_id: GatewayId) -> Result<(), EncodeError> {
        if let Some((first, events)) = self.open.remove(&gateway_id) {
            let last = first + events.len() as u64 - 1;
            let packed = codec::pack_batch(events.iter().map(|event| event.as_slice()))?;
            let events = (first..)
                .zip(events)
                .map(|(seq, bytes)| read_event(gateway_id, seq, bytes));
            let events = events.collect();
            self.batches.push(Batch {
                gateway_id,
                first,
                last,
                packed,
                events,
            });
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<Batch>, GatherError> {
        let gateways: Vec<GatewayId> = self.open.keys().copied().collect();
        for gateway_id in gateways {
            self.close(gateway_id)?;
        }
        Ok(self.batches)
    }
}

#[cfg(test)]
mod tests {
    use odock_events::{
        examples,
        kind::{Event, Kind},
    };

    use super::*;

    fn event_bytes(gateway: GatewayId) -> Vec<u8> {
        let mut envelope = examples::of_kind(Kind::UsageFinished);
        if let Event::UsageFinished(usage) = &mut envelope.event {
            usage.gateway_id = gateway;
        }
        codec::encode(&envelope).unwrap()
    }

    fn entry(gateway_id: GatewayId, first: u64, last: u64) -> UsageEntry {
        let events: Vec<Vec<u8>> = (first..=last).map(|_| event_bytes(gateway_id)).collect();
        let bytes = codec::pack_batch(events.iter().map(Vec::as_slice)).unwrap();
        UsageEntry {
            gateway_id,
            first,
            last,
            bytes,
        }
    }

    fn spans(batches: &[Batch]) -> Vec<(u64, u64)> {
        batches
            .iter()
            .map(|batch| (batch.first, batch.last))
            .collect()
    }

    #[test]
    fn entries_are_cut_at_the_cursor_and_joined() {
        let gateway = GatewayId::generate();
        let mut cursors = BTreeMap::from([(gateway, 5)]);
        let entries = [
            entry(gateway, 1, 4),
            entry(gateway, 3, 8),
            entry(gateway, 7, 9),
        ];
        let batches = gather(&mut cursors, &entries).unwrap();
        assert_eq!(spans(&batches), [(6, 9)]);
        assert!(batches[0].events.iter().all(|event| event.read.is_ok()));
        assert_eq!(
            batches[0].events.iter().map(|e| e.seq).collect::<Vec<_>>(),
            [6, 7, 8, 9]
        );
        assert_eq!(cursors[&gateway], 9);
    }

    #[test]
    fn a_batch_reads_back_as_it_was_taken() {
        let gateway = GatewayId::generate();
        let mut cursors = BTreeMap::new();
        let batch = gather(&mut cursors, &[entry(gateway, 1, 3)])
            .unwrap()
            .remove(0);
        let again = Batch::read(gateway, 1, 3, batch.packed.clone());
        assert_eq!(again.events.len(), 3);
        for (one, other) in again.events.iter().zip(&batch.events) {
            assert_eq!((one.seq, &one.bytes), (other.seq, &other.bytes));
        }
    }

    #[test]
    fn a_hole_stops() {
        let gateway = GatewayId::generate();
        let mut cursors = BTreeMap::from([(gateway, 5)]);
        let error = gather(&mut cursors, &[entry(gateway, 7, 8)]).unwrap_err();
        assert!(matches!(
            error,
            GatherError::Hole(Hole {
                first: 7,
                expected: 6,
                ..
            })
        ));
    }

    #[test]
    fn a_damaged_entry_keeps_its_places() {
        let gateway = GatewayId::generate();
        let mut cursors = BTreeMap::new();
        let damaged = UsageEntry {
            gateway_id: gateway,
            first: 3,
            last: 4,
            bytes: vec![1, 2, 3],
        };
        let entries = [entry(gateway, 1, 2), damaged, entry(gateway, 5, 5)];
        let batches = gather(&mut cursors, &entries).unwrap();
        assert_eq!(spans(&batches), [(1, 2), (3, 4), (5, 5)]);
        let again = Batch::read(gateway, 3, 4, batches[1].packed.clone());
        for batch in [&batches[1], &again] {
            assert!(batch.events.iter().all(|event| event.read.is_err()));
            assert_eq!(batch.events[0].bytes.as_slice(), [1, 2, 3]);
        }
    }

    #[test]
    fn events_of_another_gateway_and_impossible_amounts_are_dead() {
        let gateway = GatewayId::generate();
        let other = event_bytes(GatewayId::generate());
        let mut negative = examples::of_kind(Kind::UsageFinished);
        if let Event::UsageFinished(usage) = &mut negative.event {
            usage.gateway_id = gateway;
            usage.cost.0 = -1;
        }
        let projector = examples::of_kind(Kind::LeaseGranted);
        for bytes in [
            other,
            codec::encode(&negative).unwrap(),
            codec::encode(&projector).unwrap(),
        ] {
            assert!(read_event(gateway, 1, ByteBuf::from(bytes)).read.is_err());
        }
    }
}
