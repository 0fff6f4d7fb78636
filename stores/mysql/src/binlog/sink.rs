//! Changes of one table, kept until they are asked for: in memory while they are few, then in a file without a name.

use super::{Fault, LogError};
use crate::decode::{Decoder, needs_exact};
use crate::wire::reply::ColumnHead;
use arrow::array::{
    ArrayRef, AsArray, BooleanArray, FixedSizeBinaryBuilder, Int8Array, Int32Array, Int64Array, RecordBatch,
    StringArray, UInt64Array, new_null_array,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use keepfast_model::change::change_schema;
use keepfast_model::{ChangeOp, RowHasher, TableSchema, hidden};
use keepfast_store::Images;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Rows of a batch.
const ROWS: usize = 8192;
/// Bytes of a batch, about.
const BYTES: usize = 2 << 20;
/// Bytes of a table's changes that stay in memory.
const MEMORY: usize = 1 << 20;
/// The transaction of each change, which decides whether it counts.
const BRANCH: &str = "branch";
/// Hashes of the row before and after each change, where it has them.
const IMAGES: [&str; 2] = ["before", "after"];
/// Columns of these at the end of what is kept.
const OWN: usize = 1 + IMAGES.len();

/// Changes as they are read.
pub(crate) struct Sink {
    schema: SchemaRef,
    decoder: Decoder,
    /// Rows before their changes.
    before: Decoder,
    hasher: RowHasher,
    changes: Vec<Change>,
    shards: Vec<String>,
    writer: Option<StreamWriter<Spill>>,
    /// Rows more, by transaction, and by those that count for sure.
    grown: Option<BTreeMap<u64, i64>>,
    settled: i64,
    /// Why this table's changes cannot be given.
    pub fault: Option<Fault>,
    pub bag: bool,
    /// Places of the key's columns.
    pub key: Vec<usize>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub op: ChangeOp,
    pub seq: i64,
    /// Which of the sink's shards.
    pub shard: usize,
    pub count: Option<i64>,
    pub branch: u64,
    /// Whether the row before it was given too.
    pub before: bool,
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink").field("shards", &self.shards.len()).field("fault", &self.fault).finish()
    }
}

impl Sink {
    /// For a table of these shards; `counts` says whether it is to know how many rows each transaction added.
    pub fn new(table: &TableSchema, shards: Vec<String>, counts: bool) -> Self {
        let exact = needs_exact(table);
        let mut fields: Vec<Arc<Field>> = change_schema(table).fields().iter().cloned().collect();
        if exact {
            fields.push(Arc::new(Field::new(hidden::EXACT, DataType::Utf8, true)));
        }
        fields.push(Arc::new(Field::new(BRANCH, DataType::UInt64, false)));
        fields.extend(IMAGES.map(|name| Arc::new(Field::new(name, DataType::FixedSizeBinary(16), true))));
        let mut open = table.clone();
        // Of a row that is gone only the key is said.
        open.columns.iter_mut().for_each(|column| column.nullable = true);
        Self {
            schema: Arc::new(Schema::new(fields)),
            decoder: Decoder::new(&open, exact),
            before: Decoder::new(&open, exact),
            hasher: RowHasher::new(&open),
            changes: vec![],
            shards,
            writer: None,
            grown: counts.then(BTreeMap::new),
            settled: 0,
            fault: None,
            bag: table.is_bag(),
            key: table.key_positions(),
        }
    }

