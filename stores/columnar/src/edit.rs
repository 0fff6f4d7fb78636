//! Changes by SQL statements.

use crate::Result;
use crate::change::Change;
use crate::cut::ColumnarCut;
use crate::store::ColumnarStore;
use arrow::array::RecordBatch;
use async_trait::async_trait;
use keepfast_model::{TableName, TableSchema};
use keepfast_store::{Edit, OnDuplicate, OpenCut, TableEdit};
use std::sync::Arc;

#[async_trait]
impl Edit for ColumnarStore {
    async fn create_table(
        &self,
        name: &TableName,
        schema: &TableSchema,
        if_not_exists: bool,
    ) -> Result<bool> {
        ColumnarStore::create_table(self, name, schema, if_not_exists).await
    }

    async fn drop_table(&self, name: &TableName, if_exists: bool) -> Result<bool> {
        ColumnarStore::drop_table(self, name, if_exists).await
    }

    async fn begin_edit(&self, name: &TableName) -> Result<Box<dyn TableEdit>> {
        let change = self.table(name).await?.begin().await?;
        let base = ColumnarCut::of(self, name, change.base());
        Ok(Box::new(ColumnarEdit { change, base: Arc::new(base) }))
    }

    async fn tidy(&self, name: &TableName) -> Result<()> {
        self.compact(name).await?;
        self.vacuum(Some(name), &self.shared.options.retention).await?;
        Ok(())
    }
}

/// A change, as the engine's statements see it.
#[derive(Debug)]
struct ColumnarEdit {
    change: Change,
    base: Arc<ColumnarCut>,
}

#[async_trait]
impl TableEdit for ColumnarEdit {
    fn schema(&self) -> &TableSchema {
        self.change.base().schema()
    }

    fn base(&self) -> Arc<dyn OpenCut> {
        self.base.clone()
    }

    async fn insert(&mut self, rows: RecordBatch, on_duplicate: OnDuplicate) -> Result<u64> {
        self.change.insert(rows, on_duplicate).await
    }

    async fn delete(&mut self, rows: RecordBatch) -> Result<u64> {
        self.change.delete(rows).await
    }

    async fn update(&mut self, old: RecordBatch, new: RecordBatch) -> Result<u64> {
        self.change.update(old, new).await
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        let Self { change, base } = *self;
        let done = change.commit().await;
        base.release().await?;
        done.map(drop)
    }
}
