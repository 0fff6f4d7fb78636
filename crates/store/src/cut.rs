//! One moment over all partitions, held open for reading.

use crate::Result;
use crate::error::StoreError;
use arrow::array::RecordBatch;
use async_trait::async_trait;
use futures::stream::BoxStream;
use keepfast_model::{
    ByteCount, ColumnId, Cut, KeyRange, Partition, ShardPosition, SourceProof, TableName, TableSchema,
    point::Dependent,
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

/// A cut that is held open.
///
/// Dropping it releases it as well as a drop can; [`OpenCut::release`] is the sure way.
#[async_trait]
pub trait OpenCut: Debug + Send + Sync {
    /// The moment. It may move forward while a live session is replaced; read it last.
    fn cut(&self) -> Cut;

    /// What [`Store::attach_cut`](crate::Store::attach_cut) needs; none for live cuts. Free of secrets.
    fn token(&self) -> Option<serde_json::Value>;

    /// A table at the cut.
    async fn table(&self, table: &TableName) -> Result<TableAtCut>;

    /// Partitions that cover the table without gap or overlap; per shard in key order.
    async fn plan(&self, table: &TableName, options: &PlanOptions) -> Result<Vec<Partition>>;

    /// Reads one partition as physical batches of the table's schema (only `columns` of it, where chosen).
    ///
    /// Rows come in key order where the store's capabilities say so. A replayable cut gives the same rows each time.
    /// An error ends the stream; a stream that ends without one was complete.
    async fn scan(&self, partition: &Partition, options: &ScanOptions) -> Result<BatchStream>;

    /// Changes of one table after `from` up to this cut, as batches of
    /// [`change_schema`](keepfast_model::change::change_schema), in the order of each shard.
    ///
    /// # Errors
    /// `ChangesGone` and `SchemaChanged` before the first batch, where that can be known; `Unsupported` without a log.
    async fn changes(&self, table: &TableName, from: &[ShardPosition]) -> Result<BatchStream>;

    /// The store's own count and checksums at the cut, computed without the scan's decoder; none where it has none.
    async fn prove(&self, table: &TableName, request: &ProofRequest) -> Result<Option<SourceProof>>;

    /// Gives the cut back. Safe to call twice.
    async fn release(&self) -> Result<()>;
}
