//! The awkward store as the conformance suite sees it.

use super::{AwkwardStore, Awkwardness, Snapshots};
use crate::conformance::{Abilities, Fixture, Write};
use crate::{CutOptions, Result, Store};
use async_trait::async_trait;
use keepfast_model::{TableName, TableSchema};
use std::sync::Arc;

/// A fresh awkward store under test.
#[derive(Debug)]
pub struct AwkwardFixture {
    /// The store.
    pub store: AwkwardStore,
    cut: CutOptions,
}

impl AwkwardFixture {
    /// An empty store. Where it cannot give exact cuts, fuzzy ones are asked for.
    pub fn new(options: Awkwardness) -> Self {
        let allow_fuzzy = options.snapshots == Snapshots::None { closed_by_log: false };
        Self { store: AwkwardStore::new(options), cut: CutOptions { allow_fuzzy } }
    }
}

#[async_trait]
impl Fixture for AwkwardFixture {
    fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.store.clone())
    }

    fn abilities(&self) -> Abilities {
        Abilities { cut: self.cut.clone(), ..Abilities::default() }
    }

    async fn create_table(&self, table: &TableName, schema: &TableSchema) -> Result<()> {
        self.store.create_table(table, schema)
    }

    async fn write(&self, table: &TableName, write: Write) -> Result<()> {
        self.store.write(table, &write)
    }
}
