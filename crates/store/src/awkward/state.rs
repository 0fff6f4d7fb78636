//! What all handles of one awkward store share: its tables, open cuts and running loads.

use super::cut::AwkwardCut;
use super::load::Staged;
use super::options::Awkwardness;
use super::table::Table;
use crate::StoreError;
use jiff::Timestamp;
use keepfast_model::TableName;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Tables by number. A dropped table loses its name and stays, so that open cuts can read it.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Grows with every write: the store's clock.
    pub version: u64,
    pub tables: Vec<Table>,
    pub names: BTreeMap<TableName, usize>,
    pub cuts: BTreeMap<u64, Weak<AwkwardCut>>,
    pub loads: BTreeMap<u64, (String, Weak<Staged>)>,
    /// Loads that asked to be remembered. They hold the store, as its disk would.
    pub remembered: BTreeMap<u64, Remembered>,
    /// Publications that can be undone.
    pub undos: BTreeMap<u64, Vec<Replaced>>,
    pub last_id: u64,
}

/// A load that a later process may go on with.
#[derive(Debug)]
pub(super) struct Remembered {
    pub load: Arc<Staged>,
    pub purpose: serde_json::Value,
    pub begun: Timestamp,
    pub notes: BTreeMap<String, serde_json::Value>,
}

/// One table that a publication replaced.
#[derive(Clone, Debug)]
pub(super) struct Replaced {
    pub target: TableName,
    pub kept: TableName,
    /// The table that took its place, and the version at which it did.
    pub by: usize,
    pub at: u64,
}

impl State {
    pub fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }
}

#[derive(Debug)]
pub(super) struct Shared {
    pub name: String,
    pub options: Awkwardness,
    state: Mutex<State>,
}

impl Shared {
    pub fn new(name: String, options: Awkwardness) -> Self {
        Self { name, options, state: Mutex::default() }
    }

    /// The state. Never held over an await.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A version on the clock: one second each, so that tests see the same times on every run.
    pub fn time(&self, version: u64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + version as i64).unwrap_or(Timestamp::MAX)
    }

    pub fn forget_cut(&self, id: u64) {
        self.state().cuts.remove(&id);
    }

    pub fn no_table(&self, table: &TableName) -> StoreError {
        StoreError::NoTable { table: table.to_string(), store: self.name.clone() }
    }

    pub fn cut_lost(&self, reason: &str) -> StoreError {
        StoreError::CutLost { store: self.name.clone(), reason: reason.to_owned() }
    }

    pub fn unsupported(&self, what: &str) -> StoreError {
        StoreError::Unsupported { store: self.name.clone(), what: what.to_owned() }
    }
}
