//! Reading a table of a restore point: its base with its changes merged in, partition by partition.
//!
//! A base segment covers the keys from its first key to the next segment's first key; the changes of that range are
//! merged into it. Memory is bounded by one segment and the changes of its range. Bags with changes are one partition,
//! because a removal may hit any segment.

use crate::Result;
use crate::error::EngineError;
use crate::source::{Rows, TableSource, pick};
use arrow::array::{Array, BinaryArray, RecordBatch};
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use keepfast_format::{BagMerger, RowMerger, SegmentEntry, merge_keyed, read_changes, read_segment};
use keepfast_model::change::HIDDEN_COLUMNS;
use keepfast_model::{
    ColumnId, KeyRange, ShardId, TableId, TablePoint, TableSchema, TableShape, encode_keys,
};
use keepfast_vault::Vault;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Rows of a batch read from a segment.
const BATCH_ROWS: usize = 8192;

/// A part of a point's table that one task reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PointPartition {
    /// The shard.
    pub shard: ShardId,
    /// The keys it covers.
    pub range: KeyRange,
    /// Base segments, in key order.
    pub base: Vec<SegmentEntry>,
    /// Change segments that may touch its keys, oldest first.
    pub changes: Vec<SegmentEntry>,
}

impl PointPartition {
    /// Partitions of one shard as one. Keys between them are not read: no change may lie there.
    pub fn joined(parts: &[Self], changes: &[SegmentEntry]) -> Option<Self> {
        let (first, last) = (parts.first()?, parts.last()?);
        let range = KeyRange { start: first.range.start.clone(), end: last.range.end.clone() };
        Some(Self {
            shard: first.shard.clone(),
            base: parts.iter().flat_map(|p| p.base.iter().cloned()).collect(),
            changes: changes
                .iter()
                .filter(|c| c.shard == first.shard && overlaps(c, &range))
                .cloned()
                .collect(),
            range,
        })
    }
}

/// A table of a restore point.
#[derive(Debug)]
pub struct PointSource {
    vault: Vault,
    table: TableId,
    schema: Arc<TableSchema>,
    partitions: Vec<PointPartition>,
    ordered: bool,
}

/// All segments that a table of a point names: of its base, and of its changes oldest first.
pub async fn entries(vault: &Vault, table: &TablePoint) -> Result<(Vec<SegmentEntry>, Vec<SegmentEntry>)> {
    let manifests = vault.read_manifests(table).await?;
    let base = manifests.base.into_iter().flat_map(|m| m.segments).collect();
    let changes = manifests.changes.into_iter().flat_map(|m| m.segments).collect();
    Ok((base, changes))
}

/// Stored bytes of a partition that has changes, about: they are held in memory while its base streams through.
const MERGED_BYTES: u64 = 16 << 20;

/// Into how many partitions base and changes are cut where `wanted` are asked for: more when much has to be merged.
pub fn pieces(base: &[SegmentEntry], changes: &[SegmentEntry], wanted: usize) -> usize {
    if changes.is_empty() {
        return wanted;
    }
    let bytes: u64 = base.iter().chain(changes).map(|e| e.bytes.0).sum();
    wanted.max(usize::try_from(bytes / MERGED_BYTES).unwrap_or(usize::MAX))
}

/// Cuts a point's table into about `wanted` partitions of like size, or more where it has many changes.
pub fn plan(
    schema: &TableSchema,
    base: Vec<SegmentEntry>,
    changes: Vec<SegmentEntry>,
    wanted: usize,
) -> Vec<PointPartition> {
    let all = KeyRange::default();
    if schema.is_bag() && !changes.is_empty() {
        let shard = base.first().or(changes.first()).map_or_else(|| ShardId("0".into()), |e| e.shard.clone());
        return vec![PointPartition { shard, range: all, base, changes }];
    }
    let mut shards: Vec<ShardId> = vec![];
    for entry in base.iter().chain(&changes) {
        if !shards.contains(&entry.shard) {
            shards.push(entry.shard.clone());
        }
    }
    let total: u64 = base.iter().map(|e| e.bytes.0).sum();
    let aim = (total / pieces(&base, &changes, wanted).max(1) as u64).max(1);
    let mut partitions: Vec<PointPartition> = vec![];
    for shard in shards {
        let first_of_shard = partitions.len();
        let mut group: Vec<SegmentEntry> = vec![];
        let mut bytes = 0;
        let close = |group: Vec<SegmentEntry>, partitions: &mut Vec<PointPartition>| {
            partitions.push(PointPartition {
                shard: shard.clone(),
                range: KeyRange::default(),
                base: group,
                changes: vec![],
            });
        };
        for entry in base.iter().filter(|e| e.shard == shard) {
            // Cells of one row must not be torn apart: their deletes stand before them.
            let may_cut = schema.shape == TableShape::Rows && (schema.is_bag() || entry.min.is_some());
            if bytes >= aim && may_cut {
                close(std::mem::take(&mut group), &mut partitions);
                bytes = 0;
            }
            bytes += entry.bytes.0;
            group.push(entry.clone());
        }
        close(group, &mut partitions);
        if schema.is_bag() {
            continue;
        }
        for at in first_of_shard..partitions.len() {
            let start = (at > first_of_shard).then(|| partitions[at].base[0].min.clone()).flatten();
            let end = partitions.get(at + 1).and_then(|p| p.base[0].min.clone());
            partitions[at].range = KeyRange { start, end };
            let range = partitions[at].range.clone();
            partitions[at].changes =
                changes.iter().filter(|c| c.shard == shard && overlaps(c, &range)).cloned().collect();
        }
    }
    partitions
}

