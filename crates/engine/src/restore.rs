//! Bringing tables back: loaded beside what exists, read back and verified, then published as the store can.

use crate::Result;
use crate::api::*;
use crate::condition::Condition;
use crate::damaged::Undamaged;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::places::table_of;
use crate::plan::check_segment_rows;
use crate::point::{self, entries};
use crate::progress::Work;
use crate::resolve::StoreSpec;
use crate::resume::{Given, Loading, Verified, note_task};
use crate::session::same_table;
use crate::shredded::Shredded;
use crate::source::{LiveSource, TableSource};
use crate::task::{LoadResult, LoadTask, Task, select};
use crate::undo::Remembered;
use futures::future::LocalBoxFuture;
use futures::{FutureExt, TryStreamExt};
use keepfast_model::{
    ByteCount, Digest, Encryption, PointId, RowHasher, RunId, TableName, TablePoint, TableShape,
};
use keepfast_store::load::LoadTable;
use keepfast_store::{Load, LoadMode, PublishKind, Store};
use keepfast_vault::{Vault, VaultError};
use std::sync::Arc;
use std::time::Instant;

/// Bytes restored a second and thread, as a first guess.
const GUESSED_SPEED: f64 = 60e6;

/// A table of a point on its way to a name in a store.
struct Job {
    from: TablePoint,
    to: TableName,
    mode: LoadMode,
    existing: Option<String>,
    shredded: Shredded,
}

/// Where a restore goes, and what it brings.
struct Prepared {
    vault: Vault,
    id: PointId,
    spec: StoreSpec,
    store: Arc<dyn Store>,
    jobs: Vec<Job>,
}

impl RestoreRequest {
    /// Whether the store can take this table's segments as they are.
    fn takes_segments(&self, prepared: &Prepared, job: &Job) -> bool {
        prepared.store.capabilities().segments
            && self.selection.is_all()
            && self.segment_rows.is_none()
            && job.mode != LoadMode::Merge
            && job.from.encryption == Encryption::None
            && job.from.schema.shape == TableShape::Rows
            && !job.from.schema.is_bag()
    }
}

/// The store that a restore writes: the one that `INTO` or the tables' names say, else the embedded one.
fn restored_into(request: &RestoreRequest) -> Result<StoreSpec> {
    if let Some(url) = &request.into {
        return Ok(StoreSpec::Url(url.clone()));
    }
    let mut named: Vec<Option<&str>> = match &request.tables {
        TableSet::All => vec![],
        TableSet::Database(name) => vec![name.split_once('.').map(|(store, _)| store)],
        TableSet::Tables(names) => names
            .iter()
            .enumerate()
            .map(|(i, name)| {
                let rename = request.rename.get(i).and_then(Option::as_ref);
                rename.and_then(|r| r.store.as_deref()).or(name.store.as_deref())
            })
            .collect(),
    };
    named.dedup();
    match named.as_slice() {
        [] | [None] => Ok(StoreSpec::Embedded),
        [Some(store)] => Ok(StoreSpec::Named((*store).to_owned())),
        _ => Err(EngineError::Unsupported {
            what: "one restore into several stores".into(),
            reason: "it publishes in one store".into(),
        }),
    }
}

