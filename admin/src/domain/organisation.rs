//! Organisations: a name that is unique on the platform.

use odock_events::{
    ids::OrganisationId,
    kind::Event,
    payload::{
        Nothing,
        organisation::{OrganisationBody, OrganisationStatus},
    },
    state::Organisation,
};

use super::{changed, check, created, deleted, name_taken};
use crate::{
    command::{Decision, stamp::Stamp},
    error::{ApiError, Faults},
    shape::organisation::{OrganisationCreate, OrganisationPatch},
};

pub(crate) fn create(
    stamp: &Stamp,
    id: OrganisationId,
    asked: &OrganisationCreate,
    taken: bool,
) -> Result<Decision, ApiError> {
    let body = OrganisationBody {
        name: asked.name.clone(),
        contact: asked.contact.clone(),
        branding: asked.branding.clone().unwrap_or_default(),
        policies: asked.policies.clone().unwrap_or_default(),
        status: OrganisationStatus::Active,
    };
    validate(&body, taken)?;
    let stamp = Stamp {
        organisation_id: Some(id),
        ..stamp.clone()
    };
    created(&stamp, id, Event::OrganisationCreated(body))
}

pub(crate) fn update(
    stamp: &Stamp,
    row: Organisation,
    asked: &OrganisationPatch,
    taken: bool,
) -> Result<Decision, ApiError> {
    let before = &row.body;
    let body = OrganisationBody {
        name: asked.name.or_refuse_null("/name", &before.name)?,
        contact: asked.contact.or_cleared(before.contact.as_ref()),
        branding: asked.branding.or(&before.branding, Default::default),
        policies: asked.policies.or(&before.policies, Default::default),
        status: before.status,
    };
    validate(&body, taken)?;
    let stamp = Stamp {
        organisation_id: Some(row.id),
        ..stamp.clone()
    };
    changed(&stamp, row.into(), Event::OrganisationUpdated(body))
}

pub(crate) fn delete(
    stamp: &Stamp,
    row: Organisation,
    referrer: Option<String>,
) -> Result<Decision, ApiError> {
    let stamp = Stamp {
        organisation_id: Some(row.id),
        ..stamp.clone()
    };
    deleted(
        &stamp,
        row.into(),
        referrer,
        Event::OrganisationDeleted(Nothing {}),
    )
}

fn validate(body: &OrganisationBody, taken: bool) -> Result<(), ApiError> {
    let mut faults = Faults::default();
    faults.take(check::name("/name", &body.name))?;
    faults.take(check::text("/contact", body.contact.as_deref()))?;
    faults.take(check::object("/branding", &body.branding))?;
    faults.take(check::policies(&body.policies))?;
    faults.finish()?;
    if taken {
        Err(name_taken(&body.name))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        body,
        domain::testing::{after, kinds},
        error::Code,
    };

    fn stamp() -> Stamp {
        Stamp {
            organisation_id: None,
            ..Stamp::for_testing(OrganisationId::generate())
        }
    }

    #[test]
    fn an_organisation_is_its_own() {
        let asked: OrganisationCreate = body::read(br#"{"name":"Acme"}"#).unwrap();
        let id = OrganisationId::generate();
        let decision = create(&stamp(), id, &asked, false).unwrap();
        assert_eq!(kinds(&decision), ["organisation.created"]);
        assert_eq!(decision.envelopes[0].meta.organisation_id, Some(id));
        let row = after::<OrganisationBody>(&decision);
        assert_eq!((row.id, row.organisation_id, row.version), (id, id, 1));
        assert_eq!(
            create(&stamp(), id, &asked, true).err().unwrap().code,
            Code::NameTaken
        );
        let busy = delete(&stamp(), row.clone(), Some("a team".into()))
            .err()
            .unwrap();
        assert_eq!(busy.code, Code::InUse);
        let gone = delete(&stamp(), row, None).unwrap();
        assert_eq!(gone.envelopes[0].meta.entity_version, 2);
    }

    #[test]
    fn a_patch_keeps_what_it_does_not_name() {
        let asked: OrganisationCreate =
            body::read(br#"{"name":"Acme","contact":"ops","branding":{"logo":"x"}}"#).unwrap();
        let decision = create(&stamp(), OrganisationId::generate(), &asked, false).unwrap();
        let row = after::<OrganisationBody>(&decision);
        let patch: OrganisationPatch = body::read(br#"{"contact":null}"#).unwrap();
        let decision = update(&stamp(), row, &patch, false).unwrap();
        let row = after::<OrganisationBody>(&decision);
        assert_eq!(
            (row.version, row.body.contact, row.body.branding.len()),
            (2, None, 1)
        );
        let patch: OrganisationPatch = body::read(br#"{"name":null}"#).unwrap();
        let row = after::<OrganisationBody>(&decision);
        assert!(update(&stamp(), row, &patch, false).is_err());
    }
}