fn overlaps(entry: &SegmentEntry, range: &KeyRange) -> bool {
    let before_end = match (&entry.min, &range.end) {
        (Some(min), Some(end)) => min < end,
        _ => true,
    };
    let after_start = match (&entry.max, &range.start) {
        (Some(max), Some(start)) => max >= start,
        _ => true,
    };
    before_end && after_start
}

impl PointSource {
    /// A table of a point, in about `wanted` partitions.
    pub async fn open(vault: Vault, table: &TablePoint, wanted: usize) -> Result<Self> {
        let (base, changes) = entries(&vault, table).await?;
        let schema = Arc::new(table.schema.clone());
        let partitions = plan(&schema, base, changes, wanted);
        Ok(Self::of(vault, table.id.clone(), schema, partitions))
    }

    /// The partitions of a table in which keys of these change segments lie, of whatever shard; none where it has one shard.
    pub async fn touched(vault: &Vault, table: &TablePoint, changes: &[SegmentEntry]) -> Result<Self> {
        let all = Self::open(vault.clone(), table, usize::MAX).await?;
        let several = all.partitions.iter().any(|p| p.shard != all.partitions[0].shard);
        if !several || all.schema.is_bag() {
            return Ok(Self { partitions: vec![], ..all });
        }
        let touched = touched_keys(vault, &table.id, &all.schema, changes).await?;
        let here = |p: &PointPartition| touched.iter().any(|(_, keys)| keys.any_in(&p.range));
        Ok(Self { partitions: all.partitions.into_iter().filter(here).collect(), ..all })
    }

    /// These partitions of a table.
    pub fn of(
        vault: Vault,
        table: TableId,
        schema: Arc<TableSchema>,
        partitions: Vec<PointPartition>,
    ) -> Self {
        let ordered = !schema.is_bag() && partitions.iter().flat_map(|p| &p.base).all(|e| e.min.is_some());
        Self { vault, table, schema, partitions, ordered }
    }
}

#[async_trait]
impl TableSource for PointSource {
    fn schema(&self) -> &Arc<TableSchema> {
        &self.schema
    }

    fn partitions(&self) -> usize {
        self.partitions.len()
    }

    fn shard(&self, partition: usize) -> ShardId {
        self.partitions[partition].shard.clone()
    }

    fn rows(&self, partition: usize) -> u64 {
        self.partitions[partition].base.iter().map(|e| e.rows).sum()
    }

    fn key_order(&self) -> bool {
        self.ordered
    }

    async fn open(&self, partition: usize, columns: Option<&[ColumnId]>) -> Result<Rows> {
        let columns = columns.map(<[_]>::to_vec);
        read(
            self.vault.clone(),
            self.table.clone(),
            self.schema.clone(),
            self.partitions[partition].clone(),
            columns,
        )
        .await
    }
}

/// Reads one partition as physical batches.
pub async fn read(
    vault: Vault,
    table: TableId,
    schema: Arc<TableSchema>,
    partition: PointPartition,
    columns: Option<Vec<ColumnId>>,
) -> Result<Rows> {
    if partition.changes.is_empty() {
        return Ok(read_base(vault, table, schema, partition.base, columns));
    }
    let mut changes = vec![];
    for entry in &partition.changes {
        let bytes = vault.read_change_segment(&table, entry).await?;
        for batch in read_changes(bytes, &schema, BATCH_ROWS)? {
            changes.push(batch?);
        }
    }
    let merge = if schema.is_bag() {
        Merge::Bag(BagMerger::new(schema.clone(), &changes)?)
    } else if schema.shape == TableShape::Cells {
        // Deletes of a row or family stand before their cells, so changes cannot be cut at keys.
        Merge::Cells(RowMerger::cells(schema.clone(), &changes)?)
    } else {
        let changes = KeyedChanges::new(&schema, changes, &partition.range)?;
        return Ok(read_keyed(vault, table, schema, partition, changes, columns));
    };
    let base = read_base(vault, table, schema.clone(), partition.base, None);
    Ok(read_merged(schema, base, merge, columns))
}

