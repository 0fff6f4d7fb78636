//! What a restore point carries to prove that it is complete, and how that was obtained.

use crate::digest::Digest;
use crate::key::KeyRange;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How the proof was obtained, strongest first. Never overstated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProofKind {
    /// The store's own count and checksums at the cut agree with what was read.
    Source,
    /// A gapless change log from a certified base.
    Log,
    /// Only our own counting.
    #[serde(rename = "self")]
    Own,
}

impl fmt::Display for ProofKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Log => "log",
            Self::Own => "self",
        })
    }
}

/// What the store itself says of a table at the cut, computed without the scan's decoder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceProof {
    /// Rows of the whole table.
    pub rows: u64,
    /// Checksums of ranges; one unbounded range where all of it was covered.
    pub ranges: Vec<RangeProof>,
    /// How the store computed it, in words that a person understands.
    pub method: String,
}

/// The store's own checksum of one range of keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeProof {
    /// The keys covered.
    pub range: KeyRange,
    /// The digest that the store states for it.
    pub digest: Digest,
}

/// Proof of completeness of one table of a restore point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// How it was obtained.
    pub kind: ProofKind,
    /// Rows that the proof expects; equal to the point's rows, or the backup would have failed.
    pub rows: u64,
    /// Partitions read; together they covered the key space without gap or overlap.
    pub partitions: u32,
    /// Share of the table's rows whose content the store's own checksum covered, in percent.
    pub content_percent: u8,
    /// How it was computed.
    pub method: String,
    /// When.
    pub at: Timestamp,
}
