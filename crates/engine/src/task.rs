//! Tasks: one partition each, plain data, run by threads of this process or by `keepfast worker` anywhere.
//!
//! A task run twice is the same as once: its result is put under its number in the vault's staging area if absent, and
//! the first result is the one that counts. Only the driver commits. A task holds no secret.
//!
//! What an interrupted run finished is found again by the work it was, so that the same command reads only the rest.

use crate::Result;
use crate::condition::Condition;
use crate::dispatch::AbortOnDrop;
use crate::distinct::Distinct;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::point::{self, PointPartition};
use crate::progress::Progress;
use crate::resolve::StoreSpec;
use crate::source::{Rows, pick};
use arrow::array::RecordBatch;
use futures::future::LocalBoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use keepfast_format::{Protection, SegmentEntry, SegmentWriter, Splitter, WriterProfile};
use keepfast_model::{
    ByteCount, ColumnId, Digest, Encryption, Hash256, ManifestRef, Partition, RowHasher, RunId, Selection,
    ShardId, TableId, TableName, TableSchema,
};
use keepfast_store::load::StoredSegment;
use keepfast_store::{Load, LoadedPart, OpenCut, ScanOptions, StoreError};
use keepfast_vault::{Vault, VaultError};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// One unit of work.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "snake_case")]
pub enum Task {
    /// Reads a partition of a store and writes segments.
    Scan(Box<ScanTask>),
    /// Reads a partition of a restore point and writes a part of a load.
    Load(Box<LoadTask>),
    /// Merges the changes of a partition of a restore point into its base, and writes segments.
    Fold(Box<FoldTask>),
    /// Reads a partition of base and changes merged.
    Digest(Box<DigestTask>),
}

/// Reads a partition of a store and writes segments.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScanTask {
    /// The run.
    pub run: RunId,
    /// The task's number in the run, from 0.
    pub number: u32,
    /// The vault's location.
    pub vault: String,
    /// The store.
    pub store: StoreSpec,
    /// The cut's token.
    pub cut: serde_json::Value,
    /// What to read: one partition, or all of a shard where the store does not scan in key order.
    pub partitions: Vec<Partition>,
    /// The table as the store has it.
    pub schema: TableSchema,
    /// Which part of it.
    pub selection: Selection,
    /// Its id in the vault.
    pub table: TableId,
    /// How segments are written.
    pub profile: WriterProfile,
    /// Manifests whose segments need not be written again.
    pub known: Vec<ManifestRef>,
    /// How its segments are encrypted.
    #[serde(default)]
    pub encryption: Encryption,
    /// Ids of the keys that its segments are written under: what was written under others is no result of it.
    #[serde(default)]
    pub key_ids: String,
}

/// Reads a partition of a restore point and writes a part of a load.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LoadTask {
    /// The run.
    pub run: RunId,
    /// The task's number in the run, from 0.
    pub number: u32,
    /// The vault's location.
    pub vault: String,
    /// The table's id in the vault.
    pub table: TableId,
    /// Its columns and key in the vault.
    pub schema: TableSchema,
    /// Whether columns whose keys were dropped are read as NULL.
    #[serde(default)]
    pub pass_over: bool,
    /// What to read.
    pub partition: PointPartition,
    /// Which part of the rows and columns to load.
    pub selection: Selection,
    /// The writer profile of the partition's segments, where the store takes them as they are.
    pub profile: Option<WriterProfile>,
    /// Whether rows are hashed on their way; else the store's digest of what it took stands for them, and reading back
    /// all of the table proves it.
    pub hash: bool,
    /// The store.
    pub store: StoreSpec,
    /// The load's token.
    pub load: serde_json::Value,
    /// The table in the store.
    pub target: TableName,
    /// The part's number in its table.
    pub part: u32,
}

/// Merges the changes of a partition of a restore point into its base, and writes segments.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FoldTask {
    /// The run.
    pub run: RunId,
    /// The task's number in the run, from 0.
    pub number: u32,
    /// The vault's location.
    pub vault: String,
    /// The table's id in the vault.
    pub table: TableId,
    /// Its columns and key.
    pub schema: TableSchema,
    /// What to merge.
    pub partition: PointPartition,
    /// How segments are written.
    pub profile: WriterProfile,
    /// Manifests whose segments need not be written again.
    pub known: Vec<ManifestRef>,
    /// How its segments are encrypted.
    pub encryption: Encryption,
    /// As [`ScanTask::key_ids`].
    pub key_ids: String,
}

