//! Moments as people type them in `AS OF TIMESTAMP '…'` and `--as-of`.

use crate::error::without_secrets;
use jiff::Timestamp;
use jiff::civil::Time;
use jiff::fmt::temporal::Pieces;
use jiff::tz::{AmbiguousOffset, TimeZone};

/// A text that is no moment.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum MomentError {
    /// It has not the form of a date with or without a time.
    #[error("'{text}' is not a moment such as 2026-01-31, 2026-01-31 10:00 or 2026-01-31T10:00:00.5+02:00")]
    Form {
        /// The text as given.
        text: String,
        /// What the reader stumbled over.
        source: jiff::Error,
    },
    /// It is out of range, or names a zone or a wall-clock time that does not exist.
    #[error("the moment '{text}' does not exist: {source}")]
    Missing {
        /// The text as given.
        text: String,
        /// Why.
        source: jiff::Error,
    },
    /// The clocks of its zone showed this time twice.
    #[error("the moment '{text}' is ambiguous: clocks of its zone showed it twice")]
    Ambiguous {
        /// The text as given.
        text: String,
    },
}

/// Reads a moment: a date, or a date and a time (`T` or a space between), with `Z`, ` UTC`, an offset or a zone in
/// brackets behind it. Without a zone it is UTC, and a date alone is its midnight. Fractions go down to nanoseconds.
///
/// # Errors
/// [`MomentError`] for anything else, and for a wall-clock time that its zone skipped or showed twice.
pub fn parse_moment(text: &str) -> Result<Timestamp, MomentError> {
    let form = |source| MomentError::Form { text: without_secrets(text), source };
    let missing = |source| MomentError::Missing { text: without_secrets(text), source };
    // jiff knows `Z` but not the word.
    let trimmed = text.trim();
    let spelled = match trimmed.len().checked_sub(4).and_then(|at| trimmed.split_at_checked(at)) {
        Some((head, tail)) if tail.eq_ignore_ascii_case(" utc") => format!("{}Z", head.trim_end()),
        _ => trimmed.to_owned(),
    };
    let pieces = Pieces::parse(&spelled).map_err(form)?;
    let civil = pieces.date().to_datetime(pieces.time().unwrap_or(Time::midnight()));
    let offset = pieces.to_numeric_offset();
    let zone = pieces.to_time_zone().map_err(missing)?;
    match (offset, zone) {
        (None, None) => civil.to_zoned(TimeZone::UTC).map(|z| z.timestamp()).map_err(missing),
        (Some(offset), None) => offset.to_timestamp(civil).map_err(missing),
        (None, Some(zone)) => {
            let ambiguous = zone.to_ambiguous_timestamp(civil);
            match ambiguous.offset() {
                AmbiguousOffset::Fold { .. } => Err(MomentError::Ambiguous { text: without_secrets(text) }),
                _ => ambiguous.unambiguous().map_err(missing),
            }
        }
        // Offset and zone must agree; jiff checks it.
        (Some(_), Some(_)) => spelled.parse::<jiff::Zoned>().map(|z| z.timestamp()).map_err(missing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        match parse_moment(text) {
            Ok(moment) => moment.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn moments_without_a_zone_are_utc() {
        assert_eq!(read("2026-01-31"), "2026-01-31T00:00:00Z");
        assert_eq!(read("2026-01-31 10:00"), "2026-01-31T10:00:00Z");
        assert_eq!(read(" 2026-01-31T10:00:05 "), "2026-01-31T10:00:05Z");
        assert_eq!(read("2026-01-31 10:00:05.123456"), "2026-01-31T10:00:05.123456Z");
        assert_eq!(read("2026-01-31 10:00 UTC"), "2026-01-31T10:00:00Z");
    }

    #[test]
    fn offsets_and_zones_are_applied() {
        assert_eq!(read("2026-01-31T10:00:00Z"), "2026-01-31T10:00:00Z");
        assert_eq!(read("2026-01-31T10:00:00.25+02:00"), "2026-01-31T08:00:00.25Z");
        assert_eq!(read("2026-01-31 10:00:00-05"), "2026-01-31T15:00:00Z");
        assert_eq!(read("2026-07-31 10:00[Europe/Berlin]"), "2026-07-31T08:00:00Z");
        assert_eq!(read("2026-07-31 10:00+02:00[Europe/Berlin]"), "2026-07-31T08:00:00Z");
    }

    #[test]
    fn what_is_no_single_moment_is_refused() {
        for text in [
            "",
            "yesterday",
            "2026",
            "2026-13-01",
            "2026-02-30",
            "10:00",
            "2026-01-31 25:00",
            "2026-01-31 10:00+02:00 UTC",
            "2026-07-31 10:00+05:00[Europe/Berlin]",
            "2026-07-31 10:00[Europe/Nowhere]",
            "2026-03-29 02:30[Europe/Berlin]",
            "2026-10-25 02:30[Europe/Berlin]",
            "2026-01-31x",
            "ü UTC",
        ] {
            assert!(parse_moment(text).is_err(), "{text:?} is {}", read(text));
        }
    }
}
