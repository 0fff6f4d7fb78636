//! Making restore points: one cut over all tables, then per vault scan → write, certify, commit.

use crate::Result;
use crate::api::*;
use crate::condition::Condition;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::incremental::Increment;
use crate::places::Place;
use crate::progress::Work;
use crate::resolve::StoreSpec;
use crate::run::{Resumable, Run};
use crate::session::same_table;
use crate::task::{ScanContext, ScanResult, ScanTask, Task, TaskResult, known_segments, select};
use futures::future::LocalBoxFuture;
use futures::{FutureExt, TryStreamExt};
use keepfast_format::{Manifest, ManifestKind, SegmentEntry, WriterProfile, target_rows_for};
use keepfast_model::{
    BackupName, BackupPoint, ByteCount, Certificate, Digest, Encryption, Hash256, KeyRange, ManifestRef,
    Partition, PointId, ProofKind, Record, TableId, TableName, TablePoint, TableSchema, WriteMode,
};
use keepfast_objects::Put;
use keepfast_sql::Address;
use keepfast_store::{CutOptions, OpenCut, PlanOptions, ProofRequest, ScanOptions, Store, TableAtCut};
use keepfast_vault::{NewObject, Vault, VaultError};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

/// Stored bytes of a row group's worth of rows, as a first guess: most tables shrink to about a third.
const GUESSED_RATIO: f64 = 0.35;
/// Bytes read a second and thread, as a first guess.
const GUESSED_SPEED: f64 = 20e6;
/// Seconds of any backup: opening, planning, committing.
const FIXED_SECONDS: f64 = 0.1;
/// Numbers of tasks that each process of a run has for itself, so that none takes another's result for its own.
const TASKS_A_PROCESS: u32 = 1 << 20;
/// A chain of changes longer than this starts a new base.
const LONGEST_CHAIN: usize = 64;

/// Tables of one store at one cut, on their way into vaults.
pub(crate) struct Source {
    pub spec: StoreSpec,
    pub store: Arc<dyn Store>,
    pub tables: Vec<TableName>,
}

/// Where a backup goes.
#[derive(Debug, PartialEq)]
enum Destination {
    /// Into a vault.
    Vault(Place),
    /// Into a store, as a direct copy.
    Store(String),
}

impl Destination {
    fn place(&self) -> Option<&Place> {
        match self {
            Self::Vault(place) => Some(place),
            Self::Store(_) => None,
        }
    }
}

/// A table as one vault will get it.
pub(crate) struct TableWork {
    pub name: TableName,
    pub id: TableId,
    pub at: TableAtCut,
    pub kept: TableSchema,
    pub previous: Option<TablePoint>,
    pub mode: WriteMode,
    pub why: String,
    pub partitions: Vec<Partition>,
    /// Bytes that an incremental backup is expected to read.
    pub changes_expected: ByteCount,
    pub target_rows: u32,
}

/// A table written and certified, not yet committed.
pub(crate) struct Written {
    pub point: TablePoint,
    pub why: String,
    /// Objects that were written for it.
    pub objects: Vec<NewObject>,
}

impl Engine {
    /// The store and the tables that a request names, as the store writes them.
    pub(crate) async fn find_tables(&self, tables: &TableSet) -> Result<Source> {
        let spec = match tables {
            TableSet::Tables(names) => {
                let mut stores: Vec<Option<&String>> = names.iter().map(|n| n.store.as_ref()).collect();
                stores.dedup();
                match stores.as_slice() {
                    [] => {
                        return Err(EngineError::Usage {
                            what: "tables".into(),
                            reason: "none is named".into(),
                        });
                    }
                    [store] => store.map_or(StoreSpec::Embedded, |s| StoreSpec::Named(s.clone())),
                    _ => {
                        return Err(EngineError::Unsupported {
                            what: "one backup of tables of several stores".into(),
                            reason: "a cut covers one store".into(),
                        });
                    }
                }
            }
            TableSet::Database(name) => match name.split_once('.') {
                Some((store, _)) => StoreSpec::Named(store.to_owned()),
                None => StoreSpec::Embedded,
            },
            TableSet::All => StoreSpec::Embedded,
        };
        let store = self.options.stores.open(&spec).await?;
        let mut found = vec![];
        match tables {
            TableSet::Tables(names) => {
                let listed = store.list_tables(None).await?;
                for name in names {
                    let real = listed
                        .iter()
                        .find(|t| t.table == name.table && t.database == name.database)
                        .or_else(|| {
                            listed.iter().find(|t| {
                                same_table(&TableName { store: name.store.clone(), ..(*t).clone() }, name)
                            })
                        })
                        .ok_or_else(|| keepfast_store::StoreError::NoTable {
                            table: name.to_string(),
                            store: store.to_string(),
                        })?;
                    found.push(real.clone());
                }
            }
            TableSet::Database(name) => {
                let database = name.rsplit('.').next().unwrap_or(name);
                found = store.list_tables(Some(database)).await?;
                found.retain(|t| !is_replaced(t));
                if found.is_empty() {
                    return Err(EngineError::Unknown { what: "table in database", name: name.clone() });
                }
            }
            TableSet::All => found = store.list_tables(None).await?,
        }
        found.sort();
        found.dedup();
        Ok(Source { spec, store, tables: found })
    }

