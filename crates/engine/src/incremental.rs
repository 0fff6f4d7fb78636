//! Incremental backups: the store's changes since the last point, as change segments on top of its base.
//!
//! The cost follows the change: only base segments whose key ranges the changes touch are read, before and after, so
//! that the digest of the merged rows is known and can be compared with the store's own.

use crate::Result;
use crate::api::BackupRequest;
use crate::backup::Written;
use crate::certify::certify;
use crate::condition::Condition;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::plan::{Source, TableWork};
use crate::point::{self, PointPartition, entries};
use crate::task::select;
use arrow::array::{Array, AsArray, Int8Array, RecordBatch};
use arrow::datatypes::{Int8Type, Int64Type};
use futures::{StreamExt, TryStreamExt};
use keepfast_format::{ChangeWriter, Manifest, ManifestKind, SegmentEntry};
use keepfast_model::change::HIDDEN_COLUMNS;
use keepfast_model::{
    ByteCount, ChangeManifestRef, ChangeOp, Digest, ProofKind, RowHasher, Selection, ShardPosition,
    TablePoint, TableSchema, TableShape, WriteMode,
};
use keepfast_objects::Put;
use keepfast_store::{BatchStream, OpenCut, ProofRequest, StoreError};
use keepfast_vault::{NewObject, Vault};
use std::sync::Arc;

/// What changes are applied to.
struct Onto<'a> {
    previous: &'a TablePoint,
    kept: &'a TableSchema,
    at: &'a TableSchema,
    mode: WriteMode,
}

/// What became of an incremental backup of one table.
pub(crate) enum Increment {
    /// Written and certified.
    Done(Box<TablePoint>, Vec<NewObject>),
    /// It cannot be exact; a new base can.
    NotPossible(String),
}

impl Engine {
    /// Writes the changes of one table since its previous point.
    pub(crate) async fn write_changes(
        &self,
        request: &BackupRequest,
        source: &Source,
        vault: &Vault,
        cut: &Arc<dyn OpenCut>,
        work: &TableWork,
    ) -> Result<Increment> {
        let Some(previous) = &work.previous else {
            return Ok(Increment::NotPossible("there is no earlier point".into()));
        };
        let from = self.positions_of(vault, previous, work).await?;
        let mut changes = cut.changes(&work.name, &from).await;
        // A restored table has a log of its own, which begins with the state that was restored.
        for positions in self.restored_positions(&work.name, previous.digest) {
            if !matches!(changes, Err(StoreError::ChangesGone { .. })) {
                break;
            }
            changes = cut.changes(&work.name, &positions).await;
        }
        let changes = match changes {
            Ok(changes) => changes,
            Err(e) => return not_possible(e),
        };
        let onto = Onto { previous, kept: &work.kept, at: &work.at.schema, mode: WriteMode::Incremental };
        self.apply_changes(request, source, vault, cut, onto, changes).await
    }

    /// Applies the changes that make what was scanned the cut.
    pub(crate) async fn close(
        &self,
        request: &BackupRequest,
        source: &Source,
        vault: &Vault,
        cut: &Arc<dyn OpenCut>,
        table: &mut Written,
    ) -> Result<()> {
        if table.point.mode == WriteMode::Incremental {
            return Ok(());
        }
        let at = cut.table(&table.point.name).await?.schema;
        let onto =
            Onto { previous: &table.point, kept: &table.point.schema, at: &at, mode: table.point.mode };
        let changes = match cut.closing_changes(&table.point.name).await? {
            Some(changes) => changes,
            None => futures::stream::empty().boxed(),
        };
        match self.apply_changes(request, source, vault, cut, onto, changes).await? {
            Increment::Done(point, objects) => {
                table.objects.extend(objects);
                let (segments, bytes) = (table.point.segments_new, table.point.bytes_new);
                table.point = TablePoint {
                    segments_new: segments + point.segments_new,
                    bytes_new: bytes + point.bytes_new,
                    ..*point
                };
                Ok(())
            }
            Increment::NotPossible(reason) => {
                Err(EngineError::NotCertified { table: table.point.name.to_string(), reason })
            }
        }
    }

