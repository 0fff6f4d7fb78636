//! An engine over one store in a folder of its own.

use arrow::array::RecordBatch;
use async_trait::async_trait;
use futures::TryStreamExt;
use keepfast_engine::api::*;
use keepfast_engine::{
    Cancel, Engine, EngineError, EngineOptions, NoProgress, Progress, Result, StoreResolver, StoreSpec,
    Surroundings,
};
use keepfast_model::{Digest, RowHasher, Selection, TableName};
use keepfast_store::{CutOptions, PlanOptions, ScanOptions, Store};
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

#[derive(Debug)]
struct One(Arc<dyn Store>);

#[async_trait]
impl StoreResolver for One {
    async fn open(&self, _: &StoreSpec) -> Result<Arc<dyn Store>> {
        Ok(self.0.clone())
    }

    fn is_store_url(&self, _: &str) -> bool {
        false
    }
}

/// An engine and the folder it works in.
pub struct Harness {
    pub engine: Engine,
    pub store: Arc<dyn Store>,
    pub folder: TempDir,
}

impl Harness {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self::in_folder(store, TempDir::new().unwrap())
    }

    pub fn in_folder(store: Arc<dyn Store>, folder: TempDir) -> Self {
        let engine = Self::engine(store.clone(), folder.path(), Arc::new(NoProgress));
        Self { engine, store, folder }
    }

    /// Another engine over a store in a folder.
    pub fn engine(store: Arc<dyn Store>, folder: &Path, progress: Arc<dyn Progress>) -> Engine {
        Engine::new(EngineOptions {
            data: folder.to_owned(),
            stores: Arc::new(One(store)),
            threads: 2,
            memory: 64 << 20,
            worker: None,
            progress,
            cancel: Cancel::default(),
            surroundings: Surroundings::default(),
            defaults: BackupDefaults::default(),
        })
    }

    pub async fn backup(&self, mode: Mode) -> Result<BackupReport> {
        self.backup_of(mode, Selection::default()).await
    }

    /// A full backup whose content the store's own checksums must cover wholly.
    pub async fn backup_certified(&self) -> Result<BackupReport> {
        self.backup_with(Mode::Full, Selection::default(), Certify::Full).await
    }

    pub async fn backup_of(&self, mode: Mode, selection: Selection) -> Result<BackupReport> {
        self.backup_with(mode, selection, Certify::Sample).await
    }

    async fn backup_with(&self, mode: Mode, selection: Selection, certify: Certify) -> Result<BackupReport> {
        let request = BackupRequest {
            tables: TableSet::Tables(vec![TableName::bare("t")]),
            to: vec!["b".into()],
            selection,
            mode,
            until: None,
            certify,
            encrypt: None,
            segment_rows: Some(256),
            parity: None,
            require: None,
            retain: RetainTerms::default(),
        };
        Ok(self.engine.backup(&request).await?.reports.remove(0))
    }

    pub async fn restore(&self, from: &str, into: &str) -> Result<RestoreReport> {
        let request = RestoreRequest {
            tables: TableSet::All,
            rename: vec![],
            from: from.into(),
            as_of: AsOf::Latest,
            into: None,
            selection: Selection::default(),
            if_exists: IfExists::Replace,
            shard_rule: None,
            segment_rows: None,
            skip_damaged: false,
            skip_shredded: false,
        };
        let request = RestoreRequest {
            tables: TableSet::Tables(vec![TableName::bare("t")]),
            rename: vec![Some(TableName::bare(into))],
            ..request
        };
        self.engine.restore(&request).await
    }

    /// Digest of a live table, read by its own scan.
    pub async fn live(&self, table: &str) -> Digest {
        let name = TableName::bare(table);
        let cut = self
            .store
            .open_cut(std::slice::from_ref(&name), &CutOptions { allow_fuzzy: true })
            .await
            .unwrap();
        let schema = cut.table(&name).await.unwrap().schema;
        let hasher = RowHasher::new(&schema);
        let mut digest = Digest::default();
        for partition in cut.plan(&name, &PlanOptions::default()).await.unwrap() {
            let rows: Vec<RecordBatch> =
                cut.scan(&partition, &ScanOptions::default()).await.unwrap().try_collect().await.unwrap();
            for batch in rows {
                digest = digest.merge(hasher.digest(&batch).unwrap());
            }
        }
        cut.release().await.unwrap();
        digest
    }

    /// Points that can be seen.
    pub async fn visible(&self) -> u64 {
        match self.engine.list(None).await {
            Ok(list) => list.iter().map(|b| b.points).sum(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// What an error says, for assertions.
pub fn said<T>(result: Result<T>) -> EngineError {
    match result {
        Ok(_) => panic!("it succeeded"),
        Err(error) => error,
    }
}