    /// What a backup would do.
    pub fn plan_backup<'a>(&'a self, request: &'a BackupRequest) -> LocalBoxFuture<'a, Result<BackupPlan>> {
        async move {
            let (destinations, source) = self.check_backup(request).await?;
            // Copies into stores read the same tables once more.
            let place = destinations.iter().find_map(Destination::place);
            let cut = source.store.open_cut(&source.tables, &CutOptions { allow_fuzzy: true }).await?;
            let planned = self.plan_at(request, place, &source, &cut).await;
            cut.release().await?;
            let works = planned?;
            let speed = match place {
                Some(place) => self.earlier_speed(place, &source).await?,
                None => None,
            };
            let tables: Vec<TablePlan> = works
                .iter()
                .map(|w| {
                    let ratio = w
                        .previous
                        .as_ref()
                        .map_or(GUESSED_RATIO, |p| p.bytes.0 as f64 / w.at.bytes_expected.0.max(1) as f64);
                    let (read, written) = match w.mode {
                        // Of what is read, one half is as it was and one half as it is.
                        WriteMode::Incremental => (w.changes_expected, w.changes_expected.0 as f64 / 2.0),
                        _ => (w.at.bytes_expected, w.at.bytes_expected.0 as f64),
                    };
                    TablePlan {
                        table: w.name.clone(),
                        mode: w.mode,
                        why: w.why.clone(),
                        rows: w.at.rows_expected,
                        partitions: w.partitions.len() as u32,
                        bytes_read: read,
                        bytes_written: ByteCount((written * ratio) as u64),
                        segment_rows: w.target_rows,
                    }
                })
                .collect();
            let bytes_read: ByteCount = tables.iter().map(|t| t.bytes_read).sum();
            let bytes_written: ByteCount = tables.iter().map(|t| t.bytes_written).sum();
            let seconds = match speed {
                Some(speed) => FIXED_SECONDS + bytes_written.0 as f64 / speed,
                None => bytes_read.0 as f64 / (GUESSED_SPEED * self.options.threads.max(1) as f64),
            };
            Ok(BackupPlan {
                targets: request.to.iter().map(|to| Address::new(to).to_string()).collect(),
                tasks: tables.iter().map(|t| t.partitions).sum(),
                bytes_read,
                bytes_written,
                seconds,
                tables,
            })
        }
        .boxed_local()
    }

    /// Bytes written a second by the newest points that wrote whole tables; none where there are none.
    async fn earlier_speed(&self, place: &Place, source: &Source) -> Result<Option<f64>> {
        let vault = match self.open_vault(place.vault.as_deref()).await {
            Ok(vault) => vault,
            Err(EngineError::Vault(VaultError::NotAVault { .. })) => return Ok(None),
            Err(e) => return Err(e),
        };
        let log = vault.log().await?;
        let (mut bytes, mut ms) = (0, 0);
        let backup = backup_name(place, source)?;
        let points = log.points(&backup).rev();
        for point in points.filter(|p| p.tables.iter().all(|t| t.mode == WriteMode::Full)).take(3) {
            bytes += point.tables.iter().map(|t| t.bytes.0).sum::<u64>();
            ms += point.elapsed_ms;
        }
        Ok((bytes > 0 && ms > 0).then(|| bytes as f64 * 1000.0 / ms as f64))
    }

