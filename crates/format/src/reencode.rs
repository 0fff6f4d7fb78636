//! A stored file under another protection: the same rows in the same order, with other keys and under another identity.
//!
//! Invariant: nothing of the old file is taken over unread. Rows must have the digest, the number and the keys that their entry states,
//! and the new entry states what was found.

use crate::Result;
use crate::change::{ChangeWriter, read_changes};
use crate::encryption::{Protection, SegmentFile};
use crate::error::FormatError;
use crate::manifest::{Manifest, ManifestKind, SegmentEntry};
use crate::profile::WriterProfile;
use crate::read::{SegmentBatches, read_segment};
use crate::segment::{EncodedSegment, SegmentWriter};
use crate::split::Chunk;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use keepfast_model::key::encode_columns;
use keepfast_model::{ByteCount, Digest, KeyBytes, RowHasher, TableSchema};
use std::sync::Arc;

/// Rows of one batch.
const BATCH_ROWS: usize = 8_192;

/// Encodes the files of a manifest under another protection. Calls take `&self`, so threads share one behind an `Arc`.
#[derive(Debug)]
pub struct Reencoder {
    kind: ManifestKind,
    schema: Arc<TableSchema>,
    profile: Arc<WriterProfile>,
    protection: Protection,
    hasher: RowHasher,
    writer: SegmentWriter,
}

impl Reencoder {
    /// For the files that a manifest lists.
    pub fn new(manifest: &Manifest, protection: Protection) -> Self {
        let schema = Arc::new(manifest.schema.clone());
        let profile = Arc::new(manifest.profile.clone());
        Self {
            kind: manifest.kind,
            hasher: RowHasher::new(&schema),
            writer: SegmentWriter::new(schema.clone(), profile.clone(), protection.clone()),
            schema,
            profile,
            protection,
        }
    }

    /// A file's rows as they were, encoded anew. Holds them in memory.
    ///
    /// # Errors
    /// [`FormatError::Damaged`] when the file does not hold the rows that its entry states;
    /// [`FormatError::Keys`] when the key of a column was dropped; otherwise as
    /// [`read_segment`] and [`SegmentWriter::encode`].
    pub fn encode(&self, file: SegmentFile, entry: &SegmentEntry) -> Result<EncodedSegment> {
        let encoded = match self.kind {
            ManifestKind::Segments => self.segment(file, entry)?,
            ManifestKind::Changes => self.changes(file, entry)?,
        };
        let stated = |e: &SegmentEntry| {
            let keys = (e.min.clone(), e.max.clone());
            (e.shard.clone(), e.rows, e.digest, keys, e.epoch, e.seq_min, e.seq_max)
        };
        match stated(&encoded.entry) == stated(entry) {
            true => Ok(encoded),
            false => Err(self.damaged(entry, "it does not hold the rows that its manifest states")),
        }
    }

    fn segment(&self, file: SegmentFile, entry: &SegmentEntry) -> Result<EncodedSegment> {
        let batches = self.read(read_segment(file, &self.schema, None, BATCH_ROWS)?, entry)?;
        let mut digest = Digest::default();
        for batch in &batches {
            digest = digest.merge(self.hasher.digest(batch)?);
        }
        let keyed = entry.min.is_some() || entry.max.is_some();
        let key = |batch: Option<&RecordBatch>, last: bool| match batch {
            Some(batch) if keyed => self.key(batch, if last { batch.num_rows() - 1 } else { 0 }).map(Some),
            _ => Ok(None),
        };
        let (min, max) = (key(batches.first(), false)?, key(batches.last(), true)?);
        let rows = batches.iter().map(|b| b.num_rows() as u64).sum();
        let chunk = Chunk { batches, rows, digest, min, max };
        let mut encoded = self.writer.encode(self.writer.identity(&chunk)?, &entry.shard, &chunk)?;
        encoded.entry.epoch = entry.epoch;
        Ok(encoded)
    }

    fn changes(&self, file: SegmentFile, entry: &SegmentEntry) -> Result<EncodedSegment> {
        let read = read_changes(file, &self.schema, BATCH_ROWS)?;
        let schema = read.schema();
        let batches = self.read(read, entry)?;
        let joined = concat_batches(&schema, &batches).map_err(FormatError::kernel("joined"))?;
        drop(batches);
        // One run, as it was: its rows are in order already.
        let mut writer =
            ChangeWriter::new(self.schema.clone(), self.profile.clone(), self.protection.clone())
                .with_run_bytes(ByteCount(u64::MAX));
        let mut encoded = writer.push(joined)?;
        encoded.extend(writer.finish()?);
        match <[EncodedSegment; 1]>::try_from(encoded) {
            Ok([only]) => Ok(only),
            Err(_) => Err(self.damaged(entry, "it does not hold the changes of one shard")),
        }
    }

    /// All batches of a file that states the identity of its entry, but empty ones.
    fn read(&self, read: SegmentBatches, entry: &SegmentEntry) -> Result<Vec<RecordBatch>> {
        if read.identity() != Some(entry.id) {
            return Err(self.damaged(entry, "it states another identity than its manifest"));
        }
        let batches = read.collect::<Result<Vec<_>>>()?;
        Ok(batches.into_iter().filter(|batch| batch.num_rows() > 0).collect())
    }

    fn key(&self, batch: &RecordBatch, row: usize) -> Result<KeyBytes> {
        let columns: Vec<_> =
            self.schema.key_positions().into_iter().map(|at| batch.column(at).slice(row, 1)).collect();
        Ok(KeyBytes(encode_columns(&columns, 1)?.value(0).to_vec()))
    }

    fn damaged(&self, entry: &SegmentEntry, reason: &str) -> FormatError {
        let what = match self.kind {
            ManifestKind::Segments => "segment",
            ManifestKind::Changes => "change segment",
        };
        FormatError::damaged(format!("{what} {}", entry.id), reason)
    }
}
