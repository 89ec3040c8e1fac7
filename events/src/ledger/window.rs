//! Which window of a budget a moment lies in. Without `start_at` windows lie on calendar boundaries of the budget's
//! time zone (weeks begin on Monday); with it they step from it by the period, month ends clamped, each step counted
//! from the start, so that the 31st comes back after February.

use jiff::{Span, ToSpan as _, Zoned, civil, tz::TimeZone};

use super::rule::Schedule;
use crate::{clock::Timestamp, payload::budget::Period};

/// One window: from `start` up to, not including, `end`. A total never ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub start: Timestamp,
    pub end: Option<Timestamp>,
}

/// The window of a schedule that `at` lies in. `None` before `start_at`, from `end_at` on, and where the time zone is
/// unknown (admin refuses those). Whether the rule is active is for the caller to ask.
#[must_use]
pub fn window_at<'a>(schedule: impl Into<Schedule<'a>>, at: Timestamp) -> Option<Window> {
    let schedule = schedule.into();
    let Schedule {
        start_at, end_at, ..
    } = schedule;
    if start_at.is_some_and(|start| at < start) || end_at.is_some_and(|end| at >= end) {
        return None;
    }
    let zone = TimeZone::get(schedule.timezone).ok()?;
    match (schedule.period, start_at) {
        (Period::Total, start) => Some(Window {
            start: start.unwrap_or_default(),
            end: None,
        }),
        (period, Some(anchor)) => anchored(period, &zoned(anchor, &zone)?, &zoned(at, &zone)?),
        (period, None) => calendar(period, &zoned(at, &zone)?),
    }
}

fn calendar(period: Period, at: &Zoned) -> Option<Window> {
    let window = calendar_of(period, at, at.date())?;
    // Clocks that go back over midnight show a day again that is over: it is not begun anew.
    match window.end {
        Some(end) if end <= timestamp(at) => calendar_of(period, at, at.date().tomorrow().ok()?),
        Some(_) | None => Some(window),
    }
}

fn calendar_of(period: Period, at: &Zoned, today: civil::Date) -> Option<Window> {
    let (first, next) = match period {
        Period::Daily => (today, today.checked_add(1.day()).ok()?),
        Period::Weekly => {
            let since_monday = i64::from(today.weekday().to_monday_zero_offset());
            let monday = today.checked_sub(since_monday.days()).ok()?;
            (monday, monday.checked_add(7.days()).ok()?)
        }
        Period::Monthly => {
            let first = today.first_of_month();
            (first, first.checked_add(1.month()).ok()?)
        }
        Period::Quarterly => {
            let month = (today.month() - 1) / 3 * 3 + 1;
            let first = civil::Date::new(today.year(), month, 1).ok()?;
            (first, first.checked_add(3.months()).ok()?)
        }
        Period::Total => return None,
    };
    let start_of = |date: civil::Date| date.to_zoned(at.time_zone().clone()).ok();
    Some(Window {
        start: timestamp(&start_of(first)?),
        end: Some(timestamp(&start_of(next)?)),
    })
}

fn anchored(period: Period, anchor: &Zoned, at: &Zoned) -> Option<Window> {
    let step = |count: i64| anchor.checked_add(span(period, count)?).ok();
    let days = (at.timestamp().as_second() - anchor.timestamp().as_second()) / 86_400;
    // A guess from the longest lengths, never too high by more than one; then forward to the right one.
    let mut count = (days / longest_days(period) - 1).max(0);
    while step(count + 1)? <= *at {
        count += 1;
    }
    let (start, end) = (step(count)?, step(count + 1)?);
    (start <= *at).then(|| Window {
        start: timestamp(&start),
        end: Some(timestamp(&end)),
    })
}

fn span(period: Period, count: i64) -> Option<Span> {
    let span = Span::new();
    match period {
        Period::Daily => span.try_days(count),
        Period::Weekly => span.try_weeks(count),
        Period::Monthly => span.try_months(count),
        Period::Quarterly => span.try_months(count.checked_mul(3)?),
        Period::Total => return None,
    }
    .ok()
}

fn longest_days(period: Period) -> i64 {
    match period {
        Period::Daily | Period::Total => 1,
        Period::Weekly => 7,
        Period::Monthly => 31,
        Period::Quarterly => 92,
    }
}

fn zoned(at: Timestamp, zone: &TimeZone) -> Option<Zoned> {
    jiff::Timestamp::from_microsecond(at.0)
        .ok()
        .map(|at| at.to_zoned(zone.clone()))
}

