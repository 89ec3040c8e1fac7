//! Memberships: who is in which team, once.

use odock_events::{
    ids::MembershipId,
    kind::Event,
    payload::{
        Nothing,
        team::{MembershipBody, MembershipRole},
    },
    state::Membership,
};

use super::{no_such, one};
use crate::{
    body::member::refuse_fixed,
    command::{Decision, stamp::Stamp},
    error::{ApiError, Code, Faults},
    shape::membership::{MembershipCreate, MembershipPatch},
};

/// What is there of what the membership refers to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) team: bool,
    pub(crate) user: bool,
    pub(crate) member_already: bool,
}

pub(crate) fn create(
    stamp: &Stamp,
    id: MembershipId,
    asked: &MembershipCreate,
    known: Known,
) -> Result<Decision, ApiError> {
    let mut faults = Faults::default();
    if !known.team {
        faults.take::<()>(Err(no_such("/team_id", "team")))?;
    }
    if !known.user {
        faults.take::<()>(Err(no_such("/user_id", "user")))?;
    }
    faults.finish()?;
    if known.member_already {
        return Err(ApiError::new(
            Code::Conflict,
            "the user is in this team already",
        ));
    }
    let body = MembershipBody {
        team_id: asked.team_id,
        user_id: asked.user_id,
        role: asked.role.unwrap_or(MembershipRole::Member),
    };
    let event = Event::MembershipCreated(body);
    one(None, stamp.team_envelope(id, 1, Some(asked.team_id), event))
}

pub(crate) fn update(
    stamp: &Stamp,
    row: Membership,
    asked: &MembershipPatch,
) -> Result<Decision, ApiError> {
    refuse_fixed("/team_id", &asked.team_id)?;
    refuse_fixed("/user_id", &asked.user_id)?;
    let role = asked.role.or(&row.body.role, || MembershipRole::Member);
    let body = MembershipBody {
        role,
        ..row.body.clone()
    };
    let team = Some(body.team_id);
    let envelope = stamp.team_envelope(
        row.id,
        row.version + 1,
        team,
        Event::MembershipUpdated(body),
    );
    one(Some(row.into()), envelope)
}

pub(crate) fn delete(stamp: &Stamp, row: Membership) -> Result<Decision, ApiError> {
    let team = Some(row.body.team_id);
    let event = Event::MembershipDeleted(Nothing {});
    let envelope = stamp.team_envelope(row.id, row.version + 1, team, event);
    one(Some(row.into()), envelope)
}

#[cfg(test)]
mod tests {
    use odock_events::ids::{OrganisationId, TeamId, UserId};

    use super::*;
    use crate::{body, domain::testing::after};

    #[test]
    fn a_user_is_in_a_team_once_and_both_must_be_here() {
        let stamp = Stamp::for_testing(OrganisationId::generate());
        let asked = MembershipCreate {
            team_id: TeamId::generate(),
            user_id: UserId::generate(),
            role: None,
        };
        let known = Known {
            team: true,
            user: true,
            member_already: false,
        };
        let id = MembershipId::generate();
        let decision = create(&stamp, id, &asked, known).unwrap();
        let row = after::<MembershipBody>(&decision);
        assert_eq!(row.body.role, MembershipRole::Member);
        let twice = create(
            &stamp,
            id,
            &asked,
            Known {
                member_already: true,
                ..known
            },
        );
        assert_eq!(twice.err().unwrap().code, Code::Conflict);
        let neither = Known {
            team: false,
            user: false,
            member_already: false,
        };
        assert_eq!(
            create(&stamp, id, &asked, neither)
                .err()
                .unwrap()
                .fields
                .len(),
            2
        );

        let patch: MembershipPatch = body::read(br#"{"role":"manager"}"#).unwrap();
        let decision = update(&stamp, row.clone(), &patch).unwrap();
        assert_eq!(
            after::<MembershipBody>(&decision).body.role,
            MembershipRole::Manager
        );
        let patch: MembershipPatch = body::read(br#"{"user_id":"user_1"}"#).unwrap();
        assert_eq!(
            update(&stamp, row, &patch).err().unwrap().fields[0].field,
            "/user_id"
        );
    }
}
