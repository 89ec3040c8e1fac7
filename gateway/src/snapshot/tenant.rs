//! What one organisation has beside its keys, grants and budgets: few, and changed rarely.

use std::{collections::HashMap, sync::Arc};

use odock_events::{
    ids::{ModelId, ProviderId, ProviderKeyId},
    state::{EntityRow, Model, Organisation, Provider, ProviderKey},
};

#[derive(Debug, Clone, Default)]
pub struct Tenant {
    pub organisation: Option<Organisation>,
    models: HashMap<String, Arc<Model>>,
    model_names: HashMap<ModelId, String>,
    providers: HashMap<ProviderId, Arc<Provider>>,
    provider_keys: HashMap<ProviderKeyId, Arc<ProviderKey>>,
}

impl Tenant {
    /// A model by the name that clients send.
    #[must_use]
    pub fn model(&self, name: &str) -> Option<&Arc<Model>> {
        self.models.get(name)
    }

    #[must_use]
    pub fn model_by_id(&self, id: ModelId) -> Option<&Arc<Model>> {
        self.model_names
            .get(&id)
            .and_then(|name| self.models.get(name))
    }

    #[must_use]
    pub fn provider(&self, id: ProviderId) -> Option<&Arc<Provider>> {
        self.providers.get(&id)
    }

    #[must_use]
    pub fn provider_key(&self, id: ProviderKeyId) -> Option<&Arc<ProviderKey>> {
        self.provider_keys.get(&id)
    }

    pub fn provider_keys(&self) -> impl Iterator<Item = &Arc<ProviderKey>> {
        self.provider_keys.values()
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = EntityRow> + '_ {
        let organisation = self
            .organisation
            .iter()
            .cloned()
            .map(EntityRow::Organisation);
        let providers = self
            .providers
            .values()
            .map(|row| EntityRow::Provider((**row).clone()));
        let keys = self
            .provider_keys
            .values()
            .map(|row| EntityRow::ProviderKey((**row).clone()));
        let models = self
            .models
            .values()
            .map(|row| EntityRow::Model((**row).clone()));
        organisation.chain(providers).chain(keys).chain(models)
    }

    pub(super) fn put_provider(&mut self, row: Provider) {
        self.providers.insert(row.id, Arc::new(row));
    }

    pub(super) fn put_provider_key(&mut self, row: ProviderKey) {
        self.provider_keys.insert(row.id, Arc::new(row));
    }

    pub(super) fn put_model(&mut self, row: Model) {
        if let Some(old) = self.model_names.insert(row.id, row.body.name.clone()) {
            self.forget_name(&old, row.id);
        }
        self.models.insert(row.body.name.clone(), Arc::new(row));
    }

    pub(super) fn remove_provider(&mut self, id: ProviderId) {
        self.providers.remove(&id);
    }

    pub(super) fn remove_provider_key(&mut self, id: ProviderKeyId) {
        self.provider_keys.remove(&id);
    }

    pub(super) fn remove_model(&mut self, id: ModelId) {
        if let Some(name) = self.model_names.remove(&id) {
            self.forget_name(&name, id);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.organisation.is_none()
            && self.models.is_empty()
            && self.providers.is_empty()
            && self.provider_keys.is_empty()
    }

    /// Another model may have taken the name in the meantime.
    fn forget_name(&mut self, name: &str, id: ModelId) {
        if self.models.get(name).is_some_and(|model| model.id == id) {
            self.models.remove(name);
        }
    }
}
