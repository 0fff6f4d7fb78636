//! What a process asked of its places: every operation by name, and counts of them.

use super::fault::Fault;
use std::collections::BTreeMap;
use std::fmt;

/// What kind of operation it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An object is created.
    Put,
    /// An object, or a part of it, is read.
    Get,
    /// An object's size is asked for.
    Head,
    /// Objects are listed.
    List,
    /// An object is deleted.
    Delete,
    /// An object is locked.
    Lock,
    /// Everything put before is to be made durable.
    Sync,
}

impl Kind {
    /// Whether it changes what the place holds.
    pub fn changes(self) -> bool {
        matches!(self, Self::Put | Self::Delete | Self::Lock)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Head => "head",
            Self::List => "list",
            Self::Delete => "delete",
            Self::Lock => "lock",
            Self::Sync => "sync",
        })
    }
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its number in its process, from 0.
    pub number: u64,
    /// What it is.
    pub kind: Kind,
    /// The place, as it shows itself.
    pub place: String,
    /// The object or prefix in the place's store.
    pub path: String,
    /// Bytes put or read.
    pub bytes: u64,
    /// What went wrong on purpose.
    pub fault: Option<Fault>,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>5} {:<6} {}/{}", self.number, self.kind, self.place, self.path)?;
        if self.bytes > 0 {
            write!(f, " ({} bytes)", self.bytes)?;
        }
        match self.fault {
            Some(fault) => write!(f, "  ← {fault}"),
            None => Ok(()),
        }
    }
}

/// How many operations, and how many bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Operations.
    pub operations: u64,
    /// Bytes put or read.
    pub bytes: u64,
}

/// Operations counted by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally(BTreeMap<Kind, Count>);

impl Tally {
    /// Counts those operations that `which` accepts.
    pub fn of<'a>(
        operations: impl IntoIterator<Item = &'a Operation>,
        which: impl Fn(&Operation) -> bool,
    ) -> Self {
        let mut tally = Self::default();
        for operation in operations.into_iter().filter(|o| which(o)) {
            let count = tally.0.entry(operation.kind).or_default();
            count.operations += 1;
            count.bytes += operation.bytes;
        }
        tally
    }

    /// The count of one kind.
    pub fn get(&self, kind: Kind) -> Count {
        self.0.get(&kind).copied().unwrap_or_default()
    }

    /// All operations.
    pub fn operations(&self) -> u64 {
        self.0.values().map(|c| c.operations).sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (kind, count)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{} {kind}", count.operations)?;
            if count.bytes > 0 {
                write!(f, " ({} bytes)", count.bytes)?;
            }
        }
        Ok(())
    }
}
