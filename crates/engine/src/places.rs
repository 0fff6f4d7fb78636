//! Where backups are: from what a person types to a vault and a name in it.

use crate::Result;
use crate::api::AsOf;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::point::PointSource;
use crate::session::same_table;
use crate::source::TableSource;
use keepfast_model::{BackupName, LogSeq, PointId, TableName, TablePoint};
use keepfast_objects::Target;
use keepfast_vault::{CreateOptions, Vault};
use std::sync::Arc;

/// What was typed for a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The vault's location; none means the default vault.
    pub vault: Option<String>,
    /// The backup's name; none where only a vault was named.
    pub backup: Option<BackupName>,
    /// The point's number, where `@seq` was given.
    pub point: Option<LogSeq>,
}

/// Whether the text is a location rather than a bare name.
fn is_location(text: &str) -> bool {
    text.contains('/') || text.contains(":") || text == "." || text == ".."
}

impl Place {
    /// Reads a bare name, `name@seq`, `URL#name`, `URL#name@seq` or a vault's URL.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(EngineError::Usage { what: "backup".into(), reason: "its name is empty".into() });
        }
        let (vault, name) = match text.rsplit_once('#') {
            Some((vault, name)) => (Some(vault.to_owned()), Some(name)),
            None if is_location(text) => (Some(text.to_owned()), None),
            None => (None, Some(text)),
        };
        let (backup, point) = match name {
            None => (None, None),
            Some(name) if name.contains('@') => {
                let id: PointId = name.parse()?;
                (Some(id.backup), Some(id.seq))
            }
            Some(name) => (Some(name.parse()?), None),
        };
        Ok(Self { vault, backup, point })
    }
}

/// A vault and a backup in it, for reading.
#[derive(Clone, Debug)]
pub struct FoundBackup {
    /// The vault.
    pub vault: Vault,
    /// The backup.
    pub backup: BackupName,
    /// The point that the name itself stated.
    pub point: Option<LogSeq>,
}

impl Engine {
    pub(crate) fn vault_location(&self, vault: Option<&str>) -> String {
        vault.map_or_else(|| self.options.data.join("vault").to_string_lossy().into_owned(), str::to_owned)
    }

    /// Where a vault is.
    pub(crate) fn vault_target(&self, vault: Option<&str>) -> Result<Target> {
        let target = self.options.surroundings.targets.open(&self.vault_location(vault));
        Ok(target.map_err(keepfast_vault::VaultError::from)?)
    }

    /// Opens a vault for reading, and compares it with what was seen of it before.
    pub(crate) async fn open_vault(&self, vault: Option<&str>) -> Result<Vault> {
        let vault = self.open_vault_for_task(&self.vault_location(vault)).await?;
        self.compare_head(&vault).await?;
        Ok(vault)
    }

    /// Opens a vault for a task, which may run anywhere and remembers nothing.
    pub(crate) async fn open_vault_for_task(&self, location: &str) -> Result<Vault> {
        let environment = self.options.surroundings.vault.clone();
        Ok(Vault::open_with(self.vault_target(Some(location))?, environment).await?)
    }

    /// Whether a place is of a kind that can lock objects; nothing is asked of it.
    pub(crate) fn can_lock(&self, vault: Option<&str>) -> bool {
        self.vault_target(vault).is_ok_and(|target| target.immutability().is_some())
    }

    /// Opens a vault for writing; an empty place becomes a vault.
    pub(crate) async fn open_vault_to_write(&self, vault: Option<&str>) -> Result<Vault> {
        let environment = self.options.surroundings.vault.clone();
        let options = CreateOptions { environment, ..CreateOptions::default() };
        let vault = Vault::open_or_create_with(self.vault_target(vault)?, &options).await?;
        self.compare_head(&vault).await?;
        Ok(vault)
    }

    /// Finds a backup for reading.
    pub(crate) async fn find_backup(&self, text: &str) -> Result<FoundBackup> {
        let place = Place::parse(text)?;
        let vault = self.open_vault(place.vault.as_deref()).await?;
        let backup = match place.backup {
            Some(name) => name,
            None => {
                let mut names = vault.log().await?.backups();
                if names.len() != 1 {
                    return Err(EngineError::AmbiguousVault {
                        vault: vault.url().to_owned(),
                        count: names.len(),
                    });
                }
                names.remove(0)
            }
        };
        vault.latest(&backup).await?;
        Ok(FoundBackup { vault, backup, point: place.point })
    }

    /// The table of a restore point as a source.
    pub(crate) async fn point_table(
        &self,
        backup: &str,
        as_of: &AsOf,
        table: &TableName,
    ) -> Result<Arc<dyn TableSource>> {
        let found = self.find_backup(backup).await?;
        let (id, point) = self.find_point(&found, as_of).await?;
        let table = table_of(&id, &point.tables, table)?;
        Ok(Arc::new(PointSource::open(found.vault.clone(), table, self.options.threads).await?))
    }
}

/// The table of that name in a point, which names tables as their store does: without the store.
pub fn table_of<'a>(point: &PointId, tables: &'a [TablePoint], name: &TableName) -> Result<&'a TablePoint> {
    let in_store = TableName { store: None, ..name.clone() };
    tables
        .iter()
        .find(|t| same_table(&t.name, &in_store))
        .or_else(|| {
            // A bare name means the one table of that name, whatever its database.
            let mut found = tables.iter().filter(|t| t.name.table.eq_ignore_ascii_case(&name.table));
            match (found.next(), found.next()) {
                (Some(only), None)
                    if name.store.is_none() && name.database == keepfast_model::name::DEFAULT_DATABASE =>
                {
                    Some(only)
                }
                _ => None,
            }
        })
        .ok_or_else(|| EngineError::NotInPoint {
            table: name.to_string(),
            point: point.to_string(),
            holds: tables.iter().map(|t| t.name.to_string()).collect::<Vec<_>>().join(", "),
        })
}