    async fn check_backup(&self, request: &BackupRequest) -> Result<(Vec<Destination>, Source)> {
        if request.to.is_empty() {
            return Err(EngineError::Usage { what: "TO".into(), reason: "no backup is named".into() });
        }
        let mut destinations = vec![];
        for to in &request.to {
            let destination = if self.options.stores.is_store_url(to) {
                Destination::Store(to.clone())
            } else {
                Destination::Vault(Place::parse(to)?)
            };
            if destination.place().is_some_and(|place| place.point.is_some()) {
                return Err(EngineError::Usage {
                    what: format!("'{}'", Address::new(to)),
                    reason: "a backup's name has no '@'".into(),
                });
            }
            if destinations.contains(&destination) {
                return Err(EngineError::Usage {
                    what: format!("'{}'", Address::new(to)),
                    reason: "it stands twice".into(),
                });
            }
            destinations.push(destination);
        }
        if let Some(mode) = request.encrypt.as_deref().filter(|m| *m != "none") {
            return Err(EngineError::Unsupported {
                what: format!("encryption '{mode}'"),
                reason: "this version writes unencrypted vaults only".into(),
            });
        }
        check_segment_rows(request.segment_rows)?;
        let source = self.find_tables(&request.tables).await?;
        Ok((destinations, source))
    }

    /// Makes a restore point in each target.
    pub fn backup<'a>(&'a self, request: &'a BackupRequest) -> LocalBoxFuture<'a, Result<BackupOutcome>> {
        async move {
            let (destinations, source) = self.check_backup(request).await?;
            let started = Instant::now();
            let mut outcome = BackupOutcome::default();
            let alone = destinations.len() == 1;
            for (destination, to) in destinations.iter().zip(&request.to) {
                let done = match destination {
                    Destination::Vault(place) => self
                        .backup_into(request, place, &source, started)
                        .await
                        .map(|r| outcome.reports.push(r)),
                    Destination::Store(url) => {
                        self.copy_into(request, &source, url).await.map(|r| outcome.copies.push(r))
                    }
                };
                match done {
                    Ok(()) => {}
                    Err(error) if alone || matches!(error, EngineError::Interrupted) => return Err(error),
                    Err(error) => outcome.failed.push((to.clone(), error)),
                }
            }
            self.options.progress.finish();
            Ok(outcome)
        }
        .boxed_local()
    }

