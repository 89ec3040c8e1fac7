//! `…/budgets`.

use async_trait::async_trait;
use odock_events::{
    ids::BudgetId,
    payload::{
        budget::{BudgetBody, BudgetOwner},
        key::KeyBody,
        team::TeamBody,
        user::UserBody,
    },
    state::Budget,
};

use super::crud::{Changeable, Resource};
use crate::{
    command::{Decision, snapshot::Snapshot},
    domain::budget,
    error::ApiError,
    page::{Filter, ListSpec, Takes},
    shape::budget::{BudgetCreate, BudgetPatch},
};

const FILTERS: &[Filter] = &[
    Filter {
        name: "name",
        sql: "name = ",
        takes: Takes::Text,
    },
    Filter {
        name: "owner_id",
        sql: "owner_id = ",
        takes: Takes::Id(""),
    },
    Filter {
        name: "owner_type",
        sql: "owner_kind = ",
        takes: Takes::Text,
    },
    Filter {
        name: "period",
        sql: "body ->> 'period' = ",
        takes: Takes::Text,
    },
    Filter {
        name: "mode",
        sql: "body ->> 'mode' = ",
        takes: Takes::Text,
    },
    Filter {
        name: "active",
        sql: "(body ->> 'active')::boolean = ",
        takes: Takes::Flag,
    },
];

#[async_trait]
impl Resource for BudgetBody {
    type Create = BudgetCreate;
    const NOUN: &'static str = "budget";
    const LIST: ListSpec = ListSpec {
        searchable: true,
        filters: FILTERS,
    };

    async fn create(at: &mut Snapshot<'_>, asked: &BudgetCreate) -> Result<Decision, ApiError> {
        let owner_known = match asked.owner {
            BudgetOwner::Organisation { id } => id == at.organisation()?,
            BudgetOwner::Team { id } => at.has::<TeamBody>(id).await?,
            BudgetOwner::User { id } => at.has::<UserBody>(id).await?,
            BudgetOwner::Key { id } => at.has::<KeyBody>(id).await?,
        };
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
