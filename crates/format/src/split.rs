//! Where segments end: after a row whose key hash says so, so that an insert changes one segment and not all after it.
//!
//! Invariant: ends depend on the rows and their order only, never on how they were cut into batches.
//! `docs/format.md`, section 3, "Ends".

use crate::Result;
use crate::conform::Conform;
use crate::error::FormatError;
use crate::order::KeyOrder;
use crate::size::canonical_size;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use keepfast_model::{Digest, KeyBytes, RowHasher, TableSchema};
use std::sync::Arc;

/// Canonical bytes of one segment at most, unless a single row has more.
pub const SEGMENT_BYTES_MAX: u64 = 32 << 20;
/// A segment ends at the latest after this many times its target of rows.
pub const ROWS_MAX_FACTOR: u64 = 8;
/// Batches smaller than this on average are joined before they are encoded.
const SMALL_BATCH: usize = 1_024;

/// The rows of one segment, not yet encoded.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Physical batches in order.
    pub batches: Vec<RecordBatch>,
    /// Rows of all batches.
    pub rows: u64,
    /// Digest of the rows.
    pub digest: Digest,
    /// First encoded key; none for a bag and for rows that come in another order.
    pub min: Option<KeyBytes>,
    /// Last encoded key.
    pub max: Option<KeyBytes>,
}

/// Cuts a partition's rows into chunks. Holds at most one chunk's batches.
#[derive(Debug)]
pub struct Splitter {
    conform: Conform,
    hasher: RowHasher,
    /// None for bags and for rows in another order.
    order: Option<KeyOrder>,
    /// Zero bits at the top of a key hash that end a segment.
    end_bits: u32,
    rows_max: u64,
    taken: Digest,
    /// Hashes of keys since they were last taken; none where nobody takes them.
    keys: Option<Vec<u64>>,
    chunk: Open,
}

/// The chunk under way.
#[derive(Debug, Default)]
struct Open {
    batches: Vec<RecordBatch>,
    rows: u64,
    /// Canonical bytes.
    bytes: u64,
    digest: Digest,
    min: Option<KeyBytes>,
}

impl Splitter {
    /// A splitter for one partition. `target_rows` is a power of two, fixed for the table's life in its vault.
    pub fn new(schema: Arc<TableSchema>, target_rows: u32) -> Self {
        let target_rows = target_rows.max(1);
        Self {
            conform: Conform::new(schema.physical()),
            hasher: RowHasher::new(&schema),
            order: (!schema.is_bag()).then(|| KeyOrder::new(&schema)),
            end_bits: target_rows.ilog2(),
            rows_max: u64::from(target_rows) * ROWS_MAX_FACTOR,
            taken: Digest::default(),
            keys: None,
            chunk: Open::default(),
        }
    }

    /// Digest of all rows that came, added up before they were cut into chunks.
    pub fn taken(&self) -> Digest {
        self.taken
    }

    /// Keeps the hashes of keys for [`Self::take_keys`].
    #[must_use]
    pub fn keeping_keys(mut self) -> Self {
        self.keys = Some(vec![]);
        self
    }

    /// The hash of each row's key, of the rows that came since the last call.
    pub fn take_keys(&mut self) -> Vec<u64> {
        self.keys.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// For rows that do not come in key order: chunks then have no `min` and `max`, and order is not checked.
    #[must_use]
    pub fn unordered(mut self) -> Self {
        self.order = None;
        self
    }

    /// Takes rows, which for a table with a key must come in key order; gives the chunks that ended.
    ///
    /// # Errors
    /// [`FormatError::Order`] and [`FormatError::DuplicateKey`] with the keys; [`FormatError::Model`] when the
    /// batch does not fit the schema.
    pub fn push(&mut self, batch: RecordBatch) -> Result<Vec<Chunk>> {
        if batch.num_rows() == 0 {
            return Ok(vec![]);
        }
        let batch = self.conform.batch(&batch)?;
        let hashes = self.hasher.hash(&batch)?;
        self.taken.add_rows(&hashes.rows);
        if let Some(keys) = &mut self.keys {
            keys.extend(&hashes.keys);
        }
        if let Some(order) = &mut self.order {
            order.follow(&batch)?;
        }
        let mut ended = Vec::new();
        let mut start = 0;
        while start < batch.num_rows() {
            let room = usize::try_from(self.rows_max - self.chunk.rows).unwrap_or(usize::MAX);
            let last = batch.num_rows().min(start.saturating_add(room));
            let by_hash =
                hashes.keys[start..last].iter().position(|hash| hash.leading_zeros() >= self.end_bits);
            let mut end = by_hash.map_or(last, |at| start + at + 1);
            let mut ends = by_hash.is_some() || end - start == room;
            let mut size = canonical_size(&batch, start, end - start);
            if self.chunk.bytes + size > SEGMENT_BYTES_MAX
                && let Some(before) = self.row_over_limit(&batch, start, end)
            {
                end = before;
                ends = true;
                size = canonical_size(&batch, start, end - start);
            }
            if end > start {
                self.take(&batch, start, end - start, size, &hashes.rows[start..end])?;
            }
            if ends {
                ended.extend(self.close()?);
            }
            start = end;
        }
        Ok(ended)
    }

    /// The last chunk; none when every row is in a chunk already. The splitter can begin anew afterwards.
    pub fn finish(&mut self) -> Result<Option<Chunk>> {
        if let Some(order) = &mut self.order {
            order.forget();
        }
        self.close()
    }

    /// The first row from `start` on that would take the chunk over the limit, unless it would be the first row in it.
    fn row_over_limit(&self, batch: &RecordBatch, start: usize, end: usize) -> Option<usize> {
        let mut bytes = self.chunk.bytes;
        (start..end).find(|row| {
            bytes += canonical_size(batch, *row, 1);
            bytes > SEGMENT_BYTES_MAX && (self.chunk.rows > 0 || *row > start)
        })
    }

    fn take(
        &mut self,
        batch: &RecordBatch,
        start: usize,
        rows: usize,
        size: u64,
        hashes: &[u128],
    ) -> Result<()> {
        let slice = if rows == batch.num_rows() { batch.clone() } else { batch.slice(start, rows) };
        if self.chunk.batches.is_empty()
            && let Some(order) = &self.order
        {
            self.chunk.min = Some(order.key(&slice, 0)?);
        }
        self.chunk.digest.add_rows(hashes);
        self.chunk.rows += rows as u64;
        self.chunk.bytes += size;
        self.chunk.batches.push(slice);
        Ok(())
    }

    fn close(&mut self) -> Result<Option<Chunk>> {
        let Open { mut batches, rows, digest, min, .. } = std::mem::take(&mut self.chunk);
        let Some(last) = batches.last() else { return Ok(None) };
        let max = match &self.order {
            Some(order) => Some(order.key(last, last.num_rows() - 1)?),
            None => None,
        };
        if batches.len() > 1 && rows < (batches.len() * SMALL_BATCH) as u64 {
            batches = self.join(batches)?;
        }
        Ok(Some(Chunk { batches, rows, digest, min, max }))
    }

    /// One batch of many small ones. Those with and without the hidden column may follow each other.
    fn join(&self, batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        let exact = batches.iter().any(|b| self.conform.has_exact(b));
        let batches = if exact {
            batches.iter().map(|b| self.conform.batch_with_exact(b)).collect::<Result<Vec<_>>>()?
        } else {
            batches
        };
        let joined = concat_batches(self.conform.schema(exact), &batches);
        Ok(vec![joined.map_err(FormatError::kernel("joined"))?])
    }
}
