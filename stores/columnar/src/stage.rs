//! Row operations of one change, in any order, brought into key order with bounded memory.
//!
//! Operations collect in memory; past the budget they are sorted and spilled as a run. [`OpCursor`] merges the runs.
//! Invariant: it gives operations by ascending key, and those of one key in the order in which they were staged.

use crate::scratch::Scratch;
use crate::spill::{Block, SpillReader, SpillWriter, Spilled};
use crate::{Result, rows};
use arrow::array::{Array, ArrayRef, BinaryArray, RecordBatch, UInt8Array, new_null_array};
use arrow::compute::{concat, concat_batches, interleave};
use arrow::datatypes::SchemaRef;
use keepfast_format::with_exact;
use keepfast_model::{TableSchema, encode_keys};
use std::sync::Arc;

/// What is done with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Op {
    /// A new row; the key must be free.
    Insert = 0,
    /// A new row where the key is free.
    Ignore = 1,
    /// The row is now this one.
    Put = 2,
    /// No row of this key.
    Delete = 3,
    /// No row of this key, whose row was read in the base version and must still be that one.
    Remove = 4,
}

impl Op {
    fn of(n: u8) -> Self {
        match n {
            0 => Self::Insert,
            1 => Self::Ignore,
            2 => Self::Put,
            3 => Self::Delete,
            _ => Self::Remove,
        }
    }
}

/// Keys with their rows; none where the operation has no row.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub keys: BinaryArray,
    pub columns: Option<Vec<ArrayRef>>,
}

/// One operation: where its key and row are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpAt {
    pub op: Op,
    pub source: u32,
    pub row: u32,
}

/// A piece of the sorted operations.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    pub sources: Arc<Vec<Source>>,
    pub ops: Vec<OpAt>,
}

impl Window {
    pub fn key(&self, i: usize) -> &[u8] {
        let op = self.ops[i];
        self.sources[op.source as usize].keys.value(op.row as usize)
    }
}

#[derive(Clone, Debug)]
struct StagedBatch {
    keys: BinaryArray,
    op: Op,
    rows: Option<RecordBatch>,
    ascending: bool,
}

/// Batches smaller than this are joined with their neighbours of the same operation.
const JOIN_BELOW: usize = 1_024;
/// Operations of one window at most.
const WINDOW: usize = 65_536;
/// Spilled blocks that one window reads at most, about 64 MiB.
const BLOCKS: usize = 16;
/// Bytes of one spilled block, about.
const BLOCK_BYTES: usize = 4 << 20;

/// Operations under way.
#[derive(Debug)]
pub(crate) struct Staging {
    schema: Arc<TableSchema>,
    physical: SchemaRef,
    budget: usize,
    scratch: Scratch,
    batches: Vec<StagedBatch>,
    /// Small batches of one operation that are not joined yet.
    small: Vec<RecordBatch>,
    small_op: Op,
    bytes: usize,
    runs: Vec<Spilled>,
    len: u64,
}

