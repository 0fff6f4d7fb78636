//! Incremental backups: the store's changes since the last point, as change segments on top of its base.
//!
//! The cost follows the change: only base segments whose key ranges the changes touch are read, before and after, so
//! that the digest of the merged rows is known and can be compared with the store's own.

use crate::Result;
use crate::api::{BackupRequest, Certify};
use crate::backup::Written;
use crate::certify::certify;
use crate::condition::Condition;
use crate::dispatch::{RunTasks, TASK_BYTES_LEAST};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::plan::{Source, TableWork, same_columns};
use crate::point::{self, PointPartition, entries};
use crate::task::{ChangesResult, DigestTask, Task, TaskResult, select};
use arrow::array::{Array, AsArray, Int8Array, RecordBatch};
use arrow::datatypes::{Int8Type, Int64Type};
use futures::{StreamExt, TryStreamExt};
use keepfast_format::{ChangeWriter, Manifest, ManifestKind, Protection, SegmentEntry, WriterProfile};
use keepfast_model::change::HIDDEN_COLUMNS;
use keepfast_model::{
    ChangeManifestRef, ChangeOp, Digest, Encryption, Hash256, KeyRange, ProofKind, RowHasher, Selection,
    ShardPosition, TableId, TableName, TablePoint, TableSchema, TableShape, WriteMode,
};
use keepfast_objects::Put;
use keepfast_store::{BatchStream, OpenCut, ProofRequest, StoreError};
use keepfast_vault::{NewObject, Vault};
use serde::Serialize;
use std::sync::Arc;

/// What changes are applied to.
struct Onto<'a> {
    previous: &'a TablePoint,
    schema: Arc<TableSchema>,
    at: &'a TableSchema,
    mode: WriteMode,
    profile: Arc<WriterProfile>,
    protection: Protection,
    /// The work of reading them, where an interrupted run keeps what it gave.
    reading: Option<Hash256>,
}

/// The reading of a table's changes, as an interrupted run finds again what it gave.
#[derive(Serialize)]
struct ReadChanges<'a> {
    cut: &'a serde_json::Value,
    name: &'a TableName,
    /// The first of these that the store still has.
    from: &'a [Vec<ShardPosition>],
    schema: &'a TableSchema,
    at: &'a TableSchema,
    selection: &'a Selection,
    table: &'a TableId,
    profile: &'a WriterProfile,
    encryption: &'a Encryption,
    key_ids: &'a str,
}

/// Bytes of a table up to which its rows are read although the log has images of all that changed.
const READ_BYTES: u64 = 64 << 20;

/// Changes of a table as the vault has them, or why a new base is needed.
enum Read {
    Done(ChangesResult),
    NotPossible(String),
}

