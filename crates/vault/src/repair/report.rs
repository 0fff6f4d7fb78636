//! What a repair did, and what it could not do.

use crate::check::{CheckReport, Damage, DamageKind};
use keepfast_model::TableName;
use std::fmt;

/// Where the right bytes of a healed object came from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HealedBy {
    /// Its other copy in this vault.
    Copy,
    /// The other files of its parity group.
    Parity,
    /// Another place that holds the same vault.
    Vault(String),
    /// What the log says: `keepfast.json` without any copy, and checkpoints.
    Log,
    /// The newest base of its table, of which a Delta log is written anew.
    Base,
}

impl fmt::Display for HealedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copy => f.write_str("its copy"),
            Self::Parity => f.write_str("parity"),
            Self::Vault(url) => f.write_str(url),
            Self::Log => f.write_str("the log"),
            Self::Base => f.write_str("its table's newest base"),
        }
    }
}

/// An object that is again what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Healed {
    /// The object in full.
    pub path: String,
    /// What was wrong with it.
    pub what: DamageKind,
    /// Where its bytes came from.
    pub by: HealedBy,
}

/// Rows that cannot be read as long as an object is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyGap {
    /// Their table.
    pub table: TableName,
    /// Rows, or changes of rows.
    pub rows: u64,
    /// Whether they are changes: rows of these keys are then only known as an earlier point has them.
    pub changes: bool,
    /// First key as `column = value, …`; none where keys are not known.
    pub first: Option<String>,
    /// Last key.
    pub last: Option<String>,
}

impl fmt::Display for KeyGap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.changes { "changes" } else { "rows" };
        write!(f, "{}: {} {what}", self.table, self.rows)?;
        match (&self.first, &self.last) {
            (Some(first), Some(last)) => write!(f, " from {first} to {last}"),
            _ => f.write_str(" of keys that are not known"),
        }
    }
}

/// An object that could not be healed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// What is damaged, and which tables and points need it.
    pub damage: Damage,
    /// Why it could not be healed.
    pub why: String,
    /// Rows that are lost with it.
    pub gaps: Vec<KeyGap>,
}

/// What a repair did, and what it could not do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// The check after the last healing.
    pub check: CheckReport,
    /// Objects that are again what was written, sorted by path.
    pub healed: Vec<Healed>,
    /// Objects that are still damaged, sorted by path.
    pub lost: Vec<Lost>,
}
