//! Teams.

use odock_events::{
    ids::TeamId,
    kind::Event,
    payload::{Nothing, team::TeamBody},
    state::Team,
};

use super::{check, deleted, one};
use crate::{
    command::{Decision, stamp::Stamp},
    error::{ApiError, Faults},
    shape::team::{TeamCreate, TeamPatch},
};

pub(crate) fn create(stamp: &Stamp, id: TeamId, asked: &TeamCreate) -> Result<Decision, ApiError> {
    let body = TeamBody {
        name: asked.name.clone(),
        policies: asked.policies.clone().unwrap_or_default(),
    };
    validate(&body)?;
    one(
        None,
        stamp.team_envelope(id, 1, Some(id), Event::TeamCreated(body)),
    )
}

pub(crate) fn update(stamp: &Stamp, row: Team, asked: &TeamPatch) -> Result<Decision, ApiError> {
    let body = TeamBody {
        name: asked.name.or_refuse_null("/name", &row.body.name)?,
        policies: asked.policies.or(&row.body.policies, Default::default),
    };
    validate(&body)?;
    let event = Event::TeamUpdated(body);
    let envelope = stamp.team_envelope(row.id, row.version + 1, Some(row.id), event);
    one(Some(row.into()), envelope)
}

pub(crate) fn delete(
    stamp: &Stamp,
    row: Team,
    referrer: Option<String>,
) -> Result<Decision, ApiError> {
    deleted(stamp, row.into(), referrer, Event::TeamDeleted(Nothing {}))
}

fn validate(body: &TeamBody) -> Result<(), ApiError> {
    let mut faults = Faults::default();
    faults.take(check::name("/name", &body.name))?;
    faults.take(check::policies(&body.policies))?;
    faults.finish()
}

#[cfg(test)]
mod tests {
    use odock_events::ids::OrganisationId;

    use super::*;
    use crate::{
        body,
        domain::testing::{after, kinds},
    };

    #[test]
    fn versions_rise_by_one() {
        let stamp = Stamp::for_testing(OrganisationId::generate());
        let asked: TeamCreate = body::read(br#"{"name":"red"}"#).unwrap();
        let decision = create(&stamp, TeamId::generate(), &asked).unwrap();
        let row = after::<TeamBody>(&decision);
        assert_eq!(decision.envelopes[0].meta.team_id, Some(row.id));
        let patch: TeamPatch = body::read(br#"{"name":"blue","policies":null}"#).unwrap();
        let decision = update(&stamp, row, &patch).unwrap();
        assert_eq!(kinds(&decision), ["team.updated"]);
        let row = after::<TeamBody>(&decision);
        assert_eq!((row.version, row.body.name.as_str()), (2, "blue"));
        assert_eq!(kinds(&delete(&stamp, row, None).unwrap()), ["team.deleted"]);
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let stamp = Stamp::for_testing(OrganisationId::generate());
        let asked: TeamCreate = body::read(br#"{"name":"","policies":{"routing":{}}}"#).unwrap();
        let error = create(&stamp, TeamId::generate(), &asked).err().unwrap();
        assert_eq!(error.fields.len(), 2);
    }
}
