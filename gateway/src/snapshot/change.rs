//! How rows and deletions change a snapshot. Called when one is loaded and for every delta.

use std::sync::Arc;

use odock_events::{
    envelope::{EntityKind, EntityRef},
    ids::{
        BudgetId, GrantId, KeyId, ModelId, OrganisationId, OverlayId, ProviderId, ProviderKeyId,
        QuotaId, TeamId,
    },
    ledger::rule::Rule,
    payload::{account::RuleId, grant::GrantTarget},
    state::{
        EntityRow, Key,
        config::{ConfigChange, ConfigDelta},
    },
    units::Sha256Digest,
};

use super::{Consequences, Gap, KeyEntry, Snapshot, Touched, tenant::Tenant};
use crate::limits::scope::ScopeId;

impl Snapshot {
    /// Becomes the next snapshot; unchanged when the delta is not the next one.
    pub(super) fn advance(
        &mut self,
        delta: ConfigDelta,
        consequences: &mut Consequences,
    ) -> Result<(), Gap> {
        if delta.version != self.version + 1 {
            return Err(Gap {
                current: self.version,
                found: delta.version,
            });
        }
        for change in delta.changes {
            match change {
                ConfigChange::Put(row) => self.put(*row, consequences),
                ConfigChange::Delete(entity) => self.delete(entity, consequences),
            }
        }
        self.version = delta.version;
        Ok(())
    }

    pub(super) fn put(&mut self, row: EntityRow, consequences: &mut Consequences) {
        match row {
            EntityRow::Organisation(row) => {
                let scope = ScopeId::organisation(row.id);
                self.policies.put(scope, &row.body.policies);
                let tenant = self.tenant_mut(row.id);
                tenant.organisation = Some(row);
            }
            EntityRow::Provider(row) => self.tenant_mut(row.organisation_id).put_provider(row),
            EntityRow::ProviderKey(row) => {
                self.tenant_mut(row.organisation_id).put_provider_key(row);
            }
            EntityRow::Model(row) => {
                let scope = ScopeId::model(row.id, row.organisation_id);
                self.policies.put(scope, &row.body.policies);
                self.tenant_mut(row.organisation_id).put_model(row);
            }
            EntityRow::Key(row) => self.put_key(row, consequences),
            EntityRow::Grant(row) => {
                let GrantTarget::Model { id } = row.body.target;
                self.touch(consequences, row.body.key_id, None);
                if self.partial && !self.has_key(row.body.key_id) {
                    self.delete_grant(row.id);
                } else {
                    self.put_grant(row.id, row.body.key_id, id);
                }
            }
            EntityRow::Budget(row) => self.put_rule(Rule::Budget(row), consequences),
            EntityRow::Quota(row) => self.put_rule(Rule::Quota(row), consequences),
            EntityRow::Team(row) => self.policies.put_team(row),
            EntityRow::Overlay(row) => self.policies.put_overlay(row),
            // Gateways decide nothing by these.
            EntityRow::User(_) | EntityRow::Membership(_) => {}
        }
    }

    pub(super) fn put_grant(&mut self, grant: GrantId, key: KeyId, model: ModelId) {
        self.delete_grant(grant);
        self.grants.insert(grant, (key, model));
        if self.partial {
            self.key_grants.get_or_insert(key).push(grant);
        }
        self.change_models(key, |models| {
            let place = models.partition_point(|granted| *granted < model);
            models.insert(place, model);
        });
    }

    fn put_key(&mut self, row: Key, consequences: &mut Consequences) {
        if row.body.revoked {
            consequences.dead_keys.push(row.id);
        }
        let scope = ScopeId::key(row.id, row.organisation_id);
        self.policies.put(scope, &row.body.policies);
        let was_partial = self.partial;
        let admitted = self.admits(row.id);
        if self.partial && !was_partial {
            // What was changed until now is not told of.
            consequences.touched.push(Touched::AnyKey);
        }
        self.touch(consequences, row.id, Some(row.body.secret_sha256));
        if !admitted {
            return;
        }
        let models = self.take_models(row.id);
        self.key_secrets.insert(row.id, row.body.secret_sha256);
        self.keys.insert(
            row.body.secret_sha256,
            Arc::new(KeyEntry { key: row, models }),
        );
    }

    /// Takes a key out and returns what it may use.
    fn take_models(&mut self, key: KeyId) -> Vec<ModelId> {
        match self
            .key_secrets
            .remove(&key)
            .and_then(|secret| self.keys.remove(&secret))
        {
            Some(entry) => entry.models.clone(),
            None if self.early_models.contains_key(&key) => Arc::make_mut(&mut self.early_models)
                .remove(&key)
                .unwrap_or_default(),
            None => Vec::new(),
        }
    }

    fn put_rule(&mut self, rule: Rule, consequences: &mut Consequences) {
        let id = rule.id();
        self.delete_rule(id);
        consequences.changed_rules.push(id);
        let lookup = rule.owner().lookup(rule.organisation_id());
        self.rule_owners.insert(id, lookup);
        let mut rules = self.rules_of(lookup).to_vec();
        let place = rules.partition_point(|other| other.id() < id);
        rules.insert(place, Arc::new(rule));
        self.rules.insert(lookup, rules.into());
    }

