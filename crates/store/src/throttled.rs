//! A store that is read no faster than a limit, so that a backup leaves room for the store's users.
//!
//! The limit is one for all scans, changes and cuts of the wrapper together. Each batch is paid for before it is given:
//! at no moment were more rows or bytes given than the limit times the time since the first one. Writing is not limited.

use crate::{
    BatchStream, Capabilities, CutOptions, Edit, Images, Load, LoadOptions, OpenCut, Past, PlanOptions,
    ProofRequest, Result, ScanOptions, Store, TableAtCut, TableInfo, UndoToken, UnfinishedLoad,
};
use arrow::array::{Array, RecordBatch};
use async_trait::async_trait;
use futures::StreamExt;
use keepfast_model::{ByteCount, Cut, Partition, ShardPosition, SourceProof, TableName};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time as a wrapper sees it, so that tests need not wait.
#[async_trait]
pub trait Clock: fmt::Debug + Send + Sync {
    /// Time since some start; never goes back.
    fn now(&self) -> Duration;
    /// Returns when this much time has gone by.
    async fn sleep(&self, time: Duration);
}

/// The machine's own clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

/// How fast a store may be read. None means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Rows a second; 0 counts as 1.
    pub rows_per_second: Option<u64>,
    /// Bytes of Arrow batches a second; 0 counts as 1.
    pub bytes_per_second: Option<u64>,
}

#[derive(Debug)]
struct Pace {
    limits: Limits,
    clock: Arc<dyn Clock>,
    /// When everything given so far is paid for.
    paid: Mutex<Duration>,
}

impl Pace {
    /// Waits until a batch of this size may be given.
    async fn pay(&self, batch: &RecordBatch) {
        let seconds = |amount: u64, rate: Option<u64>| rate.map_or(0.0, |r| amount as f64 / r.max(1) as f64);
        let bytes: usize =
            batch.columns().iter().map(|c| c.to_data().get_slice_memory_size().unwrap_or_default()).sum();
        let cost = seconds(batch.num_rows() as u64, self.limits.rows_per_second)
            .max(seconds(bytes as u64, self.limits.bytes_per_second));
        let now = self.clock.now();
        let due = {
            let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
            *paid = now.max(*paid) + Duration::from_secs_f64(cost);
            *paid
        };
        if due > now {
            self.clock.sleep(due - now).await;
        }
    }

    fn stream(self: &Arc<Self>, stream: BatchStream) -> BatchStream {
        let pace = self.clone();
        stream
            .then(move |batch| {
                let pace = pace.clone();
                async move {
                    if let Ok(batch) = &batch {
                        pace.pay(batch).await;
                    }
                    batch
                }
            })
            .boxed()
    }

    /// Batches of at most a quarter of a second, so that reading is even and ends soon when it is dropped.
    fn options(&self, options: &ScanOptions) -> ScanOptions {
        let most =
            self.limits.rows_per_second.map_or(usize::MAX, |r| usize::try_from(r / 4).unwrap_or(usize::MAX));
        ScanOptions { batch_rows: options.batch_rows.min(most.max(1)), ..options.clone() }
    }
}

/// A store that is read no faster than its limits.
#[derive(Clone, Debug)]
pub struct Throttled {
    inner: Arc<dyn Store>,
    pace: Arc<Pace>,
}

impl Throttled {
    /// Limits a store, by this clock.
    pub fn new(inner: Arc<dyn Store>, limits: Limits, clock: Arc<dyn Clock>) -> Self {
        Self { inner, pace: Arc::new(Pace { limits, clock, paid: Mutex::default() }) }
    }

    fn cut(&self, inner: Arc<dyn OpenCut>) -> Arc<dyn OpenCut> {
        Arc::new(ThrottledCut { inner, pace: self.pace.clone() })
    }
}

impl fmt::Display for Throttled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl Store for Throttled {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    async fn list_tables(&self, database: Option<&str>) -> Result<Vec<TableName>> {
        self.inner.list_tables(database).await
    }
    async fn describe(&self, table: &TableName) -> Result<TableInfo> {
        self.inner.describe(table).await
    }
    async fn open_cut(&self, tables: &[TableName], options: &CutOptions) -> Result<Arc<dyn OpenCut>> {
        Ok(self.cut(self.inner.open_cut(tables, options).await?))
    }
    async fn open_past_cut(&self, tables: &[TableName], past: &Past) -> Result<Option<Arc<dyn OpenCut>>> {
        Ok(self.inner.open_past_cut(tables, past).await?.map(|cut| self.cut(cut)))
    }
    async fn attach_cut(&self, token: &serde_json::Value) -> Result<Arc<dyn OpenCut>> {
        Ok(self.cut(self.inner.attach_cut(token).await?))
    }
    async fn begin_load(&self, options: LoadOptions) -> Result<Arc<dyn Load>> {
        self.inner.begin_load(options).await
    }
    async fn attach_load(&self, token: &serde_json::Value) -> Result<Arc<dyn Load>> {
        self.inner.attach_load(token).await
    }
    async fn unfinished_loads(&self) -> Result<Vec<UnfinishedLoad>> {
        self.inner.unfinished_loads().await
    }
    async fn undo(&self, token: &UndoToken) -> Result<()> {
        self.inner.undo(token).await
    }
    fn edit(&self) -> Option<&dyn Edit> {
        self.inner.edit()
    }
    async fn sweep(&self) -> Result<Vec<String>> {
        self.inner.sweep().await
    }
}

#[derive(Debug)]
struct ThrottledCut {
    inner: Arc<dyn OpenCut>,
    pace: Arc<Pace>,
}

#[async_trait]
impl OpenCut for ThrottledCut {
    fn cut(&self) -> Cut {
        self.inner.cut()
    }
    fn token(&self) -> Option<serde_json::Value> {
        self.inner.token()
    }
    async fn table(&self, table: &TableName) -> Result<TableAtCut> {
        self.inner.table(table).await
    }
    async fn plan(&self, table: &TableName, options: &PlanOptions) -> Result<Vec<Partition>> {
        self.inner.plan(table, options).await
    }
    async fn scan(&self, partition: &Partition, options: &ScanOptions) -> Result<BatchStream> {
        Ok(self.pace.stream(self.inner.scan(partition, &self.pace.options(options)).await?))
    }
    fn scans_in_key_order(&self, table: &TableName) -> bool {
        self.inner.scans_in_key_order(table)
    }
    fn needs_closing(&self) -> bool {
        self.inner.needs_closing()
    }
    async fn closing_changes(&self, table: &TableName) -> Result<Option<BatchStream>> {
        Ok(self.inner.closing_changes(table).await?.map(|changes| self.pace.stream(changes)))
    }
    async fn changes(&self, table: &TableName, from: &[ShardPosition]) -> Result<BatchStream> {
        Ok(self.pace.stream(self.inner.changes(table, from).await?))
    }
    async fn images(&self, table: &TableName, from: &[ShardPosition]) -> Result<Option<Images>> {
        self.inner.images(table, from).await
    }
    async fn changes_expected(&self, table: &TableName, from: &[ShardPosition]) -> Result<Option<ByteCount>> {
        self.inner.changes_expected(table, from).await
    }
    async fn prove(&self, table: &TableName, request: &ProofRequest) -> Result<Option<SourceProof>> {
        self.inner.prove(table, request).await
    }
    fn keep(&self) {
        self.inner.keep();
    }
    async fn release(&self) -> Result<()> {
        self.inner.release().await
    }
}
