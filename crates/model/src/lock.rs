//! How long a restore point cannot be removed.

use crate::retention::parse_duration;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How firmly an object is locked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockMode {
    /// Nobody can end it early, the owner of the place included.
    #[default]
    Compliance,
    /// Whoever has a permission of its own can end it early.
    Governance,
}

impl LockMode {
    /// Whether a lock of this mode is as good as one of the other.
    pub fn is_as_firm_as(self, other: Self) -> bool {
        self == Self::Compliance || other == Self::Governance
    }
}

impl fmt::Display for LockMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Compliance => "compliance",
            Self::Governance => "governance",
        })
    }
}

impl FromStr for LockMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "compliance" => Ok(Self::Compliance),
            "governance" => Ok(Self::Governance),
            _ => Err(format!("'{text}' is neither compliance nor governance")),
        }
    }
}

/// What was locked when a restore point was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointLock {
    /// Everything that the point needs, and the log before it, stays at least until then. The next point of the backup
    /// may have extended the locks of what it shares.
    pub until: Timestamp,
    /// How firmly.
    pub mode: LockMode,
    /// Seconds for which points are to stay locked: what the next point inherits.
    pub seconds: u64,
}

/// How long points are to stay locked, as [`parse_duration`] reads it: `12h`, `30d`, `7y`; `none` is no time at all.
///
/// # Errors
/// What it takes, in words.
pub fn retention_time(text: &str) -> Result<Option<SignedDuration>, &'static str> {
    const VALID: &str = "a duration such as 12h, 30d or 7y, at most 100y, or none";
    const LONGEST: SignedDuration = SignedDuration::from_hours(24 * 365 * 100);
    if text.trim().eq_ignore_ascii_case("none") {
        return Ok(None);
    }
    let time = parse_duration(text).map_err(|_| VALID)?;
    if time > SignedDuration::ZERO && time <= LONGEST { Ok(Some(time)) } else { Err(VALID) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_times_are_read_and_anything_else_is_refused() {
        assert_eq!(retention_time("12h"), Ok(Some(SignedDuration::from_hours(12))));
        assert_eq!(retention_time("30d"), Ok(Some(SignedDuration::from_hours(720))));
        assert_eq!(retention_time("None"), Ok(None));
        for text in ["", "d", "30", "-1d", "0d", "1.5d", "101y", "99999999999999999999y", "30 d", "3é"] {
            assert!(retention_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn modes_are_read_as_they_are_shown() {
        for mode in [LockMode::Compliance, LockMode::Governance] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        assert!("legal".parse::<LockMode>().is_err());
    }
}