/// Reads a partition of base and changes merged.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DigestTask {
    /// The run.
    pub run: RunId,
    /// The task's number in the run, from 0.
    pub number: u32,
    /// The vault's location.
    pub vault: String,
    /// The table's id in the vault.
    pub table: TableId,
    /// Its columns and key.
    pub schema: TableSchema,
    /// What to read.
    pub partition: PointPartition,
}

/// What a task gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum TaskResult {
    /// Of a [`ScanTask`] or a [`FoldTask`].
    Scan(ScanResult),
    /// Of a [`LoadTask`].
    Load(LoadResult),
    /// Of a [`DigestTask`].
    Digest {
        /// Of the rows.
        digest: Digest,
    },
    /// Of reading the changes of a table.
    Changes(ChangesResult),
}

impl TaskResult {
    pub(crate) fn scan(self) -> Result<ScanResult> {
        match self {
            Self::Scan(result) => Ok(result),
            _ => Err(of_another_kind()),
        }
    }

    pub(crate) fn load(self) -> Result<LoadResult> {
        match self {
            Self::Load(result) => Ok(result),
            _ => Err(of_another_kind()),
        }
    }

    pub(crate) fn digest(self) -> Result<Digest> {
        match self {
            Self::Digest { digest } => Ok(digest),
            _ => Err(of_another_kind()),
        }
    }
}

fn of_another_kind() -> EngineError {
    EngineError::Task { task: 0, reason: "its result is of another kind".into() }
}

/// A result as it waits in the staging area, with the task that it is of.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Finished {
    /// The task's identity.
    pub task: Hash256,
    /// What it gave.
    pub result: TaskResult,
}

impl Task {
    /// The work that it is, whatever run and number it has: a result counts for equal work only.
    pub(crate) fn identity(&self) -> Result<Hash256> {
        let mut work = self.clone();
        let (run, number, store) = match &mut work {
            Self::Scan(task) => (&mut task.run, &mut task.number, Some(&mut task.store)),
            Self::Load(task) => (&mut task.run, &mut task.number, Some(&mut task.store)),
            Self::Fold(task) => (&mut task.run, &mut task.number, None),
            Self::Digest(task) => (&mut task.run, &mut task.number, None),
        };
        run.0.clear();
        *number = 0;
        // A run has one store, and its URL may hold what no hash should be made of.
        if let Some(store) = store {
            *store = StoreSpec::Embedded;
        }
        let text = serde_json::to_vec(&work)
            .map_err(|e| EngineError::Task { task: self.number(), reason: e.to_string() })?;
        Ok(Hash256::of(&text))
    }

    pub(crate) fn run(&self) -> &RunId {
        match self {
            Self::Scan(task) => &task.run,
            Self::Load(task) => &task.run,
            Self::Fold(task) => &task.run,
            Self::Digest(task) => &task.run,
        }
    }

    pub(crate) fn number(&self) -> u32 {
        match self {
            Self::Scan(task) => task.number,
            Self::Load(task) => task.number,
            Self::Fold(task) => task.number,
            Self::Digest(task) => task.number,
        }
    }

    /// Bytes that it reads, where it only reads.
    pub(crate) fn bytes(&self) -> Option<ByteCount> {
        match self {
            Self::Digest(task) => {
                let PointPartition { base, changes, .. } = &task.partition;
                Some(base.iter().chain(changes).map(|entry| entry.bytes).sum())
            }
            Self::Scan(_) | Self::Load(_) | Self::Fold(_) => None,
        }
    }

    /// Leaves its result in the staging area, where nobody was first.
    pub(crate) async fn put_result(&self, vault: &Vault, result: TaskResult) -> Result<()> {
        let finished = Finished { task: self.identity()?, result };
        vault.put_task_result(self.run(), self.number(), &finished).await?;
        Ok(())
    }
}

/// Segments of a partition, in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScanResult {
    /// Digest of the rows as they were read, before any selection.
    pub read: Digest,
    /// Segments, in key order.
    pub segments: Vec<SegmentEntry>,
    /// Which of them were written now, by position.
    pub new: Vec<u32>,
    /// Stored bytes of those.
    pub bytes_new: ByteCount,
}

/// The changes of a table between two moments, as change segments.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChangesResult {
    /// Change segments, oldest first.
    pub segments: Vec<SegmentEntry>,
    /// Which of them were written now, by position.
    pub new: Vec<u32>,
    /// Stored bytes of those.
    pub bytes_new: ByteCount,
    /// Of a bag: rows counted up, without those counted down.
    pub counted: Digest,
    /// Of the table with them, where that was found out.
    pub digest: Option<Digest>,
}

