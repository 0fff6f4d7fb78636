//! Loads of the awkward store: parts are staged, made into tables by `finish`, and named by `publish`.

use super::cut::{AwkwardCut, Handle};
use super::options::Snapshots;
use super::state::{Remembered, Replaced, Shared, State};
use super::table::Table;
use crate::load::LoadTable;
use crate::{
    BatchStream, Load, LoadMode, LoadOptions, LoadState, LoadedPart, OpenCut, Published, Result, StoreError,
    UndoToken, UnfinishedLoad,
};
use arrow::array::RecordBatch;
use async_trait::async_trait;
use futures::StreamExt;
use keepfast_model::{Digest, RowHasher, TableName};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Batches of the parts written, by table and part.
type Parts = BTreeMap<(usize, u32), Vec<RecordBatch>>;

#[derive(Debug)]
enum Stage {
    Writing(Parts),
    /// The tables as they will be, and for a merge the version of the table that it was merged with.
    Finished(Vec<(usize, Option<u64>)>, Parts),
    /// The answer, and each target's table with the version of its last change then.
    Published(Published, Vec<(usize, u64)>),
    Abandoned,
}

/// A load, shared by all who attached to it.
#[derive(Debug)]
pub(super) struct Staged {
    id: u64,
    shared: Arc<Shared>,
    options: LoadOptions,
    stage: Mutex<Stage>,
}

impl Staged {
    /// Starts a load.
    ///
    /// # Errors
    /// `TableExists`, and `Unsupported` for what the store's options exclude.
    pub fn begin(shared: &Arc<Shared>, options: LoadOptions) -> Result<Arc<Self>> {
        let Some(kind) = shared.options.publish else {
            return Err(shared.unsupported("be written"));
        };
        let mut state = shared.state();
        for table in &options.tables {
            table.schema.check(&table.target.to_string())?;
            let exists = state.names.contains_key(&table.target);
            match table.mode {
                LoadMode::Create if exists => return Err(exists_already(shared, &table.target)),
                LoadMode::Replace if exists && kind == crate::PublishKind::NewNameOnly => {
                    return Err(shared.unsupported("replace a table: it publishes under new names only"));
                }
                LoadMode::Merge if !shared.options.merge => return Err(shared.unsupported("merge rows")),
                _ => {}
            }
        }
        let id = state.next_id();
        let what = format!("load {id} of run {}", options.run);
        let stage = Mutex::new(Stage::Writing(Parts::new()));
        let staged = Arc::new(Self { id, shared: shared.clone(), options, stage });
        state.loads.insert(id, (what, Arc::downgrade(&staged)));
        Ok(staged)
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, table: &TableName) -> Result<(usize, &LoadTable)> {
        let at = self.options.tables.iter().position(|t| t.target == *table);
        at.map(|at| (at, &self.options.tables[at])).ok_or_else(|| self.shared.no_table(table))
    }

    fn over(&self, stage: &Stage) -> StoreError {
        let now = match stage {
            Stage::Writing(_) => "not finished",
            Stage::Finished(..) => "finished",
            Stage::Published(..) => "published",
            Stage::Abandoned => "abandoned",
        };
        self.shared.unsupported(&format!("go on with load {}: it is {now}", self.id))
    }

    /// The target's table, merged or new, with the rows of its parts.
    fn build(&self, state: &mut State, at: usize, parts: &Parts) -> Result<(usize, Option<u64>)> {
        let table = &self.options.tables[at];
        let incarnation = state.next_id();
        state.version += 1;
        let version = state.version;
        let mut built =
            Table::new(&table.target.table, incarnation, version, &table.schema, &self.shared.options);
        let merged = match (table.mode, state.names.get(&table.target)) {
            (LoadMode::Merge, Some(old)) => {
                let old = &state.tables[*old];
                let rows: Vec<_> =
                    old.visible(version).map(|(_, r)| (r.row.clone(), r.schema.clone())).collect();
                built.put(
                    version,
                    &super::emit::rows(&table.schema, &rows, None, old.exact)?,
                    false,
                    None,
                )?;
                state.version += 1;
                Some(old.changed)
            }
            _ => None,
        };
        let version = state.version;
        let mut given =
            Table::new(&table.target.table, incarnation, version, &table.schema, &self.shared.options);
        for ((_, _), batches) in parts.range((at, 0)..=(at, u32::MAX)) {
            for batch in batches {
                // Refuses keys that stand twice in the load.
                given.put(version, batch, false, None)?;
                built.put(version, batch, merged.is_some(), None)?;
            }
        }
        state.tables.push(built);
        Ok((state.tables.len() - 1, merged))
    }

