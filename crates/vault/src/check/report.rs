//! What a check found.

use super::Behind;
use keepfast_model::{Hash256, LogSeq, PointId, TableName};
use std::fmt;

/// Is told how far a check is. Called often, from one task.
pub trait Progress: Send + Sync {
    /// So many objects and bytes are to be read in addition to those expected before.
    fn expect(&self, objects: u64, bytes: u64);
    /// So many of them have been read.
    fn checked(&self, objects: u64, bytes: u64);
}

/// Nobody watches.
impl Progress for () {
    fn expect(&self, _objects: u64, _bytes: u64) {}
    fn checked(&self, _objects: u64, _bytes: u64) {}
}

/// How an object differs from what was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DamageKind {
    /// It is not there.
    Missing,
    /// It is shorter than it was.
    Truncated {
        /// Bytes written.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// It holds the bytes of another object of the vault.
    Swapped {
        /// The other object, in full.
        with: String,
    },
    /// It holds other bytes.
    Changed {
        /// How that shows.
        detail: String,
    },
    /// It is there and cannot be read.
    Unreadable {
        /// Why not.
        reason: String,
    },
}

impl fmt::Display for DamageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("missing"),
            Self::Truncated { expected, found } => write!(f, "truncated: {found} of {expected} bytes"),
            Self::Swapped { with } => write!(f, "swapped: it holds the bytes of {with}"),
            Self::Changed { detail } => write!(f, "changed: {detail}"),
            Self::Unreadable { reason } => write!(f, "unreadable: {reason}"),
        }
    }
}

/// One damaged object and what it touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The object in full, with the vault's address.
    pub path: String,
    /// What is wrong with it.
    pub what: DamageKind,
    /// Tables that need it, sorted.
    pub tables: Vec<TableName>,
    /// Points that need it, sorted.
    pub points: Vec<PointId>,
    /// Earlier versions of it that the place keeps: `vault recover` may bring it back.
    pub kept_versions: u64,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.what)?;
        let list = |f: &mut fmt::Formatter<'_>, word: &str, items: Vec<String>| match items.as_slice() {
            [] => Ok(()),
            [one] => write!(f, "; {word} {one}"),
            many => write!(f, "; {word}s {}", many.join(", ")),
        };
        list(f, "table", self.tables.iter().map(ToString::to_string).collect())?;
        list(f, "point", self.points.iter().map(ToString::to_string).collect())?;
        match self.kept_versions {
            0 => Ok(()),
            n => write!(f, "; the place keeps {n} earlier version{}", if n == 1 { "" } else { "s" }),
        }
    }
}

/// Objects that no visible point needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// How many.
    pub objects: u64,
    /// Their stored bytes.
    pub bytes: u64,
}

impl Leftovers {
    /// One more, of this stored size.
    pub(crate) fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Points checked.
    pub points: u64,
    /// Objects read, records and their copies included.
    pub objects: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Damaged objects, sorted by path.
    pub damage: Vec<Damage>,
    /// Number and hash of the newest record; none in a vault without records.
    pub head: Option<(LogSeq, Hash256)>,
    /// Objects of runs that never committed, or that are running. Counted only when everything is checked.
    pub orphans: Leftovers,
    /// Objects that wait to be deleted. Counted only when everything is checked.
    pub condemned: Leftovers,
    /// Tables that outside readers of their Delta log see older, or not at all. No damage: nothing of the vault needs it.
    pub behind: Vec<Behind>,
}

impl CheckReport {
    /// Whether nothing is damaged.
    pub fn is_whole(&self) -> bool {
        self.damage.is_empty()
    }
}
