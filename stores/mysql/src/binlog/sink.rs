//! Changes of one table, kept until they are asked for: in memory while they are few, then in a file without a name.

use super::{Fault, LogError};
use crate::decode::{Decoder, needs_exact};
use crate::wire::reply::ColumnHead;
use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Int8Array, Int32Array, Int64Array, RecordBatch, StringArray,
    UInt64Array, new_null_array,
};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use keepfast_model::change::change_schema;
use keepfast_model::{ChangeOp, TableSchema, hidden};
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

/// Changes as they are read.
pub(crate) struct Sink {
    schema: SchemaRef,
    decoder: Decoder,
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
        Self {
            schema: Arc::new(Schema::new(fields)),
            decoder: Decoder::new(table, exact),
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

    /// Adds a change with its row.
    pub fn push(&mut self, change: Change, heads: &[ColumnHead], row: &[u8]) -> Result<(), LogError> {
        self.decoder.push(heads, row)?;
        self.changes.push(change);
        if self.changes.len() >= ROWS || self.decoder.bytes() >= BYTES {
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
        let rows = changes.len();
        let each = changes.iter();
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(Int8Array::from_iter_values(each.clone().map(|c| c.op as i8))),
            Arc::new(Int64Array::from_iter_values(each.clone().map(|c| c.seq))),
            Arc::new(StringArray::from_iter_values(each.clone().map(|c| &self.shards[c.shard]))),
            new_null_array(&DataType::Utf8, rows),
            Arc::new(Int32Array::from_iter_values(each.clone().map(|_| 0))),
            new_null_array(&DataType::Binary, rows),
            Arc::new(Int64Array::from_iter(each.clone().map(|c| c.count))),
        ];
        columns.extend(self.decoder.arrays()?);
        columns.push(Arc::new(UInt64Array::from_iter_values(each.map(|c| c.branch))));
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
        let opened = self.spill.clone().map(|spill| StreamReader::try_new(Reading { spill, at: 0 }, None));
        let (batches, failed) = match opened.transpose() {
            Ok(batches) => (batches, None),
            Err(e) => (None, Some(Err(e))),
        };
        let batches = batches.into_iter().flatten().map(move |batch| chosen(&batch?, &but));
        failed.into_iter().chain(batches)
    }

    /// How many rows the table has more by all transactions but these.
    pub fn grown(&self, but: &HashSet<u64>) -> i64 {
        let open = self.grown.iter().filter(|(branch, _)| !but.contains(branch)).map(|(_, rows)| rows);
        self.settled + open.sum::<i64>()
    }
}

fn chosen(batch: &RecordBatch, but: &HashSet<u64>) -> Result<RecordBatch, ArrowError> {
    let last = batch.num_columns() - 1;
    let branches = batch.column(last).as_primitive::<UInt64Type>().clone();
    let batch = batch.project(&(0..last).collect::<Vec<_>>())?;
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