/// A part of a load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadResult {
    /// Digest of the partition's rows in the vault, before any selection.
    pub read: Digest,
    /// Digest of the rows that were given to the store.
    pub given: Digest,
    /// What the store wrote.
    pub part: LoadedPart,
}

/// What becomes of rows on their way into a load.
#[derive(Debug)]
pub(crate) struct Given {
    /// Their columns and key.
    pub schema: Arc<TableSchema>,
    /// What is left of it.
    pub kept: TableSchema,
    /// The columns that are kept; none means all.
    pub columns: Option<Vec<ColumnId>>,
    /// Which rows are kept; none means all.
    pub condition: Option<Condition>,
    /// Whether rows are hashed; else the store's digest stands for them.
    pub hash: bool,
}

/// Where segments of one table go, and how they are written.
#[derive(Debug)]
pub(crate) struct Segments {
    pub vault: Vault,
    pub table: TableId,
    pub schema: Arc<TableSchema>,
    pub protection: Protection,
    pub profile: Arc<WriterProfile>,
    /// Those that need not be written again.
    pub known: HashMap<Hash256, SegmentEntry>,
}

/// What tasks that scan one table share, so that it is made once a process.
#[derive(Debug)]
pub(crate) struct ScanContext {
    pub to: Segments,
    pub cut: Arc<dyn OpenCut>,
    /// The table as the store has it.
    pub schema: Arc<TableSchema>,
    pub columns: Option<Vec<ColumnId>>,
    pub condition: Option<Condition>,
    /// Whether the store scans in another order than that of encoded keys.
    pub sort: bool,
    /// Told the keys of what is written, where several shards must not share one.
    pub distinct: Option<Arc<Distinct>>,
}

/// Keeps our error for after the store's call, which knows only its own kind.
fn hand_over(place: &Mutex<Option<EngineError>>, error: EngineError) -> StoreError {
    let reason = error.to_string();
    *place.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
    StoreError::Damaged { object: "rows to load".into(), reason }
}

/// The schema that a selection leaves, and its columns where it chooses some.
pub(crate) fn select(
    schema: &TableSchema,
    selection: &Selection,
) -> Result<(TableSchema, Option<Vec<ColumnId>>)> {
    match &selection.columns {
        None => Ok((schema.clone(), None)),
        Some(names) => {
            let kept = schema
                .project(names)
                .map_err(|e| EngineError::Usage { what: "columns".into(), reason: e.to_string() })?;
            let ids = kept.columns.iter().map(|c| c.id).collect();
            Ok((kept, Some(ids)))
        }
    }
}

/// The rows and columns of a batch that a selection keeps.
pub(crate) fn keep(
    schema: &TableSchema,
    columns: Option<&[ColumnId]>,
    condition: Option<&Condition>,
    batch: RecordBatch,
) -> Result<RecordBatch> {
    let batch = match condition {
        Some(condition) => condition.keep(&batch)?,
        None => batch,
    };
    pick(schema, columns, batch)
}

fn advance(progress: &dyn Progress, batch: &RecordBatch) {
    progress.advance(batch.get_array_memory_size() as u64, batch.num_rows() as u64);
}

/// Where a task in a process of its own writes segments: under the keys that its driver planned, or not at all.
async fn segments_to(
    vault: &Vault,
    table: &TableId,
    schema: TableSchema,
    profile: &WriterProfile,
    known: &[ManifestRef],
    encryption: &Encryption,
    key_ids: &str,
) -> Result<Segments> {
    let protection = vault.protection(table, encryption).await?;
    if protection.key_ids() != key_ids {
        return Err(VaultError::TableKeysChanged { table: table.to_string() }.into());
    }
    Ok(Segments {
        vault: vault.clone(),
        table: table.clone(),
        schema: Arc::new(schema),
        protection,
        profile: Arc::new(profile.clone()),
        known: known_segments(vault, known).await?,
    })
}

/// Segments of a table's earlier manifests, by identity.
pub(crate) async fn known_segments(
    vault: &Vault,
    manifests: &[ManifestRef],
) -> Result<HashMap<Hash256, SegmentEntry>> {
    let mut known = HashMap::new();
    for reference in manifests {
        known.extend(vault.read_manifest(reference).await?.segments.into_iter().map(|e| (e.id, e)));
    }
    Ok(known)
}

