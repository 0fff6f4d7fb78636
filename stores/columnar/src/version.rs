//! A version: one immutable state of one table, as the list of its pages of segments.

use crate::names::WriterId;
use jiff::Timestamp;
use keepfast_format::{SegmentEntry, WriterProfile};
use keepfast_model::{ByteCount, Digest, Hash256, KeyBytes, TableId, TableSchema};
use serde::{Deserialize, Serialize};

/// Segments that a page lists at most.
pub const PAGE_SEGMENTS: usize = 128;

/// A page: a manifest of neighbouring segments, as a version refers to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRef {
    /// Its object in `data/<id>/pages/`.
    pub name: String,
    /// BLAKE3 of its stored bytes.
    pub stored: Hash256,
    /// Its segments.
    pub segments: u32,
    /// Their digests together.
    pub digest: Digest,
    /// Their stored bytes together.
    pub bytes: ByteCount,
    /// First encoded key; none for bags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<KeyBytes>,
    /// Last encoded key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<KeyBytes>,
}

impl PageRef {
    /// A reference to a page of these segments.
    pub(crate) fn of(name: String, stored: Hash256, segments: &[SegmentEntry]) -> Self {
        Self {
            name,
            stored,
            segments: segments.len() as u32,
            digest: segments.iter().fold(Digest::default(), |d, s| d.merge(s.digest)),
            bytes: segments.iter().map(|s| s.bytes).sum(),
            min: segments.first().and_then(|s| s.min.clone()),
            max: segments.last().and_then(|s| s.max.clone()),
        }
    }
}

/// What made a version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeNote {
    /// The operation, for people: `create`, `write`, `compact`, `alter`, `undo`, …
    pub op: String,
    /// Rows that came in.
    pub rows_in: u64,
    /// Rows that went out.
    pub rows_out: u64,
    /// Segments written.
    pub segments_in: u64,
    /// Segments no longer part of it.
    pub segments_out: u64,
}

/// One version as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VersionFile {
    /// Format; 1.
    pub format: u32,
    /// The table.
    pub table: TableId,
    /// Its number, from 1.
    pub version: u64,
    /// The version it was made from; none for the first.
    pub parent: Option<String>,
    /// Who wrote it.
    pub writer: WriterId,
    /// When, by the writer's clock.
    pub at: Timestamp,
    /// How often the schema changed.
    pub epoch: u32,
    /// Columns and key.
    pub schema: TableSchema,
    /// Rows that a segment aims at; a power of two, fixed for the table's life.
    pub target_rows: u32,
    /// How segments are written; chosen from the first rows and then kept.
    pub profile: Option<WriterProfile>,
    /// Count and checksum of the rows, kept from the rows as they were given.
    pub digest: Digest,
    /// Stored bytes of all segments.
    pub bytes: ByteCount,
    /// The pages, in key order.
    pub pages: Vec<PageRef>,
    /// What made it.
    pub change: ChangeNote,
}

impl VersionFile {
    /// Number of segments.
    pub fn segments(&self) -> u64 {
        self.pages.iter().map(|p| u64::from(p.segments)).sum()
    }
}
