//! What a writer does for the store after its commit: it removes what retention does not keep.
//!
//! There is no server that could. So each writer looks at the entry that it made: is a table due, or everything that is not
//! visible? Its commit stands whatever becomes of this.

use crate::Result;
use crate::catalog::Catalog;
use crate::names;
use crate::store::ColumnarStore;
use crate::vacuum::{Scope, older};
use jiff::Timestamp;
use keepfast_model::TableId;
use std::sync::PoisonError;

/// A table is due when the number of its newest version is a multiple of this, and of more where more versions are kept;
/// what is not visible, when that of the catalog's entry is.
const EVERY: u64 = 64;
/// Kept versions of a table that are read as often as that; twice as many, half as often.
const CHEAP: u64 = 256;

impl ColumnarStore {
    /// Removes what is due after the entry `done`, which was made of `before`.
    pub(crate) async fn tend(&self, before: &Catalog, done: &Catalog) {
        let hidden = async {
            if done.seq.is_multiple_of(EVERY) || self.has_due(done) {
                self.vacuum_scope(Scope::Hidden, &self.shared.options.retention).await?;
                self.sweep_files().await?;
            }
            Ok(())
        };
        self.warn(hidden.await);
        for table in &done.tables {
            let moved = before.by_id(&table.id).is_some_and(|earlier| earlier.file != table.file);
            if moved && table.version.is_multiple_of(EVERY) {
                self.warn(self.tend_table(&table.id, table.version).await);
            }
        }
    }

    async fn tend_table(&self, table: &TableId, version: u64) -> Result<()> {
        let kept = self.shared.place.list(&format!("{}/versions", names::table(table))).await?.len() as u64;
        if version.is_multiple_of(EVERY * (kept / CHEAP).max(1).next_power_of_two()) {
            self.vacuum_scope(Scope::Table(table), &self.shared.options.retention).await?;
        }
        Ok(())
    }

    /// Whether a dropped table's time is over that this process did not try to remove.
    fn has_due(&self, head: &Catalog) -> bool {
        let (now, leftovers) = (Timestamp::now(), self.shared.options.retention.leftovers);
        let due = head.dropped.iter().filter(|dropped| older(dropped.at, leftovers, now));
        // One that a cut holds stays for now.
        let mut tried = self.shared.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let known = tried.len();
        tried.extend(due.map(|dropped| dropped.id.clone()));
        tried.len() > known
    }

    fn warn(&self, done: Result<()>) {
        if let Err(error) = done {
            tracing::warn!(store = %self, %error, "what retention does not keep was not all removed");
        }
    }
}
