//! One moment over all partitions, held open for reading.

use crate::Result;
use crate::error::StoreError;
use arrow::array::RecordBatch;
use async_trait::async_trait;
use futures::stream::BoxStream;
use keepfast_model::{
    ByteCount, ColumnId, Cut, Digest, KeyRange, Partition, ShardPosition, SourceProof, TableName,
    TableSchema, point::Dependent,
};
use std::fmt::Debug;

/// Batches of one partition, in order.
pub type BatchStream = BoxStream<'static, Result<RecordBatch, StoreError>>;

/// A table as it is at the cut.
#[derive(Clone, Debug)]
pub struct TableAtCut {
    /// Columns and key at the cut.
    pub schema: TableSchema,
    /// Rows; a guess where the store has no exact count.
    pub rows_expected: u64,
    /// Bytes that a scan reads; a guess.
    pub bytes_expected: ByteCount,
    /// What must come back with it.
    pub dependents: Vec<Dependent>,
}

/// How finely to cut a table into partitions.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    /// Partitions wanted at least, where the table is large enough.
    pub partitions: u32,
    /// Encoded keys at which a partition may start, ascending: the last base's segment bounds. A hint.
    pub bounds: Vec<Vec<u8>>,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self { partitions: 1, bounds: vec![] }
    }
}

/// How to scan.
#[derive(Clone, Debug)]
pub struct ScanOptions {
    /// Columns wanted, in table order; none means all. Key columns are always read.
    pub columns: Option<Vec<ColumnId>>,
    /// Rows a batch at most.
    pub batch_rows: usize,
}

impl Default for ScanOptions {
    fn default() -> Self {
        Self { columns: None, batch_rows: 8192 }
    }
}

/// What proof is wanted.
#[derive(Clone, Debug, Default)]
pub struct ProofRequest {
    /// Checksums of everything; otherwise the ranges named, and the count of all.
    pub full: bool,
    /// Ranges whose checksum is wanted where `full` is not set.
    pub ranges: Vec<KeyRange>,
}

/// Rows that changes take out of a table and put in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Images {
    /// Digest of the rows as they were before each change.
    pub before: Digest,
    /// Digest of the rows as they were after it.
    pub after: Digest,
    /// How many changes put a row whose key the shard did not have.
    pub fresh: u64,
}

/// A cut that is held open.
///
/// Dropping it releases it as well as a drop can; [`OpenCut::release`] is the sure way.
///
/// **Order of calls.** Plan and scan all tables; where [`Self::needs_closing`], read [`Self::closing_changes`] of all
/// tables; then [`Self::prove`]; read [`Self::cut`] last. A store without snapshots (Tablestore, MySQL without locks)
/// scans while writes go on, and its moment is fixed only when the first table is closed: what the scan missed or
/// saw too early is in the closing changes. A store whose shards were frozen one after the other (MySQL under XA)
/// closes its cut over transactions in the same way. Both give one exact moment, as one base and its changes.
#[async_trait]
pub trait OpenCut: Debug + Send + Sync {
    /// The moment. It may move forward while a live session is replaced, and is known only after the closing where
    /// the cut needs one; read it last. The shards of its positions are named so that those of several tables differ.
    fn cut(&self) -> Cut;

    /// What [`Store::attach_cut`](crate::Store::attach_cut) needs; none for live cuts. Free of secrets.
    fn token(&self) -> Option<serde_json::Value>;

    /// A table at the cut.
    async fn table(&self, table: &TableName) -> Result<TableAtCut>;

    /// Partitions that cover the table without gap or overlap; per shard in key order.
    ///
    /// The cover holds at the time of the scan: pieces that split or move after the plan are followed. A partition's
    /// shard is where its keys have one order of changes. Pieces that split and merge (regions, stream partitions) are
    /// no shards in this sense: they are partitions of a shard that outlives them. Where the table
    /// has a key and scans come in key order, the ranges of one shard join into the whole key space. Otherwise (bags,
    /// collations) `range` is unbounded and the token alone says what is read.
    ///
    /// # Errors
    /// `NoTable` for a table that is not in the cut; `DuplicateKey` from stores that can tell. Most cannot: keys are
    /// unique in a shard, and whoever brings shards together finds a key that stands in two.
    async fn plan(&self, table: &TableName, options: &PlanOptions) -> Result<Vec<Partition>>;