    async fn apply_changes(
        &self,
        request: &BackupRequest,
        source: &Source,
        vault: &Vault,
        cut: &Arc<dyn OpenCut>,
        onto: Onto<'_>,
        mut changes: BatchStream,
    ) -> Result<Increment> {
        let Onto { previous, kept, at, mode } = onto;
        let schema = Arc::new(kept.clone());
        let (base, earlier) = entries(vault, previous).await?;
        let Some(reference) = previous.base.first() else {
            return Ok(Increment::NotPossible("the earlier base lists no manifest".into()));
        };
        let profile = Arc::new(vault.read_manifest(reference).await?.profile);
        let protection = vault.protection(&previous.id, &previous.encryption).await?;
        let mut writer = ChangeWriter::new(schema.clone(), profile.clone(), protection);
        let filter = Filter::new(self, at, &request.selection)?;
        let mut objects: Vec<NewObject> = vec![];
        let mut written: Vec<SegmentEntry> = vec![];
        let mut bytes_new = ByteCount(0);
        let mut counted = Digest::default();
        let hasher = RowHasher::new(&schema);
        loop {
            if self.options.cancel.is_cancelled() {
                return Err(EngineError::Interrupted);
            }
            let batch = match changes.try_next().await {
                Ok(batch) => batch,
                Err(e) => return not_possible(e),
            };
            let last = batch.is_none();
            let encoded = match batch {
                Some(batch) => {
                    self.options
                        .progress
                        .advance(batch.get_array_memory_size() as u64, batch.num_rows() as u64);
                    let Some(batch) = filter.apply(batch)? else {
                        return Ok(Increment::NotPossible(
                            "a row was changed in part, and the condition needs all of it".into(),
                        ));
                    };
                    if schema.is_bag() {
                        counted = add_counts(&hasher, &batch, counted)?;
                    }
                    if batch.num_rows() == 0 { vec![] } else { writer.push(batch)? }
                }
                None => writer.finish()?,
            };
            for segment in encoded {
                if vault.put_change_segment(&previous.id, &segment).await? == Put::Created {
                    bytes_new += segment.entry.bytes;
                    objects.push(Vault::change_object(&previous.id, &segment.entry));
                }
                written.push(segment.entry);
            }
            if last {
                break;
            }
        }
        let digest = if schema.is_bag() {
            previous.digest.merge(counted)
        } else {
            match self.digest_after(vault, previous, &schema, &base, &earlier, &written).await {
                Ok(digest) => digest,
                Err(EngineError::Format(e)) => return Ok(Increment::NotPossible(e.to_string())),
                Err(e) => return Err(e),
            }
        };
        let mut references = previous.changes.clone();
        let segments_new = written.len() as u32;
        let mut bytes = previous.bytes + written.iter().map(|e| e.bytes).sum();
        if !written.is_empty() {
            let pages = Manifest::pages(ManifestKind::Changes, &previous.id, &schema, &profile, written);
            let listed = vault.put_manifests(pages, &previous.encryption, previous.parity, &[]).await?;
            bytes += listed.bytes;
            bytes_new += listed.bytes_new;
            objects.extend(listed.objects);
            references.extend(
                listed
                    .references
                    .into_iter()
                    .map(|manifest| ChangeManifestRef { manifest, written_by: None }),
            );
        }
        let certificate = if request.selection.is_all() && source.store.capabilities().source_proof {
            // The store's own digest of all rows is compared with that of base and changes merged.
            let full = ProofRequest { full: true, ranges: vec![] };
            match certify(cut, &previous.name, &full, digest, None, 1).await {
                Ok(certificate) => certificate,
                Err(EngineError::NotCertified { reason, .. }) => {
                    return Ok(Increment::NotPossible(format!("base and changes do not add up: {reason}")));
                }
                Err(e) => return Err(e),
            }
        } else {
            keepfast_model::Certificate {
                kind: if previous.certificate.kind == ProofKind::Own {
                    ProofKind::Own
                } else {
                    ProofKind::Log
                },
                rows: digest.rows,
                partitions: 1,
                content_percent: 0,
                method:
                    "gapless change log from a certified base; before images taken out, after images added"
                        .into(),
                at: jiff::Timestamp::now(),
            }
        };
        let point = TablePoint {
            id: previous.id.clone(),
            name: previous.name.clone(),
            selection: request.selection.clone(),
            schema: kept.clone(),
            mode,
            base: previous.base.clone(),
            changes: references,
            digest,
            bytes,
            segments_new,
            bytes_new,
            certificate,
            encryption: previous.encryption.clone(),
            key_ids: previous.key_ids.clone(),
            sealed: None,
            dependents: previous.dependents.clone(),
            target_rows: previous.target_rows,
            profile: previous.profile,
            parity: previous.parity,
        };
        Ok(Increment::Done(Box::new(point), objects))
    }

