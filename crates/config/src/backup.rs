//! What holds for every backup whose command does not say otherwise.

use jiff::SignedDuration;
use keepfast_model::{LockMode, retention_time};
use serde::{Deserialize, Deserializer, de::Error};
use std::num::NonZeroUsize;

/// The section `[backup]`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupConfig {
    /// How many of several targets must stand: `"all"`, which is none here, or a number.
    #[serde(default, deserialize_with = "require")]
    pub require: Option<NonZeroUsize>,
    /// How long points stay locked, such as `"30d"`; none inside means not at all.
    #[serde(default, deserialize_with = "retain_for")]
    pub retain_for: Option<Option<SignedDuration>>,
    /// How firmly: `"compliance"` or `"governance"`.
    #[serde(default)]
    pub retain_mode: LockMode,
}

fn require<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NonZeroUsize>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "require is \"all\" or a number from 1")]
    enum Given {
        Number(NonZeroUsize),
        Text(String),
    }
    match Given::deserialize(deserializer)? {
        Given::Number(n) => Ok(Some(n)),
        Given::Text(text) if text.eq_ignore_ascii_case("all") => Ok(None),
        Given::Text(text) => match text.parse() {
            Ok(n) => Ok(Some(n)),
            Err(_) => Err(D::Error::custom("require is \"all\" or a number from 1")),
        },
    }
}

fn retain_for<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<SignedDuration>>, D::Error> {
    let text = String::deserialize(deserializer)?;
    retention_time(&text).map(Some).map_err(|valid| D::Error::custom(format!("retain_for is {valid}")))
}