impl Engine {
    /// Reads partitions of one shard and writes their segments. Safe to run twice.
    pub(crate) async fn scan_partitions(
        &self,
        context: &Arc<ScanContext>,
        partitions: &[Partition],
    ) -> Result<ScanResult> {
        let Some(shard) = partitions.first().map(|p| p.shard.clone()) else {
            return Ok(ScanResult::default());
        };
        let cut = context.cut.clone();
        let mut rows: Rows = futures::stream::iter(partitions.to_vec())
            .then(move |partition| {
                let cut = cut.clone();
                async move {
                    Ok::<_, EngineError>(
                        cut.scan(&partition, &ScanOptions::default()).await?.map_err(EngineError::from),
                    )
                }
            })
            .try_flatten()
            .boxed();
        if context.sort {
            rows = self.in_key_order(&context.schema, rows)?;
        }
        let progress = self.options.progress.clone();
        if context.columns.is_none() && context.condition.is_none() {
            let rows = rows.inspect_ok(move |batch| advance(progress.as_ref(), batch)).boxed();
            return self.write_segments(&context.to, &shard, rows, context.distinct.as_deref()).await;
        }
        let read: Arc<Mutex<Digest>> = Arc::default();
        let (whole, hasher, context_of_rows) =
            (read.clone(), RowHasher::new(&context.schema), context.clone());
        let kept = rows.map(move |batch| {
            let (batch, context) = (batch?, &context_of_rows);
            advance(progress.as_ref(), &batch);
            let mut whole = whole.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            *whole = whole.merge(hasher.digest(&batch)?);
            keep(&context.schema, context.columns.as_deref(), context.condition.as_ref(), batch)
        });
        let mut result =
            self.write_segments(&context.to, &shard, kept.boxed(), context.distinct.as_deref()).await?;
        result.read = *read.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(result)
    }

    /// Merges the changes of a partition into its base and writes segments. Safe to run twice.
    pub(crate) async fn fold_partition(
        &self,
        to: &Segments,
        partition: PointPartition,
    ) -> Result<ScanResult> {
        let shard = partition.shard.clone();
        let rows =
            point::read(to.vault.clone(), to.table.clone(), to.schema.clone(), partition, None).await?;
        let progress = self.options.progress.clone();
        let rows = rows.inspect_ok(move |batch| advance(progress.as_ref(), batch)).boxed();
        self.write_segments(to, &shard, rows, None).await
    }

    /// Writes rows of one shard as segments, but those that are known.
    async fn write_segments(
        &self,
        to: &Segments,
        shard: &ShardId,
        mut rows: Rows,
        distinct: Option<&Distinct>,
    ) -> Result<ScanResult> {
        let mut splitter = Splitter::new(to.schema.clone(), to.profile.target_rows);
        if distinct.is_some() {
            splitter = splitter.keeping_keys();
        }
        let writer = SegmentWriter::new(to.schema.clone(), to.profile.clone(), to.protection.clone());
        let mut result = ScanResult::default();
        // One is put while the next one is read and encoded.
        let mut put: Option<AbortOnDrop<Result<()>>> = None;
        loop {
            if self.options.cancel.is_cancelled() {
                return Err(EngineError::Interrupted);
            }
            let batch = rows.try_next().await?;
            let last = batch.is_none();
            let chunks = match batch {
                Some(batch) if batch.num_rows() == 0 => vec![],
                Some(batch) => splitter.push(batch)?,
                None => splitter.finish()?.into_iter().collect(),
            };
            if let Some(distinct) = distinct {
                distinct.add(&splitter.take_keys()).map_err(crate::distinct::failed)?;
            }
            for chunk in chunks {
                result.read = result.read.merge(chunk.digest);
                let id = writer.identity(&chunk)?;
                if let Some(known) = to.known.get(&id) {
                    // Bounds and shard may differ where an equal run of rows stands elsewhere.
                    let entry = SegmentEntry { shard: shard.clone(), ..known.clone() };
                    result.segments.push(entry);
                    continue;
                }
                let encoded = writer.encode(id, shard, &chunk)?;
                result.new.push(result.segments.len() as u32);
                result.bytes_new += encoded.entry.bytes;
                result.segments.push(encoded.entry.clone());
                let (vault, table) = (to.vault.clone(), to.table.clone());
                let next = async move { Ok(vault.put_segment(&table, &encoded).await.map(drop)?) };
                if let Some(before) = put.replace(AbortOnDrop::spawn(next)) {
                    before.wait().await?;
                }
            }
            if last {
                if let Some(put) = put {
                    put.wait().await?;
                }
                return Ok(result);
            }
        }
    }

