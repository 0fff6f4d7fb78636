//! Rows that do not fit into memory, on their way to be sorted: in temporary files, as [`Scratch`] makes them.

use crate::scratch::{Scratch, ScratchFile, ScratchReader, ScratchWriter, failed};
use crate::stage::Source;
use crate::{Result, rows};
use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, RecordBatch, UInt8Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt8Type};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use keepfast_model::Digest;
use std::fmt;
use std::io::{Read, Write};
use std::sync::Arc;

/// Blocks of operations in key order, in a file.
#[derive(Clone, Debug)]
pub(crate) struct Spilled {
    file: ScratchFile,
}

/// Writes blocks into a new file.
pub(crate) struct SpillWriter {
    writer: StreamWriter<ScratchWriter>,
    schema: SchemaRef,
}

impl fmt::Debug for SpillWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpillWriter").field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// One block: keys, operations, and rows, which are NULL everywhere where the operation has no row.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub keys: BinaryArray,
    pub ops: UInt8Array,
    pub columns: Vec<ArrayRef>,
}

impl Block {
    pub fn source(&self) -> Source {
        Source { keys: self.keys.clone(), columns: Some(self.columns.clone()) }
    }
}

impl SpillWriter {
    /// A file for rows of these columns.
    pub fn new(columns: &SchemaRef, scratch: &Scratch) -> Result<Self> {
        let mut fields =
            vec![Field::new("key", DataType::Binary, false), Field::new("op", DataType::UInt8, false)];
        fields.extend(rows::nullable(columns).fields().iter().map(|f| f.as_ref().clone()));
        let schema = Arc::new(Schema::new(fields));
        let writer = StreamWriter::try_new(scratch.create()?, &schema).map_err(|e| failed("write", e))?;
        Ok(Self { writer, schema })
    }

    pub fn write(&mut self, block: Block) -> Result<()> {
        let rows = block.keys.len();
        let mut columns: Vec<ArrayRef> = vec![Arc::new(block.keys), Arc::new(block.ops)];
        columns.extend(block.columns);
        let batch = rows::assemble(&self.schema, columns, rows)?;
        self.writer.write(&batch).map_err(|e| failed("write", e))
    }

    pub fn finish(mut self) -> Result<Spilled> {
        self.writer.finish().map_err(|e| failed("write", e))?;
        let mut file = self.writer.into_inner().map_err(|e| failed("write", e))?;
        file.flush().map_err(|e| failed("write", e))?;
        Ok(Spilled { file: file.so_far() })
    }
}

/// Reads blocks back, in order.
#[derive(Debug)]
pub(crate) struct SpillReader {
    reader: StreamReader<ScratchReader>,
}

impl Spilled {
    pub fn read(&self) -> Result<SpillReader> {
        let reader = StreamReader::try_new(self.file.read(), None).map_err(|e| failed("read", e))?;
        Ok(SpillReader { reader })
    }
}

impl SpillReader {
    pub fn next(&mut self) -> Result<Option<Block>> {
        let Some(batch) = self.reader.next().transpose().map_err(|e| failed("read", e))? else {
            return Ok(None);
        };
        let batch: RecordBatch = batch;
        let (key, op) =
            (batch.column(0).as_binary_opt::<i32>(), batch.column(1).as_primitive_opt::<UInt8Type>());
        match (key, op) {
            (Some(keys), Some(ops)) => {
                let mut columns = batch.columns()[2..].to_vec();
                // The hidden column goes along everywhere here, and away again where nobody needs it.
                if columns.last().is_some_and(|exact| exact.null_count() == exact.len()) {
                    columns.pop();
                }
                Ok(Some(Block { keys: keys.clone(), ops: ops.clone(), columns }))
            }
            _ => Err(failed("read", std::io::Error::from(std::io::ErrorKind::InvalidData))),
        }
    }
}

/// Row hashes, in the order they were added: in memory, then in a file.
#[derive(Debug, Default)]
pub(crate) struct HashList {
    scratch: Scratch,
    memory: Vec<u128>,
    file: Option<(ScratchWriter, u64)>,
    digest: Digest,
}

/// Hashes held in memory at once: 64 MiB of them.
const HASHES_AT_ONCE: usize = 4 << 20;

impl HashList {
    pub fn new(scratch: Scratch) -> Self {
        Self { scratch, ..Self::default() }
    }

    pub fn is_empty(&self) -> bool {
        self.digest.rows == 0
    }

    /// The digest of the rows.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    pub fn extend(&mut self, hashes: &[u128]) -> Result<()> {
        self.digest.add_rows(hashes);
        self.memory.extend_from_slice(hashes);
        if self.memory.len() < HASHES_AT_ONCE {
            return Ok(());
        }
        let (file, n) = match &mut self.file {
            Some(file) => file,
            none => none.insert((self.scratch.create()?, 0)),
        };
        for hash in &self.memory {
            file.write_all(&hash.to_le_bytes()).map_err(|e| failed("write", e))?;
        }
        file.flush().map_err(|e| failed("write", e))?;
        *n += self.memory.len() as u64;
        self.memory.clear();
        Ok(())
    }

    /// All hashes, some millions at a time.
    pub fn pieces(&self) -> impl Iterator<Item = Result<Vec<u128>>> + Send + '_ {
        let stored = self.file.iter().flat_map(|(file, n)| {
            let mut shelf = file.so_far().read();
            let mut left = *n;
            std::iter::from_fn(move || {
                let take = usize::try_from(left).unwrap_or(usize::MAX).min(HASHES_AT_ONCE);
                if take == 0 {
                    return None;
                }
                left -= take as u64;
                let mut bytes = [0; 16];
                let piece = (0..take).map(|_| {
                    shelf.read_exact(&mut bytes).map_err(|e| failed("read", e))?;
                    Ok(u128::from_le_bytes(bytes))
                });
                Some(piece.collect())
            })
        });
        let memory = (!self.memory.is_empty()).then(|| Ok(self.memory.clone()));
        stored.chain(memory)
    }
}
