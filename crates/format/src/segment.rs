//! Segments: one Parquet file with the rows of one shard, encoded as the table's writer profile says.

use crate::Result;
use crate::conform::Conform;
use crate::encryption::Protection;
use crate::identity::{IdentityHasher, RowsOf};
use crate::layout::Layout;
use crate::manifest::SegmentEntry;
use crate::profile::WriterProfile;
use crate::split::Chunk;
use arrow::array::RecordBatch;
use bytes::Bytes;
use keepfast_model::{ByteCount, ColumnId, Hash256, ShardId, TableSchema};
use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

/// A segment ready to be stored.
#[derive(Clone, Debug)]
pub struct EncodedSegment {
    /// Its entry for the manifest.
    pub entry: SegmentEntry,
    /// What to store under [`SegmentEntry::file_name`].
    pub bytes: Bytes,
}

/// Encodes chunks of one table. Calls take `&self`, so threads share one behind an `Arc`.
#[derive(Debug)]
pub struct SegmentWriter {
    schema: Arc<TableSchema>,
    profile: Arc<WriterProfile>,
    protection: Protection,
    conform: Conform,
    identities: OnceLock<IdentityHasher>,
    /// Without and with the hidden column.
    layouts: [OnceLock<Layout>; 2],
    epoch: u32,
}

impl SegmentWriter {
    /// A writer of a table's segments.
    pub fn new(schema: Arc<TableSchema>, profile: Arc<WriterProfile>, protection: Protection) -> Self {
        Self {
            conform: Conform::new(schema.physical()),
            schema,
            profile,
            protection,
            identities: OnceLock::new(),
            layouts: [OnceLock::new(), OnceLock::new()],
            epoch: 0,
        }
    }

    /// Sets the schema epoch that entries state; 0 without.
    #[must_use]
    pub fn with_epoch(mut self, epoch: u32) -> Self {
        self.epoch = epoch;
        self
    }

    /// The identity of a chunk. Where the vault has it already, the chunk need not be encoded.
    ///
    /// # Errors
    /// [`FormatError::Model`](crate::FormatError::Model) when the rows do not fit the schema.
    pub fn identity(&self, chunk: &Chunk) -> Result<Hash256> {
        let (batches, exact) = self.conform(chunk)?;
        let mut ids: Vec<ColumnId> = self.schema.columns.iter().map(|c| c.id).collect();
        if exact {
            ids.push(ColumnId::EXACT);
        }
        self.identities()?.rows(&ids, &batches)
    }

    /// Encodes a chunk under its identity.
    ///
    /// # Errors
    /// As [`Self::identity`]; [`FormatError::Encode`](crate::FormatError::Encode) when the profile is not one that can be written;
    /// [`FormatError::Keys`](crate::FormatError::Keys) when the key of a secret column was dropped.
    pub fn encode(&self, id: Hash256, shard: &ShardId, chunk: &Chunk) -> Result<EncodedSegment> {
        let (batches, exact) = self.conform(chunk)?;
        let (keys, wrapped) = self.protection.new_file(id)?.unzip();
        let bytes = self.layout(exact)?.encode(id, &batches, keys.as_ref())?;
        let entry = SegmentEntry {
            id,
            stored: Hash256::of(&bytes),
            bytes: ByteCount(bytes.len() as u64),
            shard: shard.clone(),
            rows: chunk.rows,
            digest: chunk.digest,
            min: chunk.min.clone(),
            max: chunk.max.clone(),
            epoch: self.epoch,
            key: wrapped,
            seq_min: None,
            seq_max: None,
        };
        Ok(EncodedSegment { entry, bytes })
    }

    /// The chunk's batches under one Arrow schema, and whether that has the hidden column.
    fn conform<'a>(&self, chunk: &'a Chunk) -> Result<(Cow<'a, [RecordBatch]>, bool)> {
        let exact = chunk.batches.iter().any(|b| self.conform.has_exact(b));
        let schema = self.conform.schema(exact);
        if chunk.batches.iter().all(|b| Arc::ptr_eq(b.schema_ref(), schema)) {
            return Ok((Cow::Borrowed(&chunk.batches), exact));
        }
        let batches = chunk.batches.iter();
        let batches: Result<Vec<_>> = if exact {
            batches.map(|b| self.conform.batch_with_exact(b)).collect()
        } else {
            batches.map(|b| self.conform.batch(b)).collect()
        };
        Ok((Cow::Owned(batches?), exact))
    }

    fn identities(&self) -> Result<&IdentityHasher> {
        if let Some(known) = self.identities.get() {
            return Ok(known);
        }
        let made = IdentityHasher::new(RowsOf::Segment, &self.protection, &self.schema, &self.profile)?;
        Ok(self.identities.get_or_init(|| made))
    }

    fn layout(&self, exact: bool) -> Result<&Layout> {
        let place = &self.layouts[usize::from(exact)];
        if let Some(known) = place.get() {
            return Ok(known);
        }
        let made = Layout::new(
            self.conform.schema(exact).clone(),
            &self.schema,
            &self.profile,
            &self.protection.domain,
        )?;
        Ok(place.get_or_init(|| made))
    }
}
