//! What budgets and quotas have in common: schedule, owner, thresholds, temporary raises.

use odock_events::{
    clock::Timestamp,
    ledger::{rule::Schedule, window::window_at},
    payload::{
        budget::{Owner, Raise},
        threshold::Thresholds,
    },
};

use super::{check, time};
use crate::{
    body::member::Member,
    error::{ApiError, Faults},
};

const LONGEST_TAG: usize = 64;
const LONGEST_LABEL: usize = 256;

/// The time zone and the two ends, as they were asked for.
pub(crate) struct Times {
    pub(crate) timezone: String,
    pub(crate) start_at: Option<Timestamp>,
    pub(crate) end_at: Option<Timestamp>,
}

pub(crate) fn times(
    timezone: Option<&str>,
    start_at: Option<&str>,
    end_at: Option<&str>,
    faults: &mut Faults,
) -> Result<Times, ApiError> {
    let (zone, timezone) = time::zone("/timezone", timezone.unwrap_or(time::UTC))?;
    let moment = |field, text: Option<&str>| {
        text.map(|text| time::moment(field, text, &zone))
            .transpose()
    };
    Ok(Times {
        timezone,
        start_at: faults.take(moment("/start_at", start_at))?.flatten(),
        end_at: faults.take(moment("/end_at", end_at))?.flatten(),
    })
}

/// The end after a change.
pub(crate) fn end_of(
    before: Schedule<'_>,
    asked: &Member<String>,
) -> Result<Option<Timestamp>, ApiError> {
    match asked {
        Member::Absent => Ok(before.end_at),
        Member::Null => Ok(None),
        Member::Given(text) => {
            let (zone, _) = time::zone("/timezone", before.timezone)?;
            time::moment("/end_at", text, &zone).map(Some)
        }
    }
}

/// Name and ends.
pub(crate) fn validate(
    name: Option<&str>,
    schedule: Schedule<'_>,
    faults: &mut Faults,
) -> Result<(), ApiError> {
    faults.take(check::optional_name("/name", name))?;
    if let (Some(start), Some(end)) = (schedule.start_at, schedule.end_at)
        && end <= start
    {
        faults.add("/end_at", "must lie after start_at");
    }
    Ok(())
}

/// Names of tags and end users are what a call can carry.
pub(crate) fn owner(owner: &Owner, faults: &mut Faults) {
    let is_name = |name: &str| {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        (1..=LONGEST_TAG).contains(&name.len()) && name.bytes().all(is_part)
    };
    let is_label = |label: &str| {
        (1..=LONGEST_LABEL).contains(&label.len()) && !label.chars().any(char::is_control)
    };
    match owner {
        Owner::Tag { name, value } => {
            if !is_name(name) {
                faults.add(
                    "/owner/name",
                    "must have 1 to 64 letters, digits, `_`, `.` or `-`",
                );
            }
            if value.as_deref().is_some_and(|value| !is_label(value)) {
                faults.add(
                    "/owner/value",
                    "must have 1 to 256 bytes and no control characters",
                );
            }
        }
        Owner::EndUser { id } => {
            if id.as_deref().is_some_and(|id| !is_label(id)) {
                faults.add(
                    "/owner/id",
                    "must have 1 to 256 bytes and no control characters",
                );
            }
        }
        Owner::Organisation { .. }
        | Owner::Team { .. }
        | Owner::User { .. }
        | Owner::Key { .. }
        | Owner::Model { .. }
        | Owner::Provider { .. } => {}
    }
}

pub(crate) fn thresholds(percents: &[u8], faults: &mut Faults) -> Thresholds {
    Thresholds::of(percents).unwrap_or_else(|| {
        faults.add("/thresholds", "must be percents from 1 to 100");
        Thresholds::NONE
    })
}

/// A raise as it was asked for; without a time it lasts until the window of now ends.
pub(crate) fn raise(
    amount: i64,
    until: Option<&str>,
    schedule: Schedule<'_>,
    now: Timestamp,
    faults: &mut Faults,
) -> Result<Option<Raise>, ApiError> {
    if amount <= 0 {
        faults.add(
            "/raise",
            "the amount must be above 0; null takes a raise back",
        );
    }
    let until = if let Some(text) = until {
        let (zone, _) = time::zone("/timezone", schedule.timezone)?;
        faults.take(time::moment("/raise/until", text, &zone))?
    } else {
        let end = window_at(schedule, now).and_then(|window| window.end);
        if end.is_none() {
            faults.add("/raise/until", "is needed where no window ends");
        }
        end
    };
    if until.is_some_and(|until| until <= now) {
        faults.add("/raise/until", "must lie in the future");
    }
    Ok(until.map(|until| Raise { amount, until }))
}
