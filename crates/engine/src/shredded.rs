//! What can still be restored of a table of which a secret column was shredded: all other columns.
//!
//! The lost column is NULL in every row, also where it allowed none before, and is named; nothing is lost in silence. The point's
//! digest covers the lost values, so it proves nothing of the rest: that is proven by the hash of every stored file, by
//! the authenticated decryption of every page that is read, by the number of rows, and by reading back what was loaded.

use crate::Result;
use crate::api::RestoreRequest;
use crate::condition::Condition;
use crate::engine::Engine;
use crate::task::select;
use keepfast_keys::KeyError;
use keepfast_model::{ColumnId, TablePoint};
use keepfast_store::LoadMode;
use keepfast_vault::{Vault, VaultError};

/// Shredded columns of a table that is restored.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shredded {
    /// Whether there are any, asked for or not.
    pub any: bool,
    /// Those that were asked for and will be NULL.
    pub named: Vec<String>,
}

impl Engine {
    /// The table with its shredded columns open to NULL, and which they are.
    ///
    /// # Errors
    /// [`KeyError::Shredded`] where they are needed: as a key, by the condition, by a merge, which would put NULL over values,
    /// or because they were asked for and nobody said that they may be lost.
    pub(crate) fn shredded(
        &self,
        vault: &Vault,
        request: &RestoreRequest,
        table: &TablePoint,
        mode: LoadMode,
    ) -> Result<(TablePoint, Shredded)> {
        let lost = vault.shredded_columns(table)?;
        let mut table = table.clone();
        if lost.is_empty() {
            return Ok((table, Shredded::default()));
        }
        // Names are found as the selection finds them; from there on only ids count.
        let (_, chosen) = select(&table.schema, &request.selection)?;
        let asked = |id: &ColumnId| chosen.as_ref().is_none_or(|chosen| chosen.contains(id));
        let lost_names = |which: &dyn Fn(&ColumnId) -> bool| -> Vec<String> {
            let columns = table.schema.columns.iter().filter(|c| lost.contains(&c.id) && which(&c.id));
            columns.map(|c| c.name.clone()).collect()
        };
        let all = lost_names(&|_| true);
        let named = lost_names(&asked);
        let refuse = |names: &[String]| {
            let what = format!("column '{}' of table '{}'", names.join("', '"), table.name);
            Err(VaultError::from(KeyError::Shredded { what }).into())
        };
        let may_be_null = request.skip_shredded && mode != LoadMode::Merge;
        if table.schema.key.iter().any(|id| lost.contains(id)) || !named.is_empty() && !may_be_null {
            return refuse(if named.is_empty() { &all } else { &named });
        }
        if let Some(filter) = &request.selection.filter {
            let mut rest = table.schema.clone();
            rest.columns.retain(|c| !lost.contains(&c.id));
            if Condition::compile(self, &rest, filter).is_err() {
                return refuse(&all);
            }
        }
        for column in table.schema.columns.iter_mut().filter(|c| lost.contains(&c.id)) {
            column.nullable = true;
        }
        Ok((table, Shredded { any: true, named }))
    }
}
