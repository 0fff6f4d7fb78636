//! Change segments: what happened to rows between two positions, sorted by shard, key and the shard's order.
//!
//! Invariant: every version is kept; a run of changes is sorted in memory of bounded size, and what is too much for one
//! run makes several change segments, whose order the numbers in `__keepfast_seq` give.

use crate::Result;
use crate::conform::Conform;
use crate::encryption::{Protection, SegmentFile};
use crate::error::FormatError;
use crate::identity::{IdentityHasher, RowsOf};
use crate::layout::Layout;
use crate::manifest::SegmentEntry;
use crate::profile::{ColumnProfile, Encoding, WriterProfile};
use crate::read::{SegmentBatches, read_segment};
use crate::segment::EncodedSegment;
use crate::size::canonical_size;
use arrow::array::{Array, AsArray, BinaryArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, max, min, take_record_batch};
use arrow::datatypes::{Int8Type, Int32Type, Int64Type};
use keepfast_model::change::{HIDDEN_COLUMNS, change_schema, hidden};
use keepfast_model::key::encode_columns;
use keepfast_model::{
    ByteCount, ChangeOp, Column, ColumnId, ColumnType, Digest, Hash256, KeyBytes, RowHasher, ShardId,
    TableSchema,
};
use std::sync::Arc;

/// Canonical bytes of one sorted run, roughly.
const RUN_BYTES: u64 = 32 << 20;
/// Changes of one sorted run, roughly.
const RUN_ROWS: usize = 1 << 19;

/// The hidden columns of change rows as columns of a schema, then the table's own, all nullable; no key.
pub fn change_table(schema: &TableSchema) -> TableSchema {
    let hidden = [
        (hidden::OP, ColumnType::Int8, false),
        (hidden::SEQ, ColumnType::Int64, false),
        (hidden::SHARD, ColumnType::Text, false),
        (hidden::POSITION, ColumnType::Text, true),
        (hidden::EPOCH, ColumnType::Int32, false),
        (hidden::MASK, ColumnType::Blob, true),
        (hidden::COUNT, ColumnType::Int64, true),
    ];
    let mut columns: Vec<Column> = hidden
        .into_iter()
        .zip(ColumnId::FIRST_HIDDEN + 1..)
        .map(|((name, column_type, nullable), id)| Column {
            id: ColumnId(id),
            name: name.to_owned(),
            column_type,
            nullable,
            default: None,
            origin: None,
        })
        .collect();
    columns.extend(schema.columns.iter().map(|c| Column { nullable: true, ..c.clone() }));
    TableSchema { columns, key: vec![], shape: schema.shape }
}

/// Collects changes of one table and encodes them in sorted runs of bounded size.
#[derive(Debug)]
pub struct ChangeWriter {
    schema: Arc<TableSchema>,
    changes: TableSchema,
    profile: WriterProfile,
    table_profile: Arc<WriterProfile>,
    protection: Protection,
    conform: Conform,
    hasher: RowHasher,
    run: Vec<RecordBatch>,
    run_rows: usize,
    run_bytes: u64,
    run_bytes_max: u64,
}

impl ChangeWriter {
    /// A writer of changes of a table; `profile` is that of its segments.
    pub fn new(schema: Arc<TableSchema>, profile: Arc<WriterProfile>, protection: Protection) -> Self {
        let changes = change_table(&schema);
        Self {
            conform: Conform::new(changes.physical()),
            hasher: RowHasher::new(&changes),
            profile: change_profile(&changes, &profile),
            table_profile: profile,
            schema,
            changes,
            protection,
            run: vec![],
            run_rows: 0,
            run_bytes: 0,
            run_bytes_max: RUN_BYTES,
        }
    }

    /// Sets about how many canonical bytes a sorted run has; 32 MiB without.
    #[must_use]
    pub fn with_run_bytes(mut self, bytes: ByteCount) -> Self {
        self.run_bytes_max = bytes.0;
        self
    }

    /// Takes a batch of [`change_schema`], of any shards, in each shard's order; gives the change segments of a run
    /// that became full, none most times. A trailing `__keepfast_exact` column is kept.
    ///
    /// # Errors
    /// [`FormatError::Change`] for an operation that the table cannot have; [`FormatError::Model`] when the batch
    /// does not fit the schema.
    pub fn push(&mut self, batch: RecordBatch) -> Result<Vec<EncodedSegment>> {
        let batch = self.conform.batch(&batch)?;
        check_operations(&self.schema, &batch)?;
        self.run_rows += batch.num_rows();
        self.run_bytes += canonical_size(&batch, 0, batch.num_rows());
        self.run.push(batch);
        if self.run_bytes >= self.run_bytes_max || self.run_rows >= RUN_ROWS {
            self.flush()
        } else {
            Ok(vec![])
        }
    }

