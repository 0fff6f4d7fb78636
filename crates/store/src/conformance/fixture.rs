//! What the suite needs besides the traits: a fresh store, and a way to write to it as its users do.

use crate::{CutOptions, Result, Store, sample};
use arrow::array::RecordBatch;
use async_trait::async_trait;
use keepfast_model::{ColumnType, TableName, TableSchema};
use std::sync::Arc;

/// A write as users of the store make it, in one transaction. Batches are physical batches of the table's schema.
#[derive(Clone, Debug)]
pub enum Write {
    /// New rows; their keys are not there.
    Insert(RecordBatch),
    /// Rows that take the place of those with equal keys. Never used on bags.
    Upsert(RecordBatch),
    /// Rows to remove, by the key columns alone. Of a bag: every row equal to one of these.
    Delete(RecordBatch),
}

/// What the store under test offers beyond its [`Capabilities`](crate::Capabilities).
#[derive(Clone, Debug)]
pub struct Abilities {
    /// Column types that it keeps exactly. Default: all of [`sample::all_types`].
    pub types: Vec<ColumnType>,
    /// Types that it takes as keys. Default: all of [`sample::key_types`].
    pub key_types: Vec<ColumnType>,
    /// Whether it has tables without a key. Default: true.
    pub bags: bool,
    /// Columns that a table may have. Default: 300.
    pub columns: usize,
    /// Bytes that one text value may have. Default: 10,000,000.
    pub text_bytes: usize,
    /// How cuts are asked for. Default: exact ones only.
    pub cut: CutOptions,
}

impl Default for Abilities {
    fn default() -> Self {
        Self {
            types: sample::all_types(),
            key_types: sample::key_types(),
            bags: true,
            columns: 300,
            text_bytes: 10_000_000,
            cut: CutOptions::default(),
        }
    }
}

/// A fresh store under test. Dropping it removes what it holds.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// The store. It has no tables at first, or none that the suite names.
    fn store(&self) -> Arc<dyn Store>;

    /// The same store as another process sees it. Default: [`Self::store`].
    fn elsewhere(&self) -> Arc<dyn Store> {
        self.store()
    }

    /// A table's full name in this store, from a name of letters, digits and `_`.
    fn table(&self, name: &str) -> TableName {
        TableName::bare(name)
    }

    /// What it offers.
    fn abilities(&self) -> Abilities {
        Abilities::default()
    }

    /// The type by which the store describes a column that was made with this one. Default: the same.
    fn described(&self, column: &ColumnType) -> ColumnType {
        column.clone()
    }

    /// Makes an empty table.
    ///
    /// # Errors
    /// As the store's own.
    async fn create_table(&self, table: &TableName, schema: &TableSchema) -> Result<()>;

    /// Makes one write, seen by every cut that is opened afterwards.
    ///
    /// # Errors
    /// As the store's own.
    async fn write(&self, table: &TableName, write: Write) -> Result<()>;
}
