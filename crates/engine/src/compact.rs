//! A synthetic full: a new base from the newest point's base and changes, without the store.
//!
//! One that was interrupted goes on with the partitions that are not folded yet. A point that came meanwhile is newer
//! than what was folded: the folded one would hide it, and is not committed.

use crate::Result;
use crate::api::{AsOf, BackupReport};
use crate::backup::{Unchecked, Written, report};
use crate::dispatch::RunTasks;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::places::FoundBackup;
use crate::point::{self, entries};
use crate::progress::Work;
use crate::run::Run;
use crate::task::{FoldTask, Segments, Task, TaskResult};
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use keepfast_format::{Manifest, ManifestKind};
use keepfast_model::{
    BackupPoint, ByteCount, Certificate, Digest, PointId, ProofKind, Record, TablePoint, WriteMode,
};
use keepfast_vault::{NewObject, StillNewest, Vault, VaultError};
use std::sync::Arc;
use std::time::Instant;

/// How often it begins anew because a newer point came while it worked.
const ATTEMPTS: u32 = 4;

impl Engine {
    /// Writes a new base from the newest point's base and changes, and commits it as a point of the same cut.
    pub fn compact<'a>(&'a self, backup: &'a str) -> LocalBoxFuture<'a, Result<BackupReport>> {
        async move {
            let found = self.find_backup(backup).await?;
            for _ in 1..ATTEMPTS {
                match self.compact_newest(&found).await {
                    Err(EngineError::Vault(e @ VaultError::Superseded { .. })) => {
                        self.options.progress.note(&format!("{e}; the newest is compacted"));
                    }
                    other => return other,
                }
            }
            self.compact_newest(&found).await
        }
        .boxed_local()
    }

    async fn compact_newest(&self, found: &FoundBackup) -> Result<BackupReport> {
        let (base, newest) = self.find_point(found, &AsOf::Latest).await?;
        self.reading(&found.vault, &base, "compact", self.compact_point(found, &base, newest)).await
    }

    async fn compact_point(
        &self,
        found: &FoundBackup,
        base: &PointId,
        newest: BackupPoint,
    ) -> Result<BackupReport> {
        let vault = &found.vault;
        let fingerprint = blake3::hash(format!("compact\n{base}").as_bytes()).to_hex();
        let run = Run::resume_or_start(self, vault, "compaction", &fingerprint).await?;
        let mut tasks = RunTasks::of(vault, run.id(), true).await?;
        match self.compact_in(found, base, newest, &mut tasks).await {
            // What is folded waits for the same command.
            Err(EngineError::Interrupted) => Err(EngineError::Interrupted),
            Ok(report) => {
                run.sweep(self, vault).await?;
                Ok(report)
            }
            Err(error) => {
                // The first error tells more than one that follows from it.
                let _ = run.sweep(self, vault).await;
                Err(error)
            }
        }
    }

    async fn compact_in(
        &self,
        found: &FoundBackup,
        base: &PointId,
        newest: BackupPoint,
        tasks: &mut RunTasks,
    ) -> Result<BackupReport> {
        let started = Instant::now();
        let rows: u64 = newest.tables.iter().filter(|t| !t.changes.is_empty()).map(|t| t.digest.rows).sum();
        self.options.progress.stage("compact", Some(Work::Rows(rows)));
        let mut written = vec![];
        for table in &newest.tables {
            if table.changes.is_empty() {
                let point = TablePoint { segments_new: 0, bytes_new: ByteCount(0), ..table.clone() };
                let why = "it has no changes to fold".into();
                written.push(Written { point, why, objects: vec![], unchecked: Unchecked::default() });
                continue;
            }
            written.push(self.fold(&found.vault, table, tasks).await?);
        }
        let point = BackupPoint {
            run: tasks.run().clone(),
            tables: written.iter().map(|w| w.point.clone()).collect(),
            elapsed_ms: started.elapsed().as_millis() as u64,
            program: concat!("keepfast ", env!("CARGO_PKG_VERSION")).to_owned(),
            lock: None,
            ..newest
        };
        let cut = point.cut.clone();
        let objects: Vec<NewObject> = written.iter().flat_map(|w| w.objects.clone()).collect();
        let still = StillNewest(base.clone());
        let seq = found.vault.commit(vec![Record::Point(Box::new(point))], &objects, &still).await?;
        for table in written.iter().filter(|w| w.point.mode == WriteMode::Synthetic) {
            self.project(&found.vault, &table.point).await;
        }
        self.options.progress.finish();
        let id = PointId { backup: found.backup.clone(), seq };
        Ok(report(&found.vault, found.backup.clone(), id, cut, written, started))
    }