/// What became of an incremental backup of one table.
pub(crate) enum Increment {
    /// Written and certified; with the change segments that may have put keys that were in no shard before.
    Done(Box<TablePoint>, Vec<NewObject>, Vec<SegmentEntry>),
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
        tasks: &mut RunTasks,
    ) -> Result<Increment> {
        let Some(previous) = &work.previous else {
            return Ok(Increment::NotPossible("there is no earlier point".into()));
        };
        let Some(mut onto) =
            self.onto(vault, previous, &work.kept, &work.at.schema, WriteMode::Incremental).await?
        else {
            return Ok(Increment::NotPossible("the earlier base lists no manifest".into()));
        };
        let mut from = vec![self.positions_of(vault, previous, work).await?];
        if work.since.is_none() {
            // A restored table has a log of its own, which begins with the state that was restored.
            from.extend(self.restored_positions(&work.name, previous.digest));
        }
        let reading = ReadChanges {
            cut: &cut.token().unwrap_or_default(),
            name: &work.name,
            from: &from,
            schema: &onto.schema,
            at: onto.at,
            selection: &request.selection,
            table: &previous.id,
            profile: &onto.profile,
            encryption: &previous.encryption,
            key_ids: onto.protection.key_ids(),
        };
        let json =
            serde_json::to_vec(&reading).map_err(|e| EngineError::Task { task: 0, reason: e.to_string() })?;
        let identity = Hash256::of(&json);
        onto.reading = Some(identity);
        if let Some(TaskResult::Changes(read)) = tasks.finished(&identity) {
            let read = read.clone();
            return self.apply_changes(request, source, vault, cut, onto, read, tasks).await;
        }
        let (mut used, mut changes) = (&from[0], cut.changes(&work.name, &from[0]).await);
        for positions in &from[1..] {
            if !matches!(changes, Err(StoreError::ChangesGone { .. })) {
                break;
            }
            (used, changes) = (positions, cut.changes(&work.name, positions).await);
        }
        let changes = match changes {
            Ok(changes) => changes,
            Err(e) => return not_possible(e).map(Increment::NotPossible),
        };
        let mut read = match self.read_changes(request, vault, &onto, changes).await? {
            Read::Done(read) => read,
            Read::NotPossible(reason) => return Ok(Increment::NotPossible(reason)),
        };
        // The images are of whole rows as the store has them.
        let whole = request.selection.is_all() && same_columns(&onto.schema, onto.at);
        let images = match whole && !onto.schema.is_bag() {
            true => cut.images(&work.name, used).await?,
            false => None,
        };
        let fresh = images.is_none_or(|images| images.fresh > 0);
        if let Some(images) = images {
            let digest = previous.digest.without(images.before).merge(images.after);
            match self.fits(vault, previous, &onto.schema, &read.segments, digest, tasks).await? {
                true => read.digest = Some(digest),
                false => {
                    return Ok(Increment::NotPossible(
                        "the rows that the log says were changed are not those of the earlier point; something was written that the log does not have"
                            .into(),
                    ));
                }
            }
        }
        if !read.segments.is_empty() && work.changes_expected.is_none_or(|b| b.0 >= TASK_BYTES_LEAST) {
            tasks.keep(vault, identity, TaskResult::Changes(read.clone())).await?;
        }
        let applied = self.apply_changes(request, source, vault, cut, onto, read, tasks).await?;
        Ok(match applied {
            Increment::Done(point, objects, _) if !fresh => Increment::Done(point, objects, vec![]),
            other => other,
        })
    }

    /// Applies the changes that make what was scanned the cut.
    pub(crate) async fn close(
        &self,
        request: &BackupRequest,
        source: &Source,
        vault: &Vault,
        cut: &Arc<dyn OpenCut>,
        table: &mut Written,
        tasks: &mut RunTasks,
    ) -> Result<()> {
        if table.point.mode == WriteMode::Incremental {
            return Ok(());
        }
        let refuse =
            |reason: String| Err(EngineError::NotCertified { table: table.point.name.to_string(), reason });
        let at = cut.table(&table.point.name).await?.schema;
        let scanned = &table.point;
        let Some(onto) = self.onto(vault, scanned, &scanned.schema, &at, scanned.mode).await? else {
            return refuse("its base lists no manifest".into());
        };
        let changes = match cut.closing_changes(&scanned.name).await? {
            Some(changes) => changes,
            None => futures::stream::empty().boxed(),
        };
        let read = match self.read_changes(request, vault, &onto, changes).await? {
            Read::Done(read) => read,
            Read::NotPossible(reason) => return refuse(reason),
        };
        match self.apply_changes(request, source, vault, cut, onto, read, tasks).await? {
            Increment::Done(point, objects, changes) => {
                table.objects.extend(objects);
                table.unchecked.changes.extend(changes);
                let (segments, bytes) = (table.point.segments_new, table.point.bytes_new);
                table.point = TablePoint {
                    segments_new: segments + point.segments_new,
                    bytes_new: bytes + point.bytes_new,
                    ..*point
                };
                Ok(())
            }
            Increment::NotPossible(reason) => refuse(reason),
        }
    }

    /// What changes of a table are applied to; none where its base lists no manifest.
    async fn onto<'a>(
        &self,
        vault: &Vault,
        previous: &'a TablePoint,
        kept: &TableSchema,
        at: &'a TableSchema,
        mode: WriteMode,
    ) -> Result<Option<Onto<'a>>> {
        let Some(reference) = previous.base.first() else { return Ok(None) };
        Ok(Some(Onto {
            previous,
            schema: Arc::new(kept.clone()),
            at,
            mode,
            profile: Arc::new(vault.read_manifest(reference).await?.profile),
            protection: vault.protection(&previous.id, &previous.encryption).await?,
            reading: None,
        }))
    }

    /// Reads changes and writes them as change segments.
    async fn read_changes(
        &self,
        request: &BackupRequest,
        vault: &Vault,
        onto: &Onto<'_>,
        mut changes: BatchStream,
    ) -> Result<Read> {
        let Onto { previous, schema, at, profile, protection, .. } = onto;
        let mut writer = ChangeWriter::new(schema.clone(), profile.clone(), protection.clone());
        let filter = Filter::new(self, at, &request.selection)?;
        let hasher = RowHasher::new(schema);
        let mut read = ChangesResult::default();
        loop {
            if self.options.cancel.is_cancelled() {
                return Err(EngineError::Interrupted);
            }
            let batch = match changes.try_next().await {
                Ok(batch) => batch,
                Err(e) => return not_possible(e).map(Read::NotPossible),
            };
            let last = batch.is_none();
            let encoded = match batch {
                Some(batch) => {
                    self.options
                        .progress
                        .advance(batch.get_array_memory_size() as u64, batch.num_rows() as u64);
                    let Some(batch) = filter.apply(batch)? else {
                        return Ok(Read::NotPossible(
                            "a row was changed in part, and the condition needs all of it".into(),
                        ));
                    };
                    if schema.is_bag() {
                        read.counted = add_counts(&hasher, &batch, read.counted)?;
                    }
                    if batch.num_rows() == 0 { vec![] } else { writer.push(batch)? }
                }
                None => writer.finish()?,
            };
            for segment in encoded {
                if vault.put_change_segment(&previous.id, &segment).await? == Put::Created {
                    read.new.push(read.segments.len() as u32);
                    read.bytes_new += segment.entry.bytes;
                }
                read.segments.push(segment.entry);
            }
            if last {
                return Ok(Read::Done(read));
            }
        }
    }

    /// The point that a table's changes make, with its digest proven.
    #[allow(clippy::too_many_arguments)]
    async fn apply_changes(
        &self,
        request: &BackupRequest,
        source: &Source,
        vault: &Vault,
        cut: &Arc<dyn OpenCut>,
        onto: Onto<'_>,
        read: ChangesResult,
        tasks: &mut RunTasks,
    ) -> Result<Increment> {
        let Onto { previous, schema, mode, profile, reading, .. } = onto;
        let (base, earlier) = entries(vault, previous).await?;
        let written = &read.segments;
        let digest = match read.digest {
            Some(digest) => digest,
            None if schema.is_bag() => previous.digest.merge(read.counted),
            None => {
                match self.digest_after(vault, previous, &schema, &base, &earlier, written, tasks).await {
                    Ok(digest) => digest,
                    Err(EngineError::Format(e)) => return Ok(Increment::NotPossible(e.to_string())),
                    Err(e) => return Err(e),
                }
            }
        };
        if let (Some(reading), None, false) = (reading, read.digest, written.is_empty()) {
            let read = ChangesResult { digest: Some(digest), ..read.clone() };
            tasks.keep(vault, reading, TaskResult::Changes(read)).await?;
        }
        let new = read.new.iter().filter_map(|at| written.get(*at as usize));
        let mut objects: Vec<NewObject> =
            new.map(|entry| Vault::change_object(&previous.id, entry)).collect();
        let mut bytes_new = read.bytes_new;
        let mut references = previous.changes.clone();
        let segments_new = written.len() as u32;
        let mut bytes = previous.bytes + written.iter().map(|e| e.bytes).sum();
        let segments = written.clone();
        if !written.is_empty() {
            let pages =
                Manifest::pages(ManifestKind::Changes, &previous.id, &schema, &profile, read.segments);
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
            // A store that knows its own digest of all rows gives it; others are asked for it with `certify = full`.
            let full = request.certify == Certify::Full;
            let proof = ProofRequest { full, ranges: vec![KeyRange::default()] };
            match certify(cut, &previous.name, &proof, digest, None, 1).await {
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
            schema: schema.as_ref().clone(),
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
            dependents: cut.table(&previous.name).await?.dependents,
            target_rows: previous.target_rows,
            profile: previous.profile,
            parity: previous.parity,
        };
        Ok(Increment::Done(Box::new(point), objects, segments))
    }

    /// Where the change log stood at the point that holds the previous state of a table.
    pub(crate) async fn positions_of(
        &self,
        vault: &Vault,
        previous: &TablePoint,
        work: &TableWork,
    ) -> Result<Vec<ShardPosition>> {
        if let Some(since) = &work.since {
            return Ok(since.clone());
        }
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

    /// Whether a digest that the log's images gave is that of the rows themselves, where those that changes touch are few enough to be
    /// read; otherwise it is taken at its word, until somebody verifies the point.
    async fn fits(
        &self,
        vault: &Vault,
        previous: &TablePoint,
        schema: &Arc<TableSchema>,
        changes: &[SegmentEntry],
        digest: Digest,
        tasks: &mut RunTasks,
    ) -> Result<bool> {
        let (base, earlier) = entries(vault, previous).await?;
        let bytes: u64 = base.iter().chain(&earlier).map(|entry| entry.bytes.0).sum();
        if bytes > READ_BYTES {
            return Ok(true);
        }
        Ok(self.digest_after(vault, previous, schema, &base, &earlier, changes, tasks).await? == digest)
    }

    /// Digest of base, earlier changes and new changes merged, reading only what the new ones touch.
    #[allow(clippy::too_many_arguments)]
    async fn digest_after(
        &self,
        vault: &Vault,
        previous: &TablePoint,
        schema: &Arc<TableSchema>,
        base: &[SegmentEntry],
        earlier: &[SegmentEntry],
        new: &[SegmentEntry],
        tasks: &mut RunTasks,
    ) -> Result<Digest> {
        let all: Vec<SegmentEntry> = earlier.iter().chain(new).cloned().collect();
        if schema.shape == TableShape::Cells || base.iter().any(|e| e.min.is_none()) {
            let partitions = point::plan(schema, base.to_vec(), all, 1);
            let digests = self.digests_of(vault, previous, schema, partitions, tasks).await?;
            return Ok(digests.into_iter().fold(Digest::default(), Digest::merge));
        }
        // One partition a segment, its keys up to the next segment's first; those that no change touches stay as they are.
        let touched = point::touched_keys(vault, &previous.id, schema, new).await?;
        let mut each = point::plan(schema, base.to_vec(), all.clone(), usize::MAX);
        each.retain(|p| touched.iter().any(|(shard, keys)| *shard == p.shard && keys.any_in(&p.range)));
        // Joined again, so that change segments are read a few times and not once for every base segment.
        let base: Vec<SegmentEntry> = each.iter().flat_map(|p| p.base.iter().cloned()).collect();
        let pieces = point::pieces(&base, &all, self.options.threads.max(1) * 2);
        let most = each.len().div_ceil(pieces).max(1);
        let (mut known, mut before, mut after) = (Digest::default(), vec![], vec![]);
        for partition in each.chunk_by(|a, b| a.shard == b.shard).flat_map(|c| c.chunks(most)) {
            let Some(partition) = PointPartition::joined(partition, &all) else { continue };
            let changes: Vec<_> = partition.changes.iter().filter(|c| !new.contains(c)).cloned().collect();
            match changes.is_empty() {
                true => known = partition.base.iter().fold(known, |d, e| d.merge(e.digest)),
                false => before.push(PointPartition { changes, ..partition.clone() }),
            }
            after.push(partition);
        }
        let count = before.len();
        let partitions = before.into_iter().chain(after).collect();
        let digests = self.digests_of(vault, previous, schema, partitions, tasks).await?;
        let (before, after) = digests.split_at(count);
        let digest = before.iter().fold(previous.digest.without(known), |d, before| d.without(*before));
        Ok(after.iter().fold(digest, |d, after| d.merge(*after)))
    }

    /// The digest of each of these partitions.
    async fn digests_of(
        &self,
        vault: &Vault,
        table: &TablePoint,
        schema: &Arc<TableSchema>,
        partitions: Vec<PointPartition>,
        tasks: &mut RunTasks,
    ) -> Result<Vec<Digest>> {
        let mut jobs = vec![];
        for partition in partitions {
            let task = DigestTask {
                run: tasks.run().clone(),
                number: tasks.number(),
                vault: vault.url().to_owned(),
                table: table.id.clone(),
                schema: schema.as_ref().clone(),
                partition: partition.clone(),
            };
            let (engine, from, id, schema) = (self.clone(), vault.clone(), table.id.clone(), schema.clone());
            jobs.push(self.job(tasks, vault, Task::Digest(Box::new(task)), async move {
                let digest = engine.digest_partition(&from, &id, &schema, partition).await?;
                Ok(TaskResult::Digest { digest })
            })?);
        }
        self.in_parallel(jobs).await?.into_iter().map(TaskResult::digest).collect()
    }
}

/// Why changes cannot be had, where a new base can.
fn not_possible(error: StoreError) -> Result<String> {
    match error {
        StoreError::ChangesGone { reason, .. } => Ok(format!("the changes are gone: {reason}")),
        StoreError::SchemaChanged { reason, .. } => Ok(format!("the table was altered: {reason}")),
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
