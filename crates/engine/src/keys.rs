//! Vaults as the verbs for keys need them, and the dropping of keys.

use crate::Result;
use crate::api::ShredReport;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::session::same_table;
use keepfast_keys::KeyError;
use keepfast_model::{ColumnId, TableId, TableName};
use keepfast_vault::{Vault, VaultError};
use std::collections::BTreeMap;

impl Engine {
    /// The vault at a location, else the default one, with this engine's credentials.
    ///
    /// # Errors
    /// As [`Vault::open`].
    pub async fn vault(&self, location: Option<&str>) -> Result<Vault> {
        self.open_vault(location).await
    }

    /// Drops the keys of a table of a backup, in every selection, or of one of its secret columns. What they encrypted can
    /// never be read again there.
    ///
    /// # Errors
    /// [`EngineError::Unknown`] for a table or column that no point has; [`KeyError::Shredded`] where there are no keys.
    pub async fn shred(&self, backup: &str, table: &TableName, column: Option<&str>) -> Result<ShredReport> {
        let found = self.find_backup(backup).await?;
        let in_store = TableName { store: None, ..table.clone() };
        let mut tables: BTreeMap<TableId, Option<ColumnId>> = BTreeMap::new();
        for point in found.vault.log().await?.points(&found.backup) {
            for held in point.tables.iter().filter(|t| same_table(&t.name, &in_store)) {
                let id =
                    column.and_then(|name| held.schema.columns.iter().find(|c| c.name == name)).map(|c| c.id);
                let known = tables.entry(held.id.clone()).or_default();
                *known = id.or(*known);
            }
        }
        if tables.is_empty() {
            return Err(EngineError::Unknown { what: "table in the backup", name: table.to_string() });
        }
        if let Some(name) = column
            && tables.values().all(Option::is_none)
        {
            return Err(EngineError::Unknown { what: "column in the backup", name: name.to_owned() });
        }
        let mut dropped = 0;
        let mut refused = None;
        for (id, column_id) in tables {
            if column.is_some() && column_id.is_none() {
                continue;
            }
            match found.vault.shred(&id, column_id).await {
                Ok(()) => dropped += 1,
                Err(VaultError::Keys(e @ KeyError::Shredded { .. })) => refused = Some(VaultError::Keys(e)),
                Err(e) => return Err(e.into()),
            }
        }
        match refused {
            Some(e) if dropped == 0 => Err(e.into()),
            _ => Ok(ShredReport { copies: self.known_copies(&found.vault), backup: found.backup }),
        }
    }
}
