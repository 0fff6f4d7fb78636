//! A live table store.

use crate::Result;
use crate::cut::OpenCut;
use crate::error::StoreError;
use crate::load::{Load, LoadOptions, UndoToken, UnfinishedLoad};
use async_trait::async_trait;
use jiff::Timestamp;
use keepfast_model::{ByteCount, ShardId, ShardPosition, TableName, TableSchema, point::Dependent};
use std::fmt::{Debug, Display};
use std::sync::Arc;

/// Whether a cut can be read again by anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutKind {
    /// Versions, snapshots, files, timestamps: a partition can be read twice, anywhere, from the cut's token.
    Replayable,
    /// Held by this process in open sessions: partitions are read here, and a lost session loses the cut.
    Live,
}

/// How a restore becomes visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishKind {
    /// One step for all tables.
    Atomic,
    /// One step a server, written to a journal first and rolled forward or back by the next run.
    Journaled,
    /// Only under a new name; replacing needs a verified backup of the old table first.
    NewNameOnly,
}

/// What a store can do. Asked for by callers; never guessed from its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// How its cuts can be read.
    pub cut: CutKind,
    /// Whether it has a change log.
    pub changes: bool,
    /// Whether it can state its own counts and checksums at a cut.
    pub source_proof: bool,
    /// Whether scans give rows in the order of encoded keys. Otherwise callers sort.
    pub key_order: bool,
    /// How a load becomes visible; none means that the store cannot be written.
    pub publish: Option<PublishKind>,
    /// Whether a load can merge rows into an existing table.
    pub merge: bool,
    /// Whether a load takes a vault's segments as they are: [`Load::take_segments`](crate::Load::take_segments).
    pub segments: bool,
}

/// What is known of a table before a cut.
#[derive(Clone, Debug)]
pub struct TableInfo {
    /// Its name.
    pub name: TableName,
    /// Columns and key.
    pub schema: TableSchema,
    /// Its shards.
    pub shards: Vec<ShardId>,
    /// Rows; a guess where the store has no exact count.
    pub rows: u64,
    /// Stored bytes; a guess.
    pub bytes: ByteCount,
    /// What must come back with it.
    pub dependents: Vec<Dependent>,
}

/// What a caller asks of a cut.
#[derive(Clone, Debug, Default)]
pub struct CutOptions {
    /// Accept a cut that is not exact. Without it a store that cannot give an exact cut refuses with `Unsupported`.
    pub allow_fuzzy: bool,
}

/// A moment that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Until {
    /// With all that was committed before this time, as the store's log has it.
    Time(Timestamp),
    /// Before the transaction of this name, with all that was committed before it.
    Before(String),
}

impl Display for Until {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Time(time) => write!(f, "{time}"),
            Self::Before(transaction) => write!(f, "the moment before transaction '{transaction}'"),
        }
    }
}

/// What a caller asks of a cut at an earlier moment.
#[derive(Clone, Debug)]
pub struct Past {
    /// The moment.
    pub until: Until,
    /// When an earlier cut was, by the clock of who took it.
    pub at: Timestamp,
    /// The positions of that cut.
    pub since: Vec<ShardPosition>,
}

/// A live table store that can be read and, mostly, written.
///
/// All calls can be made from several tasks at once. A call that is dropped before it ends leaves nothing that
/// [`Store::sweep`] does not remove. Every remote call has a time limit and retries what is safe to repeat.
#[async_trait]
pub trait Store: Debug + Display + Send + Sync {
    /// The kind, such as `columnar`; stored in restore points.
    fn kind(&self) -> &'static str;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// The tables of a database, or of all where none is given; sorted.
    async fn list_tables(&self, database: Option<&str>) -> Result<Vec<TableName>>;

    /// What is known of a table now.
    ///
    /// # Errors
    /// [`StoreError::NoTable`](crate::StoreError::NoTable).
    async fn describe(&self, table: &TableName) -> Result<TableInfo>;

    /// Takes one cut over all these tables. The cut is held until it is released or dropped.
    ///
    /// # Errors
    /// `NoTable` for the first table that does not exist; `Unsupported` where only a fuzzy cut is possible and was not
    /// allowed.
    async fn open_cut(&self, tables: &[TableName], options: &CutOptions) -> Result<Arc<dyn OpenCut>>;

    /// Takes a cut at a moment that is over, behind an earlier cut, as the store's change log tells it. It gives
    /// [`OpenCut::changes`](crate::OpenCut::changes) since that cut, and nothing else. None where the moment is not behind the earlier cut:
    /// the transaction that it is named by is not in the log behind it, or the time is before it by the store's own clock.
    ///
    /// # Errors
    /// `Unsupported` from stores without a log that tells times; `ChangesGone` where it does not reach back to the earlier cut.
    async fn open_past_cut(&self, tables: &[TableName], past: &Past) -> Result<Option<Arc<dyn OpenCut>>> {
        let _ = (tables, past);
        Err(StoreError::Unsupported {
            store: self.to_string(),
            what: "take a cut at an earlier moment".into(),
        })
    }

    /// Opens a replayable cut again from its token, in any process.
    ///
    /// # Errors
    /// [`StoreError::CutLost`](crate::StoreError::CutLost) when it was released, `Unsupported` for live cuts.
    async fn attach_cut(&self, token: &serde_json::Value) -> Result<Arc<dyn OpenCut>>;

    /// Starts loading tables beside what exists. Nothing is visible before [`Load::publish`].
    ///
    /// # Errors
    /// `TableExists` for a target of [`LoadMode::Create`](crate::LoadMode::Create) that exists, here or at publication;
    /// `Unsupported` for a mode that the capabilities exclude.
    async fn begin_load(&self, options: LoadOptions) -> Result<Arc<dyn Load>>;

    /// Opens a running load again from its token, to write parts of it from another process, or to go on with it.
    async fn attach_load(&self, token: &serde_json::Value) -> Result<Arc<dyn Load>>;

    /// Loads that asked to be remembered and were neither abandoned nor forgotten, the oldest first; those that are under
    /// way among them. None where the store remembers none.
    async fn unfinished_loads(&self) -> Result<Vec<UnfinishedLoad>> {
        Ok(vec![])
    }

    /// Puts back what a publication replaced. A second undo of the same token is refused.
    async fn undo(&self, token: &UndoToken) -> Result<()>;

    /// Its side for row by row changes; none where SQL statements cannot write to it.
    fn edit(&self) -> Option<&dyn crate::edit::Edit> {
        None
    }

    /// Removes what crashed runs left behind; returns what it removed, one line each. Cuts and loads that are still
    /// held, and everything published, stay.
    async fn sweep(&self) -> Result<Vec<String>>;
}
