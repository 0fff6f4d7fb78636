//! Manifests: lists of segments or change segments, shared between restore points.
//!
//! Invariant: a manifest's identity is the hash of its JSON, so equal lists are one object.

use crate::Result;
use crate::error::FormatError;
use crate::parity::ParityGroup;
use crate::profile::WriterProfile;
use bytes::Bytes;
use keepfast_keys::{Random, SecretKey, open, seal};
use keepfast_model::{ByteCount, Digest, Hash256, KeyBytes, ManifestRef, ShardId, TableId, TableSchema};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::io::Read;

/// Segments that one manifest lists at most.
pub const ENTRIES_MAX: usize = 4_096;
/// Bytes of keys that one manifest lists at most before another page is begun.
const KEY_BYTES_MAX: usize = 16 << 20;
/// JSON of a manifest that a reader accepts at most.
const JSON_MAX: u64 = 256 << 20;
/// Files, and parity files, of a group that a reader accepts at most.
const PARITY_MAX: usize = 1_024;
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
    /// The file's data keys, wrapped; none without encryption.
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
    /// How the segments' files share parity; none for a table without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parity: Option<Vec<ParityGroup>>,
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
            parity: None,
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
            rows: self.rows(),
            segments: self.segments.len() as u32,
        };
        Ok((reference, bytes.into()))
    }

    /// Its stored bytes and reference for an encrypted table: sealed with the table's key, under a keyed name.
    ///
    /// # Errors
    /// [`FormatError::Keys`] without random bytes.
    pub fn encode_sealed(
        &self,
        key: &SecretKey,
        names: &SecretKey,
        random: &dyn Random,
    ) -> Result<(ManifestRef, Bytes)> {
        let json = serde_json::to_vec(self).map_err(|e| FormatError::encode("a manifest", e))?;
        let compressed =
            zstd::bulk::compress(&json, ZSTD_LEVEL).map_err(|e| FormatError::encode("a manifest", e))?;
        let mut bytes = [SEALED, self.table.0.as_bytes(), b"\n"].concat();
        bytes.extend(seal(key, &sealed_context(&self.table), &compressed, random)?);
        let reference = ManifestRef {
            id: sealed_name(names, &json),
            stored: Hash256::of(&bytes),
            bytes: ByteCount(bytes.len() as u64),
            rows: self.rows(),
            segments: self.segments.len() as u32,
        };
        Ok((reference, bytes.into()))
    }

    /// The table whose key sealed these stored bytes; none for a manifest that is not sealed.
    pub fn sealed_for(bytes: &[u8]) -> Option<TableId> {
        let (table, _) = split_sealed(bytes)?;
        Some(TableId(table.to_owned()))
    }

    /// Reads sealed bytes, and gives the name under which they must stand.
    ///
    /// # Errors
    /// [`FormatError::Keys`] when they are not what this key sealed for its table; otherwise as [`Self::decode`].
    pub fn decode_sealed(bytes: &[u8], key: &SecretKey, names: &SecretKey) -> Result<(Self, Hash256)> {
        let (table, sealed) =
            split_sealed(bytes).ok_or_else(|| FormatError::damaged("manifest", "it is not sealed"))?;
        let table = TableId(table.to_owned());
        let compressed = open(key, &sealed_context(&table), sealed)?;
        let json = decompress("manifest", &compressed)?;
        let manifest = Self::parse("manifest", &json)?;
        if manifest.table != table {
            return Err(FormatError::damaged("manifest", "it is of another table than it was sealed for"));
        }
        Ok((manifest, sealed_name(names, &json)))
    }

    /// Reads stored bytes.
    ///
    /// # Errors
    /// [`FormatError::Damaged`] when they are not a manifest or contradict themselves, [`FormatError::NewerFormat`].
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let json = decompress("manifest", bytes)?;
        Self::parse("manifest", &json)
    }

    /// Reads the stored bytes of the manifest that a restore point names, and checks that they are that one.
    ///
    /// # Errors
    /// As [`Self::decode`]; also when hashes, rows or the number of segments are not those of the reference.
    pub fn open(reference: &ManifestRef, bytes: &[u8]) -> Result<Self> {
        let object = format!("manifest {}", reference.id);
        let refuse = |reason: &str| Err(FormatError::damaged(&object, reason));
        if Hash256::of(bytes) != reference.stored {
            return refuse("its bytes are not those that were written");
        }
        let json = decompress(&object, bytes)?;
        if Hash256::of(&json) != reference.id {
            return refuse("it is not the manifest of that identity");
        }
        let manifest = Self::parse(&object, &json)?;
        if manifest.segments.len() as u64 != u64::from(reference.segments)
            || manifest.rows() != reference.rows
        {
            return refuse("it lists other segments than its restore point says");
        }
        Ok(manifest)
    }

    /// Rows of all its segments.
    pub fn rows(&self) -> u64 {
        self.segments.iter().fold(0, |sum, s| sum.saturating_add(s.rows))
    }

    /// Digest of all its segments together.
    pub fn digest(&self) -> Digest {
        self.segments.iter().fold(Digest::default(), |sum, s| Digest {
            rows: sum.rows.saturating_add(s.digest.rows),
            sum: sum.sum.wrapping_add(s.digest.sum),
        })
    }

    fn parse(object: &str, json: &[u8]) -> Result<Self> {
        /// Read first: a newer format may have other members.
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let damaged = |e: serde_json::Error| FormatError::Damaged {
            object: object.to_owned(),
            reason: e.to_string(),
            source: Some(Box::new(e)),
        };
        let head: Head = serde_json::from_slice(json).map_err(damaged)?;
        if head.format > FORMAT {
            let found = head.format.to_string();
            return Err(FormatError::NewerFormat { object: object.to_owned(), found, known: FORMAT });
        }
        let manifest: Self = serde_json::from_slice(json).map_err(damaged)?;
        manifest.check(object)?;
        Ok(manifest)
    }

    fn check(&self, object: &str) -> Result<()> {
        let refuse = |reason: String| Err(FormatError::damaged(object, reason));
        if self.format != FORMAT {
            return refuse(format!("its format is {}", self.format));
        }
        if self.segments.len() > ENTRIES_MAX {
            return refuse(format!("it lists {} segments", self.segments.len()));
        }
        if let Err(e) = self.schema.check(&self.table.0) {
            return refuse(e.to_string());
        }
        for group in self.parity.iter().flatten() {
            let members: HashSet<u32> = group.members.iter().copied().collect();
            let known = members.iter().all(|at| (*at as usize) < self.segments.len());
            if !known || members.is_empty() || members.len() != group.members.len() || group.shards.is_empty()
            {
                return refuse("a parity group is not one of its segments".into());
            }
            if members.len() > PARITY_MAX || group.shards.len() > PARITY_MAX {
                return refuse("a parity group is too large".into());
            }
        }
        for entry in &self.segments {
            let name = entry.file_name();
            if entry.digest.rows != entry.rows {
                return refuse(format!("rows and digest of {name} disagree"));
            }
            if entry.min > entry.max || entry.min.is_some() != entry.max.is_some() {
                return refuse(format!("the keys of {name} are not a range"));
            }
            let numbered = entry.seq_min.is_some() && entry.seq_min <= entry.seq_max;
            if numbered != (self.kind == ManifestKind::Changes) {
                return refuse(format!("{name} is not one of {:?}", self.kind));
            }
        }
        Ok(())
    }
}

