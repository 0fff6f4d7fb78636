//! Taking a restore back, and what the data folder remembers for it.

use crate::Result;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::resolve::StoreSpec;
use crate::session::same_table;
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use keepfast_model::{Digest, PointId, ShardPosition, TableName};
use keepfast_store::UndoToken;
use serde::{Deserialize, Serialize};

/// A restore as the data folder remembers it, for `undo`.
#[derive(Serialize, Deserialize)]
pub(crate) struct Remembered {
    pub restore: String,
    pub store: StoreSpec,
    pub undo: UndoToken,
    pub tables: Vec<TableName>,
    pub point: PointId,
    pub at: jiff::Timestamp,
    /// What each table held when it was published.
    pub digests: Vec<Digest>,
    /// Where the store's change log stood then: an incremental backup goes on from there.
    pub positions: Vec<ShardPosition>,
}

impl Engine {
    /// Positions at which a restore put a table into this state, newest first.
    pub(crate) fn restored_positions(&self, table: &TableName, state: Digest) -> Vec<Vec<ShardPosition>> {
        let Ok(files) = std::fs::read_dir(self.restores()) else { return vec![] };
        let mut found: Vec<Remembered> = files
            .filter_map(|file| serde_json::from_slice(&std::fs::read(file.ok()?.path()).ok()?).ok())
            .filter(|r: &Remembered| {
                r.tables.iter().zip(&r.digests).any(|(t, d)| same_table(t, table) && *d == state)
            })
            .collect();
        found.sort_by_key(|r| std::cmp::Reverse(r.at));
        found.into_iter().map(|r| r.positions).collect()
    }

    /// Puts back what a restore replaced; returns the tables' names.
    pub fn undo<'a>(&'a self, restore: &'a str) -> LocalBoxFuture<'a, Result<Vec<TableName>>> {
        async move {
            let path = self.restores().join(format!("{restore}.json"));
            let unknown = || EngineError::Unknown { what: "restore", name: restore.to_owned() };
            if !restore.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '@' | '.'))
                || restore.starts_with('.')
            {
                return Err(unknown());
            }
            let bytes = match std::fs::read(&path) {
                Ok(bytes) => bytes,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(unknown()),
                Err(source) => {
                    return Err(EngineError::State {
                        what: "read",
                        path: path.display().to_string(),
                        source,
                    });
                }
            };
            let remembered: Remembered = serde_json::from_slice(&bytes).map_err(|e| EngineError::State {
                what: "read",
                path: path.display().to_string(),
                source: e.into(),
            })?;
            let store = self.options.stores.open(&remembered.store).await?;
            store.undo(&remembered.undo).await?;
            std::fs::remove_file(&path).map_err(|source| EngineError::State {
                what: "remove",
                path: path.display().to_string(),
                source,
            })?;
            Ok(remembered.tables)
        }
        .boxed_local()
    }

    fn restores(&self) -> std::path::PathBuf {
        self.options.data.join("restores")
    }

    pub(crate) fn remember(&self, restore: &Remembered) -> Result<()> {
        let folder = self.restores();
        let path = folder.join(format!("{}.json", restore.restore));
        let failed = |source: std::io::Error| EngineError::State {
            what: "write",
            path: path.display().to_string(),
            source,
        };
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let json = serde_json::to_vec_pretty(restore).map_err(|e| failed(e.into()))?;
        let unfinished = path.with_extension("tmp");
        std::fs::write(&unfinished, json).map_err(failed)?;
        std::fs::rename(&unfinished, &path).map_err(failed)
    }
}
