//! Tenant configuration as of one version. A request takes one snapshot and keeps it; the follower makes the next
//! from a delta and swaps it in. Nothing here waits for anything.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use odock_events::{
    ids::{GrantId, KeyId, ModelId, OrganisationId},
    ledger::rule::Rule,
    payload::account::RuleId,
    state::{EntityRow, Key, ProviderKey, config::ConfigDelta},
    units::Sha256Digest,
};
use uuid::Uuid;

pub mod cell;
mod change;
pub mod file;
pub mod follow;
pub mod load;
pub mod misses;
mod partial;
pub mod policies;
mod sharded;
pub mod tenant;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod vault;

pub use self::{
    cell::SnapshotCell,
    partial::{KeyCap, Touched},
    tenant::Tenant,
};
use self::{policies::Policies, sharded::ShardedMap};

/// A key with what it may use.
#[derive(Debug, Clone)]
pub struct KeyEntry {
    pub key: Key,
    /// Granted models, sorted; a model that two grants name is in it twice.
    pub models: Vec<ModelId>,
}

impl KeyEntry {
    #[must_use]
    pub fn may_use(&self, model: ModelId) -> bool {
        self.models.binary_search(&model).is_ok()
    }
}

/// Configuration as of `version`. Cloning shares everything; a change copies only the shards it touches.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub version: u64,
    /// The generation of the log that `version` counts in. A later one may have taken versions back.
    pub generation: u64,
    tenants: ShardedMap<OrganisationId, Arc<Tenant>>,
    keys: ShardedMap<Sha256Digest, Arc<KeyEntry>>,
    key_secrets: ShardedMap<KeyId, Sha256Digest>,
    grants: ShardedMap<GrantId, (KeyId, ModelId)>,
    /// Models granted to keys that have not come yet: rows may come in any order.
    early_models: Arc<BTreeMap<KeyId, Vec<ModelId>>>,
    /// By what they are looked up by: [`Owner::lookup`](odock_events::payload::budget::Owner::lookup).
    rules: ShardedMap<Uuid, Arc<[Arc<Rule>]>>,
    rule_owners: ShardedMap<RuleId, Uuid>,
    /// Some keys are not in it: there are more than `key_cap`.
    partial: bool,
    key_cap: KeyCap,
    /// While it is partial: the grants of each key.
    key_grants: ShardedMap<KeyId, Vec<GrantId>>,
    pub policies: Policies,
}

/// What a new snapshot asks of others once it is in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Consequences {
    /// Their running streams end.
    pub dead_keys: Vec<KeyId>,
    /// Their idle lease parts go back.
    pub changed_rules: Vec<RuleId>,
    /// While the snapshot is partial: every key that a change was about.
    pub touched: Vec<Touched>,
}

/// A delta that does not follow the snapshot: the follower loads anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("configuration {found} does not follow {current}")]
pub struct Gap {
    pub current: u64,
    pub found: u64,
}

impl Snapshot {
    /// A snapshot of whole rows, in any order.
    #[must_use]
    pub fn of_rows(version: u64, rows: impl IntoIterator<Item = EntityRow>) -> Self {
        let mut snapshot = Self {
            version,
            ..Self::default()
        };
        let mut consequences = Consequences::default();
        for row in rows {
            snapshot.put(row, &mut consequences);
        }
        snapshot
    }

    /// The next snapshot. Deltas at or below this version are refused like those too far ahead.
    pub fn apply(&self, delta: ConfigDelta) -> Result<(Self, Consequences), Gap> {
        let mut next = self.clone();
        let mut consequences = Consequences::default();
        next.advance(delta, &mut consequences)?;
        Ok((next, consequences))
    }

    /// What changes for others when this snapshot takes the place of `before`, and not delta by delta.
    #[must_use]
    pub fn consequences_after(&self, before: &Self) -> Consequences {
        let is_dead = |entry: &KeyEntry| {
            let now = self.key_by_id(entry.key.id);
            now.is_none_or(|now| now.key.body.revoked && !entry.key.body.revoked)
        };
        let dead = before.keys.values().filter(|entry| is_dead(entry));
        let version = |snapshot: &Self, id| snapshot.rule(id).map(|rule| rule.version());
        let known = before.rule_owners.iter().chain(self.rule_owners.iter());
        let changed: HashSet<RuleId> = known
            .map(|(id, _)| *id)
            .filter(|id| version(before, *id) != version(self, *id))
            .collect();
        Consequences {
            dead_keys: dead.map(|entry| entry.key.id).collect(),
            changed_rules: changed.into_iter().collect(),
            touched: Vec::new(),
        }
    }

    /// The key with this secret.
    #[must_use]
    pub fn key(&self, secret: &Sha256Digest) -> Option<&Arc<KeyEntry>> {
        self.keys.get(secret)
    }

    #[must_use]
    pub fn key_by_id(&self, id: KeyId) -> Option<&Arc<KeyEntry>> {
        self.keys.get(self.key_secrets.get(&id)?)
    }

    #[must_use]
    pub fn tenant(&self, id: OrganisationId) -> Option<&Arc<Tenant>> {
        self.tenants.get(&id)
    }

    /// Budgets and quotas of one owner, in the order of their ids.
    #[must_use]
    pub fn rules_of(&self, lookup: Uuid) -> &[Arc<Rule>] {
        self.rules.get(&lookup).map_or(&[], |rules| rules)
    }

    #[must_use]
    pub fn rule(&self, id: impl Into<RuleId>) -> Option<&Arc<Rule>> {
        let id = id.into();
        let lookup = self.rule_owners.get(&id)?;
        self.rules_of(*lookup).iter().find(|rule| rule.id() == id)
    }

    #[must_use]
    pub fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// Every row but the grants, for the snapshot file.
    pub fn rows(&self) -> impl Iterator<Item = EntityRow> + '_ {
        let tenants = self.tenants.values().flat_map(|tenant| tenant.rows());
        let keys = self
            .keys
            .values()
            .map(|entry| EntityRow::Key(entry.key.clone()));
        let rules = self.rules.values().flat_map(|rules| rules.iter());
        let rules = rules.map(|rule| EntityRow::from((**rule).clone()));
        let policies = self.policies.rows();
        tenants.chain(keys).chain(rules).chain(policies)
    }

    /// Every grant as (grant, key, model): the snapshot file keeps them so, without their dates.
    pub fn grants(&self) -> impl Iterator<Item = (GrantId, KeyId, ModelId)> + '_ {
        self.grants
            .iter()
            .map(|(grant, (key, model))| (*grant, *key, *model))
    }

    /// Every provider key: what the vault needs to know.
    pub fn provider_keys(&self) -> impl Iterator<Item = &Arc<ProviderKey>> {
        self.tenants
            .values()
            .flat_map(|tenant| tenant.provider_keys())
    }
}
