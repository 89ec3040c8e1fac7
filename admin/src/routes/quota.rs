//! `…/quotas`.

use async_trait::async_trait;
use odock_events::{ids::QuotaId, payload::quota::QuotaBody, state::Quota};

use super::{
    crud::{Changeable, Resource},
    rule,
};
use crate::{
    command::{Decision, snapshot::Snapshot},
    domain::quota,
    error::ApiError,
    page::ListSpec,
    shape::quota::{QuotaCreate, QuotaPatch},
};

#[async_trait]
impl Resource for QuotaBody {
    type Create = QuotaCreate;
    const NOUN: &'static str = "quota";
    const LIST: ListSpec = ListSpec::searchable(rule::FILTERS);

    async fn create(at: &mut Snapshot<'_>, asked: &QuotaCreate) -> Result<Decision, ApiError> {
        let owner_known = rule::is_known(at, &asked.owner).await?;
        quota::create(at.stamp, QuotaId::generate(), asked, owner_known)
    }

    async fn delete(at: &mut Snapshot<'_>, row: Quota) -> Result<Decision, ApiError> {
        quota::delete(at.stamp, row)
    }
}

#[async_trait]
impl Changeable for QuotaBody {
    type Patch = QuotaPatch;

    async fn update(
        at: &mut Snapshot<'_>,
        row: Quota,
        asked: &QuotaPatch,
    ) -> Result<Decision, ApiError> {
        quota::update(at.stamp, row, asked)
    }
}