    /// Where the change log stood at the point that holds the previous state of a table.
    pub(crate) async fn positions_of(
        &self,
        vault: &Vault,
        previous: &TablePoint,
        work: &TableWork,
    ) -> Result<Vec<ShardPosition>> {
        let log = vault.log().await?;
        for backup in log.backups() {
            for point in log.points(&backup).rev() {
                if point.tables.iter().any(|t| t == previous) {
                    return Ok(point.cut.positions.clone());
                }
            }
        }
        Err(EngineError::NotIncremental {
            table: work.name.to_string(),
            reason: "the point of its earlier state is no longer visible".into(),
        })
    }

    /// Digest of base, earlier changes and new changes merged, reading only what the new ones touch.
    async fn digest_after(
        &self,
        vault: &Vault,
        previous: &TablePoint,
        schema: &Arc<TableSchema>,
        base: &[SegmentEntry],
        earlier: &[SegmentEntry],
        new: &[SegmentEntry],
    ) -> Result<Digest> {
        let mut digest = previous.digest;
        let all: Vec<SegmentEntry> = earlier.iter().chain(new).cloned().collect();
        if schema.shape == TableShape::Cells || base.iter().any(|e| e.min.is_none()) {
            let mut after = Digest::default();
            for partition in point::plan(schema, base.to_vec(), all, 1) {
                after = after.merge(self.digest_of(vault, previous, schema, partition).await?);
            }
            return Ok(after);
        }
        // One partition a segment, its keys up to the next segment's first; those that no change touches stay as they are.
        let touched = point::touched_keys(vault, &previous.id, schema, new).await?;
        let mut each = point::plan(schema, base.to_vec(), all.clone(), usize::MAX);
        each.retain(|p| touched.iter().any(|(shard, keys)| *shard == p.shard && keys.any_in(&p.range)));
        // Joined again, so that change segments are read a few times and not once for every base segment.
        let pieces = point::pieces(base, &all, self.options.threads.max(1) * 2);
        let most = each.len().div_ceil(pieces).max(1);
        let mut jobs = vec![];
        for partition in each.chunk_by(|a, b| a.shard == b.shard).flat_map(|c| c.chunks(most)) {
            let Some(partition) = PointPartition::joined(partition, &all) else { continue };
            let known: Digest = partition.base.iter().fold(Digest::default(), |d, e| d.merge(e.digest));
            let before = PointPartition {
                changes: partition.changes.iter().filter(|c| !new.contains(c)).cloned().collect(),
                ..partition.clone()
            };
            let (engine, vault, previous, schema) =
                (self.clone(), vault.clone(), previous.clone(), schema.clone());
            jobs.push(async move {
                let before = match before.changes.is_empty() {
                    true => known,
                    false => engine.digest_of(&vault, &previous, &schema, before).await?,
                };
                let after = engine.digest_of(&vault, &previous, &schema, partition).await?;
                Ok((before, after))
            });
        }
        for (before, after) in self.in_parallel(jobs).await? {
            digest = digest.without(before).merge(after);
        }
        Ok(digest)
    }

