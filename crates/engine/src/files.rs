//! Import into and export from tables: one step each, visible whole or not at all.

use crate::Result;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::session::same_table;
use crate::source::TableSource;
use crate::statements::editable;
use arrow::array::RecordBatch;
use futures::future::LocalBoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use keepfast_files::{ExportOptions, Exporter, ImportOptions, open_imports};
use keepfast_model::{RunId, TableName, TableSchema};
use keepfast_store::load::LoadTable;
use keepfast_store::{LoadMode, LoadOptions, OnDuplicate, StoreError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Batches read ahead of the store.
const AHEAD: usize = 4;

impl Engine {
    /// Loads files into a table, which is made when it does not exist; returns rows. An existing table gets the rows
    /// added, in one version.
    pub fn import<'a>(
        &'a self,
        files: &'a [PathBuf],
        into: &'a TableName,
        options: &'a ImportOptions,
    ) -> LocalBoxFuture<'a, Result<u64>> {
        async move {
            if files.is_empty() {
                return Err(EngineError::Usage { what: "import".into(), reason: "no file is named".into() });
            }
            let store = self.store_of(into).await?;
            let wanted = TableName { store: None, ..into.clone() };
            let existing = store.list_tables(None).await?.into_iter().find(|t| same_table(t, &wanted));
            let mut options = options.clone();
            if let Some(existing) = &existing {
                let schema = store.describe(existing).await?.schema;
                let key: Vec<&str> = schema.key_names();
                if !options.key.is_empty()
                    && !options.key.iter().map(|k| k.to_lowercase()).eq(key.iter().map(|k| k.to_lowercase()))
                {
                    return Err(EngineError::Usage {
                        what: "--key".into(),
                        reason: format!("table '{existing}' exists with the key ({})", key.join(", ")),
                    });
                }
                options.key.clear();
                options.schema = Some(schema);
            }
            self.options.progress.stage("import", None);
            let paths = files.to_vec();
            let opened = tokio::task::spawn_blocking(move || open_imports(&paths, options)).await;
            let import = opened.map_err(|e| EngineError::Task { task: 0, reason: e.to_string() })??;
            let schema = import.schema().clone();
            let (sender, mut receiver) = tokio::sync::mpsc::channel(AHEAD);
            let reader = tokio::task::spawn_blocking(move || {
                for batch in import.rows() {
                    let failed = batch.is_err();
                    if sender.blocking_send(batch).is_err() || failed {
                        return;
                    }
                }
            });
            let rows = match existing {
                Some(name) => {
                    let mut edit = editable(&store)?.begin_edit(&name).await?;
                    let mut rows = 0;
                    while let Some(batch) = receiver.recv().await {
                        rows += edit.insert(self.heard(batch?)?, OnDuplicate::Refuse).await?;
                    }
                    edit.commit().await?;
                    rows
                }
                None => self.import_new(&store, wanted, schema, receiver).await?,
            };
            reader.await.map_err(|e| EngineError::Task { task: 0, reason: e.to_string() })?;
            self.options.progress.finish();
            Ok(rows)
        }
        .boxed_local()
    }

    fn heard(&self, batch: RecordBatch) -> Result<RecordBatch> {
        if self.options.cancel.is_cancelled() {
            return Err(EngineError::Interrupted);
        }
        self.options.progress.advance(batch.get_array_memory_size() as u64, batch.num_rows() as u64);
        Ok(batch)
    }

    async fn import_new(
        &self,
        store: &Arc<dyn keepfast_store::Store>,
        target: TableName,
        schema: TableSchema,
        receiver: tokio::sync::mpsc::Receiver<Result<RecordBatch, keepfast_files::FilesError>>,
    ) -> Result<u64> {
        let table = LoadTable {
            target: target.clone(),
            schema,
            dependents: vec![],
            mode: LoadMode::Create,
            segment_rows: None,
            replaced_tag: "import".into(),
            shard_rule: None,
        };
        let run = RunId(uuid::Uuid::new_v4().simple().to_string());
        let load = store.begin_load(LoadOptions { run, tables: vec![table] }).await?;
        // A store's call knows only its own errors; ours waits here until the call has failed.
        let failure: Arc<Mutex<Option<EngineError>>> = Arc::default();
        let stream = {
            let (engine, failure) = (self.clone(), failure.clone());
            futures::stream::unfold(receiver, |mut r| async move { r.recv().await.map(|b| (b, r)) })
                .map(move |batch| {
                    batch.map_err(EngineError::from).and_then(|b| engine.heard(b)).map_err(|e| {
                        let reason = e.to_string();
                        *failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(e);
                        StoreError::Row { table: "import".into(), reason }
                    })
                })
                .boxed()
        };
        let loaded = async {
            let part = load.write_part(&target, 0, stream).await?;
            let rows = part.digest.rows;
            load.finish(vec![(target.clone(), vec![part])]).await?;
            load.publish().await?;
            Ok::<_, StoreError>(rows)
        };
        match loaded.await {
            Ok(rows) => Ok(rows),
            Err(error) => {
                // The first error tells more than one that follows from it.
                let _ = load.abandon().await;
                let own = failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
                Err(own.unwrap_or(error.into()))
            }
        }
    }

    /// Writes a live table to a file; returns rows. The file appears when it is complete.
    pub fn export<'a>(
        &'a self,
        table: &'a TableName,
        to: &'a Path,
        options: &'a ExportOptions,
    ) -> LocalBoxFuture<'a, Result<u64>> {
        async move {
            let Some(side) = self.live_side(table).await? else {
                return Err(EngineError::Unknown { what: "table", name: table.to_string() });
            };
            self.options.progress.stage("export", None);
            let exported = self.export_source(&side.source, to, options).await;
            side.release().await?;
            self.options.progress.finish();
            exported
        }
        .boxed_local()
    }

    async fn export_source(
        &self,
        source: &Arc<dyn TableSource>,
        to: &Path,
        options: &ExportOptions,
    ) -> Result<u64> {
        let mut exporter = Exporter::create(to, source.schema(), options)?;
        let mut count = 0;
        for partition in 0..source.partitions() {
            let mut rows = source.open(partition, None).await?;
            while let Some(batch) = rows.try_next().await? {
                let batch = self.heard(batch)?;
                count += batch.num_rows() as u64;
                exporter.write(&batch)?;
            }
        }
        exporter.finish()?;
        Ok(count)
    }
}
