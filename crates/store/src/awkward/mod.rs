//! A store in memory that is as awkward as real ones, so that callers meet all of it in tests.
//!
//! With every [`Awkwardness`] off it is a plain store of versions that passes the
//! [conformance suite](crate::conformance). Each option turns on what some real store does: sessions that die (MySQL),
//! patches and rows that move between shards (sharded MySQL), cells with deletes of four kinds and pieces that split
//! under a scan (HBase), cuts that only the change log can close (Tablestore), no log and new names only (VoltDB),
//! collations, purged logs, duplicate keys, fuzzy cuts. What is done to tables (cells, bags, an `alter` in mid-log, a
//! purge) needs no option. Times are its own count of writes: nothing depends on a clock.

mod cut;
mod emit;
mod fixture;
mod incoming;
mod load;
mod options;
mod state;
mod table;

pub use fixture::AwkwardFixture;
pub use options::{Awkwardness, Duplicates, Snapshots};

use crate::conformance::Write;
use crate::{
    Capabilities, CutKind, CutOptions, Load, LoadOptions, OpenCut, Result, Store, StoreError, TableInfo,
    UndoToken, UnfinishedLoad,
};
use arrow::array::RecordBatch;
use async_trait::async_trait;
use cut::{AwkwardCut, Handle};
use keepfast_model::{ByteCount, ChangeOp, ColumnId, TableName, TableSchema};
use load::{LoadHandle, Staged};
use state::{Shared, State};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use table::Table;

/// A store in memory with chosen awkwardness. Clones are the same store.
#[derive(Clone, Debug)]
pub struct AwkwardStore {
    shared: Arc<Shared>,
}

impl fmt::Display for AwkwardStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shared.name)
    }
}

impl AwkwardStore {
    /// An empty store.
    pub fn new(options: Awkwardness) -> Self {
        Self { shared: Arc::new(Shared::new("awkward".into(), options)) }
    }

    /// Makes an empty table.
    ///
    /// # Errors
    /// `TableExists`, and `Model` for a schema that contradicts itself.
    pub fn create_table(&self, name: &TableName, schema: &TableSchema) -> Result<()> {
        schema.check(&name.to_string())?;
        let mut state = self.shared.state();
        if state.names.contains_key(name) {
            return Err(StoreError::TableExists { table: name.to_string(), store: self.shared.name.clone() });
        }
        state.version += 1;
        let incarnation = state.next_id();
        let table = Table::new(&name.table, incarnation, state.version, schema, &self.shared.options);
        state.tables.push(table);
        let index = state.tables.len() - 1;
        state.names.insert(name.clone(), index);
        Ok(())
    }

    /// Makes the table invisible. Open cuts still read it.
    ///
    /// # Errors
    /// `NoTable`.
    pub fn drop_table(&self, name: &TableName) -> Result<()> {
        self.shared.state().names.remove(name).map(|_| ()).ok_or_else(|| self.shared.no_table(name))
    }

    /// Makes one write.
    ///
    /// # Errors
    /// `NoTable`; `Row` when rows are refused, and then none of them is written.
    pub fn write(&self, name: &TableName, write: &Write) -> Result<()> {
        self.change(name, |table, version| match write {
            Write::Insert(rows) => table.put(version, rows, false, None),
            Write::Upsert(rows) => table.put(version, rows, true, None),
            Write::Delete(rows) => table.delete(version, rows),
        })
    }

    /// Sets these columns of rows that are there, by key.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn patch(&self, name: &TableName, rows: &RecordBatch, columns: &[ColumnId]) -> Result<()> {
        self.change(name, |table, version| table.patch(version, rows, columns))
    }

    /// Removes cells: for each row of the batch all versions of its cell, family or row up to its timestamp, or exactly
    /// its version, as the operation says.
    ///
    /// # Errors
    /// As [`Self::write`]; `Row` for a table that has no cells.
    pub fn delete_cells(&self, name: &TableName, op: ChangeOp, rows: &RecordBatch) -> Result<()> {
        self.change(name, |table, version| table.delete_cells(version, op, rows))
    }

    /// Inserts rows into a shard of the caller's choice, whether their keys stand in another or not, where
    /// [`Duplicates`] allow it.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn insert_into(&self, name: &TableName, shard: usize, rows: &RecordBatch) -> Result<()> {
        self.change(name, |table, version| table.put(version, rows, false, Some(shard)))
    }

    /// Moves rows, by key, to another shard.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn move_rows(&self, name: &TableName, rows: &RecordBatch, shard: usize) -> Result<()> {
        self.change(name, |table, version| table.move_rows(version, rows, shard))
    }

    /// Splits every piece of every shard in two.
    ///
    /// # Errors
    /// `NoTable`.
    pub fn split(&self, name: &TableName) -> Result<()> {
        self.change(name, |table, _| {
            table.split();
            Ok(())
        })
    }

    /// Forgets the change log so far.
    ///
    /// # Errors
    /// `NoTable`.
    pub fn purge_log(&self, name: &TableName) -> Result<()> {
        self.change(name, |table, _| {
            table.purge();
            Ok(())
        })
    }

    /// Gives the table another definition in mid-log. Nullable columns added at the end continue the log; anything else
    /// makes changes from before it `SchemaChanged`.
    ///
    /// # Errors
    /// `NoTable`, and `Model` for a schema that contradicts itself.
    pub fn alter(&self, name: &TableName, schema: TableSchema) -> Result<()> {
        self.change(name, |table, version| table.alter(version, schema))
    }

    /// Ends all sessions: cuts that are open now are lost.
    pub fn lose_sessions(&self) {
        // Upgraded outside of the lock: the last handle of a cut takes it when it goes.
        let cuts: Vec<_> = self.shared.state().cuts.values().cloned().collect();
        for cut in cuts.iter().filter_map(std::sync::Weak::upgrade) {
            cut.lose("the server ended all sessions");
        }
    }

    /// Cuts that are held open.
    pub fn open_cuts(&self) -> usize {
        self.shared.state().cuts.len()
    }

    fn change(&self, name: &TableName, write: impl FnOnce(&mut Table, u64) -> Result<()>) -> Result<()> {
        let mut state = self.shared.state();
        let index = *state.names.get(name).ok_or_else(|| self.shared.no_table(name))?;
        state.version += 1;
        let version = state.version;
        write(&mut state.tables[index], version)
    }

    fn cut(&self, state: &mut State, tables: BTreeMap<TableName, usize>) -> Arc<dyn OpenCut> {
        let id = state.next_id();
        let cut = Arc::new(AwkwardCut::new(id, &self.shared, state, self.shared.options.snapshots, tables));
        state.cuts.insert(id, Arc::downgrade(&cut));
        Arc::new(Handle(cut))
    }
}

