//! Changing tables row by row, for stores that SQL statements may write to.
//!
//! An edit is pinned to one version of a table: what it reads is what it changes, and its commit fails with
//! [`StoreError::Conflict`](crate::StoreError::Conflict) where another writer came first. Callers then run it anew.

use crate::Result;
use crate::cut::OpenCut;
use arrow::array::RecordBatch;
use async_trait::async_trait;
use keepfast_model::{TableName, TableSchema};
use std::fmt::Debug;
use std::sync::Arc;

/// What an inserted row does to a row of equal key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDuplicate {
    /// The statement fails and nothing of it is visible.
    Refuse,
    /// The old row stays.
    Ignore,
    /// The new row takes its place.
    Replace,
}

/// A store whose tables can be made, changed and dropped by SQL statements.
#[async_trait]
pub trait Edit: Send + Sync {
    /// Makes an empty table. False when it exists already and `if_not_exists` is set.
    async fn create_table(&self, name: &TableName, schema: &TableSchema, if_not_exists: bool)
    -> Result<bool>;

    /// Makes the table invisible. False when there is none and `if_exists` is set.
    async fn drop_table(&self, name: &TableName, if_exists: bool) -> Result<bool>;

    /// Starts an edit on the table's newest version.
    async fn begin_edit(&self, name: &TableName) -> Result<Box<dyn TableEdit>>;

    /// Joins small segments of the table and removes old versions that no policy keeps.
    async fn tidy(&self, name: &TableName) -> Result<()>;
}

/// Changes to one table, on their way to one new version.
#[async_trait]
pub trait TableEdit: Debug + Send {
    /// Columns and key.
    fn schema(&self) -> &TableSchema;

    /// The version that the edit started from, for reading.
    fn base(&self) -> Arc<dyn OpenCut>;

    /// Adds physical rows in any order. Returns how many rows were added or replaced.
    async fn insert(&mut self, rows: RecordBatch, on_duplicate: OnDuplicate) -> Result<u64>;

    /// Removes rows that a scan of [`TableEdit::base`] gave: by key, or by equal content in a bag.
    async fn delete(&mut self, rows: RecordBatch) -> Result<u64>;

    /// Puts `new` in the place of `old`, row by row; keys may change.
    async fn update(&mut self, old: RecordBatch, new: RecordBatch) -> Result<u64>;

    /// Makes all of it visible as one new version.
    async fn commit(self: Box<Self>) -> Result<()>;
}
