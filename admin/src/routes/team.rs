//! `…/teams`.

use async_trait::async_trait;
use odock_events::{ids::TeamId, payload::team::TeamBody, state::Team};

use super::crud::{self, Changeable, Resource};
use crate::{
    command::{Decision, snapshot::Snapshot},
    domain::team,
    error::ApiError,
    page::ListSpec,
    shape::team::{TeamCreate, TeamPatch},
};

#[async_trait]
impl Resource for TeamBody {
    type Create = TeamCreate;
    const NOUN: &'static str = "team";
    const LIST: ListSpec = ListSpec::searchable(&[]);

    async fn create(at: &mut Snapshot<'_>, asked: &TeamCreate) -> Result<Decision, ApiError> {
        team::create(at.stamp, TeamId::generate(), asked)
    }

    async fn delete(at: &mut Snapshot<'_>, row: Team) -> Result<Decision, ApiError> {
        let referrer = crud::referrer::<Self>(at, &row).await?;
        team::delete(at.stamp, row, referrer)
    }
}

#[async_trait]
impl Changeable for TeamBody {
    type Patch = TeamPatch;

    async fn update(
        at: &mut Snapshot<'_>,
        row: Team,
        asked: &TeamPatch,
    ) -> Result<Decision, ApiError> {
        team::update(at.stamp, row, asked)
    }
}