    /// The digest of base and changes merged.
    pub(crate) async fn digest_partition(
        &self,
        vault: &Vault,
        table: &TableId,
        schema: &Arc<TableSchema>,
        partition: PointPartition,
    ) -> Result<Digest> {
        let hasher = RowHasher::new(schema);
        let mut rows = point::read(vault.clone(), table.clone(), schema.clone(), partition, None).await?;
        let mut digest = Digest::default();
        while let Some(batch) = rows.try_next().await? {
            if self.options.cancel.is_cancelled() {
                return Err(EngineError::Interrupted);
            }
            digest = digest.merge(hasher.digest(&batch)?);
        }
        Ok(digest)
    }

    /// Reads a partition of a point and gives it to a load. Safe to run twice.
    pub(crate) async fn load_partition(
        &self,
        vault: &Vault,
        load: &dyn Load,
        task: &LoadTask,
    ) -> Result<LoadResult> {
        let schema = Arc::new(task.schema.clone());
        let (kept, columns) = select(&schema, &task.selection)?;
        let condition =
            task.selection.filter.as_deref().map(|f| Condition::compile(self, &schema, f)).transpose()?;
        let everything = columns.is_none() && condition.is_none();
        if let Some(profile) =
            task.profile.as_ref().filter(|_| everything && task.partition.changes.is_empty())
        {
            return self.load_segments(vault, load, task, profile).await;
        }
        let hash = task.hash || !everything;
        let vault = if task.pass_over { vault.passing_over_shredded() } else { vault.clone() };
        let rows =
            point::read(vault, task.table.clone(), schema.clone(), task.partition.clone(), None).await?;
        let given = Arc::new(Given { schema, kept, columns, condition, hash });
        self.give_rows(load, &task.target, task.part, given, rows).await
    }

    /// Gives rows to a load as one part.
    pub(crate) async fn give_rows(
        &self,
        load: &dyn Load,
        target: &TableName,
        number: u32,
        given: Arc<Given>,
        rows: Rows,
    ) -> Result<LoadResult> {
        let hash = given.hash;
        let everything = given.columns.is_none() && given.condition.is_none();
        let digests = Arc::new(Mutex::new((Digest::default(), Digest::default())));
        // A store's call knows only its own errors; ours waits here until the call has failed.
        let failure: Arc<Mutex<Option<EngineError>>> = Arc::default();
        let (hasher, kept_hasher) = (RowHasher::new(&given.schema), RowHasher::new(&given.kept));
        let stream = {
            let (digests, failure, engine) = (digests.clone(), failure.clone(), self.clone());
            rows.map(move |batch| {
                let step = || -> Result<RecordBatch> {
                    if engine.options.cancel.is_cancelled() {
                        return Err(EngineError::Interrupted);
                    }
                    let batch = batch?;
                    engine
                        .options
                        .progress
                        .advance(batch.get_array_memory_size() as u64, batch.num_rows() as u64);
                    if !hash {
                        return Ok(batch);
                    }
                    let read = hasher.digest(&batch)?;
                    let (given, batch) = if everything {
                        (read, batch)
                    } else {
                        let batch =
                            keep(&given.schema, given.columns.as_deref(), given.condition.as_ref(), batch)?;
                        (kept_hasher.digest(&batch)?, batch)
                    };
                    let mut digests = digests.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    digests.0 = digests.0.merge(read);
                    digests.1 = digests.1.merge(given);
                    Ok(batch)
                };
                step().map_err(|e| hand_over(&failure, e))
            })
            .boxed()
        };
        let written = load.write_part(target, number, stream).await;
        if let Some(error) = failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take() {
            return Err(error);
        }
        let part = written?;
        let (read, given) = if hash {
            *digests.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        } else {
            (part.digest, part.digest)
        };
        if part.digest != given {
            return Err(EngineError::RestoreDiffers {
                table: target.to_string(),
                reason: format!("part {number} was given {given} and the store took {}", part.digest),
            });
        }
        Ok(LoadResult { read, given, part })
    }