    fn publish(&self) -> Result<Published> {
        let mut stage = self.stage();
        let (tables, parts) = match &*stage {
            Stage::Finished(tables, parts) => (tables, parts),
            Stage::Published(published, _) => return Ok(published.clone()),
            other => return Err(self.over(other)),
        };
        let mut guard = self.shared.state();
        let state = &mut *guard;
        for ((_, merged), table) in tables.iter().zip(&self.options.tables) {
            let now = state.names.get(&table.target).map(|i| state.tables[*i].changed);
            match table.mode {
                LoadMode::Create if now.is_some() => return Err(exists_already(&self.shared, &table.target)),
                LoadMode::Merge if now != *merged => {
                    return Err(StoreError::Conflict {
                        table: table.target.to_string(),
                        reason: "it was written since the load was finished".into(),
                    });
                }
                _ => {}
            }
        }
        let mut replaced = vec![];
        let mut undo = vec![];
        state.version += 1;
        let version = state.version;
        for (at, ((index, merged), table)) in tables.iter().zip(&self.options.tables).enumerate() {
            if let (Some(_), Some(old)) = (merged, state.names.get(&table.target)) {
                // In place, so that the table's log goes on.
                for ((_, _), batches) in parts.range((at, 0)..=(at, u32::MAX)) {
                    for batch in batches {
                        state.tables[*old].put(version, batch, true, None)?;
                    }
                }
                replaced.push(None);
                continue;
            }
            let kept = state.names.remove(&table.target).map(|old| {
                let name = (1u32..)
                    .map(|n| {
                        table
                            .target
                            .sibling(format!("{}__replaced_{}_{n}", table.target.table, table.replaced_tag))
                    })
                    .find(|name| !state.names.contains_key(name))
                    .unwrap_or_else(|| table.target.clone());
                state.names.insert(name.clone(), old);
                name
            });
            if let Some(kept) = &kept {
                undo.push(Replaced {
                    target: table.target.clone(),
                    kept: kept.clone(),
                    by: *index,
                    at: state.tables[*index].changed,
                });
            }
            state.names.insert(table.target.clone(), *index);
            replaced.push(kept);
        }
        state.undos.insert(self.id, undo);
        state.loads.remove(&self.id);
        let published = Published { replaced, undo: UndoToken(serde_json::json!({ "load": self.id })) };
        *stage = Stage::Published(published.clone(), self.standing(state));
        Ok(published)
    }

    /// Each target's table, and when it was changed last.
    fn standing(&self, state: &State) -> Vec<(usize, u64)> {
        let now = self.options.tables.iter().filter_map(|t| state.names.get(&t.target));
        now.map(|i| (*i, state.tables[*i].changed)).collect()
    }
}

/// Puts back what a publication replaced.
///
/// # Errors
/// `Unsupported` for an unknown or used token, `Conflict` when one of the tables is no longer what it was.
pub(super) fn undo(shared: &Shared, token: &UndoToken) -> Result<()> {
    let mut guard = shared.state();
    let state = &mut *guard;
    let gone = || shared.unsupported("undo this publication: it was undone before, or replaced nothing");
    let id = token.0.get("load").and_then(serde_json::Value::as_u64).ok_or_else(gone)?;
    let all = state.undos.get(&id).filter(|all| !all.is_empty()).ok_or_else(gone)?.clone();
    for one in &all {
        if state.names.get(&one.target) != Some(&one.by) || !state.names.contains_key(&one.kept) {
            return Err(StoreError::Conflict {
                table: one.target.to_string(),
                reason: "it was replaced or dropped since".into(),
            });
        }
    }
    for one in all {
        let Some(old) = state.names.remove(&one.kept) else { continue };
        let loaded = state.names.insert(one.target.clone(), old);
        // Rows written since the publication are nowhere else.
        if let Some(loaded) = loaded.filter(|loaded| state.tables[*loaded].changed != one.at) {
            state.names.insert(one.target.sibling(format!("{}__undone_{id}", one.target.table)), loaded);
        }
    }
    state.undos.remove(&id);
    Ok(())
}

fn exists_already(shared: &Shared, table: &TableName) -> StoreError {
    StoreError::TableExists { table: table.to_string(), store: shared.name.clone() }
}

/// A handle on a load.
#[derive(Clone, Debug)]
pub(super) struct LoadHandle(pub Arc<Staged>);

#[async_trait]
impl Load for LoadHandle {
    fn token(&self) -> Option<serde_json::Value> {
        Some(serde_json::json!({ "load": self.0.id }))
    }

