//! Values that arguments are read into: sizes, segment sizes, and the ways to name a restore point.

use keepfast_engine::EngineError;
use keepfast_engine::api::AsOf;
use keepfast_model::{LogSeq, PointId};
use std::fmt;
use std::str::FromStr;

/// A number of bytes of memory, from `512MiB`, `2GiB` or a plain number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory(pub usize);

/// Less cannot hold the batches of one task.
const MEMORY_MIN: usize = 32 << 20;

impl FromStr for Memory {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let shift = match text[digits.len()..].trim().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            _ => return Err("it is a number with KiB, MiB or GiB".into()),
        };
        let number: usize =
            digits.trim().parse().map_err(|_| "it is a number with KiB, MiB or GiB".to_owned())?;
        match number.checked_mul(1 << shift) {
            Some(bytes) if bytes >= MEMORY_MIN => Ok(Self(bytes)),
            Some(_) => Err("it is 32MiB at least".into()),
            None => Err("it is more than any machine has".into()),
        }
    }
}

/// Reads the number of rows that a segment aims at.
///
/// # Errors
/// A sentence, where it is not a power of two of 16 to 16,777,216.
pub fn segment_rows(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(n) if n.is_power_of_two() && (16..=1 << 24).contains(&n) => Ok(n),
        _ => Err("it is a power of two, 16 to 16777216".into()),
    }
}

/// Reads a moment, in UTC where it names no zone.
///
/// # Errors
/// A sentence, where it is none.
pub fn moment(text: &str) -> Result<jiff::Timestamp, String> {
    keepfast_sql::parse_moment(text).map_err(|_| "it is a time such as '2026-01-31 10:00'".into())
}

/// How long a point stays locked; none inside means not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetainFor(pub Option<jiff::SignedDuration>);

impl FromStr for RetainFor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        keepfast_model::retention_time(text).map(Self).map_err(|valid| format!("it is {valid}"))
    }
}

/// Reads the character between values of a CSV file; `\t` is a tab.
///
/// # Errors
/// A sentence, where it is not one ASCII character.
pub fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        [c] if c.is_ascii() => Ok(*c),
        b"\\t" => Ok(b'\t'),
        _ => Err("it is one ASCII character, or \\t for a tab".into()),
    }
}

/// A restore point as typed: its number, `name@number`, or a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PointSelector {
    /// The point with this number.
    Number(LogSeq),
    /// The point of this backup.
    Point(PointId),
    /// The newest point not after this moment.
    Time(jiff::Timestamp),
}

impl FromStr for PointSelector {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(number) = text.trim_start_matches('@').parse() {
            return Ok(Self::Number(LogSeq(number)));
        }
        if text.contains('@') {
            return text.parse().map(Self::Point).map_err(|e: keepfast_model::ModelError| e.to_string());
        }
        keepfast_sql::parse_moment(text)
            .map(Self::Time)
            .map_err(|_| "it is a restore point (3 or name@3) or a time such as '2026-01-31 10:00'".into())
    }
}

impl fmt::Display for PointSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(seq) => seq.fmt(f),
            Self::Point(id) => id.fmt(f),
            Self::Time(at) => at.fmt(f),
        }
    }
}

impl PointSelector {
    /// The point that is meant among those of `backup`, a name, `URL#name` or URL.
    ///
    /// # Errors
    /// [`EngineError::Usage`] where it names a point of another backup.
    pub fn of(selector: Option<&Self>, backup: &str) -> Result<AsOf, EngineError> {
        Ok(match selector {
            None => AsOf::Latest,
            Some(Self::Number(seq)) => AsOf::Point(*seq),
            Some(Self::Time(at)) => AsOf::Time(*at),
            Some(Self::Point(id)) => {
                let name = match backup.rsplit_once('#') {
                    Some((_, name)) => Some(name),
                    None if is_vault(backup) => None,
                    None => Some(backup),
                };
                if name.is_some_and(|n| n != id.backup.as_str() && n != id.to_string()) {
                    return Err(EngineError::Usage {
                        what: format!("point '{id}'"),
                        reason: format!("it is not a point of backup '{}'", shown(backup)),
                    });
                }
                AsOf::Point(id.seq)
            }
        })
    }
}

/// Whether the text names a vault as a whole, by its URL or folder, and not one backup.
pub fn is_vault(text: &str) -> bool {
    !text.contains('#') && (text.contains(['/', ':']) || text == "." || text == "..")
}

/// A backup, vault or store as typed, without the secrets that its URL may hold.
pub fn shown(address: &str) -> String {
    keepfast_sql::Address::new(address).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_with_and_without_a_unit() {
        assert_eq!("512MiB".parse(), Ok(Memory(512 << 20)));
        assert_eq!("2g".parse(), Ok(Memory(2 << 30)));
        assert_eq!("67108864".parse(), Ok(Memory(64 << 20)));
        for text in ["", "MiB", "1", "-1GiB", "1TiB", "99999999999999999999", "18446744073709551615g"] {
            assert!(text.parse::<Memory>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn segment_rows_are_powers_of_two() {
        assert_eq!(segment_rows("8192"), Ok(8192));
        for text in ["0", "8", "100", "3000", "x", "33554432"] {
            assert!(segment_rows(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn points_are_numbers_names_or_moments() {
        assert_eq!("3".parse(), Ok(PointSelector::Number(LogSeq(3))));
        assert_eq!("@3".parse(), Ok(PointSelector::Number(LogSeq(3))));
        assert_eq!("b@3".parse(), Ok(PointSelector::Point("b@3".parse().unwrap())));
        assert!(matches!("2026-01-31 10:00".parse(), Ok(PointSelector::Time(_))));
        for text in ["", "yesterday", "b@", "b@x", "-1"] {
            assert!(text.parse::<PointSelector>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn vaults_are_told_from_backups() {
        for text in ["s3://b/p", "/mnt/vault", "./vault", "..", "memory:"] {
            assert!(is_vault(text), "{text}");
        }
        for text in ["orders", "s3://b/p#orders", "./v#orders@3", "orders@3", "a.b"] {
            assert!(!is_vault(text), "{text}");
        }
    }

    #[test]
    fn a_point_of_another_backup_is_refused() {
        let point: PointSelector = "b@3".parse().unwrap();
        assert_eq!(PointSelector::of(Some(&point), "b").unwrap(), AsOf::Point(LogSeq(3)));
        assert_eq!(PointSelector::of(Some(&point), "s3://x/y#b").unwrap(), AsOf::Point(LogSeq(3)));
        assert_eq!(PointSelector::of(Some(&point), "s3://x/y").unwrap(), AsOf::Point(LogSeq(3)));
        assert!(PointSelector::of(Some(&point), "c").is_err());
        assert!(PointSelector::of(Some(&point), "s3://x/y#c").is_err());
    }
}
