//! Manifests: lists of segments or change segments, shared between restore points.
//!
//! Invariant: a manifest's identity is the hash of its JSON, so equal lists are one object.

use crate::Result;
use crate::error::FormatError;
use crate::profile::WriterProfile;
use bytes::Bytes;
use keepfast_model::{ByteCount, Digest, Hash256, KeyBytes, ManifestRef, ShardId, TableId, TableSchema};
use serde::{Deserialize, Serialize};
use std::io::Read;

/// Segments that one manifest lists at most.
pub const ENTRIES_MAX: usize = 4_096;
/// Bytes of keys that one manifest lists at most before another page is begun.
const KEY_BYTES_MAX: usize = 16 << 20;
/// JSON of a manifest that a reader accepts at most.
const JSON_MAX: u64 = 256 << 20;
const FORMAT: u32 = 1;
const ZSTD_LEVEL: i32 = 3;

/// What a manifest lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ManifestKind {
    /// Segments of a base.
    Segments,
    /// Change segments.
    Changes,
}

/// One segment or change segment in a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentEntry {
    /// Identity of its rows.
    pub id: Hash256,
    /// BLAKE3 of its stored bytes.
    pub stored: Hash256,
    /// Its stored size.
    pub bytes: ByteCount,
    /// The shard whose rows it holds.
    pub shard: ShardId,
    /// Rows; change rows in a change segment.
    pub rows: u64,
    /// Digest of its rows, or of its change rows.
    pub digest: Digest,
    /// First encoded key; none for bags and for rows that are not in key order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<KeyBytes>,
    /// Last encoded key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<KeyBytes>,
    /// Schema epoch in which it was written.
    pub epoch: u32,
    /// Wrapped data key; reserved for encryption.
    pub key: Option<String>,
    /// Change segments: the smallest `__keepfast_seq`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq_min: Option<i64>,
    /// Change segments: the largest `__keepfast_seq`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq_max: Option<i64>,
}

impl SegmentEntry {
    /// Its file name: `<id>-<stored>.parquet`.
    pub fn file_name(&self) -> String {
        format!("{}-{}.parquet", self.id, self.stored)
    }
}

/// A list of segments of one table, with what is needed to read and to continue them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Format; 1.
    pub format: u32,
    /// What it lists.
    pub kind: ManifestKind,
    /// The table in the vault.
    pub table: TableId,
    /// Columns and key of the rows.
    pub schema: TableSchema,
    /// How they were written.
    pub profile: WriterProfile,
    /// Random text that gives an equal list another identity, where the first one's name is condemned; otherwise none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
    /// The segments, in key order per shard.
    pub segments: Vec<SegmentEntry>,
}

impl Manifest {
    /// Manifests of at most [`ENTRIES_MAX`] entries that list all of `segments` in order; at least one, so that an
    /// empty table keeps its schema and profile.
    pub fn pages(
        kind: ManifestKind,
        table: &TableId,
        schema: &TableSchema,
        profile: &WriterProfile,
        segments: Vec<SegmentEntry>,
    ) -> Vec<Self> {
        let page = |segments| Self {
            format: FORMAT,
            kind,
            table: table.clone(),
            schema: schema.clone(),
            profile: profile.clone(),
            salt: None,
            segments,
        };
        let mut pages = Vec::new();
        let mut current = Vec::new();
        let mut key_bytes = 0;
        for entry in segments {
            let size = [&entry.min, &entry.max].into_iter().flatten().map(|k| k.0.len()).sum::<usize>();
            if current.len() == ENTRIES_MAX || (key_bytes + size > KEY_BYTES_MAX && !current.is_empty()) {
                pages.push(page(std::mem::take(&mut current)));
                key_bytes = 0;
            }
            key_bytes += size;
            current.push(entry);
        }
        if !current.is_empty() || pages.is_empty() {
            pages.push(page(current));
        }
        pages
    }

    /// Its stored bytes, and the reference by which a restore point names it.
    pub fn encode(&self) -> Result<(ManifestRef, Bytes)> {
        let json = serde_json::to_vec(self).map_err(|e| FormatError::encode("a manifest", e))?;
        let bytes =
            zstd::bulk::compress(&json, ZSTD_LEVEL).map_err(|e| FormatError::encode("a manifest", e))?;
        let reference = ManifestRef {
            id: Hash256::of(&json),
            stored: Hash256::of(&bytes),
            bytes: ByteCount(bytes.len() as u64),
            rows: self.segments.iter().map(|s| s.rows).sum(),
            segments: self.segments.len() as u32,
        };
        Ok((reference, bytes.into()))
    }

    /// Reads stored bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        Ok(Self::decode_with_id(bytes)?.0)
    }

    fn decode_with_id(bytes: &[u8]) -> Result<(Self, Hash256)> {
        let damaged = |reason: String| FormatError::damaged("manifest", reason);
        let mut json = Vec::new();
        zstd::stream::Decoder::new(bytes)
            .and_then(|d| d.take(JSON_MAX + 1).read_to_end(&mut json))
            .map_err(|e| damaged(e.to_string()))?;
        if json.len() as u64 > JSON_MAX {
            return Err(damaged(format!("it holds more than {}", ByteCount(JSON_MAX))));
        }
        let manifest: Self = serde_json::from_slice(&json).map_err(|e| damaged(e.to_string()))?;
        Ok((manifest, Hash256::of(&json)))
    }
}