    async fn write_part(&self, table: &TableName, part: u32, mut rows: BatchStream) -> Result<LoadedPart> {
        let (at, target) = self.0.place(table)?;
        let hasher = RowHasher::new(&target.schema);
        let mut digest = Digest::default();
        let mut batches = vec![];
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            digest = digest.merge(hasher.digest(&batch)?);
            batches.push(batch);
        }
        let mut stage = self.0.stage();
        // Who goes on after a crash need not know whether the load was finished.
        if let Stage::Finished(_, parts) = &mut *stage {
            *stage = Stage::Writing(std::mem::take(parts));
        }
        match &mut *stage {
            Stage::Writing(parts) => parts.insert((at, part), batches),
            other => return Err(self.0.over(other)),
        };
        Ok(LoadedPart { part, digest, token: serde_json::json!({ "part": part }) })
    }

    async fn finish(&self, parts: Vec<(TableName, Vec<LoadedPart>)>) -> Result<()> {
        let mut stage = self.0.stage();
        let (Stage::Writing(written) | Stage::Finished(_, written)) = &*stage else {
            return Err(self.0.over(&stage));
        };
        let mut taken = Parts::new();
        for (table, parts) in parts {
            let (at, target) = self.0.place(&table)?;
            let hasher = RowHasher::new(&target.schema);
            for part in parts {
                let batches = written.get(&(at, part.part)).cloned().unwrap_or_default();
                let mut digest = Digest::default();
                for batch in &batches {
                    digest = digest.merge(hasher.digest(batch)?);
                }
                if digest != part.digest {
                    return Err(StoreError::Damaged {
                        object: format!("part {} of '{table}' in load {}", part.part, self.0.id),
                        reason: format!("digest {digest}, expected {}", part.digest),
                    });
                }
                taken.insert((at, part.part), batches);
            }
        }
        let mut state = self.0.shared.state();
        let tables = (0..self.0.options.tables.len())
            .map(|at| self.0.build(&mut state, at, &taken))
            .collect::<Result<Vec<_>>>()?;
        *stage = Stage::Finished(tables, taken);
        Ok(())
    }

    async fn open_cut(&self) -> Result<Arc<dyn OpenCut>> {
        let stage = self.0.stage();
        let Stage::Finished(tables, _) = &*stage else { return Err(self.0.over(&stage)) };
        let mut state = self.0.shared.state();
        let names =
            self.0.options.tables.iter().zip(tables).map(|(t, (i, _))| (t.target.clone(), *i)).collect();
        let id = state.next_id();
        // What is loaded does not change before it is published, whatever snapshots the store has.
        let cut = Arc::new(AwkwardCut::new(id, &self.0.shared, &state, Snapshots::Versions, names));
        state.cuts.insert(id, Arc::downgrade(&cut));
        Ok(Arc::new(Handle(cut)))
    }

    async fn publish(&self) -> Result<Published> {
        self.0.publish()
    }

    async fn abandon(&self) -> Result<()> {
        let mut stage = self.0.stage();
        let mut state = self.0.shared.state();
        state.remembered.remove(&self.0.id);
        state.loads.remove(&self.0.id);
        if !matches!(*stage, Stage::Published(..)) {
            *stage = Stage::Abandoned;
        }
        Ok(())
    }

    async fn remember(&self, purpose: &serde_json::Value) -> Result<bool> {
        let mut state = self.0.shared.state();
        let begun = self.0.shared.time(state.version);
        let remembered =
            Remembered { load: self.0.clone(), purpose: purpose.clone(), begun, notes: BTreeMap::new() };
        state.remembered.entry(self.0.id).or_insert(remembered);
        Ok(true)
    }

    async fn note(&self, name: &str, note: &serde_json::Value) -> Result<bool> {
        let mut state = self.0.shared.state();
        let Some(remembered) = state.remembered.get_mut(&self.0.id) else { return Ok(false) };
        if remembered.notes.contains_key(name) {
            return Ok(false);
        }
        remembered.notes.insert(name.to_owned(), note.clone());
        Ok(true)
    }

    async fn notes(&self) -> Result<BTreeMap<String, serde_json::Value>> {
        let state = self.0.shared.state();
        Ok(state.remembered.get(&self.0.id).map(|r| r.notes.clone()).unwrap_or_default())
    }

    async fn state(&self) -> Result<LoadState> {
        let stage = self.0.stage();
        Ok(match &*stage {
            Stage::Writing(_) | Stage::Finished(..) => LoadState::Open,
            Stage::Abandoned => LoadState::Over("it was abandoned".into()),
            Stage::Published(published, standing) => {
                let now = self.0.standing(&self.0.shared.state());
                match now == *standing {
                    true => LoadState::Published(published.clone()),
                    false => LoadState::Over("its tables were changed since it was published".into()),
                }
            }
        })
    }

    async fn forget(&self) -> Result<()> {
        self.0.shared.state().remembered.remove(&self.0.id);
        Ok(())
    }
}

/// Loads that asked to be remembered.
pub(super) fn unfinished(shared: &Shared) -> Vec<UnfinishedLoad> {
    let state = shared.state();
    state
        .remembered
        .values()
        .map(|r| UnfinishedLoad {
            purpose: r.purpose.clone(),
            token: serde_json::json!({ "load": r.load.id }),
            targets: r.load.options.tables.iter().map(|t| t.target.clone()).collect(),
            begun: r.begun,
        })
        .collect()
}