fn read_base(
    vault: Vault,
    table: TableId,
    schema: Arc<TableSchema>,
    base: Vec<SegmentEntry>,
    columns: Option<Vec<ColumnId>>,
) -> Rows {
    futures::stream::iter(base)
        .map(move |entry| {
            let (vault, table) = (vault.clone(), table.clone());
            async move { Ok::<_, EngineError>(vault.read_segment(&table, &entry).await?) }
        })
        .buffered(2)
        .map(move |bytes| {
            let batches = read_segment(bytes?, &schema, columns.as_deref(), BATCH_ROWS)?;
            Ok::<_, EngineError>(futures::stream::iter(batches.map(|b| b.map_err(EngineError::from))))
        })
        .try_flatten()
        .boxed()
}

/// Changes of a whole partition, through which its base streams.
enum Merge {
    Bag(BagMerger),
    Cells(RowMerger),
}

type Batches = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

impl Merge {
    fn push(&mut self, base: &RecordBatch) -> Result<Batches> {
        Ok(match self {
            Self::Bag(merger) => Box::new(std::iter::once(Ok(merger.push(base)?))),
            Self::Cells(merger) => Box::new(merger.push(base)?.into_iter().map(Ok)),
        })
    }

    fn finish(self) -> Result<Batches> {
        Ok(match self {
            Self::Bag(merger) => Box::new(merger.finish()?.map(|b| b.map_err(EngineError::from))),
            Self::Cells(merger) => Box::new(merger.finish()?.into_iter().map(Ok)),
        })
    }
}

fn read_merged(schema: Arc<TableSchema>, base: Rows, merge: Merge, columns: Option<Vec<ColumnId>>) -> Rows {
    let merged = futures::stream::try_unfold(Some((merge, base)), |state| async move {
        let Some((mut merge, mut base)) = state else { return Ok::<_, EngineError>(None) };
        let (batches, next) = match base.next().await {
            Some(batch) => (merge.push(&batch?)?, Some((merge, base))),
            None => (merge.finish()?, None),
        };
        Ok(Some((futures::stream::iter(batches), next)))
    });
    merged.try_flatten().map(move |b| b.and_then(|b| pick(&schema, columns.as_deref(), b))).boxed()
}

/// Changes of one shard with their encoded keys; each batch is in key order.
#[derive(Debug)]
struct KeyedChanges {
    batches: Vec<(RecordBatch, BinaryArray)>,
}

impl KeyedChanges {
    fn new(schema: &TableSchema, batches: Vec<RecordBatch>, range: &KeyRange) -> Result<Self> {
        let mut keyed = vec![];
        for batch in batches {
            let table: Vec<usize> = (HIDDEN_COLUMNS..batch.num_columns()).collect();
            let keys = encode_keys(schema, &batch.project(&table)?)?;
            let (batch, keys) = slice(&batch, &keys, range);
            if batch.num_rows() > 0 {
                keyed.push((batch, keys));
            }
        }
        Ok(Self { batches: keyed })
    }

    fn within(&self, range: &KeyRange) -> Vec<RecordBatch> {
        self.batches.iter().map(|(b, k)| slice(b, k, range).0).filter(|b| b.num_rows() > 0).collect()
    }
}

/// The keys that change segments of one shard touch.
#[derive(Debug)]
pub struct TouchedKeys(KeyedChanges);

impl TouchedKeys {
    /// Whether any of them lies in the range.
    pub fn any_in(&self, range: &KeyRange) -> bool {
        self.0.batches.iter().any(|(b, k)| slice(b, k, range).0.num_rows() > 0)
    }
}

/// The keys that change segments touch, by shard; read from what was stored.
pub async fn touched_keys(
    vault: &Vault,
    table: &TableId,
    schema: &TableSchema,
    changes: &[SegmentEntry],
) -> Result<Vec<(ShardId, TouchedKeys)>> {
    let mut touched: Vec<(ShardId, TouchedKeys)> = vec![];
    for entry in changes {
        let bytes = vault.read_change_segment(table, entry).await?;
        let batches = read_changes(bytes, schema, BATCH_ROWS)?.collect::<Result<Vec<_>, _>>()?;
        let mut keys = KeyedChanges::new(schema, batches, &KeyRange::default())?;
        for (batch, _) in &mut keys.batches {
            // Only the keys are asked for.
            *batch = batch.project(&[0])?;
        }
        match touched.iter_mut().find(|(shard, _)| *shard == entry.shard) {
            Some((_, all)) => all.0.batches.extend(keys.batches),
            None => touched.push((entry.shard.clone(), TouchedKeys(keys))),
        }
    }
    Ok(touched)
}