    /// The change segments of the last run. The writer is empty afterwards.
    ///
    /// # Errors
    /// As [`Self::push`], and as [`SegmentWriter::encode`](crate::SegmentWriter::encode).
    pub fn finish(&mut self) -> Result<Vec<EncodedSegment>> {
        self.flush()
    }

    /// Sorts the run, and encodes one change segment for each of its shards.
    fn flush(&mut self) -> Result<Vec<EncodedSegment>> {
        let run = std::mem::take(&mut self.run);
        (self.run_rows, self.run_bytes) = (0, 0);
        if run.iter().all(|b| b.num_rows() == 0) {
            return Ok(vec![]);
        }
        let identities =
            IdentityHasher::new(RowsOf::Changes, &self.protection, &self.schema, &self.table_profile)?;
        let joined = join(&self.conform, &run)?;
        drop(run);
        let exact = self.conform.has_exact(&joined);
        let (rows, keys) = sort(&self.schema, &joined)?;
        drop(joined);

        let mut ids: Vec<ColumnId> = self.changes.columns.iter().map(|c| c.id).collect();
        if exact {
            ids.push(ColumnId::EXACT);
        }
        let layout = Layout::new(
            self.conform.schema(exact).clone(),
            &self.changes,
            &self.profile,
            &self.protection.domain,
        )?;
        let mut segments = Vec::new();
        let mut start = 0;
        for end in shard_ends(&rows) {
            let shard_rows = [rows.slice(start, end - start)];
            let id = identities.rows(&ids, &shard_rows)?;
            let (file_keys, wrapped) = self.protection.new_file(id)?.unzip();
            let bytes = layout.encode(id, &shard_rows, file_keys.as_ref())?;
            let entry =
                SegmentEntry { key: wrapped, ..self.entry(id, &bytes, &shard_rows[0], &keys, start)? };
            segments.push(EncodedSegment { entry, bytes });
            start = end;
        }
        Ok(segments)
    }

    fn entry(
        &self,
        id: Hash256,
        bytes: &[u8],
        rows: &RecordBatch,
        keys: &BinaryArray,
        start: usize,
    ) -> Result<SegmentEntry> {
        let key = |at: usize| (!self.schema.is_bag()).then(|| KeyBytes(keys.value(at).to_vec()));
        let seq = rows.column(1).as_primitive::<Int64Type>();
        let epoch = max(rows.column(4).as_primitive::<Int32Type>()).unwrap_or(0);
        Ok(SegmentEntry {
            id,
            stored: Hash256::of(bytes),
            bytes: ByteCount(bytes.len() as u64),
            shard: ShardId(rows.column(2).as_string::<i32>().value(0).to_owned()),
            rows: rows.num_rows() as u64,
            digest: self.hasher.digest(rows)?,
            min: key(start),
            max: key(start + rows.num_rows() - 1),
            epoch: u32::try_from(epoch).unwrap_or(0),
            key: None,
            seq_min: min(seq),
            seq_max: max(seq),
        })
    }
}

/// The writer profile of a table with the hidden columns of its changes.
fn change_profile(changes: &TableSchema, table: &WriterProfile) -> WriterProfile {
    let hidden = changes.columns[..HIDDEN_COLUMNS].iter().map(|c| ColumnProfile {
        id: c.id,
        dictionary: c.name != hidden::SEQ && c.name != hidden::POSITION,
        encoding: match c.name.as_str() {
            hidden::SEQ => Encoding::Delta,
            hidden::POSITION => Encoding::DeltaLength,
            _ => Encoding::Plain,
        },
        compressed: true,
    });
    WriterProfile { columns: hidden.chain(table.columns.iter().cloned()).collect(), ..table.clone() }
}

/// All batches as one; with the hidden column where one of them has it.
pub(crate) fn join(conform: &Conform, batches: &[RecordBatch]) -> Result<RecordBatch> {
    let exact = batches.iter().any(|b| conform.has_exact(b));
    let batches: Result<Vec<_>> =
        batches.iter().map(|b| if exact { conform.batch_with_exact(b) } else { conform.batch(b) }).collect();
    let batches = batches?;
    if let [only] = batches.as_slice() {
        return Ok(only.clone());
    }
    concat_batches(conform.schema(exact), &batches).map_err(FormatError::kernel("joined"))
}

/// The encoded keys of change rows; empty ones for a bag.
pub(crate) fn change_keys(schema: &TableSchema, rows: &RecordBatch) -> Result<BinaryArray> {
    let columns: Vec<_> =
        schema.key_positions().into_iter().map(|at| rows.column(HIDDEN_COLUMNS + at).clone()).collect();
    Ok(encode_columns(&columns, rows.num_rows())?)
}

