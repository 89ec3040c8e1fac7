//! Overlays: a scope's limits scaled for a time. What is scaled never changes after creation.

use jiff::tz::TimeZone;
use odock_events::{
    clock::Timestamp,
    ids::OverlayId,
    kind::Event,
    payload::{Nothing, overlay::OverlayBody},
    state::Overlay,
};

use super::{changed, check, created, no_such, time};
use crate::{
    body::member::{Member, refuse_fixed},
    command::{Decision, stamp::Stamp},
    error::{ApiError, Faults},
    shape::overlay::{OverlayCreate, OverlayPatch},
};

pub(crate) fn create(
    stamp: &Stamp,
    id: OverlayId,
    asked: &OverlayCreate,
    scope_known: bool,
) -> Result<Decision, ApiError> {
    let mut faults = Faults::default();
    let starts_at = match &asked.starts_at {
        Some(text) => faults.take(moment("/starts_at", text))?,
        None => Some(stamp.now),
    };
    let ends_at = faults.take(moment("/ends_at", &asked.ends_at))?;
    if !scope_known {
        faults.take::<()>(Err(no_such("/scope/id", asked.scope.kind())))?;
    }
    let body = OverlayBody {
        name: asked.name.clone(),
        scope: asked.scope,
        percent: asked.percent,
        starts_at: starts_at.unwrap_or(stamp.now),
        ends_at: ends_at.unwrap_or(Timestamp(i64::MAX)),
    };
    validate(&body, &mut faults)?;
    if body.ends_at <= stamp.now {
        faults.add("/ends_at", "must lie in the future");
    }
    faults.finish()?;
    created(stamp, id, Event::OverlayCreated(body))
}

pub(crate) fn update(
    stamp: &Stamp,
    row: Overlay,
    asked: &OverlayPatch,
) -> Result<Decision, ApiError> {
    let mut faults = Faults::default();
    faults.take(refuse_fixed("/scope", &asked.scope))?;
    let before = &row.body;
    let percent = asked.percent.or_refuse_null("/percent", &before.percent);
    let starts_at = changed_moment("/starts_at", &asked.starts_at, before.starts_at);
    let ends_at = changed_moment("/ends_at", &asked.ends_at, before.ends_at);
    let body = OverlayBody {
        name: asked.name.or_cleared(before.name.as_ref()),
        scope: before.scope,
        percent: faults.take(percent)?.unwrap_or(before.percent),
        starts_at: faults.take(starts_at)?.unwrap_or(before.starts_at),
        ends_at: faults.take(ends_at)?.unwrap_or(before.ends_at),
    };
    validate(&body, &mut faults)?;
    faults.finish()?;
    changed(stamp, row.into(), Event::OverlayUpdated(body))
}

pub(crate) fn delete(stamp: &Stamp, row: Overlay) -> Result<Decision, ApiError> {
    changed(stamp, row.into(), Event::OverlayDeleted(Nothing {}))
}

fn changed_moment(
    field: &str,
    asked: &Member<String>,
    before: Timestamp,
) -> Result<Timestamp, ApiError> {
    match asked {
        Member::Absent => Ok(before),
        Member::Null => Err(ApiError::invalid(field, "cannot be null")),
        Member::Given(text) => moment(field, text),
    }
}

fn moment(field: &str, text: &str) -> Result<Timestamp, ApiError> {
    time::moment(field, text, &TimeZone::UTC)
}

fn validate(body: &OverlayBody, faults: &mut Faults) -> Result<(), ApiError> {
    faults.take(check::optional_name("/name", body.name.as_deref()))?;
    if body.percent > MOST_PERCENT {
        faults.add("/percent", format!("must be at most {MOST_PERCENT}"));
    }
    if body.ends_at <= body.starts_at {
        faults.add("/ends_at", "must lie after starts_at");
    }
    Ok(())
}

const MOST_PERCENT: u32 = 10_000;

#[cfg(test)]
mod tests {
    use odock_events::ids::{KeyId, OrganisationId};
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        body,
        domain::testing::{after, kinds},
    };

    fn make(more: &Value, scope_known: bool) -> Result<Decision, ApiError> {
        let mut text = json!({
            "scope": { "type": "key", "id": KeyId::generate() },
            "percent": 200, "ends_at": "2200-01-01T00:00:00Z",
        });
        text.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let asked: OverlayCreate = body::read(text.to_string().as_bytes())?;
        let stamp = Stamp::for_testing(OrganisationId::generate());
        create(&stamp, OverlayId::generate(), &asked, scope_known)
    }

    #[test]
    fn line_070_an_overlay_has_a_scope_a_percentage_and_an_end() {
        let row: Overlay = after(&make(&json!({}), true).unwrap());
        assert_eq!(row.body.percent, 200);
        for (more, field) in [
            (json!({ "percent": 10_001 }), "/percent"),
            (json!({ "percent": -1 }), "/percent"),
            (json!({ "ends_at": "2001-01-01T00:00:00Z" }), "/ends_at"),
            (json!({ "ends_at": "soon" }), "/ends_at"),
            (json!({ "starts_at": "2200-01-02T00:00:00Z" }), "/ends_at"),
        ] {
            let error = make(&more, true).err().unwrap();
            assert_eq!(error.fields[0].field, field, "{more}");
        }
        let unknown = make(&json!({}), false).err().unwrap();
        assert_eq!(unknown.fields[0].field, "/scope/id");
    }

    #[test]
    fn its_scope_is_fixed_and_its_end_is_not() {
        let row: Overlay = after(&make(&json!({}), true).unwrap());
        let stamp = Stamp::for_testing(row.organisation_id);
        let patch: OverlayPatch = body::read(br#"{"scope":{}}"#).unwrap();
        let error = update(&stamp, row.clone(), &patch).err().unwrap();
        assert_eq!(error.fields[0].field, "/scope");
        let text = br#"{"ends_at":"2100-01-01T00:00:00Z","percent":50}"#;
        let patch: OverlayPatch = body::read(text).unwrap();
        let decision = update(&stamp, row, &patch).unwrap();
        assert_eq!(kinds(&decision), ["overlay.updated"]);
        let row: Overlay = after(&decision);
        assert_eq!(row.body.percent, 50);
        assert_eq!(kinds(&delete(&stamp, row).unwrap()), ["overlay.deleted"]);
    }
}