/// The rows of a key-ordered batch whose keys lie in the range.
fn slice(batch: &RecordBatch, keys: &BinaryArray, range: &KeyRange) -> (RecordBatch, BinaryArray) {
    let first_at = |bound: &[u8]| {
        let (mut low, mut high) = (0, keys.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            if keys.value(middle) < bound { low = middle + 1 } else { high = middle }
        }
        low
    };
    let start = range.start.as_ref().map_or(0, |s| first_at(&s.0));
    let end = range.end.as_ref().map_or(keys.len(), |e| first_at(&e.0)).max(start);
    (batch.slice(start, end - start), keys.slice(start, end - start))
}

fn read_keyed(
    vault: Vault,
    table: TableId,
    schema: Arc<TableSchema>,
    partition: PointPartition,
    changes: KeyedChanges,
    columns: Option<Vec<ColumnId>>,
) -> Rows {
    let PointPartition { range, base, .. } = partition;
    // The keys from a segment's first to the next one's; the ends are those of the partition.
    let mut parts: Vec<(Option<SegmentEntry>, KeyRange)> = vec![];
    for (at, entry) in base.iter().enumerate() {
        let start = if at == 0 { range.start.clone() } else { entry.min.clone() };
        let end = base.get(at + 1).map_or_else(|| range.end.clone(), |next| next.min.clone());
        parts.push((Some(entry.clone()), KeyRange { start, end }));
    }
    if parts.is_empty() {
        parts.push((None, range));
    }
    let changes = Arc::new(changes);
    let fetch = {
        let changes = changes.clone();
        move |(entry, range): (Option<SegmentEntry>, KeyRange)| {
            let (vault, table, touched) = (vault.clone(), table.clone(), changes.within(&range));
            async move {
                let bytes = match &entry {
                    Some(entry) => Some(vault.read_segment(&table, entry).await?),
                    None => None,
                };
                Ok::<_, EngineError>((bytes, touched))
            }
        }
    };
    futures::stream::iter(parts)
        .map(fetch)
        .buffered(2)
        .map(move |fetched| {
            let (bytes, touched) = fetched?;
            let batches: Box<dyn Iterator<Item = Result<RecordBatch>> + Send> =
                match (bytes, touched.is_empty()) {
                    (Some(bytes), true) => Box::new(
                        read_segment(bytes, &schema, columns.as_deref(), BATCH_ROWS)?
                            .map(|b| b.map_err(EngineError::from)),
                    ),
                    (bytes, _) => {
                        let base =
                            match bytes {
                                Some(bytes) => read_segment(bytes, &schema, None, BATCH_ROWS)?
                                    .collect::<Result<Vec<_>, _>>()?,
                                None => vec![],
                            };
                        let merged = merge_keyed(&schema, &base, &touched)?;
                        let (schema, columns) = (schema.clone(), columns.clone());
                        Box::new(merged.into_iter().map(move |b| pick(&schema, columns.as_deref(), b)))
                    }
                };
            Ok::<_, EngineError>(futures::stream::iter(batches))
        })
        .try_flatten()
        .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use keepfast_model::{ByteCount, ColumnType, Digest, Hash256, KeyBytes};

    /// A segment of a mebibyte with the keys from `at` to the next one's.
    fn segment(at: u8) -> SegmentEntry {
        SegmentEntry {
            id: Hash256::of(&[at]),
            stored: Hash256::of(&[at]),
            bytes: ByteCount(1 << 20),
            shard: ShardId("0".into()),
            rows: 1,
            digest: Digest::default(),
            min: Some(KeyBytes(vec![at])),
            max: Some(KeyBytes(vec![at, 9])),
            epoch: 0,
            key: None,
            seq_min: None,
            seq_max: None,
        }
    }

    #[test]
    fn partitions_hold_few_changes_however_many_there_are() {
        let schema = TableSchema::of(vec![("k".into(), ColumnType::Int64, false)], &["k"]).unwrap();
        let base: Vec<_> = (0..64).map(segment).collect();
        assert_eq!(plan(&schema, base.clone(), vec![], 1).len(), 1, "a base streams through");
        // Three changes of everything that one table has.
        let changes: Vec<_> = base.iter().chain(&base).chain(&base).cloned().collect();
        let partitions = plan(&schema, base, changes, 1);
        assert_eq!(partitions.len(), 16);
        assert_eq!(partitions.iter().map(|p| p.base.len()).sum::<usize>(), 64);
        for partition in &partitions {
            assert_eq!(partition.changes.len(), 3 * partition.base.len());
        }
    }
}