/// The rows in the order shard, key, seq; and their keys.
fn sort(schema: &TableSchema, rows: &RecordBatch) -> Result<(RecordBatch, BinaryArray)> {
    let keys = change_keys(schema, rows)?;
    let seq = rows.column(1).as_primitive::<Int64Type>().values();
    let shard = rows.column(2).as_string::<i32>();
    let mut order: Vec<u32> = (0..rows.num_rows() as u32).collect();
    order.sort_unstable_by(|a, b| {
        let (i, j) = (*a as usize, *b as usize);
        shard
            .value(i)
            .cmp(shard.value(j))
            .then_with(|| keys.value(i).cmp(keys.value(j)))
            .then_with(|| seq[i].cmp(&seq[j]))
            .then(a.cmp(b))
    });
    let order = UInt32Array::from(order);
    let rows = take_record_batch(rows, &order).map_err(FormatError::kernel("sorted"))?;
    let keys = arrow::compute::take(&keys, &order, None).map_err(FormatError::kernel("sorted"))?;
    Ok((rows, keys.as_binary::<i32>().clone()))
}

/// Where each shard's rows end.
fn shard_ends(rows: &RecordBatch) -> Vec<usize> {
    let shard = rows.column(2).as_string::<i32>();
    let n = rows.num_rows();
    (1..=n).filter(|at| *at == n || shard.value(*at) != shard.value(at - 1)).collect()
}

/// The error that names one change.
pub(crate) fn refuse(rows: &RecordBatch, at: usize, reason: impl Into<String>) -> FormatError {
    FormatError::Change {
        shard: rows.column(2).as_string::<i32>().value(at).to_owned(),
        seq: rows.column(1).as_primitive::<Int64Type>().value(at),
        reason: reason.into(),
    }
}

/// Refuses operations that rows of this shape cannot have, and what they need and lack. `rows` is a conforming batch.
pub(crate) fn check_operations(schema: &TableSchema, rows: &RecordBatch) -> Result<()> {
    use keepfast_model::TableShape::{Cells, Rows};
    let ops = rows.column(0).as_primitive::<Int8Type>().values();
    let (masks, counts) = (rows.column(5), rows.column(6));
    let keys: Vec<_> =
        schema.key_positions().into_iter().map(|at| rows.column(HIDDEN_COLUMNS + at)).collect();
    let some_null = keys.iter().any(|k| k.null_count() > 0);
    for (at, number) in ops.iter().enumerate() {
        let Some(op) = ChangeOp::from_i8(*number) else {
            return Err(refuse(rows, at, format!("operation {number} is unknown")));
        };
        let fits = match op {
            ChangeOp::PutRow | ChangeOp::DeleteRow => !schema.is_bag(),
            ChangeOp::Patch => !schema.is_bag() && schema.shape == Rows,
            ChangeOp::DeleteCell | ChangeOp::DeleteVersion | ChangeOp::DeleteFamily => schema.shape == Cells,
            ChangeOp::Count => schema.is_bag(),
        };
        if !fits {
            return Err(refuse(rows, at, format!("operation {number} is not one of such a table")));
        }
        if op == ChangeOp::Patch && masks.is_null(at) {
            return Err(refuse(rows, at, "a patch needs a mask"));
        }
        if op == ChangeOp::Count && counts.is_null(at) {
            return Err(refuse(rows, at, "a counted change needs a count"));
        }
        if some_null && keys.iter().any(|k| k.is_null(at)) {
            return Err(refuse(rows, at, "a key column is NULL"));
        }
    }
    Ok(())
}

/// Reads a change segment as batches of [`change_schema`] of the table's `schema`, with the hidden column
/// `__keepfast_exact` last where the file has it.
///
/// # Errors
/// As [`read_segment`].
pub fn read_changes(
    file: impl Into<SegmentFile>,
    schema: &TableSchema,
    batch_rows: usize,
) -> Result<SegmentBatches> {
    let batches = read_segment(file, &change_table(schema), None, batch_rows)?;
    let plain = change_schema(schema);
    let exact = batches.schema().fields().len() > plain.fields().len();
    Ok(batches.with_schema(if exact { crate::with_exact(&plain) } else { plain }))
}

/// The digest of change rows, hidden columns included. `schema` is the table's.
///
/// # Errors
/// [`FormatError::Model`] when the batch does not fit the schema.
pub fn change_digest(schema: &TableSchema, batch: &RecordBatch) -> Result<Digest> {
    let changes = change_table(schema);
    let batch = Conform::new(changes.physical()).batch(batch)?;
    Ok(RowHasher::new(&changes).digest(&batch)?)
}
