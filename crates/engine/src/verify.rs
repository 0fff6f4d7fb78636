//! Proof at three levels: stored bytes, digests computed anew, rows one by one.

use crate::Result;
use crate::api::*;
use crate::condition::Condition;
use crate::diff::Side;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::places::FoundBackup;
use crate::point::PointSource;
use crate::progress::Work;
use crate::source::{Rows, TableSource};
use crate::task::{keep, select};
use async_trait::async_trait;
use futures::future::LocalBoxFuture;
use futures::{FutureExt, StreamExt};
use keepfast_model::{ByteCount, ColumnId, Hash256, LogSeq, Selection, ShardId, TableName, TableSchema};
use keepfast_vault::CheckOptions;
use std::sync::Arc;
use std::time::Instant;

impl Engine {
    /// Proves, or finds damage and differences; both are reported, not errors.
    pub fn verify<'a>(&'a self, request: &'a VerifyRequest) -> LocalBoxFuture<'a, Result<VerifyReport>> {
        async move {
            let started = Instant::now();
            let expect = request.expect.as_deref().map(parse_head).transpose()?;
            let found = self.find_backup(&request.backup).await?;
            let log = found.vault.log().await?;
            let mut report = VerifyReport {
                backup: found.backup.clone(),
                vault: found.vault.url().to_owned(),
                level: request.level,
                ok: true,
                objects: 0,
                bytes: ByteCount(0),
                points: 0,
                damage: vec![],
                tables: vec![],
                head: log.head().map_or_else(|| "0:".to_owned(), |(seq, hash)| format!("{seq}:{hash}")),
                seconds: 0.0,
            };
            if let Some((seq, hash)) = expect {
                let stands = log.lines().any(|line| line.seq == seq && line.stored == hash);
                if !stands {
                    report.damage.push(DamageReport {
                        object: found.vault.target().full(&keepfast_vault::layout::log_record(seq)),
                        what: "the log does not hold the expected record: it was rolled back or replaced"
                            .into(),
                        tables: vec![],
                        points: vec![format!("number {seq}")],
                    });
                }
            }
            match request.level {
                Level::Checksum => self.verify_stored(&found, &mut report).await?,
                Level::Compare | Level::Content => self.verify_rows(request, &found, &mut report).await?,
            }
            report.ok = report.damage.is_empty() && report.tables.iter().all(|t| t.equal);
            report.seconds = started.elapsed().as_secs_f64();
            self.options.progress.finish();
            Ok(report)
        }
        .boxed_local()
    }

    async fn verify_stored(&self, found: &FoundBackup, report: &mut VerifyReport) -> Result<()> {
        let options = CheckOptions { backup: None, point: None };
        let checked = found.vault.check(&options, &Heard { engine: self.clone() }).await?;
        report.objects = checked.objects;
        report.bytes = ByteCount(checked.bytes);
        report.points = checked.points;
        report.damage.extend(checked.damage.into_iter().map(|d| DamageReport {
            object: d.path,
            what: match d.kept_versions {
                0 => d.what.to_string(),
                n => format!("{}; the place keeps {n} earlier versions (`keepfast vault recover`)", d.what),
            },
            tables: d.tables.iter().map(ToString::to_string).collect(),
            points: d.points.iter().map(ToString::to_string).collect(),
        }));
        Ok(())
    }

    async fn verify_rows(
        &self,
        request: &VerifyRequest,
        found: &FoundBackup,
        report: &mut VerifyReport,
    ) -> Result<()> {
        let (id, point) = self.find_point(found, &request.as_of).await?;
        if request.against.is_some() && point.tables.len() != 1 {
            return Err(EngineError::Usage {
                what: "AGAINST".into(),
                reason: format!("restore point {id} holds {} tables", point.tables.len()),
            });
        }
        // Rows of the vault, and those of the live tables beside them.
        let rows: u64 = point.tables.iter().map(|t| t.digest.rows).sum();
        self.options.progress.stage("verify", Some(Work::Rows(rows * 2)));
        report.points = 1;
        for table in &point.tables {
            let vault: Arc<dyn TableSource> =
                Arc::new(PointSource::open(found.vault.clone(), table, self.options.threads * 2).await?);
            let (vault_digest, damaged) = match self.digest_source(&vault).await {
                Ok(digest) => (digest, None),
                // Damage under the rows is a finding of verification, not a failure of it.
                Err(error) if is_damage(&error) => (keepfast_model::Digest::default(), Some(error)),
                Err(error) => return Err(error),
            };
            report.objects += u64::from(table.base.iter().map(|m| m.segments).sum::<u32>());
            report.bytes += table.bytes;
            if let Some(error) = damaged {
                report.damage.push(DamageReport {
                    object: error.to_string(),
                    what: "the rows cannot be read".into(),
                    tables: vec![table.name.to_string()],
                    points: vec![id.to_string()],
                });
                continue;
            }
            let against: TableName = request.against.clone().unwrap_or_else(|| table.name.clone());
            let live = self.live_side(&against).await?;
            if live.is_none() && request.against.is_some() {
                return Err(EngineError::Unknown { what: "table", name: against.to_string() });
            }
            let mut comparison = TableComparison {
                table: table.name.clone(),
                against: live.as_ref().map_or_else(
                    || "the point's record only: no such live table".to_owned(),
                    |s| s.name.clone(),
                ),
                recorded: table.digest,
                vault: vault_digest,
                live: None,
                equal: vault_digest == table.digest,
                differences: None,
            };
            if let Some(live) = live {
                let compared = self
                    .compare_live(request, &table.selection, &vault, &live, &id.to_string(), &mut comparison)
                    .await;
                live.release().await?;
                compared?;
            }
            report.tables.push(comparison);
        }
        Ok(())
    }