    fn delete(&mut self, entity: EntityRef, consequences: &mut Consequences) {
        match entity.kind {
            EntityKind::Organisation => {
                self.policies.remove(entity.id);
                self.change_tenant(OrganisationId(entity.id), |tenant| {
                    tenant.organisation = None;
                });
            }
            EntityKind::Provider => {
                let id = ProviderId(entity.id);
                let owner = self.tenant_with(|tenant| tenant.provider(id).is_some());
                self.change_owner(owner, |tenant| tenant.remove_provider(id));
            }
            EntityKind::ProviderKey => {
                let id = ProviderKeyId(entity.id);
                let owner = self.tenant_with(|tenant| tenant.provider_key(id).is_some());
                self.change_owner(owner, |tenant| tenant.remove_provider_key(id));
            }
            EntityKind::Model => {
                let id = ModelId(entity.id);
                self.policies.remove(entity.id);
                let owner = self.tenant_with(|tenant| tenant.model_by_id(id).is_some());
                self.change_owner(owner, |tenant| tenant.remove_model(id));
            }
            EntityKind::Key => {
                let id = KeyId(entity.id);
                self.policies.remove(entity.id);
                consequences.dead_keys.push(id);
                self.touch(consequences, id, None);
                let models = self.take_models(id);
                if !models.is_empty() {
                    Arc::make_mut(&mut self.early_models).insert(id, models);
                }
            }
            EntityKind::Grant => {
                let grant = GrantId(entity.id);
                match self.grants.get(&grant).map(|(key, _)| *key) {
                    Some(key) => self.touch(consequences, key, None),
                    None if self.partial => consequences.touched.push(Touched::AnyKey),
                    None => {}
                }
                self.delete_grant(grant);
            }
            EntityKind::Budget => self.drop_rule(BudgetId(entity.id).into(), consequences),
            EntityKind::Quota => self.drop_rule(QuotaId(entity.id).into(), consequences),
            EntityKind::Overlay => self.policies.remove_overlay(OverlayId(entity.id)),
            EntityKind::Team => self.policies.remove_team(TeamId(entity.id)),
            EntityKind::User
            | EntityKind::Membership
            | EntityKind::Usage
            | EntityKind::Gateway
            | EntityKind::Command => {}
        }
    }

    /// Tells those who look keys up what a change was about, while there are such.
    fn touch(&self, consequences: &mut Consequences, id: KeyId, secret: Option<Sha256Digest>) {
        if self.partial {
            consequences.touched.push(Touched::Key { id, secret });
        }
    }

    fn delete_grant(&mut self, grant: GrantId) {
        let Some((key, model)) = self.grants.remove(&grant) else {
            return;
        };
        if let Some(grants) = self.key_grants.get_mut(&key) {
            grants.retain(|other| *other != grant);
        }
        self.change_models(key, |models| {
            // Only one of them: another grant may name the same model.
            if let Ok(place) = models.binary_search(&model) {
                models.remove(place);
            }
        });
    }

    fn drop_rule(&mut self, id: RuleId, consequences: &mut Consequences) {
        consequences.changed_rules.push(id);
        self.delete_rule(id);
    }

    fn delete_rule(&mut self, id: RuleId) {
        let Some(lookup) = self.rule_owners.remove(&id) else {
            return;
        };
        let others = self.rules_of(lookup).iter().filter(|rule| rule.id() != id);
        let others: Arc<[Arc<Rule>]> = others.cloned().collect();
        if others.is_empty() {
            self.rules.remove(&lookup);
        } else {
            self.rules.insert(lookup, others);
        }
    }

    fn change_models(&mut self, key: KeyId, change: impl FnOnce(&mut Vec<ModelId>)) {
        let secret = self.key_secrets.get(&key).copied();
        if let Some(entry) = secret.and_then(|secret| self.keys.get_mut(&secret)) {
            change(&mut Arc::make_mut(entry).models);
            return;
        }
        let early = Arc::make_mut(&mut self.early_models);
        let models = early.entry(key).or_default();
        change(models);
        if models.is_empty() {
            early.remove(&key);
        }
    }

    fn tenant_mut(&mut self, id: OrganisationId) -> &mut Tenant {
        Arc::make_mut(self.tenants.get_or_insert(id))
    }

    /// Deletions name the entity, not its organisation.
    fn tenant_with(&self, has: impl Fn(&Tenant) -> bool) -> Option<OrganisationId> {
        self.tenants
            .iter()
            .find(|(_, tenant)| has(tenant))
            .map(|(id, _)| *id)
    }

    fn change_owner(&mut self, owner: Option<OrganisationId>, change: impl FnOnce(&mut Tenant)) {
        if let Some(owner) = owner {
            self.change_tenant(owner, change);
        }
    }

    fn change_tenant(&mut self, id: OrganisationId, change: impl FnOnce(&mut Tenant)) {
        let Some(tenant) = self.tenants.get_mut(&id) else {
            return;
        };
        let tenant = Arc::make_mut(tenant);
        change(tenant);
        if tenant.is_empty() {
            self.tenants.remove(&id);
        }
    }
}
