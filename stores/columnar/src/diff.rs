//! What changed between two versions: the difference of their segments, row by row.
//!
//! Pages and segments that both versions have are not read, so the cost follows the change. A row counts as changed
//! when its hash differs; rows that were only written anew are passed over.

use crate::shared::Shared;
use crate::sink::SHARD;
use crate::stage::pick;
use crate::table::TableVersion;
use crate::{Result, fault, rows};
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Int8Array, Int32Array, Int64Array, RecordBatch, StringArray,
    new_null_array,
};
use arrow::compute::nullif;
use arrow::datatypes::{DataType, SchemaRef};
use futures::stream::{self, StreamExt};
use keepfast_format::{SegmentEntry, exact_field};
use keepfast_model::change::change_schema;
use keepfast_model::{ByteCount, ChangeOp, Position, RowHasher, TableId, TableSchema, encode_keys};
use keepfast_store::{BatchStream, StoreError};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use tokio::task::JoinHandle;

/// Changes a batch at most.
const OUT_ROWS: usize = 8_192;
/// Blocks of rows that one batch of changes takes from at most.
const OUT_SOURCES: usize = 16;
/// Rows whose hashes are compared at once, for bags.
const BAG_ROWS: u64 = 4 << 20;
/// Segments of a side that are read ahead.
const AHEAD: usize = 2;

/// The changes from one version of a table to a later one.
///
/// # Errors
/// `SchemaChanged` when columns or key were altered, other than by adding nullable columns.
pub(crate) async fn changes(from: &TableVersion, to: &TableVersion) -> Result<BatchStream> {
    if let Some(reason) = altered(from.schema(), to.schema()) {
        return Err(StoreError::SchemaChanged {
            table: to.name().to_string(),
            position: Position::Version(from.number()).to_string(),
            reason,
        });
    }
    let (removed, added) = differing(from, to).await?;
    if removed.is_empty() && added.is_empty() {
        return Ok(stream::empty().boxed());
    }
    let emit = Arc::new(Emit::new(to));
    if to.schema().is_bag() {
        return Ok(bag_changes(to.clone(), removed, added, emit));
    }
    let merge = Merge { removed: Side::new(to, removed), added: Side::new(to, added), emit };
    Ok(stream::try_unfold(
        merge,
        |mut merge| async move { Ok(merge.next().await?.map(|batch| (batch, merge))) },
    )
    .boxed())
}

/// Why rows of the two schemas cannot be compared; none where they can.
fn altered(from: &TableSchema, to: &TableSchema) -> Option<String> {
    if from.key != to.key {
        return Some("it has another key".into());
    }
    for old in &from.columns {
        match to.column(old.id) {
            None => return Some(format!("column '{}' was dropped", old.name)),
            Some(new) if new.name != old.name => {
                return Some(format!("column '{}' was renamed to '{}'", old.name, new.name));
            }
            Some(new) if new.column_type != old.column_type || new.nullable != old.nullable => {
                return Some(format!("column '{}' was altered", old.name));
            }
            Some(_) => {}
        }
    }
    let added = to.columns.iter().find(|c| from.column(c.id).is_none() && !c.nullable);
    added.map(|c| format!("column '{}' was added and is NOT NULL", c.name))
}

/// Segments that only the one and only the other version has, each in key order.
async fn differing(from: &TableVersion, to: &TableVersion) -> Result<(Vec<SegmentEntry>, Vec<SegmentEntry>)> {
    let old: HashSet<&str> = from.file().pages.iter().map(|p| p.name.as_str()).collect();
    let new: HashSet<&str> = to.file().pages.iter().map(|p| p.name.as_str()).collect();
    let mut removed = vec![];
    for page in from.file().pages.iter().filter(|p| !new.contains(p.name.as_str())) {
        removed.extend(from.shared.page(from.table(), page).await?.iter().cloned());
    }
    let mut added = vec![];
    for page in to.file().pages.iter().filter(|p| !old.contains(p.name.as_str())) {
        added.extend(to.shared.page(to.table(), page).await?.iter().cloned());
    }
    let before: HashSet<_> = removed.iter().map(|s| s.id).collect();
    let after: HashSet<_> = added.iter().map(|s| s.id).collect();
    removed.retain(|s| !after.contains(&s.id));
    added.retain(|s| !before.contains(&s.id));
    Ok((removed, added))
}

/// Stored bytes that [`changes`] reads.
pub(crate) async fn changed_bytes(from: &TableVersion, to: &TableVersion) -> Result<ByteCount> {
    let (removed, added) = differing(from, to).await?;
    Ok(removed.iter().chain(&added).map(|s| s.bytes).sum())
}

/// Rows of some segments, in order, with their keys and hashes.
#[derive(Debug)]
struct Side {
    shared: Arc<Shared>,
    table: TableId,
    schema: Arc<TableSchema>,
    segments: VecDeque<SegmentEntry>,
    /// Segments that are being read ahead.
    ahead: VecDeque<JoinHandle<Result<VecDeque<Block>>>>,
    blocks: VecDeque<Block>,
}