    async fn backup_into(
        &self,
        request: &BackupRequest,
        place: &Place,
        source: &Source,
        started: Instant,
    ) -> Result<BackupReport> {
        let vault = self.open_vault_to_write(place.vault.as_deref()).await?;
        let backup = backup_name(place, source)?;
        let fingerprint = fingerprint(request, &backup, source);
        let resumed = Run::resume(self, &vault, &fingerprint, source).await?;
        let (run, cut) = match resumed {
            Some(Resumable { run, cut }) => {
                self.options.progress.note("going on with an interrupted backup");
                (run, cut)
            }
            None => {
                let cut = source.store.open_cut(&source.tables, &CutOptions { allow_fuzzy: true }).await?;
                (Run::start(&vault, &fingerprint, cut.token()).await?, cut)
            }
        };
        let result = self.backup_at(request, place, source, &vault, &backup, &run, &cut, started).await;
        match result {
            Ok(report) => {
                cut.release().await?;
                run.sweep(&vault).await?;
                Ok(report)
            }
            // The cut and the finished tasks wait for the same command.
            Err(EngineError::Interrupted) => {
                cut.keep();
                Err(EngineError::Interrupted)
            }
            Err(error) => {
                // The first error tells more than one that follows from it.
                let _ = cut.release().await;
                let _ = run.sweep(&vault).await;
                Err(error)
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    async fn backup_at(
        &self,
        request: &BackupRequest,
        place: &Place,
        source: &Source,
        vault: &Vault,
        backup: &BackupName,
        run: &Run,
        cut: &Arc<dyn OpenCut>,
        started: Instant,
    ) -> Result<BackupReport> {
        let works = self.plan_at(request, Some(place), source, cut).await?;
        let expected: u64 =
            works.iter().filter(|w| w.mode == WriteMode::Full).map(|w| w.at.rows_expected).sum();
        // How many rows changed is known when they have been read.
        self.options.progress.stage("backup", (expected > 0).then_some(Work::Rows(expected)));
        let staged = self.finished_tasks(vault, run.id()).await?;
        let mut number = match staged.keys().next_back() {
            Some(last) => (last / TASKS_A_PROCESS + 1) * TASKS_A_PROCESS,
            None => 0,
        };
        let finished: HashMap<Hash256, TaskResult> =
            staged.into_values().map(|f| (f.task, f.result)).collect();
        let mut written = vec![];
        for work in works {
            if work.mode == WriteMode::Incremental {
                match self.write_changes(request, source, vault, cut, &work).await? {
                    Increment::Done(point, objects) => {
                        written.push(Written { point: *point, why: work.why, objects });
                        continue;
                    }
                    Increment::NotPossible(reason) if request.mode == Mode::Incremental => {
                        return Err(EngineError::NotIncremental { table: work.name.to_string(), reason });
                    }
                    Increment::NotPossible(reason) => {
                        self.options
                            .progress
                            .note(&format!("table '{}': {reason}; a new base is written", work.name));
                        let full = self.as_full(request, cut, work, reason).await?;
                        written.push(
                            self.write_base(request, source, vault, run, cut, full, &finished, &mut number)
                                .await?,
                        );
                        continue;
                    }
                }
            }
            written
                .push(self.write_base(request, source, vault, run, cut, work, &finished, &mut number).await?);
        }
        if cut.needs_closing() {
            for table in &mut written {
                self.close(request, source, vault, cut, table).await?;
            }
        }
        for table in &written {
            let rows: Arc<dyn crate::source::TableSource> =
                Arc::new(crate::point::PointSource::open(vault.clone(), &table.point, 1).await?);
            self.check_shards(&table.point.name, &rows).await?;
        }
        written.sort_by(|a, b| a.point.name.cmp(&b.point.name));
        let point = BackupPoint {
            backup: backup.clone(),
            run: run.id().clone(),
            store: source.store.kind().to_owned(),
            cut: cut.cut(),
            tables: written.iter().map(|w| w.point.clone()).collect(),
            elapsed_ms: started.elapsed().as_millis() as u64,
            program: concat!("keepfast ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        self.options.progress.stage("commit", None);
        let at = point.cut.clone();
        let objects: Vec<NewObject> = written.iter().flat_map(|w| w.objects.clone()).collect();
        let seq = vault.commit(vec![Record::Point(Box::new(point))], &objects, &()).await?;
        for table in written.iter().filter(|w| w.point.mode != WriteMode::Incremental) {
            // A projection for outside readers: it never decides whether the backup stands.
            self.project(vault, &table.point).await;
        }
        Ok(report(vault, backup.clone(), PointId { backup: backup.clone(), seq }, at, written, started))
    }

    /// Shows the base to Delta readers.
    pub(crate) async fn project(&self, vault: &Vault, table: &TablePoint) {
        let projected = async {
            let manifests = vault.read_manifests(table).await?;
            vault.project_delta(table, &manifests.base).await
        };
        if let Err(error) = projected.await {
            self.options
                .progress
                .note(&format!("the Delta projection of '{}' was not written: {error}", table.name));
        }
    }

    /// What each table needs, at a cut.
    async fn plan_at(
        &self,
        request: &BackupRequest,
        place: Option<&Place>,
        source: &Source,
        cut: &Arc<dyn OpenCut>,
    ) -> Result<Vec<TableWork>> {
        let nowhere = Place::default();
        let backup = backup_name(place.unwrap_or(&nowhere), source)?;
        // A plan must not make a vault; without one there is nothing earlier.
        let vault = match place {
            None => None,
            Some(place) => match self.open_vault(place.vault.as_deref()).await {
                Ok(vault) => Some(vault),
                Err(EngineError::Vault(VaultError::NotAVault { .. })) => None,
                Err(e) => return Err(e),
            },
        };
        let mut works = vec![];
        for name in &source.tables {
            let at = cut.table(name).await?;
            let (kept, _) = select(&at.schema, &request.selection)?;
            if let Some(filter) = &request.selection.filter {
                Condition::compile(self, &at.schema, filter)?;
            }
            let id = Vault::table_id(&backup, source.store.kind(), name, &request.selection);
            let previous = match &vault {
                Some(vault) => self.newest_of(vault, &backup, &id).await?,
                None => None,
            };
            let (mode, why) = choose_mode(request, source, &at, &kept, previous.as_ref());
            let target_rows = previous
                .as_ref()
                .map(|p| p.target_rows)
                .or(request.segment_rows)
                .unwrap_or_else(|| target_rows_for(at.rows_expected));
            let mut work = TableWork {
                name: name.clone(),
                id,
                at,
                kept,
                previous,
                mode,
                why,
                partitions: vec![],
                changes_expected: ByteCount(0),
                target_rows,
            };
            match (mode, &vault, &work.previous) {
                (WriteMode::Full, ..) => {
                    work.partitions = self.partitions(cut, &work, vault.as_ref()).await?
                }
                (_, Some(vault), Some(previous)) => {
                    let from = self.positions_of(vault, previous, &work).await?;
                    // Whether there are changes at all shows when they are read.
                    let expected = cut.changes_expected(&work.name, &from).await;
                    work.changes_expected = expected.ok().flatten().unwrap_or_default();
                }
                _ => {}
            }
            works.push(work);
        }
        if request.mode == Mode::Incremental
            && let Some(work) = works.iter().find(|w| w.mode != WriteMode::Incremental)
        {
            return Err(EngineError::NotIncremental {
                table: work.name.to_string(),
                reason: work.why.clone(),
            });
        }
        Ok(works)
    }

    async fn partitions(
        &self,
        cut: &Arc<dyn OpenCut>,
        work: &TableWork,
        vault: Option<&Vault>,
    ) -> Result<Vec<Partition>> {
        let mut bounds = vec![];
        if let (Some(vault), Some(previous)) = (vault, &work.previous) {
            for reference in &previous.base {
                bounds.extend(
                    vault
                        .read_manifest(reference)
                        .await?
                        .segments
                        .into_iter()
                        .filter_map(|e| e.min)
                        .map(|m| m.0),
                );
            }
            bounds.sort();
        }
        let wanted = self.tasks_for(work.at.bytes_expected);
        let partitions = cut.plan(&work.name, &PlanOptions { partitions: wanted, bounds }).await?;
        check_cover(&work.name, work.at.schema.is_bag(), &partitions)?;
        Ok(partitions)
    }

    async fn as_full(
        &self,
        request: &BackupRequest,
        cut: &Arc<dyn OpenCut>,
        mut work: TableWork,
        why: String,
    ) -> Result<TableWork> {
        work.mode = WriteMode::Full;
        work.why = why;
        if work.previous.as_ref().is_some_and(|p| !same_columns(&p.schema, &work.kept)) {
            work.target_rows = request.segment_rows.unwrap_or(work.target_rows);
        }
        work.partitions = self.partitions(cut, &work, None).await?;
        Ok(work)
    }

    #[allow(clippy::too_many_arguments)]
    async fn write_base(
        &self,
        request: &BackupRequest,
        source: &Source,
        vault: &Vault,
        run: &Run,
        cut: &Arc<dyn OpenCut>,
        work: TableWork,
        finished: &HashMap<Hash256, TaskResult>,
        number: &mut u32,
    ) -> Result<Written> {
        let profile = Arc::new(self.profile(vault, cut, &work, request).await?);
        let (kept, columns) = select(&work.at.schema, &request.selection)?;
        let condition = request
            .selection
            .filter
            .as_deref()
            .map(|f| Condition::compile(self, &work.at.schema, f))
            .transpose()?;
        let known_in: Vec<ManifestRef> = work.previous.as_ref().map(|p| p.base.clone()).unwrap_or_default();
        let context = Arc::new(ScanContext {
            vault: vault.clone(),
            cut: cut.clone(),
            schema: Arc::new(work.at.schema.clone()),
            kept: Arc::new(kept.clone()),
            columns,
            condition,
            table: work.id.clone(),
            profile: profile.clone(),
            known: known_segments(vault, &known_in).await?,
            sort: !source.store.capabilities().key_order && !work.at.schema.is_bag(),
        });
        let first = *number;
        let mut jobs = vec![];
        // A shard that is scanned in another order is sorted as a whole.
        let groups: Vec<Vec<Partition>> = if context.sort {
            work.partitions.chunk_by(|a, b| a.shard == b.shard).map(<[_]>::to_vec).collect()
        } else {
            work.partitions.iter().map(|p| vec![p.clone()]).collect()
        };
        for partitions in groups {
            let task = ScanTask {
                run: run.id().clone(),
                number: *number,
                vault: vault.url().to_owned(),
                store: source.spec.clone(),
                cut: cut.token().unwrap_or_default(),
                partitions: partitions.clone(),
                schema: work.at.schema.clone(),
                selection: request.selection.clone(),
                table: work.id.clone(),
                profile: profile.as_ref().clone(),
                known: known_in.clone(),
            };
            *number += 1;
            let task = Task::Scan(Box::new(task));
            // The same work, whatever its number was: other options plan other partitions.
            let done = match finished.get(&task.identity()?) {
                Some(TaskResult::Scan(result)) => Some(result.clone()),
                _ => None,
            };
            let (engine, context, worker) = (self.clone(), context.clone(), self.options.worker.clone());
            let replayable = cut.token().is_some();
            jobs.push(async move {
                if let Some(done) = done {
                    return Ok(done);
                }
                if let (Some(command), true) = (worker, replayable) {
                    let vault = context.vault.clone();
                    return match engine.in_worker(&command, &vault, &task).await? {
                        TaskResult::Scan(result) => Ok(result),
                        TaskResult::Load(_) => {
                            Err(EngineError::Task { task: 0, reason: "its result is of another kind".into() })
                        }
                    };
                }
                let result = engine.scan_partitions(&context, &partitions).await?;
                if replayable {
                    task.put_result(&context.vault, TaskResult::Scan(result.clone())).await?;
                }
                Ok(result)
            });
        }
        let results = self.in_parallel(jobs).await?;
        self.assemble(request, vault, cut, work, profile.as_ref(), kept, results, first).await
    }

    /// Certifies what was read and lists it in manifests.
    #[allow(clippy::too_many_arguments)]
    async fn assemble(
        &self,
        request: &BackupRequest,
        vault: &Vault,
        cut: &Arc<dyn OpenCut>,
        work: TableWork,
        profile: &WriterProfile,
        kept: TableSchema,
        results: Vec<ScanResult>,
        first_task: u32,
    ) -> Result<Written> {
        let read = results.iter().fold(Digest::default(), |d, r| d.merge(r.read));
        let segments: Vec<SegmentEntry> = results.iter().flat_map(|r| r.segments.iter().cloned()).collect();
        let digest = segments.iter().fold(Digest::default(), |d, s| d.merge(s.digest));
        if request.selection.is_all() && digest != read {
            return Err(EngineError::NotCertified {
                table: work.name.to_string(),
                reason: format!("{read} was read and {digest} was written"),
            });
        }
        check_order(&work.name, &segments)?;
        let (sample, sampled) = sample(&work.partitions, &results, first_task);
        let proof_request = ProofRequest { full: request.certify == Certify::Full, ranges: vec![sample] };
        let partitions = work.partitions.len() as u32;
        let certificate = if cut.needs_closing() {
            // What was scanned is not the cut yet; `close` certifies it.
            counted(read.rows, partitions)
        } else {
            certify(cut, &work.name, &proof_request, read, sampled, partitions).await?
        };
        let certificate = if digest.rows == read.rows {
            certificate
        } else {
            // The proof is of all rows that were read; the condition kept some of them.
            let method =
                format!("{}; {} of {} rows meet the condition", certificate.method, digest.rows, read.rows);
            Certificate { rows: digest.rows, method, ..certificate }
        };
        let new: u32 = results.iter().map(|r| r.new.len() as u32).sum();
        let mut bytes_new: ByteCount = results.iter().map(|r| r.bytes_new).sum();
        let mut objects: Vec<NewObject> = results
            .iter()
            .flat_map(|r| r.new.iter().filter_map(|at| r.segments.get(*at as usize)))
            .map(|entry| Vault::segment_object(&work.id, entry))
            .collect();
        let mut base = vec![];
        for page in Manifest::pages(ManifestKind::Segments, &work.id, &kept, profile, segments) {
            let (reference, put) = vault.put_manifest(&page).await?;
            if put == Put::Created {
                bytes_new += reference.bytes;
                objects.push(Vault::manifest_object(&reference));
            }
            base.push(reference);
        }
        let segment_bytes: ByteCount = results.iter().flat_map(|r| &r.segments).map(|s| s.bytes).sum();
        let bytes = segment_bytes + base.iter().map(|m| m.bytes).sum();
        let point = TablePoint {
            id: work.id,
            name: work.name,
            selection: request.selection.clone(),
            schema: kept,
            mode: WriteMode::Full,
            base,
            changes: vec![],
            digest,
            bytes,
            segments_new: new,
            bytes_new,
            certificate,
            encryption: Encryption::None,
            dependents: work.at.dependents,
            target_rows: work.target_rows,
            profile: profile.id(),
        };
        Ok(Written { point, why: work.why, objects })
    }

    /// The writer profile: the table's own where it has one, else chosen from its first rows.
    async fn profile(
        &self,
        vault: &Vault,
        cut: &Arc<dyn OpenCut>,
        work: &TableWork,
        request: &BackupRequest,
    ) -> Result<WriterProfile> {
        if let Some(previous) = &work.previous
            && same_columns(&previous.schema, &work.kept)
            && let Some(reference) = previous.base.first()
        {
            return Ok(vault.read_manifest(reference).await?.profile);
        }
        let mut sample = vec![];
        if let Some(partition) = work.partitions.first() {
            let (_, columns) = select(&work.at.schema, &request.selection)?;
            let mut rows = cut.scan(partition, &ScanOptions::default()).await?;
            while sample.len() < 4 {
                let Some(batch) = rows.try_next().await? else { break };
                sample.push(crate::source::pick(&work.at.schema, columns.as_deref(), batch)?);
            }
        }
        Ok(WriterProfile::choose(&work.kept, &sample, work.target_rows))
    }

    /// The newest state of a table in a backup.
    async fn newest_of(
        &self,
        vault: &Vault,
        backup: &BackupName,
        id: &TableId,
    ) -> Result<Option<TablePoint>> {
        let log = vault.log().await?;
        Ok(log.points(backup).rev().find_map(|p| p.tables.iter().find(|t| t.id == *id).cloned()))
    }
}

/// Refuses a number of rows that segments cannot aim at.
pub(crate) fn check_segment_rows(rows: Option<u32>) -> Result<()> {
    match rows {
        Some(rows) if !rows.is_power_of_two() || !(16..=1 << 24).contains(&rows) => Err(EngineError::Usage {
            what: "segment rows".into(),
            reason: format!("{rows} is not a power of two between 16 and 16777216"),
        }),
        _ => Ok(()),
    }
}

/// Whether it is a table that a restore replaced and keeps.
pub(crate) fn is_replaced(name: &TableName) -> bool {
    name.table.contains("__replaced_")
}

fn backup_name(place: &Place, source: &Source) -> Result<BackupName> {
    match (&place.backup, source.tables.first()) {
        (Some(name), _) => Ok(name.clone()),
        (None, Some(table)) => Ok(table.table.parse()?),
        (None, None) => Err(EngineError::Usage {
            what: "backup".into(),
            reason: "it has neither a name nor a table".into(),
        }),
    }
}

/// What makes two runs of one command the same.
fn fingerprint(request: &BackupRequest, backup: &BackupName, source: &Source) -> String {
    let tables: Vec<String> = source.tables.iter().map(ToString::to_string).collect();
    let text =
        format!("{backup}\n{tables:?}\n{:?}\n{:?}\n{:?}", source.spec, request.selection, request.mode);
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

/// Whether two schemas have the same columns of the same types with the same ids.
pub(crate) fn same_columns(a: &TableSchema, b: &TableSchema) -> bool {
    a.key == b.key
        && a.columns.len() == b.columns.len()
        && a.columns
            .iter()
            .zip(&b.columns)
            .all(|(x, y)| x.id == y.id && x.column_type == y.column_type && x.name == y.name)
}

fn choose_mode(
    request: &BackupRequest,
    source: &Source,
    at: &TableAtCut,
    kept: &TableSchema,
    previous: Option<&TablePoint>,
) -> (WriteMode, String) {
    let full = |why: &str| (WriteMode::Full, why.to_owned());
    if request.mode == Mode::Full {
        return full("asked for");
    }
    let Some(previous) = previous else { return full("the first backup of this table and selection") };
    if !source.store.capabilities().changes {
        return full("the store has no change log");
    }
    if previous.schema.key != at.schema.key && request.selection.columns.is_none() {
        return full("the key changed");
    }
    if kept.is_bag() && !request.selection.is_all() {
        return full("a table without a key, or without its key columns, follows changes only as a whole");
    }
    if previous.changes.len() >= LONGEST_CHAIN && request.mode == Mode::Auto {
        return full("the chain of changes is long");
    }
    let base: u64 = previous.base.iter().map(|m| m.bytes.0).sum();
    let changes: u64 = previous.changes.iter().map(|m| m.manifest.rows).sum();
    if request.mode == Mode::Auto && base > 0 && changes > previous.digest.rows / 2 && changes > 10_000 {
        return full("changes since the base are more than half of it");
    }
    (WriteMode::Incremental, "changes since the last point".to_owned())
}

/// Checks that partitions cover all keys without gap or overlap. Those of a bag, and pieces that a store cuts in its
/// own order, have no keys to check; the store's count is what proves them.
fn check_cover(table: &TableName, bag: bool, partitions: &[Partition]) -> Result<()> {
    let refuse = |reason: String| Err(EngineError::NotCertified { table: table.to_string(), reason });
    if partitions.is_empty() {
        return refuse("the store planned no partition".into());
    }
    if bag || partitions.iter().all(|p| p.range.is_all()) {
        return Ok(());
    }
    let mut ends: HashMap<&keepfast_model::ShardId, Option<&keepfast_model::KeyBytes>> = HashMap::new();
    for p in partitions {
        match (ends.get(&p.shard), &p.range.start) {
            (None, None) => {}
            (None, Some(start)) => {
                return refuse(format!("shard '{}' is read from key {start} on only", p.shard));
            }
            (Some(None), _) => {
                return refuse(format!("partitions of shard '{}' overlap after its last", p.shard));
            }
            (Some(Some(end)), Some(start)) if *end == start => {}
            (Some(Some(end)), start) => {
                return refuse(format!(
                    "a partition of shard '{}' ends at key {end} and the next starts at {}",
                    p.shard,
                    start.as_ref().map_or_else(|| "the beginning".to_owned(), ToString::to_string)
                ));
            }
        }
        ends.insert(&p.shard, p.range.end.as_ref());
    }
    match ends.iter().find(|(_, end)| end.is_some()) {
        Some((shard, Some(end))) => refuse(format!("shard '{shard}' is read up to key {end} only")),
        _ => Ok(()),
    }
}

/// The range whose checksum is asked for, and the digest of what was read of it: a partition that rotates from run to
/// run, or everything where partitions are not ranges of one shard's keys.
fn sample(partitions: &[Partition], results: &[ScanResult], run: u32) -> (KeyRange, Option<Digest>) {
    let ranges =
        partitions.len() == results.len() && partitions.iter().all(|p| p.shard == partitions[0].shard);
    let at =
        (jiff::Timestamp::now().as_second() as usize).wrapping_add(run as usize) % partitions.len().max(1);
    match (partitions.get(at), results.get(at)) {
        (Some(partition), Some(result)) if ranges => (partition.range.clone(), Some(result.read)),
        _ => (KeyRange::default(), None),
    }
}

/// Checks that segments of one shard ascend without touching.
fn check_order(table: &TableName, segments: &[SegmentEntry]) -> Result<()> {
    for pair in segments.windows(2) {
        if let (Some(max), Some(min)) = (&pair[0].max, &pair[1].min)
            && pair[0].shard == pair[1].shard
            && min <= max
        {
            return Err(EngineError::NotCertified {
                table: table.to_string(),
                reason: format!("key {min} was read after key {max}: rows are doubled or out of order"),
            });
        }
    }
    Ok(())
}

fn counted(rows: u64, partitions: u32) -> Certificate {
    Certificate {
        kind: ProofKind::Own,
        rows,
        partitions,
        content_percent: 0,
        method: "rows counted while they were read".into(),
        at: jiff::Timestamp::now(),
    }
}

/// Compares what was read with what the store itself says.
pub(crate) async fn certify(
    cut: &Arc<dyn OpenCut>,
    table: &TableName,
    request: &ProofRequest,
    read: Digest,
    sampled: Option<Digest>,
    partitions: u32,
) -> Result<Certificate> {
    let refuse = |reason: String| Err(EngineError::NotCertified { table: table.to_string(), reason });
    let at = jiff::Timestamp::now();
    let Some(proof) = cut.prove(table, request).await? else {
        if request.full {
            return refuse("the store has no checksums of its own, and certify = full asks for them".into());
        }
        return Ok(counted(read.rows, partitions));
    };
    if proof.rows != read.rows {
        return refuse(format!("the store counts {} rows and {} were read", proof.rows, read.rows));
    }
    let mut covered = 0;
    for range in &proof.ranges {
        let ours = if range.range.is_all() {
            Some(read)
        } else if request.ranges.contains(&range.range) {
            sampled
        } else {
            None
        };
        match ours {
            Some(ours) if ours == range.digest => covered += ours.rows,
            Some(ours) => {
                return refuse(format!(
                    "the store's checksum is {} and that of the rows read is {ours}",
                    range.digest
                ));
            }
            None => {}
        }
    }
    if request.full && covered < read.rows {
        return refuse(format!(
            "the store's checksums cover {covered} of {} rows, and certify = full asks for all",
            read.rows
        ));
    }
    let percent = (covered.min(read.rows) * 100).checked_div(read.rows).unwrap_or(100);
    Ok(Certificate {
        kind: ProofKind::Source,
        rows: proof.rows,
        partitions,
        content_percent: percent as u8,
        method: proof.method,
        at,
    })
}

/// The report of a point.
pub(crate) fn report(
    vault: &Vault,
    backup: BackupName,
    point: PointId,
    cut: keepfast_model::Cut,
    written: Vec<Written>,
    started: Instant,
) -> BackupReport {
    let tables = written
        .into_iter()
        .map(|w| BackupTableReport {
            table: w.point.name,
            mode: w.point.mode,
            why: w.why,
            rows: w.point.digest.rows,
            digest: w.point.digest,
            segments: w.point.base.iter().map(|m| m.segments).sum::<u32>()
                + w.point.changes.iter().map(|m| m.manifest.segments).sum::<u32>(),
            segments_new: w.point.segments_new,
            bytes: w.point.bytes,
            bytes_new: w.point.bytes_new,
            certificate: w.point.certificate,
        })
        .collect();
    BackupReport {
        backup,
        point,
        vault: vault.url().to_owned(),
        cut,
        tables,
        seconds: started.elapsed().as_secs_f64(),
    }
}
