//! Budgets: rules from which accounts are made. What defines the windows never changes after creation.

use odock_events::{
    clock::Timestamp,
    ids::BudgetId,
    kind::Event,
    payload::{
        Nothing,
        budget::{BudgetBody, BudgetMode},
    },
    state::Budget,
    units::NanoUsd,
};

use super::{changed, check, created, no_such, time};
use crate::{
    body::member::{Member, refuse_fixed},
    command::{Decision, stamp::Stamp},
    error::{ApiError, Faults},
    shape::budget::{BudgetCreate, BudgetPatch},
};

pub(crate) fn create(
    stamp: &Stamp,
    id: BudgetId,
    asked: &BudgetCreate,
    owner_known: bool,
) -> Result<Decision, ApiError> {
    let mut faults = Faults::default();
    let (zone, timezone) = time::zone("/timezone", asked.timezone.as_deref().unwrap_or(time::UTC))?;
    let moment = |field, text: &Option<String>| {
        text.as_deref()
            .map(|text| time::moment(field, text, &zone))
            .transpose()
    };
    let start_at = faults.take(moment("/start_at", &asked.start_at))?.flatten();
    let end_at = faults.take(moment("/end_at", &asked.end_at))?.flatten();
    if !owner_known {
        faults.take::<()>(Err(no_such("/owner/id", asked.owner.kind())))?;
    }
    let body = BudgetBody {
        name: asked.name.clone(),
        owner: asked.owner,
        period: asked.period,
        amount_nanos: NanoUsd(asked.amount_nanos),
        mode: asked.mode.unwrap_or(BudgetMode::Hard),
        timezone,
        start_at,
        end_at,
        active: asked.active.unwrap_or(true),
    };
    validate(&body, &mut faults)?;
    faults.finish()?;
    created(stamp, id, Event::BudgetCreated(body))
}

pub(crate) fn update(
    stamp: &Stamp,
    row: Budget,
    asked: &BudgetPatch,
) -> Result<Decision, ApiError> {
    let mut faults = Faults::default();
    faults.take(refuse_fixed("/owner", &asked.owner))?;
    faults.take(refuse_fixed("/period", &asked.period))?;
    faults.take(refuse_fixed("/timezone", &asked.timezone))?;
    faults.take(refuse_fixed("/start_at", &asked.start_at))?;
    let before = &row.body;
    let amount = asked
        .amount_nanos
        .or_refuse_null("/amount_nanos", &before.amount_nanos.0);
    let body = BudgetBody {
        name: asked.name.or_cleared(before.name.as_ref()),
        amount_nanos: NanoUsd(faults.take(amount)?.unwrap_or_default()),
        mode: asked.mode.or(&before.mode, || BudgetMode::Hard),
        end_at: faults.take(end_of(before, &asked.end_at))?.flatten(),
        active: asked.active.or(&before.active, || true),
        ..before.clone()
    };
    validate(&body, &mut faults)?;
    faults.finish()?;
    changed(stamp, row.into(), Event::BudgetUpdated(body))
}

pub(crate) fn delete(stamp: &Stamp, row: Budget) -> Result<Decision, ApiError> {
    changed(stamp, row.into(), Event::BudgetDeleted(Nothing {}))
}

fn end_of(before: &BudgetBody, asked: &Member<String>) -> Result<Option<Timestamp>, ApiError> {
    match asked {
        Member::Absent => Ok(before.end_at),
        Member::Null => Ok(None),
        Member::Given(text) => {
            let (zone, _) = time::zone("/timezone", &before.timezone)?;
            time::moment("/end_at", text, &zone).map(Some)
        }
    }
}

