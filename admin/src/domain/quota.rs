//! Quotas: rules like budgets, of a metric. What defines the windows, and the metric, never change after creation.

use odock_events::{
    ids::QuotaId,
    kind::Event,
    payload::{Nothing, budget::Raise, quota::QuotaBody, threshold::Thresholds},
    state::Quota,
};

use super::{changed, created, no_such, rule};
use crate::{
    body::member::{Member, refuse_fixed},
    command::{Decision, stamp::Stamp},
    error::{ApiError, Faults},
    shape::quota::{QuotaCreate, QuotaPatch, QuotaRaise},
};

pub(crate) fn create(
    stamp: &Stamp,
    id: QuotaId,
    asked: &QuotaCreate,
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
    let mut body = QuotaBody {
        name: asked.name.clone(),
        owner: asked.owner.clone(),
        metric: asked.metric,
        limit: asked.limit,
        period: asked.period,
        timezone: times.timezone,
        start_at: times.start_at,
        end_at: times.end_at,
        active: asked.active.unwrap_or(true),
        rollover: asked.rollover.unwrap_or(false),
        thresholds: thresholds.map_or_else(Thresholds::default, |percents| {
            rule::thresholds(percents, &mut faults)
        }),
        raise: None,
    };
    if let Some(asked) = &asked.raise {
        body.raise = raise(asked, &body, stamp, &mut faults)?;
    }
    validate(&body, &mut faults)?;
    faults.finish()?;
    created(stamp, id, Event::QuotaCreated(body))
}

pub(crate) fn update(stamp: &Stamp, row: Quota, asked: &QuotaPatch) -> Result<Decision, ApiError> {
    let mut faults = Faults::default();
    faults.take(refuse_fixed("/owner", &asked.owner))?;
    faults.take(refuse_fixed("/metric", &asked.metric))?;
    faults.take(refuse_fixed("/period", &asked.period))?;
    faults.take(refuse_fixed("/timezone", &asked.timezone))?;
    faults.take(refuse_fixed("/start_at", &asked.start_at))?;
    let before = &row.body;
    let limit = asked.limit.or_refuse_null("/limit", &before.limit);
    let end_at = rule::end_of(before.into(), &asked.end_at);
    let mut body = QuotaBody {
        name: asked.name.or_cleared(before.name.as_ref()),
        limit: faults.take(limit)?.unwrap_or_default(),
        end_at: faults.take(end_at)?.flatten(),
        active: asked.active.or(&before.active, || true),
        rollover: asked.rollover.or(&before.rollover, || false),
        thresholds: match &asked.thresholds {
            Member::Absent => before.thresholds,
            Member::Null => Thresholds::default(),
            Member::Given(percents) => rule::thresholds(percents, &mut faults),
        },
        ..before.clone()
    };
    match &asked.raise {
        Member::Absent => {}
        Member::Null => body.raise = None,
        Member::Given(asked) => body.raise = raise(asked, &body, stamp, &mut faults)?,
    }
    validate(&body, &mut faults)?;
    faults.finish()?;
    changed(stamp, row.into(), Event::QuotaUpdated(body))
}

pub(crate) fn delete(stamp: &Stamp, row: Quota) -> Result<Decision, ApiError> {
    changed(stamp, row.into(), Event::QuotaDeleted(Nothing {}))
}

fn raise(
    asked: &QuotaRaise,
    body: &QuotaBody,
    stamp: &Stamp,
    faults: &mut Faults,
) -> Result<Option<Raise>, ApiError> {
    let until = asked.until.as_deref();
    rule::raise(asked.amount, until, body.into(), stamp.now, faults)
}

fn validate(body: &QuotaBody, faults: &mut Faults) -> Result<(), ApiError> {
    rule::validate(body.name.as_deref(), body.into(), faults)?;
    if body.limit < 0 {
        faults.add("/limit", "must not be negative");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use odock_events::ids::{KeyId, OrganisationId};
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        body,
        domain::testing::{after, kinds},
    };

    fn make(more: &Value) -> Result<Decision, ApiError> {
        let mut text = json!({
            "owner": { "type": "key", "id": KeyId::generate() },
            "metric": "requests", "period": "daily", "limit": 100,
        });
        text.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let asked: QuotaCreate = body::read(text.to_string().as_bytes())?;
        let stamp = Stamp::for_testing(OrganisationId::generate());
        create(&stamp, QuotaId::generate(), &asked, true)
    }

    #[test]
    fn every_metric_can_be_counted() {
        for metric in [
            "requests",
            "tokens",
            "tokens_in",
            "tokens_out",
            "errors",
            "cost",
            "latency_ms",
        ] {
            let row: Quota = after(&make(&json!({ "metric": metric })).unwrap());
            assert_eq!(row.body.metric.name(), metric);
        }
        let error = make(&json!({ "metric": "smiles" })).err().unwrap();
        assert_eq!(error.fields[0].field, "/metric");
        let error = make(&json!({ "limit": -1 })).err().unwrap();
        assert_eq!(error.fields[0].field, "/limit");
    }

    #[test]
    fn the_metric_and_what_defines_windows_are_fixed() {
        let row: Quota = after(&make(&json!({})).unwrap());
        let stamp = Stamp::for_testing(row.organisation_id);
        for member in ["owner", "metric", "period", "timezone", "start_at"] {
            let patch: QuotaPatch =
                body::read(json!({ member: "x" }).to_string().as_bytes()).unwrap();
            let error = update(&stamp, row.clone(), &patch).err().unwrap();
            assert_eq!(error.fields[0].field, format!("/{member}"));
        }
        let patch: QuotaPatch =
            body::read(br#"{"limit":5,"raise":{"amount":2},"active":false}"#).unwrap();
        let decision = update(&stamp, row, &patch).unwrap();
        assert_eq!(kinds(&decision), ["quota.updated"]);
        let row: Quota = after(&decision);
        assert_eq!((row.body.limit, row.body.active), (5, false));
        assert_eq!(row.body.raise.map(|raise| raise.amount), Some(2));
    }
}
