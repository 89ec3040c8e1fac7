//! `…/grants`, one by one and in batches.

use async_trait::async_trait;
use odock_events::{
    ids::{GrantId, KeyId, ModelId},
    payload::grant::GrantBody,
    state::Grant,
};
use uuid::Uuid;

use super::crud::Resource;
use crate::{
    call::Call,
    command::{self, Command, Decision, snapshot::Snapshot},
    domain::grant::{self, Known, pair_of},
    error::ApiError,
    page::{Filter, ListSpec, Takes},
    queries::references,
    reply::Reply,
    shape::grant::{GrantBatch, GrantCreate},
};

const FILTERS: &[Filter] = &[
    Filter::new("key_id", "key_id = ", Takes::Id("key")),
    Filter::new("model_id", "model_id = ", Takes::Id("mdl")),
    Filter::new("target_id", "model_id = ", Takes::Id("mdl")),
];

#[async_trait]
impl Resource for GrantBody {
    type Create = GrantCreate;
    const NOUN: &'static str = "grant";
    const LIST: ListSpec = ListSpec {
        searchable: false,
        filters: FILTERS,
    };

    async fn create(at: &mut Snapshot<'_>, asked: &GrantCreate) -> Result<Decision, ApiError> {
        let known = known(at, std::slice::from_ref(asked), &[]).await?;
        grant::create(at.stamp, GrantId::generate(), asked, &known)
    }

    async fn delete(at: &mut Snapshot<'_>, row: Grant) -> Result<Decision, ApiError> {
        grant::delete(at.stamp, row)
    }
}

pub(crate) async fn batch(call: Call) -> Result<Reply, ApiError> {
    let organisation = call.organisation()?;
    let batch = Batch {
        asked: call.json()?,
    };
    command::run(&call, Some(organisation), &batch).await
}

struct Batch {
    asked: GrantBatch,
}

#[async_trait]
impl Command for Batch {
    async fn decide(&self, at: &mut Snapshot<'_>) -> Result<Decision, ApiError> {
        let known = known(at, &self.asked.create, &self.asked.delete).await?;
        grant::batch(at.stamp, &self.asked, &known)
    }

    fn is_batch(&self) -> bool {
        true
    }
}

async fn known(
    at: &mut Snapshot<'_>,
    create: &[GrantCreate],
    delete: &[GrantId],
) -> Result<Known, ApiError> {
    let organisation = at.organisation()?;
    let (keys, models): (Vec<KeyId>, Vec<ModelId>) = create.iter().map(pair_of).unzip();
    let key_ids: Vec<Uuid> = keys.iter().map(|key| key.0).collect();
    let model_ids: Vec<Uuid> = models.iter().map(|model| model.0).collect();
    let grant_ids: Vec<Uuid> = delete.iter().map(|grant| grant.0).collect();
    let connection = &mut *at.connection;
    let there = references::keys_there(connection, organisation, &key_ids).await?;
    let models_there = references::models_there(connection, organisation, &model_ids).await?;
    let pairs = references::grants_of(connection, &keys, &models).await?;
    let grants = references::grant_versions(connection, organisation, &grant_ids).await?;
    Ok(Known {
        keys: there.into_iter().map(KeyId).collect(),
        models: models_there.into_iter().map(ModelId).collect(),
        pairs: pairs
            .into_iter()
            .map(|(key, model, grant)| ((KeyId(key), ModelId(model)), GrantId(grant)))
            .collect(),
        grants: grants
            .into_iter()
            .map(|(id, version)| (GrantId(id), version as u64))
            .collect(),
    })
}
