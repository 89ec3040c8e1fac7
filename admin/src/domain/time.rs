//! Times and time zones as people give them: RFC 3339, or without an offset, read in a named zone.

use jiff::{civil, tz::TimeZone};
use odock_events::clock::Timestamp;

use crate::error::ApiError;

pub(crate) const UTC: &str = "UTC";

/// The zone under its proper name.
pub(crate) fn zone(field: &str, name: &str) -> Result<(TimeZone, String), ApiError> {
    let refuse = || ApiError::invalid(field, "is no IANA time zone, such as Europe/Zurich");
    let zone = TimeZone::get(name).map_err(|_| refuse())?;
    let proper = zone.iana_name().map(str::to_owned).ok_or_else(refuse)?;
    Ok((zone, proper))
}

/// A moment. One that the clocks skip or repeat is the first that fits.
pub(crate) fn moment(field: &str, text: &str, zone: &TimeZone) -> Result<Timestamp, ApiError> {
    let refuse = || ApiError::invalid(field, "is no RFC 3339 time");
    let moment = if let Ok(moment) = text.parse::<jiff::Timestamp>() {
        moment
    } else {
        let local: civil::DateTime = text.parse().map_err(|_| refuse())?;
        let zoned = local.to_zoned(zone.clone()).map_err(|_| refuse())?;
        zoned.timestamp()
    };
    // Years that JSON, Postgres and people agree on.
    if !(0..=253_402_300_799).contains(&moment.as_second()) {
        return Err(refuse());
    }
    Ok(Timestamp(moment.as_microsecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, zone_name: &str) -> Option<String> {
        let (zone, _) = zone("/timezone", zone_name).unwrap();
        moment("/expires_at", text, &zone)
            .ok()
            .map(|time| time.to_string())
    }

    #[test]
    fn an_offset_wins_over_the_zone() {
        let at = |text, zone| read(text, zone).unwrap();
        assert_eq!(
            at("2026-12-01T00:00:00Z", "Europe/Zurich"),
            "2026-12-01T00:00:00.000000Z"
        );
        assert_eq!(
            at("2026-12-01T00:00:00+02:00", "UTC"),
            "2026-11-30T22:00:00.000000Z"
        );
        assert_eq!(
            at("2026-12-01T00:00:00", "Europe/Zurich"),
            "2026-11-30T23:00:00.000000Z"
        );
        assert_eq!(
            at("2026-07-01T00:00:00", "Europe/Zurich"),
            "2026-06-30T22:00:00.000000Z"
        );
        assert_eq!(at("2026-12-01", "UTC"), "2026-12-01T00:00:00.000000Z");
    }

    #[test]
    fn what_is_no_time_or_no_zone_is_refused() {
        for text in [
            "",
            "tomorrow",
            "2026-13-01T00:00:00Z",
            "1767225600",
            "-000001-01-01T00:00:00Z",
        ] {
            assert_eq!(read(text, "UTC"), None, "{text}");
        }
        for name in ["", "Mars/Olympus", "UTC+2"] {
            assert!(zone("/timezone", name).is_err(), "{name}");
        }
        assert_eq!(
            zone("/timezone", "europe/zurich").unwrap().1,
            "Europe/Zurich"
        );
        assert_eq!(zone("/timezone", UTC).unwrap().1, UTC);
    }
}