impl Staging {
    pub fn new(schema: Arc<TableSchema>, budget: usize, scratch: Scratch) -> Self {
        Self {
            physical: schema.physical(),
            schema,
            budget,
            scratch,
            batches: vec![],
            small: vec![],
            small_op: Op::Insert,
            bytes: 0,
            runs: vec![],
            len: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether all of it is in memory and small.
    pub fn is_small(&self) -> bool {
        self.runs.is_empty() && self.bytes < 1 << 20
    }

    /// Stages one operation for each row of a physical batch. Of rows to be removed, only the key counts.
    pub fn add(&mut self, op: Op, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.len += batch.num_rows() as u64;
        if op != self.small_op {
            self.join_small()?;
            self.small_op = op;
        }
        if batch.num_rows() < JOIN_BELOW {
            self.small.push(batch);
            if self.small.iter().map(RecordBatch::num_rows).sum::<usize>() >= JOIN_BELOW * 8 {
                self.join_small()?;
            }
            return Ok(());
        }
        self.join_small()?;
        self.stage(op, batch)
    }

    fn join_small(&mut self) -> Result<()> {
        if self.small.is_empty() {
            return Ok(());
        }
        let (schema, batches) = rows::uniform(&self.physical, &std::mem::take(&mut self.small))?;
        let joined = concat_batches(&schema, &batches).map_err(rows::kernel)?;
        self.stage(self.small_op, joined)
    }

    /// As [`Self::add`], under keys other than the table's own.
    pub fn add_keyed(&mut self, op: Op, batch: RecordBatch, keys: BinaryArray) -> Result<()> {
        self.len += batch.num_rows() as u64;
        self.join_small()?;
        self.stage_keyed(op, batch, keys)
    }

    fn stage(&mut self, op: Op, batch: RecordBatch) -> Result<()> {
        let keys = encode_keys(&self.schema, &batch)?;
        self.stage_keyed(op, batch, keys)
    }

    fn stage_keyed(&mut self, op: Op, batch: RecordBatch, keys: BinaryArray) -> Result<()> {
        let ascending = (1..keys.len()).all(|i| keys.value(i - 1) < keys.value(i));
        let rows = (!matches!(op, Op::Delete | Op::Remove)).then_some(batch);
        self.bytes +=
            keys.get_array_memory_size() + rows.as_ref().map_or(0, RecordBatch::get_array_memory_size);
        self.batches.push(StagedBatch { keys, op, rows, ascending });
        if self.bytes > self.budget { self.spill() } else { Ok(()) }
    }

    /// Sorts what is in memory and writes it as a run.
    fn spill(&mut self) -> Result<()> {
        let schema = with_exact(&self.physical);
        let mut writer = SpillWriter::new(&schema, &self.scratch)?;
        let rows: usize = self.batches.iter().map(|b| b.keys.len()).sum();
        let block = (BLOCK_BYTES / (self.bytes / rows.max(1)).max(1)).clamp(1, rows::BATCH_ROWS);
        let memory = Memory::sorted(std::mem::take(&mut self.batches));
        self.bytes = 0;
        for ops in memory.order.chunks(block) {
            writer.write(memory.block(&schema, ops)?)?;
        }
        self.runs.push(writer.finish()?);
        Ok(())
    }

    /// The same operations with these before them, as new rows: a change that is made anew on another version.
    pub fn after_inserts(&mut self, inserts: Staging) -> Result<()> {
        let mut inserts = inserts;
        inserts.join_small()?;
        if !inserts.batches.is_empty() {
            inserts.spill()?;
        }
        self.len += inserts.len;
        inserts.runs.append(&mut self.runs);
        self.runs = inserts.runs;
        Ok(())
    }

    /// Ends the staging; the operations can be read as often as needed.
    pub fn seal(&mut self) -> Result<()> {
        self.join_small()
    }

    /// Everything staged, sorted.
    pub fn cursor(&mut self) -> Result<OpCursor> {
        self.seal()?;
        let mut runs = Vec::with_capacity(self.runs.len() + 1);
        for spilled in &self.runs {
            let (mut reader, mut block, mut at) = (spilled.read()?, None, 0);
            refill(&mut reader, &mut block, &mut at)?;
            runs.push(Run::Spilled { reader, block, at });
        }
        if !self.batches.is_empty() {
            runs.push(Run::Memory { memory: Memory::sorted(self.batches.clone()), at: 0 });
        }
        Ok(OpCursor { runs })
    }
}

/// Staged batches and the order of their operations.
#[derive(Debug)]
struct Memory {
    batches: Vec<StagedBatch>,
    sources: Arc<Vec<Source>>,
    order: Vec<(u32, u32)>,
}

impl Memory {
    fn sorted(batches: Vec<StagedBatch>) -> Self {
        let total = batches.iter().map(|b| b.keys.len()).sum();
        let mut order: Vec<(u32, u32)> = Vec::with_capacity(total);
        for (b, batch) in batches.iter().enumerate() {
            order.extend((0..batch.keys.len() as u32).map(|row| (b as u32, row)));
        }
        let in_order = batches.iter().all(|b| b.ascending)
            && batches.windows(2).all(|pair| {
                let (before, after) = (&pair[0].keys, &pair[1].keys);
                before.is_empty() || after.is_empty() || before.value(before.len() - 1) < after.value(0)
            });
        if !in_order {
            let key = |&(b, row): &(u32, u32)| batches[b as usize].keys.value(row as usize);
            let mut prefixed: Vec<(u64, u32, u32)> =
                order.iter().map(|at| (prefix(key(at)), at.0, at.1)).collect();
            prefixed.sort_unstable_by(|a, b| {
                a.0.cmp(&b.0)
                    .then_with(|| key(&(a.1, a.2)).cmp(key(&(b.1, b.2))))
                    .then_with(|| (a.1, a.2).cmp(&(b.1, b.2)))
            });
            order = prefixed.into_iter().map(|(_, b, row)| (b, row)).collect();
        }
        let sources = batches
            .iter()
            .map(|b| Source {
                keys: b.keys.clone(),
                columns: b.rows.as_ref().map(|rows| rows.columns().to_vec()),
            })
            .collect();
        Self { batches, sources: Arc::new(sources), order }
    }

    fn key(&self, i: usize) -> &[u8] {
        let (b, row) = self.order[i];
        self.sources[b as usize].keys.value(row as usize)
    }

    fn op(&self, (b, row): (u32, u32), first: u32) -> OpAt {
        OpAt { op: self.batches[b as usize].op, source: first + b, row }
    }

    /// Some operations as a block of their own, with the hidden column.
    fn block(&self, schema: &SchemaRef, ops: &[(u32, u32)]) -> Result<Block> {
        // Only the batches that are used, renumbered: a block picks from few of many.
        let mut used: Vec<u32> = ops.iter().map(|(b, _)| *b).collect();
        used.sort_unstable();
        used.dedup();
        let at = |b: u32| used.binary_search(&b).unwrap_or(0);
        let index: Vec<(usize, usize)> = ops.iter().map(|(b, row)| (at(*b), *row as usize)).collect();
        let keys: Vec<&dyn Array> =
            used.iter().map(|b| &self.batches[*b as usize].keys as &dyn Array).collect();
        let keys = interleave(&keys, &index).map_err(rows::kernel)?;
        let keys = BinaryArray::from(keys.to_data());
        let ops = UInt8Array::from_iter_values(ops.iter().map(|(b, _)| self.batches[*b as usize].op as u8));
        let columns = schema
            .fields()
            .iter()
            .enumerate()
            .map(|(c, field)| {
                let arrays: Vec<ArrayRef> = used
                    .iter()
                    .map(|b| {
                        let batch = &self.batches[*b as usize];
                        match batch.rows.as_ref().and_then(|rows| rows.columns().get(c)) {
                            Some(array) => array.clone(),
                            None => new_null_array(field.data_type(), batch.keys.len()),
                        }
                    })
                    .collect();
                let arrays: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
                interleave(&arrays, &index).map_err(rows::kernel)
            })
            .collect::<Result<_>>()?;
        Ok(Block { keys, ops, columns })
    }
}

/// The first eight bytes of a key, as a number that compares like them.
fn prefix(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let n = key.len().min(8);
    bytes[..n].copy_from_slice(&key[..n]);
    u64::from_be_bytes(bytes)
}

#[derive(Debug)]
enum Run {
    Memory { memory: Memory, at: usize },
    Spilled { reader: SpillReader, block: Option<Block>, at: usize },
}

impl Run {
    fn key(&self) -> Option<&[u8]> {
        match self {
            Self::Memory { memory, at } => (*at < memory.order.len()).then(|| memory.key(*at)),
            Self::Spilled { block, at, .. } => Some(block.as_ref()?.keys.value(*at)),
        }
    }
}

/// Reads the next block that has rows.
fn refill(reader: &mut SpillReader, block: &mut Option<Block>, at: &mut usize) -> Result<()> {
    *at = 0;
    loop {
        *block = reader.next()?;
        if block.as_ref().is_none_or(|b| !b.keys.is_empty()) {
            return Ok(());
        }
    }
}

/// Operations in key order.
#[derive(Debug)]
pub(crate) struct OpCursor {
    /// In the order in which they were staged.
    runs: Vec<Run>,
}

impl OpCursor {
    /// The next operations; none at the end. All operations of one key stand in one window.
    pub fn next(&mut self) -> Result<Option<Window>> {
        if let [Run::Memory { memory, at }] = self.runs.as_mut_slice() {
            let start = *at;
            let mut end = memory.order.len().min(start + WINDOW);
            while end > start && end < memory.order.len() && memory.key(end) == memory.key(end - 1) {
                end += 1;
            }
            *at = end;
            let ops: Vec<OpAt> = memory.order[start..end].iter().map(|at| memory.op(*at, 0)).collect();
            let window = Window { sources: memory.sources.clone(), ops };
            return Ok((!window.ops.is_empty()).then_some(window));
        }
        self.merge()
    }

    fn merge(&mut self) -> Result<Option<Window>> {
        let mut window = Merging::default();
        // Where the current sources of each run begin in this window's list.
        let mut first = vec![];
        for run in &self.runs {
            first.push(window.sources.len() as u32);
            match run {
                Run::Memory { memory, .. } => window.sources.extend(memory.sources.iter().cloned()),
                Run::Spilled { block: Some(block), .. } => window.sources.push(block.source()),
                Run::Spilled { block: None, .. } => {}
            }
        }
        loop {
            // Few runs: looking at all of them is as fast as a heap, and keeps equal keys in their order.
            let mut least: Option<(usize, &[u8])> = None;
            for (r, run) in self.runs.iter().enumerate() {
                if let Some(key) = run.key()
                    && least.is_none_or(|(_, k)| key < k)
                {
                    least = Some((r, key));
                }
            }
            let Some((r, key)) = least else { break };
            if window.is_full() && window.last_key() != Some(key) {
                break;
            }
            match &mut self.runs[r] {
                Run::Memory { memory, at } => {
                    window.ops.push(memory.op(memory.order[*at], first[r]));
                    *at += 1;
                }
                Run::Spilled { reader, block, at } => {
                    let Some(current) = block else { break };
                    let op = Op::of(current.ops.value(*at));
                    window.ops.push(OpAt { op, source: first[r], row: *at as u32 });
                    *at += 1;
                    if *at >= current.keys.len() {
                        refill(reader, block, at)?;
                        if let Some(block) = block {
                            first[r] = window.sources.len() as u32;
                            window.sources.push(block.source());
                            window.blocks += 1;
                        }
                    }
                }
            }
        }
        let Merging { sources, ops, .. } = window;
        Ok((!ops.is_empty()).then(|| Window { sources: Arc::new(sources), ops }))
    }
}

/// A window while it is merged.
#[derive(Debug, Default)]
struct Merging {
    sources: Vec<Source>,
    ops: Vec<OpAt>,
    blocks: usize,
}

impl Merging {
    fn is_full(&self) -> bool {
        self.ops.len() >= WINDOW || self.blocks >= BLOCKS
    }

    fn last_key(&self) -> Option<&[u8]> {
        self.ops.last().map(|op| self.sources[op.source as usize].keys.value(op.row as usize))
    }
}

/// Picks rows out of sources into batches of `schema`; long stretches of one source are not copied.
///
/// `index` names a source and a row in it. Sources may lack the hidden column that others have.
pub(crate) fn pick(
    physical: &SchemaRef,
    sources: &[&[ArrayRef]],
    index: &[(u32, u32)],
) -> Result<Vec<RecordBatch>> {
    if index.is_empty() {
        return Ok(vec![]);
    }
    let plain = physical.fields().len();
    let mut stretches: Vec<(u32, u32, u32)> = vec![];
    for &(source, row) in index {
        match stretches.last_mut() {
            Some((s, start, n)) if *s == source && *start + *n == row => *n += 1,
            _ => stretches.push((source, row, 1)),
        }
    }
    if stretches.len() * 256 <= index.len() || stretches.len() == 1 {
        return stretches
            .iter()
            .map(|&(source, start, n)| {
                let columns: Vec<ArrayRef> =
                    sources[source as usize].iter().map(|a| a.slice(start as usize, n as usize)).collect();
                let schema = if columns.len() > plain { with_exact(physical) } else { physical.clone() };
                rows::assemble(&schema, columns, n as usize)
            })
            .collect();
    }
    let mut used: Vec<u32> = stretches.iter().map(|s| s.0).collect();
    used.sort_unstable();
    used.dedup();
    let exact = used.iter().any(|s| sources[*s as usize].len() > plain);
    let schema = if exact { with_exact(physical) } else { physical.clone() };
    let index: Vec<(usize, usize)> =
        index.iter().map(|(s, row)| (used.binary_search(s).unwrap_or(0), *row as usize)).collect();
    let columns = (0..schema.fields().len())
        .map(|c| {
            let arrays: Vec<ArrayRef> = used
                .iter()
                .map(|s| {
                    let columns = sources[*s as usize];
                    match columns.get(c) {
                        Some(array) => array.clone(),
                        None => new_null_array(
                            schema.field(c).data_type(),
                            columns.first().map_or(0, |a| a.len()),
                        ),
                    }
                })
                .collect();
            let arrays: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
            match arrays.as_slice() {
                [] => concat(&[]).map_err(rows::kernel),
                _ => interleave(&arrays, &index).map_err(rows::kernel),
            }
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(vec![rows::assemble(&schema, columns, index.len())?])
}