#[derive(Clone, Debug)]
struct Block {
    keys: BinaryArray,
    hashes: Arc<Vec<u128>>,
    columns: Vec<ArrayRef>,
    at: usize,
    /// Its place among the sources of the batch under way.
    source: Option<u32>,
}

impl Block {
    fn key(&self) -> &[u8] {
        self.keys.value(self.at)
    }
}

impl Side {
    fn new(version: &TableVersion, segments: Vec<SegmentEntry>) -> Self {
        Self {
            shared: version.shared.clone(),
            table: version.table().clone(),
            schema: version.schema().clone(),
            segments: segments.into(),
            ahead: VecDeque::new(),
            blocks: VecDeque::new(),
        }
    }

    /// Makes the block of the next row the first one. False at the end.
    async fn ready(&mut self) -> Result<bool> {
        loop {
            if self.blocks.front().is_some_and(|b| b.at < b.hashes.len()) {
                return Ok(true);
            }
            if self.blocks.pop_front().is_none() {
                while self.ahead.len() < AHEAD
                    && let Some(segment) = self.segments.pop_front()
                {
                    let (shared, table, schema) =
                        (self.shared.clone(), self.table.clone(), self.schema.clone());
                    self.ahead.push_back(tokio::spawn(async move {
                        let batches =
                            rows::read(&shared, &table, &schema, &segment, None, rows::BATCH_ROWS).await?;
                        shared.compute(move || blocks(&schema, &batches)).await
                    }));
                }
                let Some(read) = self.ahead.pop_front() else { return Ok(false) };
                self.blocks = read.await.map_err(fault::worker)??;
            }
        }
    }
}

fn blocks(schema: &TableSchema, batches: &[RecordBatch]) -> Result<VecDeque<Block>> {
    let hasher = RowHasher::new(schema);
    batches
        .iter()
        .map(|batch| {
            Ok(Block {
                keys: encode_keys(schema, batch)?,
                hashes: Arc::new(hasher.hash(batch)?.rows),
                columns: batch.columns().to_vec(),
                at: 0,
                source: None,
            })
        })
        .collect()
}

/// Two sides of a table with a key, compared in key order.
#[derive(Debug)]
struct Merge {
    removed: Side,
    added: Side,
    emit: Arc<Emit>,
}

impl Merge {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let mut out = Changes::default();
        for side in [&mut self.removed, &mut self.added] {
            side.blocks.iter_mut().for_each(|b| b.source = None);
        }
        while out.index.len() < OUT_ROWS && out.sources.len() < OUT_SOURCES {
            let (old, new) = (self.removed.ready().await?, self.added.ready().await?);
            let pair = (
                self.removed.blocks.front_mut().filter(|_| old),
                self.added.blocks.front_mut().filter(|_| new),
            );
            match pair {
                (None, None) => break,
                (Some(gone), None) => out.add(ChangeOp::DeleteRow, gone),
                (None, Some(put)) => out.add(ChangeOp::PutRow, put),
                (Some(gone), Some(put)) => match gone.key().cmp(put.key()) {
                    std::cmp::Ordering::Less => out.add(ChangeOp::DeleteRow, gone),
                    std::cmp::Ordering::Greater => out.add(ChangeOp::PutRow, put),
                    std::cmp::Ordering::Equal => {
                        if gone.hashes[gone.at] == put.hashes[put.at] {
                            put.at += 1;
                        } else {
                            out.add(ChangeOp::PutRow, put);
                        }
                        gone.at += 1;
                    }
                },
            }
        }
        if out.index.is_empty() {
            return Ok(None);
        }
        let emit = self.emit.clone();
        self.removed.shared.compute(move || emit.batch(&out)).await.map(Some)
    }
}

/// Changes of one batch.
#[derive(Debug, Default)]
struct Changes {
    sources: Vec<Vec<ArrayRef>>,
    index: Vec<(u32, u32)>,
    ops: Vec<ChangeOp>,
    /// For bags.
    counts: Vec<i64>,
}

impl Changes {
    /// Takes the block's next row.
    fn add(&mut self, op: ChangeOp, block: &mut Block) {
        let sources = &mut self.sources;
        let source = *block.source.get_or_insert_with(|| {
            sources.push(block.columns.clone());
            sources.len() as u32 - 1
        });
        self.index.push((source, block.at as u32));
        self.ops.push(op);
        block.at += 1;
    }
}

/// How change batches look.
#[derive(Debug)]
struct Emit {
    schema: Arc<TableSchema>,
    physical: SchemaRef,
    change: SchemaRef,
    seq: i64,
    position: String,
    epoch: i32,
}

impl Emit {
    fn new(to: &TableVersion) -> Self {
        Self {
            schema: to.schema().clone(),
            physical: to.schema().physical(),
            change: change_schema(to.schema()),
            seq: i64::try_from(to.number()).unwrap_or(i64::MAX),
            position: Position::Version(to.number()).to_string(),
            epoch: i32::try_from(to.file().epoch).unwrap_or(i32::MAX),
        }
    }

