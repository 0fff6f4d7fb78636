//! Making restore points: one cut over all tables, then per vault scan → write, certify, commit.

use crate::Result;
use crate::api::*;
use crate::certify::{certify, check_order, counted, sample};
use crate::condition::Condition;
use crate::dispatch::RunTasks;
use crate::distinct::Distinct;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::incremental::Increment;
use crate::places::Place;
use crate::plan::{Destination, Source, TableWork, backup_name, same_columns};
use crate::point::PointSource;
use crate::progress::Work;
use crate::run::{Resumable, Run};
use crate::task::{ScanContext, ScanResult, ScanTask, Segments, Task, TaskResult, known_segments, select};
use futures::future::LocalBoxFuture;
use futures::{FutureExt, TryStreamExt};
use keepfast_format::{Manifest, ManifestKind, Protection, SegmentEntry, WriterProfile};
use keepfast_model::{
    BackupName, BackupPoint, ByteCount, Certificate, Digest, ManifestRef, Partition, PointId, Record,
    TablePoint, TableSchema, WriteMode,
};
use keepfast_store::{OpenCut, ProofRequest, ScanOptions};
use keepfast_vault::{NewObject, Point, Vault};
use std::sync::Arc;
use std::time::Instant;

/// A table written and certified, not yet committed.
pub(crate) struct Written {
    pub point: TablePoint,
    pub why: String,
    /// Objects that were written for it.
    pub objects: Vec<NewObject>,
    /// Keys of which nobody knows yet whether they stand in one shard only.
    pub unchecked: Unchecked,
}

/// Keys that may stand in two shards.
#[derive(Debug, Default)]
pub(crate) struct Unchecked {
    /// All of the base.
    pub base: bool,
    /// Those that these change segments put.
    pub changes: Vec<SegmentEntry>,
}