    /// Reads one partition as physical batches of the table's schema (only `columns` of it, where chosen).
    ///
    /// Batches hold at most `batch_rows` rows. Rows come in key order where the store's capabilities say so. A replayable
    /// cut gives the same rows each time, except where it needs closing: then each reading is right together with the
    /// closing changes, and a row that moved meanwhile may come from two shards or none; those changes settle it.
    /// An error ends the stream; a stream that ends without one was complete.
    ///
    /// # Errors
    /// `CutLost` when the cut's session is gone, it was released, or it needs closing and was closed before.
    async fn scan(&self, partition: &Partition, options: &ScanOptions) -> Result<BatchStream>;

    /// Whether scans of this table come in key order, also where the store's capabilities do not promise it of every table.
    fn scans_in_key_order(&self, table: &TableName) -> bool {
        let _ = table;
        false
    }
    /// Changes that make what was scanned the table at the cut, as [`Self::changes`] gives them; none where the scan
    /// alone is exact. Applied on top of the scan they give the same rows whenever each partition was scanned.
    ///
    /// Called once for each table, after the last scan of all tables: the first call fixes the moment for all.
    ///
    /// # Errors
    /// `ChangesGone` and `SchemaChanged`: the cut cannot be closed, and the backup starts again.
    async fn closing_changes(&self, table: &TableName) -> Result<Option<BatchStream>> {
        let _ = table;
        Ok(None)
    }

    /// Whether the table at the cut is the scan with [`Self::closing_changes`] on top. Known before the scan.
    fn needs_closing(&self) -> bool {
        false
    }

    /// Changes of one table after `from` up to this cut, as batches of
    /// [`change_schema`](keepfast_model::change::change_schema) of the table's schema at this cut. Where the cut needs
    /// closing, the call fixes its moment as a closing does.
    ///
    /// `seq` orders all changes of one key within one shard, over all cuts; they are applied in that order, so a store whose own order
    /// is another one (timestamps) sorts them first. A change names the shard that the partition of its row names;
    /// a row that moved between shards is a delete in one and a put of the whole row in the other. Columns added after
    /// a change are NULL in it and not in its mask. Changes of bags are counts.
    ///
    /// # Errors
    /// `ChangesGone` and `SchemaChanged` before the first batch, where that can be known; `ChangesGone` also for a
    /// position that this store never gave; `Unsupported` without a log, or for bags that are not logged with counts.
    async fn changes(&self, table: &TableName, from: &[ShardPosition]) -> Result<BatchStream>;

    /// Digests of the rows that [`Self::changes`] from the same positions takes out and puts in: images of rows before and after
    /// each change, as the log has them. None where it does not have both. Asked after those changes were read, of tables with a key.
    async fn images(&self, table: &TableName, from: &[ShardPosition]) -> Result<Option<Images>> {
        let _ = (table, from);
        Ok(None)
    }
    /// Bytes that [`Self::changes`] would read, for a plan; none where the store cannot tell without reading them.
    async fn changes_expected(&self, table: &TableName, from: &[ShardPosition]) -> Result<Option<ByteCount>> {
        let _ = (table, from);
        Ok(None)
    }

    /// The store's own count and checksums at the cut, computed without the scan's decoder; none where it has none.
    /// A store that knows the checksum of everything without reading rows gives it, whatever was asked.
    /// `full` gives one unbounded range. Otherwise the answer names the ranges that it covers, which may be others than
    /// those asked for. Where the cut needs closing, it is asked for after it.
    async fn prove(&self, table: &TableName, request: &ProofRequest) -> Result<Option<SourceProof>>;

    /// Dropping this handle no longer gives the cut back: whoever holds its token goes on with it, or it ends by its
    /// time limit. Cuts without a token end all the same.
    fn keep(&self) {}

    /// Gives the cut back. Safe to call twice.
    async fn release(&self) -> Result<()>;
}