fn timestamp(at: &Zoned) -> Timestamp {
    Timestamp(at.timestamp().as_microsecond())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        examples,
        kind::{Event, Kind},
        payload::budget::BudgetBody,
    };

    fn budget(period: Period, timezone: &str, start_at: Option<&str>) -> BudgetBody {
        let Event::BudgetCreated(body) = examples::of_kind(Kind::BudgetCreated).event else {
            panic!("the example of a budget is a budget")
        };
        BudgetBody {
            period,
            timezone: timezone.into(),
            start_at: start_at.map(|text| text.parse().unwrap()),
            end_at: None,
            ..body
        }
    }

    fn texts(budget: &BudgetBody, at: &str) -> (String, String) {
        let window = window_at(budget, at.parse().unwrap()).unwrap();
        (window.start.to_string(), window.end.unwrap().to_string())
    }

    #[test]
    fn months_follow_the_calendar_of_the_zone() {
        let budget = budget(Period::Monthly, "Europe/Zurich", None);
        let (start, end) = texts(&budget, "2026-10-31T23:30:00Z");
        assert_eq!(start, "2026-10-31T23:00:00.000000Z");
        assert_eq!(end, "2026-11-30T23:00:00.000000Z");
    }

    #[test]
    fn a_day_of_a_clock_change_has_its_real_length() {
        let budget = budget(Period::Daily, "Europe/Zurich", None);
        let (start, end) = texts(&budget, "2026-03-29T10:00:00Z");
        assert_eq!(start, "2026-03-28T23:00:00.000000Z");
        assert_eq!(end, "2026-03-29T22:00:00.000000Z");
    }

    #[test]
    fn anchored_months_clamp_and_come_back() {
        let budget = budget(Period::Monthly, "UTC", Some("2026-01-31T13:10:00Z"));
        let (start, end) = texts(&budget, "2026-03-01T00:00:00Z");
        assert_eq!(start, "2026-02-28T13:10:00.000000Z");
        assert_eq!(end, "2026-03-31T13:10:00.000000Z");
    }

    #[test]
    fn weeks_begin_on_monday_and_quarters_in_january() {
        let (start, _) = texts(&budget(Period::Weekly, "UTC", None), "2026-11-24T05:00:00Z");
        assert_eq!(start, "2026-11-23T00:00:00.000000Z");
        let (start, end) = texts(
            &budget(Period::Quarterly, "UTC", None),
            "2026-11-24T05:00:00Z",
        );
        assert_eq!(start, "2026-10-01T00:00:00.000000Z");
        assert_eq!(end, "2027-01-01T00:00:00.000000Z");
    }

    #[test]
    fn a_total_never_ends_and_outside_of_its_life_there_is_no_window() {
        let mut budget = budget(Period::Total, "UTC", Some("2026-01-01T00:00:00Z"));
        budget.end_at = Some("2026-02-01T00:00:00Z".parse().unwrap());
        assert!(window_at(&budget, "2025-12-31T23:59:59Z".parse().unwrap()).is_none());
        assert!(window_at(&budget, "2026-02-01T00:00:00Z".parse().unwrap()).is_none());
        let window = window_at(&budget, "2026-01-10T00:00:00Z".parse().unwrap()).unwrap();
        assert_eq!(window.end, None);
    }

    proptest! {
        #[test]
        fn every_moment_lies_in_its_window_and_windows_touch(
            seconds in 1_600_000_000_i64..2_000_000_000,
            anchor in proptest::option::of(1_500_000_000_i64..1_600_000_000),
            period in prop::sample::select(vec![
                Period::Daily, Period::Weekly, Period::Monthly, Period::Quarterly,
            ]),
            zone in prop::sample::select(vec![
                "UTC", "Europe/Zurich", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata",
                "America/St_Johns", "Pacific/Apia", "Africa/Casablanca", "America/Sao_Paulo", "Asia/Tehran",
            ]),
        ) {
            let mut budget = budget(period, zone, None);
            budget.start_at = anchor.map(|seconds| Timestamp(seconds * 1_000_000));
            let at = Timestamp(seconds * 1_000_000);
            let window = window_at(&budget, at).unwrap();
            let end = window.end.unwrap();
            prop_assert!(window.start <= at && at < end);
            let next = window_at(&budget, end).unwrap();
            prop_assert_eq!(next.start, end);
            prop_assert_eq!(window_at(&budget, window.start), Some(window));
        }
    }
}
