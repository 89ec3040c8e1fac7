//! `…/providers`.

use async_trait::async_trait;
use odock_events::{ids::ProviderId, payload::provider::ProviderBody, state::Provider};

use super::crud::{self, Changeable, Resource};
use crate::{
    body::member::Member,
    command::{Decision, snapshot::Snapshot},
    domain::provider::{self, Around},
    error::ApiError,
    page::{Filter, ListSpec, Takes},
    queries::references::{self, Named},
    shape::provider::{ProviderCreate, ProviderPatch},
};

const FILTERS: &[Filter] = &[
    Filter::new("type", "body ->> 'type' = ", Takes::Text),
    Filter::NAME,
    Filter::new("enabled", "(body ->> 'enabled')::boolean = ", Takes::Flag),
];

#[async_trait]
impl Resource for ProviderBody {
    type Create = ProviderCreate;
    const NOUN: &'static str = "provider";
    const LIST: ListSpec = ListSpec::searchable(FILTERS);

    async fn create(at: &mut Snapshot<'_>, asked: &ProviderCreate) -> Result<Decision, ApiError> {
        let around = around(at, Some(&asked.name), None).await?;
        provider::create(at.stamp, ProviderId::generate(), asked, around)
    }

    async fn delete(at: &mut Snapshot<'_>, row: Provider) -> Result<Decision, ApiError> {
        let referrer = crud::referrer::<Self>(at, &row).await?;
        provider::delete(at.stamp, row, referrer)
    }
}

#[async_trait]
impl Changeable for ProviderBody {
    type Patch = ProviderPatch;

    async fn update(
        at: &mut Snapshot<'_>,
        row: Provider,
        asked: &ProviderPatch,
    ) -> Result<Decision, ApiError> {
        let name = match &asked.name {
            Member::Given(name) => Some(name.as_str()),
            Member::Absent | Member::Null => None,
        };
        let around = around(at, name, Some(row.id)).await?;
        provider::update(at.stamp, row, asked, around)
    }
}

async fn around(
    at: &mut Snapshot<'_>,
    name: Option<&str>,
    except: Option<ProviderId>,
) -> Result<Around, ApiError> {
    let organisation = Some(at.organisation()?);
    let taken = match name {
        Some(name) => {
            let except = except.map(|id| id.0);
            references::name_taken(at.connection, Named::Provider, organisation, name, except)
                .await?
        }
        None => false,
    };
    Ok(Around {
        taken,
        allow_private: at.app.allow_private_addresses,
    })
}
