//! What a vault holds: backups, restore points, one point in full; and dropping a backup.

use crate::Result;
use crate::api::*;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::places::{FoundBackup, Place};
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use keepfast_model::{BackupName, BackupPoint, ByteCount, LogSeq, PointId, ProofKind, WriteMode};
use keepfast_vault::{Log, VaultError};

/// How long objects of a dropped backup stay for those who still read them.
const DROP_GRACE: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);

impl Engine {
    /// Backups of a vault: the default one, or the one at the URL. The default vault that was never made is empty.
    pub fn list<'a>(&'a self, vault: Option<&'a str>) -> LocalBoxFuture<'a, Result<Vec<BackupSummary>>> {
        async move {
            let place = vault.map(Place::parse).transpose()?;
            let location = place.as_ref().and_then(|p| p.vault.clone());
            let vault = match self.open_vault(location.as_deref()).await {
                Ok(vault) => vault,
                Err(EngineError::Vault(VaultError::NotAVault { .. })) if location.is_none() => {
                    return Ok(vec![]);
                }
                Err(e) => return Err(e),
            };
            let log = vault.log().await?;
            let mut list = vec![];
            for backup in log.backups() {
                if let Some(newest) = log.latest(&backup) {
                    list.push(BackupSummary {
                        vault: vault.url().to_owned(),
                        points: log.points(&backup).count() as u64,
                        newest: summary(&log, newest.seq(), newest),
                        backup,
                    });
                }
            }
            Ok(list)
        }
        .boxed_local()
    }

    /// Restore points of a backup, oldest first.
    pub fn points<'a>(&'a self, backup: &'a str) -> LocalBoxFuture<'a, Result<Vec<PointSummary>>> {
        async move {
            let found = self.find_backup(backup).await?;
            let log = found.vault.log().await?;
            Ok(log.points(&found.backup).map(|p| summary(&log, p.seq(), p)).collect())
        }
        .boxed_local()
    }

    /// One restore point in full.
    pub fn show<'a>(&'a self, backup: &'a str, as_of: &'a AsOf) -> LocalBoxFuture<'a, Result<PointReport>> {
        async move {
            let found = self.find_backup(backup).await?;
            let (id, point) = self.find_point(&found, as_of).await?;
            let log = found.vault.log().await?;
            let details = point
                .tables
                .iter()
                .map(|t| TableDetail {
                    table: t.name.clone(),
                    id: t.id.to_string(),
                    selection: t.selection.clone(),
                    schema: t.schema.clone(),
                    mode: t.mode,
                    rows: t.digest.rows,
                    digest: t.digest,
                    segments: t.base.iter().map(|m| m.segments).sum(),
                    change_segments: t.changes.iter().map(|m| m.manifest.segments).sum(),
                    bytes: t.bytes,
                    certificate: t.certificate.clone(),
                    positions: point.cut.positions.iter().map(|p| p.position.clone()).collect(),
                    dependents: t.dependents.clone(),
                })
                .collect();
            Ok(PointReport {
                summary: summary(&log, id.seq, &point),
                store: point.store.clone(),
                program: point.program.clone(),
                holds: log
                    .holds()
                    .filter(|h| h.keeps(&point.backup, id.seq) && h.in_force(jiff::Timestamp::now()))
                    .map(HoldReport::from)
                    .collect(),
                details,
            })
        }
        .boxed_local()
    }

    /// The point of a backup that is meant.
    pub(crate) async fn find_point(
        &self,
        found: &FoundBackup,
        as_of: &AsOf,
    ) -> Result<(PointId, BackupPoint)> {
        let wanted = match (as_of, found.point) {
            (AsOf::Latest, Some(seq)) => AsOf::Point(seq),
            (other, None) => *other,
            (AsOf::Point(a), Some(b)) if *a == b => AsOf::Point(b),
            _ => {
                return Err(EngineError::Usage {
                    what: "restore point".into(),
                    reason: "two different points are named".into(),
                });
            }
        };
        let point = found.vault.resolve(&found.backup, wanted).await?;
        Ok((point.id().clone(), BackupPoint::clone(&point)))
    }

    /// Makes a backup and all its points invisible; returns its name and how many points it had.
    pub fn drop_backup<'a>(&'a self, backup: &'a str) -> LocalBoxFuture<'a, Result<(BackupName, u64)>> {
        async move {
            let found = self.find_backup(backup).await?;
            if found.point.is_some() {
                return Err(EngineError::Usage {
                    what: "drop".into(),
                    reason: "a backup is dropped as a whole; name it without '@'".into(),
                });
            }
            let points = found.vault.log().await?.points(&found.backup).count() as u64;
            found.vault.drop_backup(&found.backup, DROP_GRACE).await?;
            // Space comes back with a later `prune` or `drop`; what was dropped long ago goes now.
            if let Err(error) = found.vault.delete_condemned().await {
                self.options.progress.note(&format!("what was condemned earlier was not deleted: {error}"));
            }
            Ok((found.backup, points))
        }
        .boxed_local()
    }
}

fn summary(log: &Log, seq: LogSeq, point: &BackupPoint) -> PointSummary {
    let mode = [WriteMode::Full, WriteMode::Synthetic, WriteMode::Incremental]
        .into_iter()
        .find(|m| point.tables.iter().any(|t| t.mode == *m))
        .unwrap_or(WriteMode::Full);
    PointSummary {
        point: PointId { backup: point.backup.clone(), seq },
        cut: point.cut.clone(),
        mode,
        tables: point.tables.iter().map(|t| t.name.to_string()).collect(),
        rows: point.tables.iter().map(|t| t.digest.rows).sum(),
        bytes: point.tables.iter().map(|t| t.bytes).sum(),
        bytes_new: point.tables.iter().map(|t| t.bytes_new).sum::<ByteCount>(),
        proof: point.tables.iter().map(|t| t.certificate.kind).max().unwrap_or(ProofKind::Own),
        held: log.holds().any(|h| h.keeps(&point.backup, seq) && h.in_force(jiff::Timestamp::now())),
    }
}
