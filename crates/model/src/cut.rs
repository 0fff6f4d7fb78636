//! One moment over all partitions, and where each shard's change log stood then.

use crate::ids::ShardId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How exactly a cut is one moment. Always stored, always shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "exactness", rename_all = "snake_case")]
pub enum Exactness {
    /// One moment: every transaction is in it wholly or not at all.
    Exact,
    /// Shards may differ by at most this long.
    Bounded {
        /// Milliseconds.
        ms: u64,
    },
    /// No bound is known.
    Fuzzy,
}

impl fmt::Display for Exactness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact => f.write_str("exact"),
            Self::Bounded { ms } => write!(f, "bounded by {ms} ms"),
            Self::Fuzzy => f.write_str("fuzzy"),
        }
    }
}

/// Where a change log stands. Compared only by the store that made it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", content = "value", rename_all = "snake_case")]
pub enum Position {
    /// A table version of the embedded Table Store.
    Version(u64),
    /// A GTID set.
    Gtid(String),
    /// A binary log's file and offset.
    File {
        /// Name of the log file.
        file: String,
        /// Byte offset in it.
        offset: u64,
    },
    /// A store timestamp, in the store's own unit.
    Timestamp(i64),
    /// A stream's own token.
    Token(String),
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(v) => write!(f, "version {v}"),
            Self::Gtid(g) => write!(f, "gtid {g}"),
            Self::File { file, offset } => write!(f, "{file}:{offset}"),
            Self::Timestamp(t) => write!(f, "timestamp {t}"),
            Self::Token(t) => write!(f, "token {t}"),
        }
    }
}

/// Where one shard's change log stood at the cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardPosition {
    /// The shard, or the server that logs for several.
    pub shard: ShardId,
    /// Where its log stood.
    pub position: Position,
}

/// One moment over all partitions of all tables of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// When, by the clock of who took it.
    pub at: Timestamp,
    /// How exactly it is one moment.
    #[serde(flatten)]
    pub exactness: Exactness,
    /// Where an incremental backup goes on; empty where the store has no change log.
    #[serde(default)]
    pub positions: Vec<ShardPosition>,
}