    /// Gives a partition's segments to a store that takes them as they are. Reading the load back proves them.
    async fn load_segments(
        &self,
        vault: &Vault,
        load: &dyn Load,
        task: &LoadTask,
        profile: &WriterProfile,
    ) -> Result<LoadResult> {
        let json = |e: serde_json::Error| EngineError::Task { task: task.number, reason: e.to_string() };
        let failure: Arc<Mutex<Option<EngineError>>> = Arc::default();
        let (engine, vault, table) = (self.clone(), vault.clone(), task.table.clone());
        let failed = failure.clone();
        let segments = futures::stream::iter(task.partition.base.clone())
            .map(move |entry| {
                let (engine, vault, table) = (engine.clone(), vault.clone(), table.clone());
                async move {
                    if engine.options.cancel.is_cancelled() {
                        return Err(EngineError::Interrupted);
                    }
                    let bytes = vault.read_segment(&table, &entry).await?.bytes;
                    engine.options.progress.advance(bytes.len() as u64, entry.rows);
                    let entry = serde_json::to_value(entry)
                        .map_err(|e| EngineError::Task { task: 0, reason: e.to_string() })?;
                    Ok(StoredSegment { entry, bytes })
                }
            })
            .buffered(2)
            .map(move |segment| segment.map_err(|e| hand_over(&failed, e)))
            .boxed();
        let profile = serde_json::to_value(profile).map_err(json)?;
        let taken = load.take_segments(&task.target, task.part, profile, segments).await;
        if let Some(error) = failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take() {
            return Err(error);
        }
        let part = taken?;
        let stated = task.partition.base.iter().fold(Digest::default(), |d, e| d.merge(e.digest));
        if part.digest != stated {
            return Err(EngineError::RestoreDiffers {
                table: task.target.to_string(),
                reason: format!("part {} was given {stated} and the store took {}", task.part, part.digest),
            });
        }
        Ok(LoadResult { read: stated, given: stated, part })
    }

    /// Runs one task from its JSON and puts its result into the staging area, where the first one counts; returns its own.
    pub fn run_task<'a>(&'a self, task: &'a str) -> LocalBoxFuture<'a, Result<String>> {
        async move {
            let task: Task = serde_json::from_str(task)
                .map_err(|e| EngineError::Usage { what: "task".into(), reason: e.to_string() })?;
            let (vault, result) = match &task {
                Task::Scan(task) => {
                    let vault = self.open_vault_for_task(&task.vault).await?;
                    let store = self.options.stores.open(&task.store).await?;
                    let cut = store.attach_cut(&task.cut).await?;
                    let (kept, columns) = select(&task.schema, &task.selection)?;
                    let condition = task
                        .selection
                        .filter
                        .as_deref()
                        .map(|f| Condition::compile(self, &task.schema, f))
                        .transpose()?;
                    let ordered = task.partitions.first().is_some_and(|p| cut.scans_in_key_order(&p.table));
                    let context = Arc::new(ScanContext {
                        to: segments_to(
                            &vault,
                            &task.table,
                            kept,
                            &task.profile,
                            &task.known,
                            &task.encryption,
                            &task.key_ids,
                        )
                        .await?,
                        cut,
                        schema: Arc::new(task.schema.clone()),
                        columns,
                        condition,
                        sort: !store.capabilities().key_order && !ordered && !task.schema.is_bag(),
                        distinct: None,
                    });
                    let result = self.scan_partitions(&context, &task.partitions).await?;
                    (vault, TaskResult::Scan(result))
                }
                Task::Load(task) => {
                    let vault = self.open_vault_for_task(&task.vault).await?;
                    let store = self.options.stores.open(&task.store).await?;
                    let load = store.attach_load(&task.load).await?;
                    let result = self.load_partition(&vault, load.as_ref(), task).await?;
                    (vault, TaskResult::Load(result))
                }
                Task::Fold(task) => {
                    let vault = self.open_vault_for_task(&task.vault).await?;
                    let schema = task.schema.clone();
                    let to = segments_to(
                        &vault,
                        &task.table,
                        schema,
                        &task.profile,
                        &task.known,
                        &task.encryption,
                        &task.key_ids,
                    )
                    .await?;
                    let result = self.fold_partition(&to, task.partition.clone()).await?;
                    (vault, TaskResult::Scan(result))
                }
                Task::Digest(task) => {
                    let vault = self.open_vault_for_task(&task.vault).await?;
                    let schema = Arc::new(task.schema.clone());
                    let digest =
                        self.digest_partition(&vault, &task.table, &schema, task.partition.clone()).await?;
                    (vault, TaskResult::Digest { digest })
                }
            };
            let json = serde_json::to_string(&result)
                .map_err(|e| EngineError::Task { task: task.number(), reason: e.to_string() })?;
            task.put_result(&vault, result).await?;
            Ok(json)
        }
        .boxed_local()
    }
}
