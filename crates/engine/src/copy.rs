//! A direct copy: a table scanned at a cut and loaded into another store, without a vault between.

use crate::Result;
use crate::api::{BackupRequest, Certify, CopyReport, CopyTableReport, Mode};
use crate::certify::certify;
use crate::condition::Condition;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::plan::Source;
use crate::resolve::StoreSpec;
use crate::session::same_table;
use crate::source::{LiveSource, TableSource};
use crate::task::{Given, select};
use keepfast_model::{Digest, RunId, TableName};
use keepfast_sql::Address;
use keepfast_store::load::LoadTable;
use keepfast_store::{CutOptions, Load, LoadMode, LoadOptions, OpenCut, ProofRequest, PublishKind, Store};
use std::sync::Arc;
use std::time::Instant;

impl Engine {
    /// Copies tables into the store at a URL. A table of that name there is kept beside, as a restore keeps it.
    pub(crate) async fn copy_into(
        &self,
        request: &BackupRequest,
        source: &Source,
        url: &str,
    ) -> Result<CopyReport> {
        let started = Instant::now();
        let target = self.options.stores.open(&StoreSpec::Url(url.to_owned())).await?;
        let cannot = |what: &str| EngineError::Unsupported {
            what: format!("a direct copy into '{}'", Address::new(url)),
            reason: what.to_owned(),
        };
        if request.mode == Mode::Incremental {
            return Err(cannot("a copy is of whole tables; leave the mode out"));
        }
        let publish = target.capabilities().publish.ok_or_else(|| cannot("the store cannot be written"))?;
        let listed = target.list_tables(None).await?;
        let cut = source.store.open_cut(&source.tables, &CutOptions { allow_fuzzy: true }).await?;
        let copied = async {
            if cut.needs_closing() {
                return Err(cannot("the source has no snapshots; back up into a vault and restore from it"));
            }
            let mut tables = vec![];
            for name in &source.tables {
                let existing = listed.iter().find(|t| same_table(t, name));
                if existing.is_some() && publish == PublishKind::NewNameOnly {
                    return Err(cannot(&format!(
                        "table '{name}' exists there, and the store publishes under new names only"
                    )));
                }
                let at = cut.table(name).await?;
                let (schema, _) = select(&at.schema, &request.selection)?;
                tables.push(LoadTable {
                    target: existing.cloned().unwrap_or_else(|| TableName { store: None, ..name.clone() }),
                    schema,
                    dependents: at.dependents,
                    mode: if existing.is_some() { LoadMode::Replace } else { LoadMode::Create },
                    segment_rows: request.segment_rows,
                    replaced_tag: "copy".into(),
                    shard_rule: None,
                });
            }
            let targets: Vec<TableName> = tables.iter().map(|t| t.target.clone()).collect();
            let run = RunId(uuid::Uuid::new_v4().simple().to_string());
            let load = target.begin_load(LoadOptions { run, tables }).await?;
            let done = self.copy_tables(request, source, &cut, &target, &load, &targets).await;
            if done.is_err() {
                // The first error tells more than one that follows from it.
                let _ = load.abandon().await;
            }
            done
        };
        let copied = copied.await;
        let at = cut.cut();
        // An error of the copy tells more than one of giving the cut back.
        let released = cut.release().await;
        let tables = copied?;
        released?;
        Ok(CopyReport {
            store: Address::new(url).to_string(),
            cut: at,
            tables,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    async fn copy_tables(
        &self,
        request: &BackupRequest,
        source: &Source,
        cut: &Arc<dyn OpenCut>,
        target: &Arc<dyn Store>,
        load: &Arc<dyn Load>,
        targets: &[TableName],
    ) -> Result<Vec<CopyTableReport>> {
        let (mut parts, mut given, mut certificates) = (vec![], vec![], vec![]);
        for (name, to) in source.tables.iter().zip(targets) {
            let key_order = source.store.capabilities().key_order;
            let rows: Arc<dyn TableSource> =
                Arc::new(LiveSource::open(cut.clone(), name, self.options.threads * 2, key_order).await?);
            self.check_shards(name, &rows).await?;
            let schema = rows.schema().clone();
            let (kept, columns) = select(&schema, &request.selection)?;
            let filter = request.selection.filter.as_deref();
            let condition = filter.map(|f| Condition::compile(self, &schema, f)).transpose()?;
            let give = Arc::new(Given { schema, kept, columns, condition, hash: true });
            let jobs: Vec<_> = (0..rows.partitions())
                .map(|at| {
                    let (engine, rows, load, give, to) =
                        (self.clone(), rows.clone(), load.clone(), give.clone(), to.clone());
                    async move {
                        let rows = rows.open(at, None).await?;
                        engine.give_rows(load.as_ref(), &to, at as u32, give, rows).await
                    }
                })
                .collect();
            let results = self.in_parallel(jobs).await?;
            let read = results.iter().fold(Digest::default(), |d, r| d.merge(r.read));
            let proof = ProofRequest { full: request.certify == Certify::Full, ranges: vec![] };
            certificates.push(certify(cut, name, &proof, read, None, results.len() as u32).await?);
            given.push(results.iter().fold(Digest::default(), |d, r| d.merge(r.given)));
            parts.push((to.clone(), results.into_iter().map(|r| r.part).collect()));
        }
        load.finish(parts).await?;
        let loaded = load.open_cut().await?;
        for (to, given) in targets.iter().zip(&given) {
            let key_order = target.capabilities().key_order;
            let rows: Arc<dyn TableSource> =
                Arc::new(LiveSource::open(loaded.clone(), to, self.options.threads * 2, key_order).await?);
            let found = self.digest_source(&rows).await?;
            if found != *given {
                return Err(EngineError::RestoreDiffers {
                    table: to.to_string(),
                    reason: format!("{given} was given to the store and {found} was read back"),
                });
            }
        }
        loaded.release().await?;
        if self.options.cancel.is_cancelled() {
            return Err(EngineError::Interrupted);
        }
        let published = load.publish().await?;
        Ok(targets
            .iter()
            .enumerate()
            .map(|(at, table)| CopyTableReport {
                table: table.clone(),
                rows: given[at].rows,
                digest: given[at],
                certificate: certificates[at].clone(),
                replaced: published.replaced.get(at).cloned().flatten(),
            })
            .collect())
    }
}
