//! A snapshot that has room for some of the keys only: which change concerns a key that is not in it, and how one that was
//! looked up comes in. While all keys fit nothing here is used.

use std::sync::Arc;

use odock_events::{
    ids::{GrantId, KeyId, ModelId},
    state::Key,
    units::Sha256Digest,
};

use super::{KeyEntry, Snapshot};
use crate::limits::scope::ScopeId;

/// The most keys that a snapshot may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyCap(pub usize);

impl Default for KeyCap {
    fn default() -> Self {
        Self(usize::MAX)
    }
}

/// Which key a change was about, for those who look keys up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touched {
    Key {
        id: KeyId,
        /// Of a row.
        secret: Option<Sha256Digest>,
    },
    /// A deleted grant of a key that is not here.
    AnyKey,
}

impl Snapshot {
    /// Whether every key is in it: a key that is not does not exist.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.partial
    }

    pub(super) fn has_key(&self, id: KeyId) -> bool {
        self.key_secrets.get(&id).is_some()
    }

    /// Whether a key that is not here comes in by a change: while there is room for all. From the first that does not fit
    /// on, new ones are looked up when they are used.
    pub(super) fn admits(&mut self, id: KeyId) -> bool {
        if self.has_key(id) {
            return true;
        }
        if !self.partial && self.keys.len() >= self.key_cap.0 {
            self.become_partial();
        }
        !self.partial
    }

    /// From here on the grants of a key must be found by it, so that they go with it.
    pub(super) fn become_partial(&mut self) {
        self.partial = true;
        let known: Vec<(GrantId, KeyId)> = self
            .grants
            .iter()
            .map(|(grant, (key, _))| (*grant, *key))
            .collect();
        for (grant, key) in known {
            self.key_grants.get_or_insert(key).push(grant);
        }
    }

    /// The same snapshot with a key that was looked up, in the place of another if there is no room. An older row never
    /// replaces a newer one.
    #[must_use]
    pub(super) fn with_key(&self, key: &Key, grants: &[(GrantId, ModelId)]) -> Self {
        let here = self.key_by_id(key.id);
        if here.is_some_and(|here| here.key.version >= key.version) {
            return self.clone();
        }
        let mut next = self.clone();
        next.forget_key(key.id);
        while next.keys.len() >= next.key_cap.0.max(1) {
            let Some(other) = next.keys.near(&key.body.secret_sha256).copied() else {
                break;
            };
            let Some(other) = next.keys.get(&other).map(|entry| entry.key.id) else {
                break;
            };
            next.forget_key(other);
        }
        let mut models: Vec<ModelId> = grants.iter().map(|(_, model)| *model).collect();
        models.sort_unstable();
        for (grant, model) in grants {
            next.grants.insert(*grant, (key.id, *model));
            next.key_grants.get_or_insert(key.id).push(*grant);
        }
        next.key_secrets.insert(key.id, key.body.secret_sha256);
        let entry = KeyEntry {
            key: key.clone(),
            models,
        };
        next.keys.insert(key.body.secret_sha256, Arc::new(entry));
        // A load that had no room for the key did not read its policy either.
        let scope = ScopeId::key(key.id, key.organisation_id);
        next.policies.put(scope, &key.body.policies);
        next
    }

    /// Takes a key out with its grants: it may be looked up again.
    fn forget_key(&mut self, id: KeyId) {
        let Some(secret) = self.key_secrets.remove(&id) else {
            return;
        };
        self.keys.remove(&secret);
        for grant in self.key_grants.remove(&id).unwrap_or_default() {
            self.grants.remove(&grant);
        }
    }

    pub(super) fn key_ids(&self) -> impl Iterator<Item = KeyId> {
        self.keys.values().map(|entry| entry.key.id)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::World, *};

    #[test]
    fn a_key_that_was_looked_up_brings_its_policy() {
        let mut key = World::new().key(1);
        let limits = serde_json::json!({ "requests": { "per_minute": 1 } });
        key.body.policies.insert("ratelimit".to_owned(), limits);
        let without = Snapshot::default();
        assert!(without.policies.of(key.id.0).is_none());
        let with = without.with_key(&key, &[]);
        assert!(with.policies.of(key.id.0).is_some());
    }
}