    /// Adds a change with its row, and the row before it.
    pub fn push(
        &mut self,
        change: Change,
        heads: &[ColumnHead],
        row: &[u8],
        before: Option<&[u8]>,
    ) -> Result<(), LogError> {
        self.decoder.push(heads, row)?;
        if let Some(before) = before {
            self.before.push(heads, before)?;
        }
        self.changes.push(Change { before: before.is_some(), ..change });
        if self.changes.len() >= ROWS || self.decoder.bytes() + self.before.bytes() >= BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Counts a row more or less of a transaction.
    pub fn grow(&mut self, branch: u64, rows: i64) {
        if let Some(grown) = &mut self.grown {
            *grown.entry(branch).or_default() += rows;
        }
    }

    /// The rows of a transaction are known to count, or not to.
    pub fn settle(&mut self, branch: u64, counts: bool) {
        if let Some(rows) = self.grown.as_mut().and_then(|grown| grown.remove(&branch)) {
            self.settled += if counts { rows } else { 0 };
        }
    }

    /// Moves what it holds to where it is kept.
    pub fn flush(&mut self) -> Result<(), LogError> {
        if self.changes.is_empty() {
            return Ok(());
        }
        let changes = std::mem::take(&mut self.changes);
        let count = changes.len();
        let each = changes.iter();
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(Int8Array::from_iter_values(each.clone().map(|c| c.op as i8))),
            Arc::new(Int64Array::from_iter_values(each.clone().map(|c| c.seq))),
            Arc::new(StringArray::from_iter_values(each.clone().map(|c| &self.shards[c.shard]))),
            new_null_array(&DataType::Utf8, count),
            Arc::new(Int32Array::from_iter_values(each.clone().map(|_| 0))),
            new_null_array(&DataType::Binary, count),
            Arc::new(Int64Array::from_iter(each.clone().map(|c| c.count))),
        ];
        let (rows, old) = (self.decoder.finish()?, self.before.finish()?);
        let hash = |rows: &RecordBatch| match self.hasher.hash(rows) {
            Ok(hashes) => Ok(hashes.rows),
            Err(e) => Err(ArrowError::ExternalError(Box::new(e))),
        };
        let (new_hashes, mut old_hashes) = (hash(&rows)?, hash(&old)?.into_iter());
        let (mut before, mut after) = (hashes(), hashes());
        for (change, hash) in changes.iter().zip(new_hashes) {
            let old = if change.before { old_hashes.next() } else { None };
            // A row of a bag that goes is its own image.
            let goes = change.op == ChangeOp::Count && change.count.is_some_and(|count| count < 0);
            let comes = !goes && change.op != ChangeOp::DeleteRow;
            put(&mut before, old.or(goes.then_some(hash)))?;
            put(&mut after, comes.then_some(hash))?;
        }
        columns.extend(rows.columns().iter().cloned());
        columns.push(Arc::new(UInt64Array::from_iter_values(each.map(|c| c.branch))));
        columns.push(Arc::new(before.finish()));
        columns.push(Arc::new(after.finish()));
        let batch = RecordBatch::try_new(self.schema.clone(), columns)?;
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(StreamWriter::try_new(Spill::default(), &self.schema)?),
        };
        writer.write(&batch)?;
        Ok(())
    }

    /// What it has, or why it has not.
    pub fn finish(mut self) -> Result<Result<Kept, Fault>, LogError> {
        if let Some(fault) = self.fault {
            return Ok(Err(fault));
        }
        self.flush()?;
        let spill = match self.writer {
            Some(writer) => Some(Arc::new(writer.into_inner()?.done().map_err(ArrowError::from)?)),
            None => None,
        };
        Ok(Ok(Kept { spill, grown: self.grown.unwrap_or_default(), settled: self.settled }))
    }
}

/// Changes that can be read, again and again.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    spill: Option<Arc<Spill>>,
    grown: BTreeMap<u64, i64>,
    settled: i64,
}

impl Kept {
    pub fn is_empty(&self) -> bool {
        self.spill.is_none()
    }

