//! A synthetic full: a new base from the newest point's base and changes, without the store.
//!
//! A point that came meanwhile is newer than what was folded: the folded one would hide it, and is not committed.

use crate::Result;
use crate::api::{AsOf, BackupReport};
use crate::backup::{Written, report};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::places::FoundBackup;
use crate::point::{self, entries};
use crate::progress::Work;
use futures::future::LocalBoxFuture;
use futures::{FutureExt, TryStreamExt};
use keepfast_format::{Manifest, ManifestKind, SegmentWriter, Splitter};
use keepfast_model::{
    BackupPoint, ByteCount, Certificate, Digest, PointId, ProofKind, Record, TablePoint, WriteMode,
};
use keepfast_vault::{NewObject, StillNewest, Vault, VaultError};
use std::collections::HashMap;
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
        let started = Instant::now();
        let rows: u64 = newest.tables.iter().filter(|t| !t.changes.is_empty()).map(|t| t.digest.rows).sum();
        self.options.progress.stage("compact", Some(Work::Rows(rows)));
        let mut written = vec![];
        for table in &newest.tables {
            if table.changes.is_empty() {
                let point = TablePoint { segments_new: 0, bytes_new: ByteCount(0), ..table.clone() };
                written.push(Written { point, why: "it has no changes to fold".into(), objects: vec![] });
                continue;
            }
            written.push(self.fold(&found.vault, table).await?);
        }
        let point = BackupPoint {
            run: found.vault.new_run()?,
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

    async fn fold(&self, vault: &Vault, table: &TablePoint) -> Result<Written> {
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
        let known: Arc<HashMap<_, _>> = Arc::new(base.iter().map(|e| (e.id, e.clone())).collect());
        let partitions = point::plan(&schema, base, changes, self.options.threads * 2);
        let count = partitions.len() as u32;
        let jobs: Vec<_> = partitions
            .into_iter()
            .map(|partition| {
                let (engine, vault, id) = (self.clone(), vault.clone(), table.id.clone());
                let (schema, profile, known) = (schema.clone(), profile.clone(), known.clone());
                let protection = protection.clone();
                async move {
                    let shard = partition.shard.clone();
                    let writer = SegmentWriter::new(schema.clone(), profile.clone(), protection);
                    let mut splitter = Splitter::new(schema.clone(), profile.target_rows);
                    let mut rows = point::read(vault.clone(), id.clone(), schema, partition, None).await?;
                    let (mut segments, mut new, mut bytes_new) =
                        (vec![], Vec::<NewObject>::new(), ByteCount(0));
                    loop {
                        if engine.options.cancel.is_cancelled() {
                            return Err(EngineError::Interrupted);
                        }
                        let batch = rows.try_next().await?;
                        let last = batch.is_none();
                        let chunks = match batch {
                            Some(b) if b.num_rows() == 0 => vec![],
                            Some(b) => {
                                engine
                                    .options
                                    .progress
                                    .advance(b.get_array_memory_size() as u64, b.num_rows() as u64);
                                splitter.push(b)?
                            }
                            None => splitter.finish()?.into_iter().collect(),
                        };
                        for chunk in chunks {
                            let identity = writer.identity(&chunk)?;
                            if let Some(entry) = known.get(&identity) {
                                segments.push(entry.clone());
                                continue;
                            }
                            let encoded = writer.encode(identity, &shard, &chunk)?;
                            vault.put_segment(&id, &encoded).await?;
                            new.push(Vault::segment_object(&id, &encoded.entry));
                            bytes_new += encoded.entry.bytes;
                            segments.push(encoded.entry);
                        }
                        if last {
                            return Ok((segments, new, bytes_new));
                        }
                    }
                }
            })
            .collect();
        let (mut segments, mut objects, mut bytes_new) = (vec![], vec![], ByteCount(0));
        for (more, new, bytes) in self.in_parallel(jobs).await? {
            segments.extend(more);
            objects.extend(new);
            bytes_new += bytes;
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
        Ok(Written { point, why: "base and changes folded".into(), objects })
    }
}
