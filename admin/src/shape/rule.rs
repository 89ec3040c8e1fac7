//! What budgets and quotas have in common on the wire: owners, windows, projections.

use odock_events::{
    clock::Timestamp,
    ledger::{rule::Rule, window::Window},
    payload::{account::Unit, budget::Owner},
};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::queries::account::AccountRow;

/// The description of an owner.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct OwnerShape {
    /// `organisation`, `team`, `user`, `key`, `model`, `provider`, `tag` or `end_user`.
    #[schema(rename = "type")]
    kind: String,
    /// Of a tag nothing, of an end user its name; without one, each end user is counted by itself.
    id: Option<String>,
    /// Of a tag.
    name: Option<String>,
    /// Of a tag; without one, each value is counted by itself.
    value: Option<String>,
}

/// Amounts of money end in `_nanos`, those of other metrics have no ending.
pub(crate) fn amount(of: &mut Map<String, Value>, unit: Unit, name: &str, value: i64) {
    let name = match unit {
        Unit::Nanos => format!("{name}_nanos"),
        _ => name.to_owned(),
    };
    of.insert(name, value.into());
}

/// One window of a rule: `free` is `limit - held - settled`, and `limit` counts what was carried.
pub(crate) fn window(unit: Unit, window: Window, limit: i64, account: &AccountRow) -> Value {
    let limit = limit.saturating_add(account.carried);
    let taken = account.held.saturating_add(account.settled);
    let mut view = Map::new();
    view.insert("window_start".into(), json!(window.start));
    view.insert("window_end".into(), json!(window.end));
    amount(&mut view, unit, "limit", limit);
    amount(&mut view, unit, "held", account.held);
    amount(&mut view, unit, "settled", account.settled);
    amount(&mut view, unit, "free", limit.saturating_sub(taken));
    amount(&mut view, unit, "carried", account.carried);
    view.insert("crossed_percent".into(), account.crossed.into());
    Value::Object(view)
}

/// One account in the list of a rule's windows.
pub(crate) fn listed(
    unit: Unit,
    owner: &Owner,
    at: Window,
    limit: i64,
    closed: bool,
    account: &AccountRow,
) -> Value {
    let mut view = window(unit, at, limit, account);
    if let Some(view) = view.as_object_mut() {
        view.insert("owner".into(), json!(owner));
        view.insert("closed".into(), closed.into());
    }
    view
}

/// What the window comes to if it goes on as it did so far.
pub(crate) fn projection(rule: &Rule, at: Window, account: &AccountRow, now: Timestamp) -> Value {
    let unit = rule.unit();
    let limit = rule.limit_at(now);
    let elapsed = (now.0 - at.start.0).max(1);
    let rate = |micros: i64| {
        let scaled = i128::from(account.settled) * i128::from(micros) / i128::from(elapsed);
        i64::try_from(scaled).unwrap_or(i64::MAX)
    };
    let allowance = limit.saturating_add(account.carried);
    let whole = at.end.map(|end| end.0 - at.start.0);
    let exhausted = match account.settled {
        settled if settled >= allowance => Some(now),
        0 => None,
        settled => {
            let micros = i128::from(elapsed) * i128::from(allowance) / i128::from(settled);
            let moment = i64::try_from(i128::from(at.start.0) + micros)
                .ok()
                .map(Timestamp);
            moment.filter(|moment| at.end.is_none_or(|end| *moment < end))
        }
    };
    let mut view = Map::new();
    view.insert("window".into(), window(unit, at, limit, account));
    view.insert("elapsed_seconds".into(), (elapsed / 1_000_000).into());
    view.insert(
        "remaining_seconds".into(),
        json!(at.end.map(|end| (end.0 - now.0).max(0) / 1_000_000)),
    );
    amount(&mut view, unit, "per_day", rate(86_400_000_000));
    let name = if unit == Unit::Nanos {
        "projected_nanos"
    } else {
        "projected"
    };
    view.insert(name.into(), json!(whole.map(rate)));
    // Times that JSON and people agree on.
    let exhausted = exhausted.filter(|moment| moment.seconds() < 253_402_300_800);
    view.insert("exhausted_at".into(), json!(exhausted));
    Value::Object(view)
}

#[cfg(test)]
mod tests {
    use odock_events::{
        examples,
        kind::{Event, Kind},
        state::Row,
    };

    use super::*;

    fn rule() -> Rule {
        let Event::BudgetCreated(mut body) = examples::of_kind(Kind::BudgetCreated).event else {
            panic!("the example of a budget is a budget")
        };
        body.raise = None;
        body.amount_nanos.0 = 1_000;
        Rule::Budget(Row {
            id: odock_events::ids::BudgetId::generate(),
            organisation_id: odock_events::ids::OrganisationId::generate(),
            version: 1,
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
            body,
        })
    }

    #[test]
    fn a_projection_goes_on_as_it_was() {
        let day = 86_400_000_000;
        let at = Window {
            start: Timestamp(0),
            end: Some(Timestamp(10 * day)),
        };
        let account = AccountRow {
            settled: 400,
            ..AccountRow::default()
        };
        let view = projection(&rule(), at, &account, Timestamp(2 * day));
        assert_eq!(view["per_day_nanos"], 200);
        assert_eq!(view["projected_nanos"], 2_000);
        assert_eq!(view["exhausted_at"], json!(Timestamp(5 * day)));
        assert_eq!(view["remaining_seconds"], 8 * 86_400);
        let nothing = projection(&rule(), at, &AccountRow::default(), Timestamp(2 * day));
        assert_eq!(
            (&nothing["projected_nanos"], &nothing["exhausted_at"]),
            (&json!(0), &Value::Null)
        );
        let endless = Window { end: None, ..at };
        let view = projection(&rule(), endless, &account, Timestamp(2 * day));
        assert_eq!(view["projected_nanos"], Value::Null);
        assert_eq!(view["exhausted_at"], json!(Timestamp(5 * day)));
    }
}