fn validate(body: &BudgetBody, faults: &mut Faults) -> Result<(), ApiError> {
    faults.take(check::optional_name("/name", body.name.as_deref()))?;
    if body.amount_nanos < NanoUsd::ZERO {
        faults.add("/amount_nanos", "must not be negative");
    }
    if let (Some(start), Some(end)) = (body.start_at, body.end_at)
        && end <= start
    {
        faults.add("/end_at", "must lie after start_at");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use odock_events::ids::{KeyId, OrganisationId, TeamId};
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        body,
        domain::testing::{after, kinds},
    };

    fn base() -> Value {
        json!({
            "owner": { "type": "key", "id": KeyId::generate() },
            "period": "monthly", "amount_nanos": 10_000_000,
        })
    }

    fn make(more: &Value, owner_known: bool) -> Result<Decision, ApiError> {
        let mut text = base();
        text.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let asked: BudgetCreate = body::read(text.to_string().as_bytes())?;
        let stamp = Stamp::for_testing(OrganisationId::generate());
        create(&stamp, BudgetId::generate(), &asked, owner_known)
    }

    fn field(more: &Value) -> String {
        make(more, true).err().unwrap().fields[0].field.clone()
    }

    #[test]
    fn a_budget_is_hard_and_active_unless_said_otherwise() {
        let row: Budget = after(&make(&json!({}), true).unwrap());
        assert_eq!((row.body.mode, row.body.active), (BudgetMode::Hard, true));
        assert_eq!(
            (row.body.timezone.as_str(), row.body.start_at),
            ("UTC", None)
        );
        assert!(make(&json!({ "amount_nanos": 0 }), true).is_ok());
        let row: Budget = after(&make(&json!({ "mode": "elastic" }), true).unwrap());
        assert_eq!(row.body.mode, BudgetMode::Elastic);
        let start = json!({ "start_at": "2026-01-31T13:10:00", "timezone": "europe/zurich" });
        let row: Budget = after(&make(&start, true).unwrap());
        assert_eq!(
            row.body.start_at.unwrap().to_string(),
            "2026-01-31T12:10:00.000000Z"
        );
    }

    #[test]
    fn what_cannot_be_is_refused_by_place() {
        assert_eq!(field(&json!({ "amount_nanos": -1 })), "/amount_nanos");
        assert_eq!(field(&json!({ "amount_nanos": 1.5 })), "/amount_nanos");
        assert_eq!(
            field(&json!({ "amount_nanos": 9_223_372_036_854_775_808_u64 })),
            "/amount_nanos"
        );
        assert_eq!(field(&json!({ "mode": "strict" })), "/mode");
        assert_eq!(field(&json!({ "period": "hourly" })), "/period");
        assert_eq!(field(&json!({ "timezone": "Mars" })), "/timezone");
        let ends = json!({ "start_at": "2026-02-01T00:00:00Z", "end_at": "2026-01-01T00:00:00Z" });
        assert_eq!(field(&ends), "/end_at");
        let other = json!({ "owner": { "type": "key", "id": TeamId::generate() } });
        assert!(field(&other).starts_with("/owner"));
        assert_eq!(
            make(&json!({}), false).err().unwrap().fields[0].field,
            "/owner/id"
        );
    }

    #[test]
    fn what_defines_windows_is_fixed() {
        let row: Budget = after(&make(&json!({}), true).unwrap());
        let stamp = Stamp::for_testing(row.organisation_id);
        for member in ["owner", "period", "timezone", "start_at"] {
            let patch: BudgetPatch =
                body::read(json!({ member: "x" }).to_string().as_bytes()).unwrap();
            let error = update(&stamp, row.clone(), &patch).err().unwrap();
            assert_eq!(error.fields[0].field, format!("/{member}"));
        }
        let text =
            br#"{"amount_nanos":5,"mode":"soft","active":false,"end_at":"2027-01-01T00:00:00"}"#;
        let patch: BudgetPatch = body::read(text).unwrap();
        let decision = update(&stamp, row, &patch).unwrap();
        assert_eq!(kinds(&decision), ["budget.updated"]);
        let row: Budget = after(&decision);
        assert_eq!(
            (row.body.amount_nanos, row.body.mode),
            (NanoUsd(5), BudgetMode::Soft)
        );
        assert!(!row.body.active && row.body.end_at.is_some());
    }
}