    async fn digest_of(
        &self,
        vault: &Vault,
        table: &TablePoint,
        schema: &Arc<TableSchema>,
        partition: PointPartition,
    ) -> Result<Digest> {
        let hasher = RowHasher::new(schema);
        let mut rows = point::read(vault.clone(), table.id.clone(), schema.clone(), partition, None).await?;
        let mut digest = Digest::default();
        while let Some(batch) = rows.try_next().await? {
            digest = digest.merge(hasher.digest(&batch)?);
        }
        Ok(digest)
    }
}

fn not_possible(error: StoreError) -> Result<Increment> {
    match error {
        StoreError::ChangesGone { reason, .. } => {
            Ok(Increment::NotPossible(format!("the changes are gone: {reason}")))
        }
        StoreError::SchemaChanged { reason, .. } => {
            Ok(Increment::NotPossible(format!("the table was altered: {reason}")))
        }
        other => Err(other.into()),
    }
}

/// Adds rows counted up and takes away rows counted down.
fn add_counts(hasher: &RowHasher, batch: &RecordBatch, mut digest: Digest) -> Result<Digest> {
    let table: Vec<usize> = (HIDDEN_COLUMNS..batch.num_columns()).collect();
    let hashes = hasher.hash(&batch.project(&table)?)?;
    let counts = batch.column(6).as_primitive::<Int64Type>();
    for (row, hash) in hashes.rows.iter().enumerate() {
        let count = if counts.is_null(row) { 1 } else { counts.value(row) };
        digest.rows = digest.rows.wrapping_add_signed(count);
        digest.sum = digest.sum.wrapping_add(hash.wrapping_mul(count as i128 as u128));
    }
    Ok(digest)
}

/// A selection over changes: a row that leaves the condition is a delete in the backup.
struct Filter {
    schema: TableSchema,
    columns: Option<Vec<keepfast_model::ColumnId>>,
    condition: Option<Condition>,
}

impl Filter {
    fn new(engine: &Engine, schema: &TableSchema, selection: &Selection) -> Result<Self> {
        let (_, columns) = select(schema, selection)?;
        let condition =
            selection.filter.as_deref().map(|f| Condition::compile(engine, schema, f)).transpose()?;
        Ok(Self { schema: schema.clone(), columns, condition })
    }

    /// The changes as the backup sees them; none where a partial change cannot be judged.
    fn apply(&self, batch: RecordBatch) -> Result<Option<RecordBatch>> {
        let batch = match &self.condition {
            None => batch,
            Some(condition) => {
                let ops = batch.column(0).as_primitive::<Int8Type>().clone();
                let partial =
                    [ChangeOp::Patch, ChangeOp::DeleteCell, ChangeOp::DeleteVersion, ChangeOp::DeleteFamily];
                if ops.values().iter().any(|op| partial.iter().any(|p| *p as i8 == *op)) {
                    return Ok(None);
                }
                let table: Vec<usize> = (HIDDEN_COLUMNS..batch.num_columns()).collect();
                let rows = batch.project(&table)?;
                // Deletes hold no values to judge; a delete of a row that was never kept changes nothing.
                let kept = condition.mask(&rows.clone().with_schema(nullable(&rows))?)?;
                let ops: Int8Array = ops
                    .values()
                    .iter()
                    .zip(kept.iter())
                    .map(|(op, kept)| {
                        if *op == ChangeOp::PutRow as i8 && kept != Some(true) {
                            ChangeOp::DeleteRow as i8
                        } else {
                            *op
                        }
                    })
                    .collect();
                let mut columns = batch.columns().to_vec();
                columns[0] = Arc::new(ops);
                RecordBatch::try_new(batch.schema(), columns)?
            }
        };
        let Some(columns) = &self.columns else { return Ok(Some(batch)) };
        let mut at: Vec<usize> = (0..HIDDEN_COLUMNS).collect();
        at.extend(
            self.schema
                .columns
                .iter()
                .enumerate()
                .filter(|(_, c)| columns.contains(&c.id))
                .map(|(i, _)| HIDDEN_COLUMNS + i),
        );
        Ok(Some(batch.project(&at)?))
    }
}

fn nullable(batch: &RecordBatch) -> arrow::datatypes::SchemaRef {
    let fields: Vec<_> =
        batch.schema().fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    Arc::new(arrow::datatypes::Schema::new(fields))
}
