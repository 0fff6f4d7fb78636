//! How many stored files share how many parity files, and so how many of them can be lost together.

use crate::error::ModelError;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::fmt;
use std::str::FromStr;

/// Files of a group at most.
const DATA_MAX: u16 = 128;
/// Parity files of a group at most.
const SHARDS_MAX: u16 = 32;
/// Parity files of a group where a share of the bytes was asked for.
const SHARDS_OF_A_SHARE: u16 = 2;

/// The strength of parity, shown as `16+2`: of up to 16 files and their 2 parity files, any 2 can be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Parity {
    /// Files that share parity at most.
    pub data: u16,
    /// Parity files that they share, and files of the group that can be lost.
    pub shards: u16,
}

impl Parity {
    /// Bytes of parity for a byte of data, where all files of a group are of one size.
    pub fn overhead(&self) -> f64 {
        f64::from(self.shards) / f64::from(self.data)
    }
}

impl fmt::Display for Parity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.data, self.shards)
    }
}

impl FromStr for Parity {
    type Err = ModelError;

    /// Reads `16+2`, `2/16` or `10%`.
    fn from_str(text: &str) -> Result<Self, ModelError> {
        let refuse = |reason: &str| ModelError::Name {
            what: "parity",
            text: text.to_owned(),
            reason: reason.to_owned(),
        };
        let number = |t: &str| t.trim().parse::<u16>().ok();
        let form = || refuse("it has the form 16+2 (files + parity files), 2/16 or 10%");
        let (data, shards) = if let Some((data, shards)) = text.split_once('+') {
            (number(data).ok_or_else(form)?, number(shards).ok_or_else(form)?)
        } else if let Some((shards, data)) = text.split_once('/') {
            (number(data).ok_or_else(form)?, number(shards).ok_or_else(form)?)
        } else {
            let percent = text.strip_suffix('%').and_then(number).ok_or_else(form)?;
            if !(2..=100).contains(&percent) {
                return Err(refuse("a share is from 2% to 100%"));
            }
            ((SHARDS_OF_A_SHARE * 100 / percent).min(DATA_MAX), SHARDS_OF_A_SHARE)
        };
        if !(1..=DATA_MAX).contains(&data) || !(1..=SHARDS_MAX).contains(&shards) {
            return Err(refuse("a group has 1 to 128 files and 1 to 32 parity files"));
        }
        Ok(Self { data, shards })
    }
}

/// Whether a table is to have parity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParityChoice {
    /// None.
    Without,
    /// Of this strength.
    With(Parity),
}

impl FromStr for ParityChoice {
    type Err = ModelError;

    /// Reads `none`, and all that [`Parity`] reads.
    fn from_str(text: &str) -> Result<Self, ModelError> {
        if text.eq_ignore_ascii_case("none") { Ok(Self::Without) } else { text.parse().map(Self::With) }
    }
}

impl From<ParityChoice> for Option<Parity> {
    fn from(choice: ParityChoice) -> Self {
        match choice {
            ParityChoice::Without => None,
            ParityChoice::With(parity) => Some(parity),
        }
    }
}

impl Serialize for Parity {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Parity {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<str>::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parity_is_read_as_a_sum_a_ratio_or_a_share() {
        for (text, shown) in
            [("16+2", "16+2"), ("2/16", "16+2"), ("10%", "20+2"), ("12%", "16+2"), ("100%", "2+2")]
        {
            assert_eq!(text.parse::<Parity>().expect(text).to_string(), shown);
        }
        for text in ["", "16", "+", "0+1", "1+0", "129+1", "1+33", "1%", "101%", "-1+2", "16+2+1", "%"] {
            assert!(text.parse::<Parity>().is_err(), "{text}");
        }
        assert!(("16+2".parse::<Parity>().expect("valid").overhead() - 0.125).abs() < 1e-9);
    }
}
