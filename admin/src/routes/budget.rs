//! `…/budgets`.

use async_trait::async_trait;
use odock_events::{ids::BudgetId, payload::budget::BudgetBody, state::Budget};

use super::{
    crud::{Changeable, Resource},
    rule,
};
use crate::{
    command::{Decision, snapshot::Snapshot},
    domain::budget,
    error::ApiError,
    page::ListSpec,
    shape::budget::{BudgetCreate, BudgetPatch},
};

#[async_trait]
impl Resource for BudgetBody {
    type Create = BudgetCreate;
    const NOUN: &'static str = "budget";
    const LIST: ListSpec = ListSpec::searchable(rule::FILTERS);

    async fn create(at: &mut Snapshot<'_>, asked: &BudgetCreate) -> Result<Decision, ApiError> {
        let owner_known = rule::is_known(at, &asked.owner).await?;
        budget::create(at.stamp, BudgetId::generate(), asked, owner_known)
    }

    async fn delete(at: &mut Snapshot<'_>, row: Budget) -> Result<Decision, ApiError> {
        budget::delete(at.stamp, row)
    }
}

#[async_trait]
impl Changeable for BudgetBody {
    type Patch = BudgetPatch;

    async fn update(
        at: &mut Snapshot<'_>,
        row: Budget,
        asked: &BudgetPatch,
    ) -> Result<Decision, ApiError> {
        budget::update(at.stamp, row, asked)
    }
}