/// First bytes of a sealed manifest; the table's id and a newline follow.
const SEALED: &[u8] = b"keepfast sealed manifest 1\n";

/// The table's id, and what is sealed.
fn split_sealed(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let rest = bytes.strip_prefix(SEALED)?;
    let end = rest.iter().take(64).position(|b| *b == b'\n')?;
    Some((std::str::from_utf8(&rest[..end]).ok()?, &rest[end + 1..]))
}

fn sealed_context(table: &TableId) -> Vec<u8> {
    format!("keepfast manifest 1\0{table}").into_bytes()
}

/// The keyed hash of a manifest's JSON: a plain one would let anybody try what stands in it.
fn sealed_name(names: &SecretKey, json: &[u8]) -> Hash256 {
    Hash256(*blake3::keyed_hash(names.derive("keepfast manifest names 1").bytes(), json).as_bytes())
}

/// The JSON in stored bytes; what would grow beyond all reason is refused while it grows.
fn decompress(object: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut json = Vec::new();
    zstd::stream::Decoder::new(bytes)
        .and_then(|decoder| decoder.take(JSON_MAX + 1).read_to_end(&mut json))
        .map_err(|e| FormatError::Damaged {
        object: object.to_owned(),
        reason: e.to_string(),
        source: Some(Box::new(e)),
    })?;
    if json.len() as u64 > JSON_MAX {
        return Err(FormatError::damaged(object, format!("it holds more than {}", ByteCount(JSON_MAX))));
    }
    Ok(json)
}