impl Engine {
    async fn prepare_restore(&self, request: &RestoreRequest) -> Result<Prepared> {
        check_segment_rows(request.segment_rows)?;
        let found = self.find_backup(&request.from).await?;
        let (id, point) = self.find_point(&found, &request.as_of).await?;
        let wanted: Vec<(&TablePoint, Option<TableName>)> = match &request.tables {
            TableSet::All => point.tables.iter().map(|t| (t, None)).collect(),
            TableSet::Database(name) => {
                let database = name.rsplit('.').next().unwrap_or(name);
                let tables: Vec<_> = point
                    .tables
                    .iter()
                    .filter(|t| t.name.database.eq_ignore_ascii_case(database))
                    .map(|t| (t, None))
                    .collect();
                if tables.is_empty() {
                    return Err(EngineError::NotInPoint {
                        table: format!("{database}.*"),
                        point: id.to_string(),
                        holds: point.tables.iter().map(|t| t.name.to_string()).collect::<Vec<_>>().join(", "),
                    });
                }
                tables
            }
            TableSet::Tables(names) => names
                .iter()
                .enumerate()
                .map(|(i, name)| {
                    Ok((table_of(&id, &point.tables, name)?, request.rename.get(i).cloned().flatten()))
                })
                .collect::<Result<_>>()?,
        };
        for (table, _) in &wanted {
            found.vault.check_open(table)?;
        }
        let spec = restored_into(request)?;
        let store = self.options.stores.open(&spec).await?;
        let publish = store.capabilities().publish.ok_or_else(|| EngineError::Unsupported {
            what: format!("a restore into {store}"),
            reason: "the store cannot be written".into(),
        })?;
        let listed = store.list_tables(None).await?;
        let mut jobs: Vec<Job> = vec![];
        for (from, rename) in wanted {
            let mut to = rename.unwrap_or_else(|| from.name.clone());
            to.store = None;
            let existing = listed.iter().find(|t| same_table(t, &to));
            if let Some(existing) = existing {
                to = existing.clone();
            }
            if jobs.iter().any(|j| same_table(&j.to, &to)) {
                return Err(EngineError::Usage {
                    what: "restore".into(),
                    reason: format!("two tables would become '{to}'"),
                });
            }
            let mode = match (request.if_exists, existing) {
                (IfExists::Fail, Some(_)) => return Err(EngineError::Exists { table: to.to_string() }),
                (IfExists::Merge, Some(_)) => {
                    if !store.capabilities().merge {
                        return Err(EngineError::Unsupported {
                            what: format!("merging into {store}"),
                            reason: "the store cannot".into(),
                        });
                    }
                    LoadMode::Merge
                }
                (_, None) => LoadMode::Create,
                (IfExists::Replace, Some(_)) => {
                    if publish == PublishKind::NewNameOnly {
                        return Err(EngineError::Unsupported {
                            what: format!("replacing a table of {store}"),
                            reason: "it publishes under new names only; restore AS another name".into(),
                        });
                    }
                    LoadMode::Replace
                }
            };
            let existing = existing.map(|t| match mode {
                LoadMode::Merge => format!("'{t}' exists; restored rows are put over its rows of equal key"),
                _ => format!(
                    "'{t}' exists; it is kept as '{}__replaced_{}_…' and `undo` brings it back",
                    t.table, id.seq
                ),
            });
            if let Some(filter) = &request.selection.filter {
                Condition::compile(self, &from.schema, filter)?;
            }
            select(&from.schema, &request.selection)?;
            let (from, shredded) = self.shredded(&found.vault, request, from, mode)?;
            jobs.push(Job { from, to, mode, existing, shredded });
        }
        Ok(Prepared { vault: found.vault, id, spec, store, jobs })
    }

