//! From a snapshot and entries of the config stream to the next snapshot. Pure; called by `stream`.

use odock_events::{
    codec::DecodeError,
    envelope::EntityKind,
    log::ConfigEntry,
    state::{
        EntityRow,
        config::{ConfigChange, ConfigDelta},
    },
};

use crate::snapshot::{Consequences, Gap, Snapshot};

/// A snapshot that some entries lead to.
pub(super) struct Advanced {
    pub(super) snapshot: Snapshot,
    pub(super) consequences: Consequences,
    /// The vault has something to fetch or to forget.
    pub(super) touches_provider_keys: bool,
}

/// Why an entry is not applied: the rest is loaded from Postgres.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Gap(#[from] Gap),
    #[error("entry {version} does not read: {error}")]
    Undecodable { version: u64, error: DecodeError },
    #[error("entry {version} says that it is {inside}")]
    Mislabelled { version: u64, inside: u64 },
}

/// Applies the entries as far as they follow one another; both parts are there when one in the middle does not.
pub(super) fn advance(
    before: &Snapshot,
    entries: &[ConfigEntry],
) -> (Option<Advanced>, Option<Refusal>) {
    let mut advanced = Advanced {
        snapshot: before.clone(),
        consequences: Consequences::default(),
        touches_provider_keys: false,
    };
    let refusal = entries.iter().find_map(|entry| advanced.step(entry).err());
    let moved = advanced.snapshot.version > before.version;
    (moved.then_some(advanced), refusal)
}

impl Advanced {
    fn step(&mut self, entry: &ConfigEntry) -> Result<(), Refusal> {
        let version = entry.version;
        let delta = ConfigDelta::from_bytes(&entry.bytes)
            .map_err(|error| Refusal::Undecodable { version, error })?;
        if delta.version != version {
            return Err(Refusal::Mislabelled {
                version,
                inside: delta.version,
            });
        }
        let touches = delta.changes.iter().any(touches_provider_keys);
        self.snapshot.advance(delta, &mut self.consequences)?;
        self.touches_provider_keys |= touches;
        Ok(())
    }
}

fn touches_provider_keys(change: &ConfigChange) -> bool {
    match change {
        ConfigChange::Put(row) => matches!(**row, EntityRow::ProviderKey(_)),
        ConfigChange::Delete(entity) => entity.kind == EntityKind::ProviderKey,
    }
}

#[cfg(test)]
mod tests {
    use odock_events::clock::Timestamp;

    use super::*;
    use crate::snapshot::testing;

    fn entry(version: u64, inside: u64, changes: Vec<ConfigChange>) -> ConfigEntry {
        let delta = ConfigDelta {
            version: inside,
            position: inside,
            command_id: None,
            committed_at: Timestamp(0),
            changes,
        };
        ConfigEntry {
            version,
            bytes: delta.to_bytes().unwrap(),
        }
    }

    #[test]
    fn entries_apply_up_to_the_first_that_does_not() {
        let world = testing::World::new();
        let key = world.key(1);
        let damaged = ConfigEntry {
            version: 6,
            bytes: vec![0xC1],
        };
        let put = ConfigChange::Put(Box::new(key.clone().into()));
        let entries = [
            entry(4, 4, vec![]),
            entry(5, 5, vec![put]),
            damaged,
            entry(7, 7, vec![]),
        ];
        let before = Snapshot::of_rows(3, []);
        let (advanced, refusal) = advance(&before, &entries);
        let advanced = advanced.unwrap();
        assert_eq!(advanced.snapshot.version, 5);
        assert!(advanced.snapshot.key(&key.body.secret_sha256).is_some());
        assert!(!advanced.touches_provider_keys);
        assert!(matches!(
            refusal,
            Some(Refusal::Undecodable { version: 6, .. })
        ));
    }

    #[test]
    fn holes_repeats_and_wrong_labels_are_refused() {
        let before = Snapshot::of_rows(3, []);
        for version in [0, 3, 5, 9] {
            let (advanced, refusal) = advance(&before, &[entry(version, version, vec![])]);
            assert!(advanced.is_none());
            let gap = Gap {
                current: 3,
                found: version,
            };
            assert!(matches!(refusal, Some(Refusal::Gap(found)) if found == gap));
        }
        let (advanced, refusal) = advance(&before, &[entry(4, 5, vec![])]);
        assert!(advanced.is_none());
        assert!(matches!(
            refusal,
            Some(Refusal::Mislabelled {
                version: 4,
                inside: 5
            })
        ));
    }

    #[test]
    fn the_vault_hears_of_provider_keys() {
        let world = testing::World::new();
        let row = world.provider_key(1);
        let id = row.id;
        let before = Snapshot::of_rows(0, []);
        let put = entry(1, 1, vec![ConfigChange::Put(Box::new(row.into()))]);
        let delete = entry(2, 2, vec![ConfigChange::Delete(id.into())]);
        let (first, _) = advance(&before, &[put]);
        let first = first.unwrap();
        let (second, _) = advance(&first.snapshot, &[delete]);
        assert!(first.touches_provider_keys && second.unwrap().touches_provider_keys);
    }
}