    async fn fold(&self, vault: &Vault, table: &TablePoint, tasks: &mut RunTasks) -> Result<Written> {
        let (base, changes) = entries(vault, table).await?;
        let Some(reference) = table.base.first() else {
            return Err(EngineError::NotIncremental {
                table: table.name.to_string(),
                reason: "its base lists no manifest".into(),
            });
        };
        let profile = Arc::new(vault.read_manifest(reference).await?.profile);
        let schema = Arc::new(table.schema.clone());
        let protection = vault.protection(&table.id, &table.encryption).await?;
        let to = Arc::new(Segments {
            vault: vault.clone(),
            table: table.id.clone(),
            schema: schema.clone(),
            protection: protection.clone(),
            profile: profile.clone(),
            known: base.iter().map(|e| (e.id, e.clone())).collect(),
        });
        let partitions = point::plan(&schema, base, changes, self.options.threads * 2);
        let count = partitions.len() as u32;
        let mut jobs = vec![];
        for partition in partitions {
            let task = FoldTask {
                run: tasks.run().clone(),
                number: tasks.number(),
                vault: vault.url().to_owned(),
                table: table.id.clone(),
                schema: table.schema.clone(),
                partition: partition.clone(),
                profile: profile.as_ref().clone(),
                known: table.base.clone(),
                encryption: table.encryption.clone(),
                key_ids: protection.key_ids().to_owned(),
            };
            let (engine, to) = (self.clone(), to.clone());
            jobs.push(self.job(tasks, vault, Task::Fold(Box::new(task)), async move {
                Ok(TaskResult::Scan(engine.fold_partition(&to, partition).await?))
            })?);
        }
        let (mut segments, mut objects, mut bytes_new) = (vec![], vec![], ByteCount(0));
        for result in self.in_parallel(jobs).await? {
            let result = result.scan()?;
            let new = result.new.iter().filter_map(|at| result.segments.get(*at as usize));
            objects.extend(new.map(|entry| Vault::segment_object(&table.id, entry)));
            bytes_new += result.bytes_new;
            segments.extend(result.segments);
        }
        let segments_new = objects.len() as u32;
        let digest = segments.iter().fold(Digest::default(), |d, s| d.merge(s.digest));
        if digest != table.digest {
            return Err(EngineError::NotCertified {
                table: table.name.to_string(),
                reason: format!("the point records {} and its merged rows give {digest}", table.digest),
            });
        }
        let mut bytes: ByteCount = segments.iter().map(|s| s.bytes).sum();
        let pages = Manifest::pages(ManifestKind::Segments, &table.id, &schema, &profile, segments);
        let listed = vault.put_manifests(pages, &table.encryption, table.parity, &table.base).await?;
        bytes += listed.bytes;
        bytes_new += listed.bytes_new;
        objects.extend(listed.objects);
        let certificate = Certificate {
            kind: if table.certificate.kind == ProofKind::Own { ProofKind::Own } else { ProofKind::Log },
            rows: digest.rows,
            partitions: count,
            content_percent: table.certificate.content_percent,
            method: format!("folded from a point certified by: {}", table.certificate.method),
            at: jiff::Timestamp::now(),
        };
        let point = TablePoint {
            mode: WriteMode::Synthetic,
            base: listed.references,
            changes: vec![],
            bytes,
            segments_new,
            bytes_new,
            certificate,
            ..table.clone()
        };
        let why = "base and changes folded".into();
        Ok(Written { point, why, objects, unchecked: Unchecked::default() })
    }
}
