//! `…/memberships`.

use async_trait::async_trait;
use odock_events::{
    ids::MembershipId,
    payload::{
        team::{MembershipBody, TeamBody},
        user::UserBody,
    },
    state::Membership,
};

use super::crud::{Changeable, Resource};
use crate::{
    command::{Decision, snapshot::Snapshot},
    domain::membership::{self, Known},
    error::ApiError,
    page::{Filter, ListSpec, Takes},
    queries::references,
    shape::membership::{MembershipCreate, MembershipPatch},
};

const FILTERS: &[Filter] = &[
    Filter::new("team_id", "team_id = ", Takes::Id("team")),
    Filter::new("user_id", "user_id = ", Takes::Id("user")),
    Filter::new("role", "body ->> 'role' = ", Takes::Text),
];

#[async_trait]
impl Resource for MembershipBody {
    type Create = MembershipCreate;
    const NOUN: &'static str = "membership";
    const LIST: ListSpec = ListSpec {
        searchable: false,
        filters: FILTERS,
    };

    async fn create(at: &mut Snapshot<'_>, asked: &MembershipCreate) -> Result<Decision, ApiError> {
        let known = Known {
            team: at.has::<TeamBody>(asked.team_id).await?,
            user: at.has::<UserBody>(asked.user_id).await?,
            member_already: references::is_member(at.connection, asked.team_id, asked.user_id)
                .await?,
        };
        membership::create(at.stamp, MembershipId::generate(), asked, known)
    }

    async fn delete(at: &mut Snapshot<'_>, row: Membership) -> Result<Decision, ApiError> {
        membership::delete(at.stamp, row)
    }
}

#[async_trait]
impl Changeable for MembershipBody {
    type Patch = MembershipPatch;

    async fn update(
        at: &mut Snapshot<'_>,
        row: Membership,
        asked: &MembershipPatch,
    ) -> Result<Decision, ApiError> {
        membership::update(at.stamp, row, asked)
    }
}