    /// What a restore would do.
    pub fn plan_restore<'a>(
        &'a self,
        request: &'a RestoreRequest,
    ) -> LocalBoxFuture<'a, Result<RestorePlan>> {
        async move {
            let prepared = self.prepare_restore(request).await?;
            let tables: Vec<RestoreTablePlan> = prepared
                .jobs
                .iter()
                .map(|j| RestoreTablePlan {
                    from: j.from.name.clone(),
                    to: j.to.clone(),
                    existing: j.existing.clone(),
                    rows: j.from.digest.rows,
                    shredded: j.shredded.named.clone(),
                    segments: j.from.base.iter().map(|m| m.segments).sum::<u32>()
                        + j.from.changes.iter().map(|m| m.manifest.segments).sum::<u32>(),
                    bytes: j.from.bytes,
                })
                .collect();
            let bytes_read: ByteCount = tables.iter().map(|t| t.bytes).sum();
            Ok(RestorePlan {
                point: prepared.id,
                tables,
                bytes_read,
                seconds: bytes_read.0 as f64 / (GUESSED_SPEED * self.options.threads.max(1) as f64),
            })
        }
        .boxed_local()
    }

    /// Brings tables back: loaded beside, verified, published.
    pub fn restore<'a>(&'a self, request: &'a RestoreRequest) -> LocalBoxFuture<'a, Result<RestoreReport>> {
        async move {
            let started = Instant::now();
            let prepared = self.prepare_restore(request).await?;
            let mut tables = vec![];
            for job in &prepared.jobs {
                let (schema, _) = select(&job.from.schema, &request.selection)?;
                tables.push(LoadTable {
                    target: job.to.clone(),
                    schema,
                    dependents: job.from.dependents.clone(),
                    mode: job.mode,
                    segment_rows: request
                        .takes_segments(&prepared, job)
                        .then_some(job.from.target_rows)
                        .or(request.segment_rows),
                    replaced_tag: prepared.id.seq.to_string(),
                    shard_rule: request.shard_rule.clone(),
                });
            }
            let run = prepared.vault.new_run()?;
            let restore = fingerprint(request, &prepared);
            let loading = Arc::new(self.begin_or_go_on(&prepared.store, &restore, run, tables).await?);
            let work = self.load_and_publish(request, &prepared, &loading, started);
            let result = self.reading(&prepared.vault, &prepared.id, "restore", work).await;
            match &result {
                Ok(_) => {
                    // The restore stands whatever becomes of this.
                    if let Err(error) = loading.load.forget().await {
                        let line = format!("what the restore left behind stays for the next one: {error}");
                        self.options.progress.note(&line);
                    }
                }
                // Finished tasks wait for the same command.
                Err(error) if loading.waits_after(error) => {}
                // The first error tells more than one that follows from it.
                Err(_) => drop(loading.load.abandon().await),
            }
            let _ = prepared.vault.sweep_run(&loading.run).await;
            self.options.progress.finish();
            result
        }
        .boxed_local()
    }

    async fn load_and_publish(
        &self,
        request: &RestoreRequest,
        prepared: &Prepared,
        loading: &Arc<Loading>,
        started: Instant,
    ) -> Result<RestoreReport> {
        let (published, verified, verify_seconds) = match &loading.published {
            // What is reported is what was published then: the vault may have been repaired or shredded since.
            Some((published, verified)) => (published.clone(), verified.clone(), 0.0),
            None => {
                let given = self.load_tables(request, prepared, loading).await?;
                let verifying = Instant::now();
                let verified = self.verify_load(prepared, &loading.load, given).await?;
                let verify_seconds = verifying.elapsed().as_secs_f64();
                if self.options.cancel.is_cancelled() {
                    return Err(EngineError::Interrupted);
                }
                self.options.progress.stage("publish", None);
                loading.note_verified(&verified).await?;
                (loading.publish().await?, verified, verify_seconds)
            }
        };
        let restore = restore_id(&prepared.id, &loading.run);
        self.remember(&Remembered {
            restore: restore.clone(),
            store: prepared.spec.clone(),
            undo: published.undo,
            tables: prepared.jobs.iter().map(|j| j.to.clone()).collect(),
            point: prepared.id.clone(),
            at: self.options.surroundings.vault.clock.now(),
            digests: verified.digests.clone(),
            positions: verified.positions,
        })?;
        let tables = prepared
            .jobs
            .iter()
            .zip(verified.given)
            .enumerate()
            .map(|(i, (job, given))| RestoreTableReport {
                table: job.to.clone(),
                rows: given.digest.rows,
                digest: verified.digests[i],
                replaced: published.replaced.get(i).cloned().flatten(),
                missing: given.missing,
                shredded: given.shredded,
            })
            .collect();
        Ok(RestoreReport {
            restore,
            point: prepared.id.clone(),
            tables,
            seconds: started.elapsed().as_secs_f64(),
            verify_seconds,
        })
    }

    /// Loads all tables; returns what each was given.
    async fn load_tables(
        &self,
        request: &RestoreRequest,
        prepared: &Prepared,
        loading: &Arc<Loading>,
    ) -> Result<Vec<Given>> {
        let rows: u64 = prepared.jobs.iter().map(|j| j.from.digest.rows).sum();
        self.options.progress.stage("restore", Some(Work::Rows(rows)));
        let mut number = 0;
        let mut parts = vec![];
        let mut given = vec![];
        for job in &prepared.jobs {
            let (results, missing) = self.load_table(request, prepared, loading, job, &mut number).await?;
            let read = results.iter().fold(Digest::default(), |d, r| d.merge(r.read));
            // Of a shredded column nobody can compute the digest again.
            let same =
                if job.shredded.any { read.rows == job.from.digest.rows } else { read == job.from.digest };
            if missing.is_empty() && !same {
                return Err(EngineError::RestoreDiffers {
                    table: job.to.to_string(),
                    reason: format!("the point records {} and its rows give {read}", job.from.digest),
                });
            }
            let digest = results.iter().fold(Digest::default(), |d, r| d.merge(r.given));
            given.push(Given { digest, missing, shredded: job.shredded.named.clone() });
            parts.push((job.to.clone(), results.into_iter().map(|r| r.part).collect()));
        }
        loading.load.finish(parts).await?;
        Ok(given)
    }

    async fn load_table(
        &self,
        request: &RestoreRequest,
        prepared: &Prepared,
        loading: &Arc<Loading>,
        job: &Job,
        number: &mut u32,
    ) -> Result<(Vec<LoadResult>, Vec<String>)> {
        let profile = match job.from.base.first() {
            Some(manifest) if request.takes_segments(prepared, job) => {
                match prepared.vault.read_manifest(manifest).await {
                    Ok(manifest) => Some(manifest.profile),
                    // Rows of the other segments are then read and given one by one.
                    Err(VaultError::Damaged { .. }) if request.skip_damaged => None,
                    Err(e) => return Err(e.into()),
                }
            }
            _ => None,
        };
        let (partitions, missing) = if request.skip_damaged {
            let Undamaged { partitions, missing } = self.undamaged(&prepared.vault, &job.from).await?;
            (partitions, missing)
        } else {
            let (base, changes) = entries(&prepared.vault, &job.from).await?;
            let wanted = self.tasks_for(job.from.bytes) as usize;
            (point::plan(&job.from.schema, base, changes, wanted), vec![])
        };
        let mut jobs = vec![];
        for (part, partition) in partitions.into_iter().enumerate() {
            let task = LoadTask {
                run: loading.run.clone(),
                number: *number,
                vault: prepared.vault.url().to_owned(),
                table: job.from.id.clone(),
                schema: job.from.schema.clone(),
                pass_over: job.shredded.any,
                partition,
                selection: request.selection.clone(),
                profile: profile.clone(),
                hash: job.mode == LoadMode::Merge,
                store: prepared.spec.clone(),
                load: loading.load.token().unwrap_or_default(),
                target: job.to.clone(),
                part: part as u32,
            };
            *number += 1;
            let (engine, vault, loading) = (self.clone(), prepared.vault.clone(), loading.clone());
            jobs.push(async move { engine.load_once(&vault, &loading, task).await });
        }
        Ok((self.in_parallel(jobs).await?, missing))
    }

    /// Runs a task, here or in a worker, unless an earlier process of this restore has finished it.
    async fn load_once(&self, vault: &Vault, loading: &Loading, task: LoadTask) -> Result<LoadResult> {
        let load = loading.load.as_ref();
        let whole = Task::Load(Box::new(task.clone()));
        let identity = whole.identity()?;
        if let Some(done) = loading.finished(&identity) {
            self.options.progress.advance(0, done.read.rows);
            return Ok(done);
        }
        let result = match (&self.options.worker, load.token()) {
            (Some(command), Some(_)) => self.in_worker(command, vault, &whole).await?.load()?,
            _ => self.load_partition(vault, load, &task).await?,
        };
        if loading.remembered {
            note_task(load, identity, &result).await?;
        }
        Ok(result)
    }

    /// Reads back what was loaded and compares it with what was given.
    async fn verify_load(
        &self,
        prepared: &Prepared,
        load: &Arc<dyn Load>,
        given: Vec<Given>,
    ) -> Result<Verified> {
        let rows: u64 = given.iter().map(|g| g.digest.rows).sum();
        self.options.progress.stage("verify", Some(Work::Rows(rows)));
        let cut = load.open_cut().await?;
        let mut digests = vec![];
        for (job, given) in prepared.jobs.iter().zip(&given) {
            let source: Arc<dyn TableSource> = Arc::new(
                LiveSource::open(
                    cut.clone(),
                    &job.to,
                    self.options.threads * 2,
                    prepared.store.capabilities().key_order,
                )
                .await?,
            );
            let found = self.digest_source(&source).await?;
            // Merged tables hold other rows besides; their parts were compared as they were taken.
            if job.mode != LoadMode::Merge && found != given.digest {
                cut.release().await?;
                return Err(EngineError::RestoreDiffers {
                    table: job.to.to_string(),
                    reason: format!("{} was given to the store and {found} was read back", given.digest),
                });
            }
            digests.push(found);
        }
        let positions = cut.cut().positions;
        cut.release().await?;
        Ok(Verified { given, digests, positions })
    }

    /// The digest of all rows of a source, computed from the rows.
    pub(crate) async fn digest_source(&self, source: &Arc<dyn TableSource>) -> Result<Digest> {
        let jobs: Vec<_> = (0..source.partitions())
            .map(|partition| {
                let (source, engine) = (source.clone(), self.clone());
                async move {
                    let hasher = RowHasher::new(source.schema());
                    let mut rows = source.open(partition, None).await?;
                    let mut digest = Digest::default();
                    while let Some(batch) = rows.try_next().await? {
                        if engine.options.cancel.is_cancelled() {
                            return Err(EngineError::Interrupted);
                        }
                        engine
                            .options
                            .progress
                            .advance(batch.get_array_memory_size() as u64, batch.num_rows() as u64);
                        digest = digest.merge(hasher.digest(&batch)?);
                    }
                    Ok(digest)
                }
            })
            .collect();
        Ok(self.in_parallel(jobs).await?.into_iter().fold(Digest::default(), Digest::merge))
    }
}

/// What makes two restores the same: equal rows of equal points under equal names, whatever stands there now.
fn fingerprint(request: &RestoreRequest, prepared: &Prepared) -> String {
    let tables: Vec<_> = prepared.jobs.iter().map(|j| (&j.from.id, j.to.to_string())).collect();
    let text = format!(
        "{}\n{}\n{tables:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}",
        prepared.vault.id(),
        prepared.id,
        request.selection,
        request.if_exists,
        request.shard_rule,
        request.segment_rows,
        request.skip_damaged,
        request.skip_shredded
    );
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

/// Names a restore: the point, and a part of the run's id.
fn restore_id(point: &PointId, run: &RunId) -> String {
    format!("{}-{}-{}", point.backup, point.seq, &run.0[..8])
}
