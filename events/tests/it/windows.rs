//! The arithmetic of windows against a model that shares nothing with it: another calendar library with another copy of
//! the time zone database, and a search from the first window on.

use chrono::{
    DateTime, Datelike as _, Days, LocalResult, Months, NaiveDateTime, TimeZone as _, Utc,
};
use chrono_tz::Tz;
use odock_events::{
    clock::Timestamp,
    examples,
    kind::{Event, Kind},
    ledger::window::{Window, window_at},
    payload::budget::{BudgetBody, Period},
};
use proptest::prelude::*;

/// Zones that change their clocks at midnight, by half an hour, in the south, on odd days, with odd offsets and never.
const ZONES: [Tz; 12] = [
    Tz::UTC,
    Tz::Europe__Zurich,
    Tz::America__New_York,
    Tz::America__St_Johns,
    Tz::America__Sao_Paulo,
    Tz::America__Santiago,
    Tz::America__Havana,
    Tz::Africa__Cairo,
    Tz::Asia__Beirut,
    Tz::Asia__Kathmandu,
    Tz::Australia__Lord_Howe,
    Tz::Pacific__Chatham,
];
const PERIODS: [Period; 4] = [
    Period::Daily,
    Period::Weekly,
    Period::Monthly,
    Period::Quarterly,
];
const DAY: i64 = 86_400;
/// 1990-01-01 and 2060-01-01.
const FROM: i64 = 631_152_000;
const TO: i64 = 2_840_140_800;
/// Cuba ended its summer time of 2026 late, which only one copy of the database knows: 2026-11-01 to 2027-03-14.
const DIFFERENT: (Tz, std::ops::Range<i64>) = (Tz::America__Havana, 1_793_509_200..1_805_000_400);
/// Whatever begins here may end there, or the other way round.
const DISPUTED: std::ops::Range<i64> = DIFFERENT.1.start - 1_000 * DAY..DIFFERENT.1.end + 370 * DAY;

fn budget(period: Period, zone: Tz, start_at: Option<i64>) -> BudgetBody {
    let Event::BudgetCreated(body) = examples::of_kind(Kind::BudgetCreated).event else {
        unreachable!("the example of a budget is a budget")
    };
    BudgetBody {
        period,
        timezone: zone.name().to_owned(),
        start_at: start_at.map(|seconds| Timestamp(seconds * 1_000_000)),
        end_at: None,
        active: true,
        ..body
    }
}

/// A local time as a moment: the first of two, and past a gap by as much as the gap is long.
fn resolve(zone: Tz, local: NaiveDateTime) -> DateTime<Tz> {
    match zone.from_local_datetime(&local) {
        LocalResult::Single(moment) | LocalResult::Ambiguous(moment, _) => moment,
        LocalResult::None => {
            let before = local - chrono::TimeDelta::hours(6);
            let before = zone.from_local_datetime(&before).earliest().unwrap();
            before + chrono::TimeDelta::hours(6)
        }
    }
}

fn months(period: Period, count: u32) -> Option<Months> {
    match period {
        Period::Monthly => Some(Months::new(count)),
        Period::Quarterly => Some(Months::new(3 * count)),
        Period::Daily | Period::Weekly | Period::Total => None,
    }
}

/// The window that begins so many steps after `first`.
fn step(zone: Tz, period: Period, first: DateTime<Tz>, count: u32) -> DateTime<Tz> {
    if count == 0 {
        return first;
    }
    let local = first.naive_local();
    let days = if period == Period::Weekly { 7 } else { 1 };
    let local = match months(period, count) {
        Some(months) => local.checked_add_months(months),
        None => local.checked_add_days(Days::new(u64::from(days * count))),
    };
    resolve(zone, local.unwrap())
}

fn model(period: Period, zone: Tz, start_at: Option<i64>, at: i64) -> (i64, i64) {
    let moment = |seconds| {
        DateTime::<Utc>::from_timestamp(seconds, 0)
            .unwrap()
            .with_timezone(&zone)
    };
    let at = moment(at);
    let first = if let Some(start) = start_at {
        moment(start)
    } else {
        // The first of January, or the Monday before it.
        let january = at.date_naive().with_ordinal(1).unwrap();
        let back = if period == Period::Weekly {
            january.weekday().num_days_from_monday()
        } else {
            0
        };
        let first = january - Days::new(u64::from(back));
        resolve(zone, first.and_hms_opt(0, 0, 0).unwrap())
    };
    let mut windows = (0..).map(|count| step(zone, period, first, count));
    let mut start = windows.next().unwrap();
    for end in windows {
        if at < end {
            return (start.timestamp(), end.timestamp());
        }
        start = end;
    }
    unreachable!("the windows never end")
}

