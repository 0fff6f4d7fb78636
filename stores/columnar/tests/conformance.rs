//! The suite that every store passes.

mod common;

use async_trait::async_trait;
use keepfast_columnar::{ColumnarStore, Options};
use keepfast_model::{TableName, TableSchema};
use keepfast_store::conformance::{Fixture, Write};
use keepfast_store::{OnDuplicate, Result, Store};
use std::sync::Arc;
use tempfile::TempDir;

struct InFolder {
    folder: TempDir,
    options: Options,
    store: ColumnarStore,
}

impl InFolder {
    fn new() -> Self {
        Self::with(common::middling(common::small()))
    }

    async fn encrypted() -> Self {
        let made = Self::with(common::middling(common::opened_by(common::PHRASE)));
        made.store.add_recipient("office", &common::passphrase(common::PHRASE)).await.unwrap();
        made
    }

    fn with(options: Options) -> Self {
        let folder = TempDir::new().unwrap();
        let store = common::in_folder(folder.path(), options.clone());
        Self { folder, options, store }
    }
}

#[async_trait]
impl Fixture for InFolder {
    fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.store.clone())
    }

    fn elsewhere(&self) -> Arc<dyn Store> {
        Arc::new(common::in_folder(self.folder.path(), self.options.clone()))
    }

    async fn create_table(&self, table: &TableName, schema: &TableSchema) -> Result<()> {
        self.store.create_table(table, schema, false).await.map(drop)
    }

    async fn write(&self, table: &TableName, write: Write) -> Result<()> {
        let mut change = self.store.table(table).await?.begin().await?;
        match write {
            Write::Insert(rows) => drop(change.insert(rows, OnDuplicate::Refuse).await?),
            Write::Upsert(rows) => drop(change.upsert(rows).await?),
            Write::Delete(rows) if change.base().schema().is_bag() => {
                common::delete_equal(&mut change, &rows).await?
            }
            Write::Delete(rows) => change.delete_keys(rows).await?,
        }
        change.commit().await.map(drop)
    }
}

keepfast_store::conformance_tests!(|| async { Box::new(InFolder::new()) as Box<dyn Fixture> });

mod with_keys {
    use super::*;

    keepfast_store::conformance_tests!(|| async {
        Box::new(InFolder::encrypted().await) as Box<dyn Fixture>
    });
}