#[async_trait]
impl Store for AwkwardStore {
    fn kind(&self) -> &'static str {
        "awkward"
    }

    fn capabilities(&self) -> Capabilities {
        let options = &self.shared.options;
        Capabilities {
            cut: match options.snapshots {
                Snapshots::Session { .. } => CutKind::Live,
                _ => CutKind::Replayable,
            },
            changes: !options.no_log,
            source_proof: !options.unproven,
            key_order: !options.collated,
            publish: options.publish,
            merge: options.merge && options.publish.is_some(),
            segments: false,
        }
    }

    async fn list_tables(&self, database: Option<&str>) -> Result<Vec<TableName>> {
        let state = self.shared.state();
        Ok(state.names.keys().filter(|t| database.is_none_or(|d| t.database == d)).cloned().collect())
    }

    async fn describe(&self, table: &TableName) -> Result<TableInfo> {
        let state = self.shared.state();
        let index = *state.names.get(table).ok_or_else(|| self.shared.no_table(table))?;
        let held = &state.tables[index];
        Ok(TableInfo {
            name: table.clone(),
            schema: held.schema().as_ref().clone(),
            shards: held.shards.iter().map(|s| s.id.clone()).collect(),
            rows: held.visible(state.version).count() as u64,
            bytes: held.visible(state.version).map(|(_, r)| ByteCount(r.bytes)).sum(),
            dependents: vec![],
        })
    }

    async fn open_cut(&self, tables: &[TableName], options: &CutOptions) -> Result<Arc<dyn OpenCut>> {
        let mut state = self.shared.state();
        let tables = tables
            .iter()
            .map(|t| {
                let index = state.names.get(t).ok_or_else(|| self.shared.no_table(t))?;
                Ok((t.clone(), *index))
            })
            .collect::<Result<_>>()?;
        if self.shared.options.snapshots == (Snapshots::None { closed_by_log: false }) && !options.allow_fuzzy
        {
            return Err(self.shared.unsupported("give an exact cut: it has no snapshots"));
        }
        Ok(self.cut(&mut state, tables))
    }

    async fn attach_cut(&self, token: &serde_json::Value) -> Result<Arc<dyn OpenCut>> {
        if matches!(self.shared.options.snapshots, Snapshots::Session { .. }) {
            return Err(self.shared.unsupported("give a cut to another process: a session holds it"));
        }
        let id = token.get("cut").and_then(serde_json::Value::as_u64);
        let held = id.and_then(|id| self.shared.state().cuts.get(&id).cloned());
        match held.and_then(|cut| cut.upgrade()) {
            Some(cut) => Ok(Arc::new(Handle(cut))),
            None => Err(self.shared.cut_lost("it was released, or never opened")),
        }
    }

    async fn begin_load(&self, options: LoadOptions) -> Result<Arc<dyn Load>> {
        Ok(Arc::new(LoadHandle(Staged::begin(&self.shared, options)?)))
    }

    async fn attach_load(&self, token: &serde_json::Value) -> Result<Arc<dyn Load>> {
        let id = token.get("load").and_then(serde_json::Value::as_u64);
        let held = id.and_then(|id| {
            let state = self.shared.state();
            let remembered = state.remembered.get(&id).map(|r| r.load.clone());
            remembered.or_else(|| state.loads.get(&id).and_then(|(_, load)| load.upgrade()))
        });
        match held {
            Some(load) => Ok(Arc::new(LoadHandle(load))),
            None => Err(self.shared.unsupported("go on with this load: it is published, abandoned or swept")),
        }
    }

    async fn unfinished_loads(&self) -> Result<Vec<UnfinishedLoad>> {
        Ok(load::unfinished(&self.shared))
    }

    async fn undo(&self, token: &UndoToken) -> Result<()> {
        load::undo(&self.shared, token)
    }

    async fn sweep(&self) -> Result<Vec<String>> {
        let mut removed = vec![];
        self.shared.state().loads.retain(|_, (what, load)| {
            let held = load.strong_count() > 0;
            if !held {
                removed.push(what.clone());
            }
            held
        });
        Ok(removed)
    }
}