    fn batch(&self, changes: &Changes) -> Result<RecordBatch> {
        let n = changes.index.len();
        let sources: Vec<&[ArrayRef]> = changes.sources.iter().map(Vec::as_slice).collect();
        let picked = pick(&self.physical, &sources, &changes.index)?;
        let (schema, picked) = rows::uniform(&self.physical, &picked)?;
        let rows = arrow::compute::concat_batches(&schema, &picked).map_err(rows::kernel)?;
        let deleted: BooleanArray = changes.ops.iter().map(|op| Some(*op == ChangeOp::DeleteRow)).collect();
        let counts: ArrayRef = if changes.counts.is_empty() {
            new_null_array(&DataType::Int64, n)
        } else {
            Arc::new(Int64Array::from(changes.counts.clone()))
        };
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(Int8Array::from_iter_values(changes.ops.iter().map(|op| *op as i8))),
            Arc::new(Int64Array::from_value(self.seq, n)),
            Arc::new(StringArray::from_iter_values(std::iter::repeat_n(SHARD, n))),
            Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&self.position, n))),
            Arc::new(Int32Array::from_value(self.epoch, n)),
            new_null_array(&DataType::Binary, n),
            counts,
        ];
        let keys = self.schema.key_positions();
        for (at, column) in rows.columns().iter().enumerate() {
            // A deleted row states its key only.
            let column = if deleted.true_count() == 0 || keys.contains(&at) {
                column.clone()
            } else {
                nullif(column, &deleted).map_err(rows::kernel)?
            };
            columns.push(column);
        }
        let mut change = self.change.clone();
        if rows.num_columns() > self.physical.fields().len() {
            let mut fields: Vec<_> = change.fields().iter().cloned().collect();
            fields.push(exact_field());
            change = Arc::new(arrow::datatypes::Schema::new(fields));
        }
        rows::assemble(&change, columns, n)
    }
}

/// A bag's changes: how many more, or fewer, there are of each row. Rows are compared by hash, some millions at a time.
fn bag_changes(
    to: TableVersion,
    removed: Vec<SegmentEntry>,
    added: Vec<SegmentEntry>,
    emit: Arc<Emit>,
) -> BatchStream {
    let rows: u64 = removed.iter().chain(&added).map(|s| s.rows).sum();
    let passes = rows.div_ceil(BAG_ROWS).max(1);
    let sides = Arc::new((to, removed, added));
    stream::iter(0..passes)
        .then(move |pass| {
            let (sides, emit) = (sides.clone(), emit.clone());
            async move {
                let (to, removed, added) = sides.as_ref();
                let mine = move |hash: u128| ((hash >> 64) as u64) % passes == pass;
                let mut net: HashMap<u128, i64> = HashMap::new();
                for (segments, sign) in [(removed, -1), (added, 1)] {
                    let mut rows = Side::new(to, segments.clone());
                    while rows.ready().await? {
                        if let Some(block) = rows.blocks.front_mut() {
                            for hash in block.hashes.iter().copied().filter(|h| mine(*h)) {
                                *net.entry(hash).or_default() += sign;
                            }
                            block.at = block.hashes.len();
                        }
                    }
                }
                net.retain(|_, n| *n != 0);
                let pass = BagPass {
                    sides: [Side::new(to, removed.clone()), Side::new(to, added.clone())],
                    at: 0,
                    net,
                    emit,
                };
                Ok::<_, StoreError>(stream::try_unfold(pass, |mut pass| async move {
                    Ok(pass.next().await?.map(|batch| (batch, pass)))
                }))
            }
        })
        .flat_map(|pass| match pass {
            Ok(batches) => batches.boxed(),
            Err(e) => stream::once(async move { Err(e) }).boxed(),
        })
        .boxed()
}

/// The rows whose number changed, each once, from the side that has them.
#[derive(Debug)]
struct BagPass {
    sides: [Side; 2],
    at: usize,
    net: HashMap<u128, i64>,
    emit: Arc<Emit>,
}

impl BagPass {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let mut out = Changes::default();
        self.sides.iter_mut().flat_map(|s| s.blocks.iter_mut()).for_each(|b| b.source = None);
        while out.index.len() < OUT_ROWS && out.sources.len() < OUT_SOURCES && !self.net.is_empty() {
            let Some(side) = self.sides.get_mut(self.at) else { break };
            if !side.ready().await? {
                self.at += 1;
                continue;
            }
            let Some(block) = side.blocks.front_mut() else { continue };
            let hash = block.hashes[block.at];
            let more = self.at == 1;
            match self.net.get(&hash) {
                Some(n) if (*n > 0) == more => {
                    out.counts.push(*n);
                    self.net.remove(&hash);
                    out.add(ChangeOp::Count, block);
                }
                _ => block.at += 1,
            }
        }
        if out.index.is_empty() {
            return Ok(None);
        }
        let emit = self.emit.clone();
        self.sides[0].shared.compute(move || emit.batch(&out)).await.map(Some)
    }
}
