//! How long a restore point cannot be removed.

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

/// How long points are to stay locked, as a person writes it: `12h`, `30d`, `6w`, `7y`; `none` is no time at all.
///
/// A year is 365 days.
///
/// # Errors
/// What it takes, in words.
pub fn retention_time(text: &str) -> Result<Option<SignedDuration>, &'static str> {
    const VALID: &str = "a number with h, d, w or y, at most 100y, or none";
    let text = text.trim();
    if text.eq_ignore_ascii_case("none") {
        return Ok(None);
    }
    let unit = text.chars().last().ok_or(VALID)?;
    let hours = match unit {
        'h' => 1,
        'd' => 24,
        'w' => 24 * 7,
        'y' => 24 * 365,
        _ => return Err(VALID),
    };
    let count: i64 = text[..text.len() - 1].parse().map_err(|_| VALID)?;
    let hours = count.checked_mul(hours).filter(|h| (1..=24 * 365 * 100).contains(h)).ok_or(VALID)?;
    Ok(Some(SignedDuration::from_hours(hours)))
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
