//! The catalog: which tables are visible, and in which version. One entry states all of it.
//!
//! Invariant: an entry is created once, under the number after the newest, and never changed. Whoever creates entry
//! *n + 1* has read entry *n*; so there is one history of the whole store, a cut is one entry, and what one entry
//! changes in several tables becomes visible at once.

use crate::names::WriterId;
use crate::seal::KeysRef;
use jiff::Timestamp;
use keepfast_model::{TableId, TableName};
use serde::{Deserialize, Serialize};

/// A visible table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogTable {
    /// Its name, in the case it was given.
    pub name: TableName,
    /// Its id; another table that takes its name has another.
    pub id: TableId,
    /// Number of its newest version.
    pub version: u64,
    /// The version's object in `data/<id>/versions/`.
    pub file: String,
    /// For a table kept by a replacing restore: whose place was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<TableName>,
}

/// A table that is no longer visible, and whose objects are still there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedTable {
    /// Its last name.
    pub name: TableName,
    /// Its id.
    pub id: TableId,
    /// When it was dropped.
    pub at: Timestamp,
}

/// Where a list of condemned objects is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CondemnedRef {
    /// The catalog entry that put it in force.
    pub seq: u64,
    /// Its object.
    pub object: String,
}

/// What may be removed because no version that is kept refers to it.
///
/// A list is in force before the first object of it is removed. So a writer whose commit comes after it sees it, and
/// must not refer to what it wrote before; a writer whose commit came before it made the list's maker start anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condemned {
    /// Format; 1.
    pub format: u32,
    /// Ids of writers and of tables: those of their objects that nothing refers to.
    pub ids: Vec<String>,
    /// The list before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<CondemnedRef>,
}

/// One state of the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalog {
    /// Format; 1.
    pub format: u32,
    /// Its number, from 1.
    pub seq: u64,
    /// When it was written, by the writer's clock.
    pub at: Timestamp,
    /// Who wrote it.
    pub writer: WriterId,
    /// Who wrote the entry before; none of the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<WriterId>,
    /// What it changed, for people.
    pub what: String,
    /// The newest list of objects that are about to be removed, this entry's own or an earlier one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condemned: Option<CondemnedRef>,
    /// The visible tables, sorted by name.
    pub tables: Vec<CatalogTable>,
    /// Tables dropped, until their objects are removed.
    #[serde(default)]
    pub dropped: Vec<DroppedTable>,
    /// The first entry with keys, of a store that has some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_since: Option<u64>,
    /// The key file that opens it, which stands in clear before the entry; none of a store without keys.
    #[serde(skip)]
    pub keys: Option<KeysRef>,
}

impl Catalog {
    /// The state of a store that nobody wrote to.
    pub(crate) fn empty() -> Self {
        Self {
            format: crate::place::FORMAT,
            seq: 0,
            at: Timestamp::UNIX_EPOCH,
            writer: WriterId(String::new()),
            after: None,
            what: "empty".into(),
            condemned: None,
            tables: vec![],
            dropped: vec![],
            sealed_since: None,
            keys: None,
        }
    }

    /// The state after this one, before anything in it is changed.
    pub(crate) fn next(&self, writer: &WriterId, what: String) -> Self {
        let after = (self.seq > 0).then(|| self.writer.clone());
        Self { seq: self.seq + 1, at: Timestamp::now(), writer: writer.clone(), after, what, ..self.clone() }
    }

    /// The table of this name, in any case.
    pub fn table(&self, name: &TableName) -> Option<&CatalogTable> {
        let wanted = folded(name);
        // Case apart, names are unique; the exact spelling is only the faster comparison.
        self.tables.iter().find(|t| folded(&t.name) == wanted)
    }

    /// The table of this id.
    pub fn by_id(&self, id: &TableId) -> Option<&CatalogTable> {
        self.tables.iter().find(|t| t.id == *id)
    }

    /// Whether a table of this id is visible, or was.
    pub(crate) fn knows(&self, id: &TableId) -> bool {
        self.by_id(id).is_some() || self.dropped.iter().any(|d| d.id == *id)
    }

    pub(crate) fn by_id_mut(&mut self, id: &TableId) -> Option<&mut CatalogTable> {
        self.tables.iter_mut().find(|t| t.id == *id)
    }

    /// Adds a table. The caller has checked that the name is free.
    pub(crate) fn add(&mut self, table: CatalogTable) {
        self.tables.push(table);
        self.tables.sort_by(|a, b| a.name.cmp(&b.name));
    }

    /// Makes a table invisible; its objects stay until a vacuum.
    pub(crate) fn remove(&mut self, id: &TableId) -> Option<CatalogTable> {
        let at = self.tables.iter().position(|t| t.id == *id)?;
        let table = self.tables.remove(at);
        self.dropped.push(DroppedTable { name: table.name.clone(), id: table.id.clone(), at: self.at });
        Some(table)
    }
}

/// What names are compared by.
pub(crate) fn folded(name: &TableName) -> (String, String) {
    (name.database.to_lowercase(), name.table.to_lowercase())
}

/// The name as the catalog keeps it: without the store, which is this one.
pub(crate) fn own(name: &TableName) -> TableName {
    TableName { store: None, ..name.clone() }
}
