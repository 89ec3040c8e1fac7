//! `/api/v1/organisations`.

use async_trait::async_trait;
use odock_events::{
    ids::OrganisationId, payload::organisation::OrganisationBody, state::Organisation,
};

use super::crud::{self, Changeable, Resource};
use crate::{
    body::member::Member,
    command::{Decision, snapshot::Snapshot},
    domain::organisation,
    error::ApiError,
    page::ListSpec,
    queries::references::{self, Named},
    shape::organisation::{OrganisationCreate, OrganisationPatch},
};

#[async_trait]
impl Resource for OrganisationBody {
    type Create = OrganisationCreate;
    const NOUN: &'static str = "organisation";
    const ID: &'static str = "organisation_id";
    const LIST: ListSpec = ListSpec::searchable(&[]);

    async fn create(
        at: &mut Snapshot<'_>,
        asked: &OrganisationCreate,
    ) -> Result<Decision, ApiError> {
        let taken = taken(at, &asked.name, None).await?;
        organisation::create(at.stamp, OrganisationId::generate(), asked, taken)
    }

    async fn delete(at: &mut Snapshot<'_>, row: Organisation) -> Result<Decision, ApiError> {
        let referrer = crud::referrer::<Self>(at, &row).await?;
        organisation::delete(at.stamp, row, referrer)
    }
}

#[async_trait]
impl Changeable for OrganisationBody {
    type Patch = OrganisationPatch;

    async fn update(
        at: &mut Snapshot<'_>,
        row: Organisation,
        asked: &OrganisationPatch,
    ) -> Result<Decision, ApiError> {
        let taken = match &asked.name {
            Member::Given(name) => taken(at, name, Some(row.id)).await?,
            Member::Absent | Member::Null => false,
        };
        organisation::update(at.stamp, row, asked, taken)
    }
}

async fn taken(
    at: &mut Snapshot<'_>,
    name: &str,
    except: Option<OrganisationId>,
) -> Result<bool, ApiError> {
    let except = except.map(|id| id.0);
    Ok(references::name_taken(at.connection, Named::Organisation, None, name, except).await?)
}