impl Engine {
    /// Makes a restore point in each target.
    pub fn backup<'a>(&'a self, request: &'a BackupRequest) -> LocalBoxFuture<'a, Result<BackupOutcome>> {
        async move {
            let (destinations, source) = self.check_backup(request).await?;
            let started = Instant::now();
            let required = request.required(&self.options.defaults);
            let mut outcome = BackupOutcome { required, ..BackupOutcome::default() };
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
        let vault = self.retaining(request, vault).await?;
        let backup = backup_name(place, source)?;
        let fingerprint = fingerprint(request, &backup, source);
        let resumed = match request.until {
            // Its moment is found anew; what it reads is little.
            Some(_) => None,
            None => Run::resume(self, &vault, &backup, &fingerprint, source).await?,
        };
        let (run, (cut, base)) = match resumed {
            Some(Resumable { run, cut }) => {
                self.options.progress.note("going on with an interrupted backup");
                (run, (cut, None))
            }
            None => {
                let head = vault.log().await?.head().map(|(seq, _)| seq);
                let (cut, base) = self.take_cut(request, Some(place), source).await?;
                (Run::start(self, &vault, &fingerprint, cut.token(), head).await?, (cut, base))
            }
        };
        let at = (&cut, base.as_ref());
        let result = self.backup_at(request, place, source, &vault, &backup, &run, at, started).await;
        match result {
            Ok(report) => {
                cut.release().await?;
                run.sweep(self, &vault).await?;
                self.compare_head(&vault).await?;
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
                let _ = run.sweep(self, &vault).await;
                Err(error)
            }
        }
    }

    /// The vault with the locks that were asked for. Beside a target that can lock, one of a kind that cannot goes
    /// without, and that is said.
    async fn retaining(&self, request: &BackupRequest, vault: Vault) -> Result<Vault> {
        let Some(retain) = request.retain.over(self.options.defaults.retain)? else { return Ok(vault) };
        let elsewhere = |to: &String| {
            let place = Place::parse(to).ok();
            place.is_some_and(|p| self.can_lock(p.vault.as_deref()))
        };
        if vault.target().immutability().is_none() && request.to.iter().any(elsewhere) {
            self.options
                .progress
                .note(&format!("{} cannot lock objects; the point there is not locked", vault.url()));
            return Ok(vault);
        }
        Ok(vault.retaining(retain).await?)
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
        (cut, base): (&Arc<dyn OpenCut>, Option<&Point>),
        started: Instant,
    ) -> Result<BackupReport> {
        let works = self.plan_at(request, Some(place), source, cut, base).await?;
        for work in &works {
            vault.encrypt_table(&work.id, &work.encryption).await?;
        }
        let expected: u64 =
            works.iter().filter(|w| w.mode == WriteMode::Full).map(|w| w.at.rows_expected).sum();
        // How many rows changed is known when they have been read.
        self.options.progress.stage("backup", (expected > 0).then_some(Work::Rows(expected)));
        let mut tasks = RunTasks::of(vault, run.id(), cut.token().is_some()).await?;
        let mut written = vec![];
        for work in works {
            if work.mode == WriteMode::Incremental {
                match self.write_changes(request, source, vault, cut, &work, &mut tasks).await? {
                    Increment::Done(point, objects, changes) => {
                        let unchecked = Unchecked { base: false, changes };
                        written.push(Written { point: *point, why: work.why, objects, unchecked });
                        continue;
                    }
                    Increment::NotPossible(reason) if request.only_changes() => {
                        return Err(EngineError::NotIncremental { table: work.name.to_string(), reason });
                    }
                    Increment::NotPossible(reason) => {
                        self.options
                            .progress
                            .note(&format!("table '{}': {reason}; a new base is written", work.name));
                        let full = self.as_full(request, cut, work, reason).await?;
                        written.push(self.write_base(request, source, vault, cut, full, &mut tasks).await?);
                        continue;
                    }
                }
            }
            written.push(self.write_base(request, source, vault, cut, work, &mut tasks).await?);
        }
        if cut.needs_closing() {
            for table in &mut written {
                self.close(request, source, vault, cut, table, &mut tasks).await?;
            }
        }
        for table in &written {
            let rows = match &table.unchecked {
                Unchecked { base: true, .. } => PointSource::open(vault.clone(), &table.point, 1).await?,
                Unchecked { changes, .. } if changes.is_empty() => continue,
                Unchecked { changes, .. } => PointSource::touched(vault, &table.point, changes).await?,
            };
            self.check_shards(&table.point.name, &(Arc::new(rows) as _)).await?;
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
            lock: None,
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

    async fn write_base(
        &self,
        request: &BackupRequest,
        source: &Source,
        vault: &Vault,
        cut: &Arc<dyn OpenCut>,
        work: TableWork,
        tasks: &mut RunTasks,
    ) -> Result<Written> {
        let profile = Arc::new(self.profile(vault, cut, &work, request).await?);
        let (kept, columns) = select(&work.at.schema, &request.selection)?;
        let condition = request
            .selection
            .filter
            .as_deref()
            .map(|f| Condition::compile(self, &work.at.schema, f))
            .transpose()?;
        // All of the table is written under these keys, or the commit refuses it.
        let protection = vault.protection(&work.id, &work.encryption).await?;
        let known_in: Vec<ManifestRef> = work.previous.as_ref().map(|p| p.base.clone()).unwrap_or_default();
        let several = work.partitions.iter().any(|p| p.shard != work.partitions[0].shard) && !kept.is_bag();
        let context = Arc::new(ScanContext {
            to: Segments {
                vault: vault.clone(),
                table: work.id.clone(),
                schema: Arc::new(kept.clone()),
                protection: protection.clone(),
                profile: profile.clone(),
                known: known_segments(vault, &known_in).await?,
            },
            cut: cut.clone(),
            schema: Arc::new(work.at.schema.clone()),
            columns,
            condition,
            distinct: several.then(|| Arc::new(Distinct::new())),
            sort: !source.store.capabilities().key_order
                && !cut.scans_in_key_order(&work.name)
                && !work.at.schema.is_bag(),
        });
        let mut jobs = vec![];
        let mut first = None;
        // A shard that is scanned in another order is sorted as a whole.
        let groups: Vec<Vec<Partition>> = if context.sort {
            work.partitions.chunk_by(|a, b| a.shard == b.shard).map(<[_]>::to_vec).collect()
        } else {
            work.partitions.iter().map(|p| vec![p.clone()]).collect()
        };
        for partitions in groups {
            let number = tasks.number();
            let task = ScanTask {
                run: tasks.run().clone(),
                number,
                vault: vault.url().to_owned(),
                store: source.spec.clone(),
                cut: cut.token().unwrap_or_default(),
                partitions: partitions.clone(),
                schema: work.at.schema.clone(),
                selection: request.selection.clone(),
                table: work.id.clone(),
                profile: profile.as_ref().clone(),
                known: known_in.clone(),
                encryption: work.encryption.clone(),
                key_ids: protection.key_ids().to_owned(),
            };
            first.get_or_insert(number);
            let (engine, context) = (self.clone(), context.clone());
            jobs.push(self.job(tasks, vault, Task::Scan(Box::new(task)), async move {
                Ok(TaskResult::Scan(engine.scan_partitions(&context, &partitions).await?))
            })?);
        }
        let results = self.in_parallel(jobs).await?;
        let results = results.into_iter().map(TaskResult::scan).collect::<Result<Vec<_>>>()?;
        let first = first.unwrap_or_default();
        let rows = results.iter().flat_map(|r: &ScanResult| &r.segments).map(|s| s.rows).sum();
        // Beside the certificate, which waits for the store.
        let proven =
            context.distinct.clone().map(|all| tokio::task::spawn_blocking(move || all.proves(rows)));
        let mut written = self
            .assemble(request, vault, cut, work, profile.as_ref(), &protection, kept, results, first)
            .await?;
        if let Some(proven) = proven {
            let proven = proven.await.unwrap_or_else(|e| Err(std::io::Error::other(e)));
            written.unchecked.base = !proven.map_err(crate::distinct::failed)?;
        }
        Ok(written)
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
        protection: &Protection,
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
        let pages = Manifest::pages(ManifestKind::Segments, &work.id, &kept, profile, segments);
        let earlier = work.previous.as_ref().map(|p| p.base.as_slice()).unwrap_or_default();
        let listed = vault.put_manifests(pages, &work.encryption, work.parity, earlier).await?;
        bytes_new += listed.bytes_new;
        objects.extend(listed.objects);
        let segment_bytes: ByteCount = results.iter().flat_map(|r| &r.segments).map(|s| s.bytes).sum();
        let bytes = segment_bytes + listed.bytes;
        let id = work.id;
        let point = TablePoint {
            id: id.clone(),
            name: work.name,
            selection: request.selection.clone(),
            schema: kept,
            mode: WriteMode::Full,
            base: listed.references,
            changes: vec![],
            digest,
            bytes,
            segments_new: new,
            bytes_new,
            certificate,
            encryption: work.encryption,
            key_ids: protection.key_ids().to_owned(),
            sealed: None,
            dependents: work.at.dependents,
            target_rows: work.target_rows,
            profile: profile.id(),
            parity: work.parity,
        };
        Ok(Written { point, why: work.why, objects, unchecked: Unchecked::default() })
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
}

/// What makes two runs of one command the same.
fn fingerprint(request: &BackupRequest, backup: &BackupName, source: &Source) -> String {
    let tables: Vec<String> = source.tables.iter().map(ToString::to_string).collect();
    let text = format!(
        "{backup}\n{tables:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}",
        source.spec, request.selection, request.mode, request.until, request.encrypt
    );
    blake3::hash(text.as_bytes()).to_hex().to_string()
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