    async fn compare_live(
        &self,
        request: &VerifyRequest,
        selection: &Selection,
        vault: &Arc<dyn TableSource>,
        live: &Side,
        point: &str,
        comparison: &mut TableComparison,
    ) -> Result<()> {
        let selected: Arc<dyn TableSource> = if selection.is_all() {
            live.source.clone()
        } else {
            Arc::new(SelectedSource::new(self, live.source.clone(), selection)?)
        };
        let digest = self.digest_source(&selected).await?;
        comparison.live = Some(digest);
        if request.level == Level::Content {
            let left = Side { name: point.to_owned(), source: vault.clone(), cut: None };
            let right = Side { name: live.name.clone(), source: selected, cut: None };
            let differences = self.diff_sides(&left, &right, request.limit).await?;
            comparison.equal &= differences.is_same();
            comparison.differences = Some(differences);
        } else {
            comparison.equal &= digest == comparison.vault;
        }
        Ok(())
    }
}

/// Tells the engine's listener how far a check is.
struct Heard {
    engine: Engine,
}

impl keepfast_vault::Progress for Heard {
    fn expect(&self, _objects: u64, bytes: u64) {
        self.engine.options.progress.stage("verify", Some(Work::Bytes(bytes)));
    }

    fn checked(&self, _objects: u64, bytes: u64) {
        self.engine.options.progress.advance(bytes, 0);
    }
}

fn is_damage(error: &EngineError) -> bool {
    match error {
        EngineError::Format(_) => true,
        EngineError::Vault(e) => matches!(e, keepfast_vault::VaultError::Damaged { .. }),
        _ => false,
    }
}

fn parse_head(text: &str) -> Result<(LogSeq, Hash256)> {
    text.split_once(':')
        .and_then(|(seq, hash)| Some((LogSeq(seq.parse().ok()?), Hash256::from_hex(hash)?)))
        .ok_or_else(|| EngineError::Usage {
            what: "--expect".into(),
            reason: "it has the form number:hash, as `verify` printed it".into(),
        })
}

/// The part of a source that a selection keeps.
#[derive(Debug)]
pub(crate) struct SelectedSource {
    source: Arc<dyn TableSource>,
    kept: Arc<TableSchema>,
    columns: Option<Vec<ColumnId>>,
    condition: Option<Condition>,
}

impl SelectedSource {
    pub fn new(engine: &Engine, source: Arc<dyn TableSource>, selection: &Selection) -> Result<Self> {
        let (kept, columns) = select(source.schema(), selection)?;
        let condition = selection
            .filter
            .as_deref()
            .map(|f| Condition::compile(engine, source.schema(), f))
            .transpose()?;
        Ok(Self { source, kept: Arc::new(kept), columns, condition })
    }
}

#[async_trait]
impl TableSource for SelectedSource {
    fn schema(&self) -> &Arc<TableSchema> {
        &self.kept
    }

    fn partitions(&self) -> usize {
        self.source.partitions()
    }

    fn shard(&self, partition: usize) -> ShardId {
        self.source.shard(partition)
    }

    fn rows(&self, partition: usize) -> u64 {
        self.source.rows(partition)
    }

    fn key_order(&self) -> bool {
        self.source.key_order() && !self.kept.is_bag()
    }

    async fn open(&self, partition: usize, columns: Option<&[ColumnId]>) -> Result<Rows> {
        let rows = self.source.open(partition, None).await?;
        let (schema, condition) = (self.source.schema().clone(), self.condition.clone());
        let columns = columns.map(<[_]>::to_vec).or_else(|| self.columns.clone());
        Ok(rows.map(move |b| keep(&schema, columns.as_deref(), condition.as_ref(), b?)).boxed())
    }
}
