//! The way back: what a publication did to each table, and how it is put back.

use crate::build::{self, Parts, Prepared};
use crate::catalog::CatalogTable;
use crate::names::WriterId;
use crate::sink::Piece;
use crate::store::ColumnarStore;
use crate::table::TableVersion;
use crate::{Result, fault};
use keepfast_model::{TableId, TableName};
use keepfast_store::{StoreError, UndoToken};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a publication did to one table, and how to put it back.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "did", rename_all = "snake_case")]
pub(crate) enum Step {
    Created { name: TableName, id: TableId },
    Replaced { name: TableName, id: TableId, kept: TableName, old: TableId },
    Merged { id: TableId, before: String, after: String },
}

impl Step {
    /// What undoing all of a publication needs.
    pub fn token(steps: &[Self]) -> Result<UndoToken> {
        serde_json::to_value(steps).map(UndoToken).map_err(|e| fault::damaged("an undo token", e.to_string()))
    }
}

/// Puts back what a publication replaced.
pub(crate) async fn undo(store: &ColumnarStore, token: &UndoToken) -> Result<()> {
    let shared = &store.shared;
    let refuse = |reason: String| StoreError::Unsupported {
        store: shared.url(),
        what: format!("undo this restore: {reason}"),
    };
    let steps: Vec<Step> = serde_json::from_value(token.0.clone())
        .map_err(|e| refuse(format!("its token cannot be read: {e}")))?;
    let writer = WriterId::random();
    let turn = shared.turn.acquire().await;
    loop {
        let head = shared.head().await?;
        let mut next = head.next(&writer, "undo".into());
        // Its first keys gave the store's tables other ids.
        let or = match head.sealed_since {
            Some(_) => "or it was undone already, or the store was given its first keys since",
            None => "or it was undone already",
        };
        for step in &steps {
            match step {
                Step::Created { name, id } => {
                    if next.remove(id).is_none() {
                        return Err(refuse(format!("table '{name}' is gone, {or}")));
                    }
                }
                Step::Replaced { name, id, kept, old } => {
                    if next.by_id(id).is_none() {
                        return Err(refuse(format!("table '{name}' is another one, {or}")));
                    }
                    let Some(at) = next.tables.iter().position(|t| t.id == *old && t.replaced.is_some())
                    else {
                        return Err(refuse(format!("'{kept}' is gone, {or}")));
                    };
                    let current = next.remove(id).map(|t| t.name).unwrap_or_else(|| name.clone());
                    let at = next.tables.iter().position(|t| t.id == *old).unwrap_or(at);
                    let mut back = next.tables.remove(at);
                    back.name = current;
                    back.replaced = None;
                    next.add(back);
                }
                Step::Merged { id, before, after } => {
                    let Some(entry) = next.by_id(id).cloned() else {
                        return Err(refuse(format!("the table is gone, {or}")));
                    };
                    if entry.file != *after {
                        return Err(refuse(format!("table '{}' was written to after it, {or}", entry.name)));
                    }
                    let ready = version_again(store, &entry, before).await?.ok_or_else(|| {
                        refuse(format!("the version of '{}' before it is no longer kept", entry.name))
                    })?;
                    if let Some(entry) = next.by_id_mut(id) {
                        entry.version = ready.file.version;
                        entry.file = ready.file_name;
                    }
                }
            }
        }
        if let Some(done) = shared.try_commit(&head, next).await? {
            drop(turn);
            store.tend(&head, &done).await;
            return Ok(());
        }
    }
}

/// A new version with the rows of an older one.
async fn version_again(store: &ColumnarStore, entry: &CatalogTable, older: &str) -> Result<Option<Prepared>> {
    let now = TableVersion::open(store.shared.clone(), entry).await?;
    let Some(then) = store.shared.find_version(&entry.id, older).await? else { return Ok(None) };
    let mut target = store.target_of(&now);
    target.schema = Arc::new(then.schema.clone());
    target.epoch = then.epoch;
    let parts = Parts {
        pieces: then.pages.iter().cloned().map(Piece::Page).collect(),
        profile: then.profile.clone(),
        added: then.digest,
        removed: now.file.digest,
        op: "undo".into(),
    };
    build::build(&target, &now.file, Some(&now.file_name), parts).await.map(Some)
}
