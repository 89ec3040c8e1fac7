//! Budgets: rules from which accounts are made. What defines the windows never changes after creation.

use odock_events::{
    ids::BudgetId,
    kind::Event,
    payload::{
        Nothing,
        budget::{BudgetBody, BudgetMode, Raise, USD},
        threshold::Thresholds,
    },
    state::Budget,
    units::NanoUsd,
};

use super::{changed, created, no_such, rule};
use crate::{
    body::member::{Member, refuse_fixed},
    command::{Decision, stamp::Stamp},
    error::{ApiError, Faults},
    shape::budget::{BudgetCreate, BudgetPatch, BudgetRaise},
};

pub(crate) fn create(
    stamp: &Stamp,
    id: BudgetId,
    asked: &BudgetCreate,
    owner_known: bool,
) -> Result<Decision, ApiError> {
    let mut faults = Faults::default();
    let times = rule::times(
        asked.timezone.as_deref(),
        asked.start_at.as_deref(),
        asked.end_at.as_deref(),
        &mut faults,
    )?;
    if !owner_known {
        faults.take::<()>(Err(no_such("/owner/id", asked.owner.kind())))?;
    }
    rule::owner(&asked.owner, &mut faults);
    let thresholds = asked.thresholds.as_deref();
    let mut body = BudgetBody {
        name: asked.name.clone(),
        owner: asked.owner.clone(),
        period: asked.period,
        amount_nanos: NanoUsd(asked.amount_nanos),
        mode: asked.mode.unwrap_or(BudgetMode::Hard),
        timezone: times.timezone,
        start_at: times.start_at,
        end_at: times.end_at,
        active: asked.active.unwrap_or(true),
        rollover: asked.rollover.unwrap_or(false),
        thresholds: thresholds.map_or_else(Thresholds::default, |percents| {
            rule::thresholds(percents, &mut faults)
        }),
        raise: None,
        currency: asked.currency.clone().unwrap_or_else(|| USD.to_owned()),
    };
    if let Some(asked) = &asked.raise {
        body.raise = raise(asked, &body, stamp, &mut faults)?;
    }
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
    let end_at = rule::end_of(before.into(), &asked.end_at);
    let mut body = BudgetBody {
        name: asked.name.or_cleared(before.name.as_ref()),
        amount_nanos: NanoUsd(faults.take(amount)?.unwrap_or_default()),
        mode: asked.mode.or(&before.mode, || BudgetMode::Hard),
        end_at: faults.take(end_at)?.flatten(),
        active: asked.active.or(&before.active, || true),
        rollover: asked.rollover.or(&before.rollover, || false),
        thresholds: match &asked.thresholds {
            Member::Absent => before.thresholds,
            Member::Null => Thresholds::default(),
            Member::Given(percents) => rule::thresholds(percents, &mut faults),
        },
        currency: asked.currency.or(&before.currency, || USD.to_owned()),
        ..before.clone()
    };
    match &asked.raise {
        Member::Absent => {}
        Member::Null => body.raise = None,
        Member::Given(asked) => body.raise = raise(asked, &body, stamp, &mut faults)?,
    }
    validate(&body, &mut faults)?;
    faults.finish()?;
    changed(stamp, row.into(), Event::BudgetUpdated(body))
}

fn raise(
    asked: &BudgetRaise,
    body: &BudgetBody,
    stamp: &Stamp,
    faults: &mut Faults,
) -> Result<Option<Raise>, ApiError> {
    let until = asked.until.as_deref();
    rule::raise(asked.amount_nanos, until, body.into(), stamp.now, faults)
}

pub(crate) fn delete(stamp: &Stamp, row: Budget) -> Result<Decision, ApiError> {
    changed(stamp, row.into(), Event::BudgetDeleted(Nothing {}))
}

fn validate(body: &BudgetBody, faults: &mut Faults) -> Result<(), ApiError> {
    rule::validate(body.name.as_deref(), body.into(), faults)?;
    if body.amount_nanos < NanoUsd::ZERO {
        faults.add("/amount_nanos", "must not be negative");
    }
    if body.mode == BudgetMode::Postpaid {
        faults.add("/mode", "expected hard, elastic or soft");
    }
    let currency = body.currency.as_bytes();
    if currency.len() != 3 || !currency.iter().all(u8::is_ascii_uppercase) {
        faults.add("/currency", "must be three capital letters, such as USD");
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
    fn raises_last_until_their_time_or_the_end_of_the_window() {
        let stamp_now = Stamp::for_testing(OrganisationId::generate()).now;
        let raised = json!({ "raise": { "amount_nanos": 5 } });
        let row: Budget = after(&make(&raised, true).unwrap());
        let raise = row.body.raise.unwrap();
        assert_eq!(raise.amount, 5);
        let window = odock_events::ledger::window::window_at(&row.body, stamp_now).unwrap();
        assert_eq!(Some(raise.until), window.end);
        let taken_back: BudgetPatch =
            body::read(br#"{"raise":null,"rollover":true,"thresholds":[75]}"#).unwrap();
        let stamp = Stamp::for_testing(row.organisation_id);
        let row: Budget = after(&update(&stamp, row, &taken_back).unwrap());
        assert_eq!((row.body.raise, row.body.rollover), (None, true));
        assert_eq!(row.body.thresholds.percents().collect::<Vec<u8>>(), [75]);
        for (raise, place) in [
            (json!({ "amount_nanos": 0 }), "/raise"),
            (
                json!({ "amount_nanos": 1, "until": "2020-01-01T00:00:00Z" }),
                "/raise/until",
            ),
        ] {
            assert_eq!(field(&json!({ "raise": raise })), place);
        }
        let total = json!({ "period": "total", "raise": { "amount_nanos": 1 } });
        assert_eq!(field(&total), "/raise/until");
    }

    #[test]
    fn owners_may_be_models_providers_tags_and_end_users() {
        for owner in [
            json!({ "type": "tag", "name": "project", "value": "apollo" }),
            json!({ "type": "tag", "name": "project" }),
            json!({ "type": "end_user" }),
            json!({ "type": "end_user", "id": "alice@example" }),
            json!({ "type": "model", "id": odock_events::ids::ModelId::generate() }),
        ] {
            let row: Budget = after(&make(&json!({ "owner": owner }), true).unwrap());
            assert_eq!(serde_json::to_value(&row.body.owner).unwrap(), owner);
        }
        let bad = |owner: Value| field(&json!({ "owner": owner }));
        assert_eq!(bad(json!({ "type": "tag", "name": "a b" })), "/owner/name");
        assert_eq!(
            bad(json!({ "type": "tag", "name": "a", "value": "" })),
            "/owner/value"
        );
        assert_eq!(bad(json!({ "type": "end_user", "id": "" })), "/owner/id");
        assert_eq!(field(&json!({ "thresholds": [0] })), "/thresholds");
        assert_eq!(field(&json!({ "currency": "dollars" })), "/currency");
        assert_eq!(field(&json!({ "mode": "postpaid" })), "/mode");
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
