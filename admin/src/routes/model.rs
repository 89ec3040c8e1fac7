//! `…/models`.

use async_trait::async_trait;
use odock_events::{
    ids::{ModelId, ProviderId, ProviderKeyId},
    payload::{
        model::ModelBody,
        provider::{ProviderBody, ProviderKeyBody},
    },
    state::Model,
};

use super::crud::{self, Changeable, Resource};
use crate::{
    body::member::Member,
    command::{Decision, snapshot::Snapshot},
    domain::model::{self, Around},
    error::ApiError,
    page::{Filter, ListSpec, Takes},
    queries::references::{self, Named},
    shape::model::{ModelCreate, ModelPatch},
};

const FILTERS: &[Filter] = &[
    Filter::NAME,
    Filter::new("slug", "body ->> 'slug' = ", Takes::Text),
    Filter::new("type", "body ->> 'type' = ", Takes::Text),
    Filter::new("provider_id", "provider_id = ", Takes::Id("prov")),
    Filter::new("provider_key_id", "provider_key_id = ", Takes::Id("pkey")),
];

#[async_trait]
impl Resource for ModelBody {
    type Create = ModelCreate;
    const NOUN: &'static str = "model";
    const LIST: ListSpec = ListSpec::searchable(FILTERS);

    async fn create(at: &mut Snapshot<'_>, asked: &ModelCreate) -> Result<Decision, ApiError> {
        let name = Some(asked.name.as_str());
        let around = around(at, asked.provider_id, asked.provider_key_id, name, None).await?;
        model::create(at.stamp, ModelId::generate(), asked, &around)
    }

    async fn delete(at: &mut Snapshot<'_>, row: Model) -> Result<Decision, ApiError> {
        let referrer = crud::referrer::<Self>(at, &row).await?;
        model::delete(at.stamp, row, referrer)
    }
}

#[async_trait]
impl Changeable for ModelBody {
    type Patch = ModelPatch;

    async fn update(
        at: &mut Snapshot<'_>,
        row: Model,
        asked: &ModelPatch,
    ) -> Result<Decision, ApiError> {
        let provider = asked
            .provider_id
            .or(&row.body.provider_id, || row.body.provider_id);
        let key = asked
            .provider_key_id
            .or(&row.body.provider_key_id, || row.body.provider_key_id);
        let name = match &asked.name {
            Member::Given(name) => Some(name.as_str()),
            Member::Absent | Member::Null => None,
        };
        let around = around(at, provider, key, name, Some(row.id)).await?;
        model::update(at.stamp, row, asked, &around)
    }
}

async fn around(
    at: &mut Snapshot<'_>,
    provider: ProviderId,
    provider_key: ProviderKeyId,
    name: Option<&str>,
    except: Option<ModelId>,
) -> Result<Around, ApiError> {
    let organisation = Some(at.organisation()?);
    let taken = match name {
        Some(name) => {
            let except = except.map(|id| id.0);
            references::name_taken(at.connection, Named::Model, organisation, name, except).await?
        }
        None => false,
    };
    Ok(Around {
        provider: at.find::<ProviderBody>(provider).await?,
        provider_key: at.find::<ProviderKeyBody>(provider_key).await?,
        taken,
    })
}
