//! Rows on their way back into a store.

use crate::cut::{BatchStream, OpenCut};
use crate::{Result, StoreError};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use keepfast_model::{Digest, RunId, TableName, TableSchema, point::Dependent};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

/// What happens with a table of the target's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadMode {
    /// It must not exist.
    Create,
    /// It is kept under another name, and the loaded one takes its place.
    Replace,
    /// Loaded rows are put over its rows of equal key; a table that does not exist is created.
    Merge,
}

/// One table to load.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LoadTable {
    /// Where it goes.
    pub target: TableName,
    /// Its columns and key; column ids are kept.
    pub schema: TableSchema,
    /// What comes back with it.
    pub dependents: Vec<Dependent>,
    /// What happens with an existing one.
    pub mode: LoadMode,
    /// Rows that a piece of the loaded table aims at, where the store has such pieces; none leaves it to the store.
    pub segment_rows: Option<u32>,
    /// Restore's `<table>__replaced_<seq>_<n>`: the `<seq>` of it. The store chooses `<n>`.
    pub replaced_tag: String,
    /// By which rule rows go into its shards, where it is another one than the store declares.
    #[serde(default)]
    pub shard_rule: Option<String>,
}

/// What to load.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LoadOptions {
    /// The run it belongs to; a sweep knows by it what was left behind.
    pub run: RunId,
    /// The tables, published together.
    pub tables: Vec<LoadTable>,
}

/// What one part of a load wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedPart {
    /// The part's number in its table, from 0.
    pub part: u32,
    /// Digest of the rows as they were given.
    pub digest: Digest,
    /// What the store needs to find what it wrote; opaque.
    pub token: serde_json::Value,
}

/// A segment of a vault, in format 1: rows of one table, in key order, as a Parquet file.
#[derive(Clone, Debug)]
pub struct StoredSegment {
    /// The manifest's entry for it, as JSON.
    pub entry: serde_json::Value,
    /// The file, checked against its entry.
    pub bytes: Bytes,
}

/// Segments in key order; an error ends the stream.
pub type SegmentStream = BoxStream<'static, Result<StoredSegment>>;

/// What a publication did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// For each table in order: the name under which the replaced one is kept.
    pub replaced: Vec<Option<TableName>>,
    /// How to undo it.
    pub undo: UndoToken,
}

/// What [`Store::undo`](crate::Store::undo) needs; opaque and free of secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UndoToken(pub serde_json::Value);

/// A load that asked to be remembered and is not forgotten yet: its process may be at work or dead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnfinishedLoad {
    /// What [`Load::remember`] was told.
    pub purpose: serde_json::Value,
    /// What [`Store::attach_load`](crate::Store::attach_load) needs.
    pub token: serde_json::Value,
    /// Where it goes.
    pub targets: Vec<TableName>,
    /// When it asked, by the clock of its process.
    pub begun: jiff::Timestamp,
}

/// How far a load is, as the store knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadState {
    /// Parts can be written; those that were written are still there.
    Open,
    /// It was published, and its tables are as they were published: the answer.
    Published(Published),
    /// Nobody can go on with it, and why: it was swept, abandoned, or its tables were changed after it was published.
    Over(String),
}

/// A load under way. Dropped without [`Load::publish`], it leaves nothing visible.
#[async_trait]
pub trait Load: Debug + Send + Sync {
    /// What [`Store::attach_load`](crate::Store::attach_load) needs in another process; none where only this one can.
    fn token(&self) -> Option<serde_json::Value>;

    /// Writes one part of one table: physical batches of its schema, in key order where the source gives it.
    /// Writing a part twice is the same as once; parts of a table have disjoint keys and ascend with their numbers.
    async fn write_part(&self, table: &TableName, part: u32, rows: BatchStream) -> Result<LoadedPart>;

    /// Takes segments of a vault as one part, instead of [`Self::write_part`], without decoding them. Asked only of stores
    /// whose capabilities say `segments`, for tables with a key. `profile` is the segments' writer profile as JSON.
    ///
    /// The rows are proven when the load is read back, like any others.
    async fn take_segments(
        &self,
        table: &TableName,
        part: u32,
        profile: serde_json::Value,
        segments: SegmentStream,
    ) -> Result<LoadedPart> {
        let _ = (part, profile, segments);
        Err(StoreError::Unsupported { store: table.to_string(), what: "take segments as they are".into() })
    }

    /// Takes the parts of all tables together: after it the load can be read and published.
    ///
    /// # Errors
    /// `Row` when keys stand twice in the load.
    async fn finish(&self, parts: Vec<(TableName, Vec<LoadedPart>)>) -> Result<()>;

    /// Reads what was loaded, before it is visible, under the target names. With [`LoadMode::Merge`] it is the merged table.
    async fn open_cut(&self) -> Result<Arc<dyn OpenCut>>;

    /// Makes it visible as the store's capability says. A caller whose answer was lost may ask again: it gets the first
    /// answer or an error, and nothing changes.
    ///
    /// Where the store says that it was published, it reads what it has stored of the tables' lists, not what it holds in
    /// memory; their rows were read back before.
    ///
    /// # Errors
    /// `TableExists` and `Conflict` when the target changed since the load began; nothing is visible then. Of several
    /// tables either all become visible or none.
    async fn publish(&self) -> Result<Published>;

    /// Removes what was loaded and is not visible, and forgets the load.
    async fn abandon(&self) -> Result<()>;

    /// Lets a later process find the load with [`Store::unfinished_loads`](crate::Store::unfinished_loads), and the parts
    /// that it has written by then, should this one die. Durable when it returns. False where the store cannot: what such
    /// a load leaves behind is swept by its age.
    async fn remember(&self, purpose: &serde_json::Value) -> Result<bool> {
        let _ = purpose;
        Ok(false)
    }

    /// Keeps a note with a remembered load for whoever goes on with it; durable when it returns, and everything that was
    /// written before it. Of several notes of one name the first one counts; false for the others. Names are letters,
    /// digits and `-`.
    async fn note(&self, name: &str, note: &serde_json::Value) -> Result<bool> {
        let _ = (name, note);
        Ok(false)
    }

    /// All notes of a remembered load. One that a crash tore is left out.
    async fn notes(&self) -> Result<BTreeMap<String, serde_json::Value>> {
        Ok(BTreeMap::new())
    }

    /// How far a remembered load is, also when another process did it.
    async fn state(&self) -> Result<LoadState> {
        Ok(LoadState::Open)
    }

    /// Ends the remembering of a load whose answer has arrived. What it published stays.
    async fn forget(&self) -> Result<()> {
        Ok(())
    }
}