    /// The changes of all transactions but these.
    pub fn read(
        &self,
        but: Arc<HashSet<u64>>,
    ) -> impl Iterator<Item = Result<RecordBatch, ArrowError>> + Send + 'static {
        self.all(but).map(|batch| {
            let batch = batch?;
            batch.project(&(0..batch.num_columns() - OWN).collect::<Vec<_>>())
        })
    }

    /// The rows that the changes of all transactions but these take out and put in.
    pub fn images(&self, but: Arc<HashSet<u64>>) -> Result<Images, ArrowError> {
        let mut images = Images::default();
        for batch in self.all(but) {
            let batch = batch?;
            let own = batch.num_columns() - IMAGES.len();
            let (before, after) = (batch.column(own), batch.column(own + 1));
            let fresh = (0..batch.num_rows()).filter(|row| before.is_null(*row) && after.is_valid(*row));
            images.fresh += fresh.count() as u64;
            for (digest, column) in [&mut images.before, &mut images.after].into_iter().zip(own..) {
                for hash in batch.column(column).as_fixed_size_binary().iter().flatten() {
                    digest.add_row(hash.try_into().map(u128::from_le_bytes).unwrap_or_default());
                }
            }
        }
        Ok(images)
    }

    /// Everything that was kept, of all transactions but these.
    fn all(
        &self,
        but: Arc<HashSet<u64>>,
    ) -> impl Iterator<Item = Result<RecordBatch, ArrowError>> + Send + 'static {
        let opened = self.spill.clone().map(|spill| StreamReader::try_new(Reading { spill, at: 0 }, None));
        let (batches, failed) = match opened.transpose() {
            Ok(batches) => (batches, None),
            Err(e) => (None, Some(Err(e))),
        };
        let batches = batches.into_iter().flatten().map(move |batch| chosen(batch?, &but));
        failed.into_iter().chain(batches)
    }

    /// How many rows the table has more by all transactions but these.
    pub fn grown(&self, but: &HashSet<u64>) -> i64 {
        let open = self.grown.iter().filter(|(branch, _)| !but.contains(branch)).map(|(_, rows)| rows);
        self.settled + open.sum::<i64>()
    }
}

fn hashes() -> FixedSizeBinaryBuilder {
    FixedSizeBinaryBuilder::new(16)
}

fn put(hashes: &mut FixedSizeBinaryBuilder, hash: Option<u128>) -> Result<(), ArrowError> {
    match hash {
        Some(hash) => hashes.append_value(hash.to_le_bytes()),
        None => {
            hashes.append_null();
            Ok(())
        }
    }
}

fn chosen(batch: RecordBatch, but: &HashSet<u64>) -> Result<RecordBatch, ArrowError> {
    let branches = batch.column(batch.num_columns() - OWN).as_primitive::<UInt64Type>();
    if !branches.values().iter().any(|branch| but.contains(branch)) {
        return Ok(batch);
    }
    let counts: BooleanArray = branches.values().iter().map(|branch| Some(!but.contains(branch))).collect();
    filter_record_batch(&batch, &counts)
}

#[derive(Debug, Default)]
struct Spill {
    memory: Vec<u8>,
    file: Option<(io::BufWriter<File>, u64)>,
}

impl Write for Spill {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.file.is_none() && self.memory.len() + bytes.len() > MEMORY {
            let mut file = io::BufWriter::new(tempfile::tempfile()?);
            file.write_all(&self.memory)?;
            self.file = Some((file, self.memory.len() as u64));
            self.memory = vec![];
        }
        match &mut self.file {
            Some((file, length)) => {
                file.write_all(bytes)?;
                *length += bytes.len() as u64;
            }
            None => self.memory.extend(bytes),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), |(file, _)| file.flush())
    }
}

impl Spill {
    fn done(mut self) -> io::Result<Self> {
        self.flush()?;
        Ok(self)
    }
}

/// One reading of what was kept, with a place of its own.
#[derive(Debug)]
struct Reading {
    spill: Arc<Spill>,
    at: u64,
}

impl Read for Reading {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = match &self.spill.file {
            Some((file, _)) => file.get_ref().read_at(out, self.at)?,
            None => {
                let rest = self.spill.memory.get(self.at as usize..).unwrap_or_default();
                let read = rest.len().min(out.len());
                out[..read].copy_from_slice(&rest[..read]);
                read
            }
        };
        self.at += read as u64;
        Ok(read)
    }
}