fn computed(period: Period, zone: Tz, start_at: Option<i64>, at: i64) -> Option<(i64, i64)> {
    let moment = Timestamp(at * 1_000_000);
    let Window { start, end } = window_at(&budget(period, zone, start_at), moment)?;
    Some((start.seconds(), end?.seconds()))
}

/// Moments of 1990 to 2060, but for those at which the two copies of the database are of different opinion. Half of
/// them within a few seconds of a change of a clock or of a month's end.
fn moment() -> impl Strategy<Value = (Tz, i64)> {
    let zone = prop::sample::select(ZONES.to_vec());
    let anywhere = (zone.clone(), FROM..TO).prop_filter("the copies differ", |(zone, at)| {
        !(*zone == DIFFERENT.0 && DISPUTED.contains(at))
    });
    let edge =
        (anywhere.clone(), -2_i64..3, any::<bool>()).prop_map(|((zone, at), beside, clock)| {
            let edge = if clock {
                next_change(zone, at)
            } else {
                month_end(zone, at)
            };
            (zone, edge + beside)
        });
    prop_oneof![anywhere, edge]
}

/// The next moment at which the zone's offset changes; the moment itself where it never does.
fn next_change(zone: Tz, at: i64) -> i64 {
    let offset = |seconds: i64| {
        use chrono::Offset as _;
        let moment = DateTime::<Utc>::from_timestamp(seconds, 0).unwrap();
        zone.offset_from_utc_datetime(&moment.naive_utc()).fix()
    };
    let days = (0..370).map(|day| at + day * DAY);
    let Some(before) = days.clone().find(|day| offset(*day) != offset(day + DAY)) else {
        return at;
    };
    let (mut low, mut high) = (before, before + DAY);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if offset(middle) == offset(before) {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

fn month_end(zone: Tz, at: i64) -> i64 {
    let local = DateTime::<Utc>::from_timestamp(at, 0)
        .unwrap()
        .with_timezone(&zone);
    let first = local.date_naive().with_day(1).unwrap() + Months::new(1);
    resolve(zone, first.and_hms_opt(0, 0, 0).unwrap()).timestamp()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn line_077_calendar_windows_are_those_of_an_independent_calendar(
        (zone, at) in moment(), period in prop::sample::select(PERIODS.to_vec()),
    ) {
        prop_assert_eq!(computed(period, zone, None, at), Some(model(period, zone, None, at)), "{} {}", zone, at);
    }

    #[test]
    fn line_077_windows_with_a_start_are_those_of_an_independent_calendar(
        (zone, start) in moment(), after in 0_i64..(500 * DAY), edge in any::<bool>(),
        period in prop::sample::select(PERIODS.to_vec()),
    ) {
        let at = if edge { next_change(zone, start + after) } else { start + after };
        prop_assert_eq!(
            computed(period, zone, Some(start), at),
            Some(model(period, zone, Some(start), at)), "{} {} {}", zone, start, at
        );
        prop_assert_eq!(computed(period, zone, Some(start), start - 1), None);
    }

    #[test]
    fn line_077_a_total_is_one_window_from_its_start_on((zone, start) in moment(), after in 0_i64..(9_000 * DAY)) {
        for (start_at, first) in [(Some(start), start), (None, 0)] {
            let at = Timestamp((start + after) * 1_000_000);
            let window = window_at(&budget(Period::Total, zone, start_at), at).unwrap();
            prop_assert_eq!((window.start.seconds(), window.end), (first, None));
        }
    }
}

/// What the comparison above rests on; the day on which a new release of either copy brings another difference.
#[test]
fn the_two_copies_of_the_time_zone_database_agree_but_for_one_winter() {
    use chrono::Offset as _;
    for zone in ZONES {
        let other = jiff::tz::TimeZone::get(zone.name()).unwrap();
        let mut different = Vec::new();
        for at in (FROM..TO).step_by(1_800) {
            let moment = DateTime::<Utc>::from_timestamp(at, 0).unwrap().naive_utc();
            let ours = other.to_offset(jiff::Timestamp::from_second(at).unwrap());
            let theirs = zone.offset_from_utc_datetime(&moment).fix();
            if theirs.local_minus_utc() != ours.seconds() {
                different.push(at);
            }
        }
        let known = |at: &i64| zone == DIFFERENT.0 && DIFFERENT.1.contains(at);
        assert!(different.iter().all(known), "{zone}: {different:?}");
    }
}
