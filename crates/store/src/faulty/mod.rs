//! A store that fails as a script says, loudly or silently, to test that callers never report success for something
//! incomplete.
//!
//! Each fault of the script happens once, at the first call that it fits, or each time. [`Faulty::fired`] names those
//! that happened: a test whose fault never came has tested nothing.

mod batches;
mod fault;

pub use fault::Fault;

use crate::{
    BatchStream, Capabilities, CutOptions, Edit, Images, Load, LoadOptions, LoadState, LoadedPart, OpenCut,
    Past, PlanOptions, ProofRequest, Published, Result, ScanOptions, Store, TableAtCut, TableInfo, UndoToken,
    UnfinishedLoad,
};
use arrow::array::RecordBatch;
use async_trait::async_trait;
use batches::Scan;
use fault::{Script, broken};
use futures::{StreamExt, TryStreamExt, stream};
use keepfast_model::{
    ByteCount, Cut, Digest, Partition, RowHasher, ShardPosition, SourceProof, TableName, TableSchema,
};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError};

/// A store that fails as a script says. Clones share the script.
#[derive(Clone, Debug)]
pub struct Faulty {
    inner: Arc<dyn Store>,
    script: Arc<Script>,
}

impl Faulty {
    /// A store on which each of these faults happens once.
    pub fn once(inner: Arc<dyn Store>, faults: impl IntoIterator<Item = Fault>) -> Self {
        Self { inner, script: Arc::new(Script::new(faults, Some(1))) }
    }

    /// A store on which each of these faults happens whenever it can.
    pub fn always(inner: Arc<dyn Store>, faults: impl IntoIterator<Item = Fault>) -> Self {
        Self { inner, script: Arc::new(Script::new(faults, None)) }
    }

    /// The faults that happened, in the order of the script, each as often as it did.
    pub fn fired(&self) -> Vec<Fault> {
        self.script.fired()
    }

    fn cut(&self, inner: Arc<dyn OpenCut>) -> Arc<dyn OpenCut> {
        Arc::new(FaultyCut {
            inner,
            script: self.script.clone(),
            given: Arc::new(AtomicU32::new(0)),
            store: self.to_string(),
        })
    }

    fn load(&self, inner: Arc<dyn Load>, schemas: BTreeMap<TableName, TableSchema>) -> Arc<dyn Load> {
        Arc::new(FaultyLoad { inner, script: self.script.clone(), schemas, held: Mutex::default() })
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl Store for Faulty {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }
    fn capabilities(&self) -> Capabilities {
        // Faults are in rows on their way.
        Capabilities { segments: false, ..self.inner.capabilities() }
    }
    async fn list_tables(&self, database: Option<&str>) -> Result<Vec<TableName>> {
        self.inner.list_tables(database).await
    }
    async fn describe(&self, table: &TableName) -> Result<TableInfo> {
        self.inner.describe(table).await
    }
    async fn open_cut(&self, tables: &[TableName], options: &CutOptions) -> Result<Arc<dyn OpenCut>> {
        self.script.fail(&Fault::CutFails, "opening a cut")?;
        Ok(self.cut(self.inner.open_cut(tables, options).await?))
    }
    async fn open_past_cut(&self, tables: &[TableName], past: &Past) -> Result<Option<Arc<dyn OpenCut>>> {
        self.script.fail(&Fault::CutFails, "opening a cut")?;
        Ok(self.inner.open_past_cut(tables, past).await?.map(|cut| self.cut(cut)))
    }
    async fn attach_cut(&self, token: &serde_json::Value) -> Result<Arc<dyn OpenCut>> {
        Ok(self.cut(self.inner.attach_cut(token).await?))
    }
    async fn begin_load(&self, options: LoadOptions) -> Result<Arc<dyn Load>> {
        let schemas = options.tables.iter().map(|t| (t.target.clone(), t.schema.clone())).collect();
        Ok(self.load(self.inner.begin_load(options).await?, schemas))
    }
    /// Parts written through an attached load fail loudly only: their schemas are not known here.
    async fn attach_load(&self, token: &serde_json::Value) -> Result<Arc<dyn Load>> {
        Ok(self.load(self.inner.attach_load(token).await?, BTreeMap::new()))
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
struct FaultyCut {
    inner: Arc<dyn OpenCut>,
    script: Arc<Script>,
    given: Arc<AtomicU32>,
    store: String,
}

impl FaultyCut {
    /// Names of the columns of a table's key.
    async fn key_of(&self, table: &TableName) -> Result<Vec<String>> {
        let schema = self.inner.table(table).await?.schema;
        Ok(schema.key_names().into_iter().map(str::to_owned).collect())
    }
}

#[async_trait]
impl OpenCut for FaultyCut {
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
        let mut partitions = self.inner.plan(table, options).await?;
        self.script.fire_each(|fault| match fault {
            Fault::PartitionForgotten { partition } if (*partition as usize) < partitions.len() => {
                partitions.remove(*partition as usize);
                true
            }
            Fault::PartitionDoubled { partition } if (*partition as usize) < partitions.len() => {
                partitions.insert(*partition as usize, partitions[*partition as usize].clone());
                true
            }
            _ => false,
        });
        Ok(partitions)
    }
    async fn scan(&self, partition: &Partition, options: &ScanOptions) -> Result<BatchStream> {
        let key = self.key_of(&partition.table).await?;
        let scan = Scan {
            script: self.script.clone(),
            partition: partition.index,
            key,
            given: self.given.clone(),
            store: self.store.clone(),
        };
        Ok(scan.spoil(self.inner.scan(partition, options).await?))
    }
    fn scans_in_key_order(&self, table: &TableName) -> bool {
        self.inner.scans_in_key_order(table)
    }
    fn needs_closing(&self) -> bool {
        self.inner.needs_closing()
    }
    async fn closing_changes(&self, table: &TableName) -> Result<Option<BatchStream>> {
        let key = self.key_of(table).await?;
        let changes = self.inner.closing_changes(table).await?;
        Ok(changes.map(|changes| batches::spoil_changes(self.script.clone(), key, changes)))
    }
    async fn changes(&self, table: &TableName, from: &[ShardPosition]) -> Result<BatchStream> {
        let key = self.key_of(table).await?;
        Ok(batches::spoil_changes(self.script.clone(), key, self.inner.changes(table, from).await?))
    }
    async fn images(&self, table: &TableName, from: &[ShardPosition]) -> Result<Option<Images>> {
        self.inner.images(table, from).await
    }
    async fn changes_expected(&self, table: &TableName, from: &[ShardPosition]) -> Result<Option<ByteCount>> {
        self.inner.changes_expected(table, from).await
    }
    async fn prove(&self, table: &TableName, request: &ProofRequest) -> Result<Option<SourceProof>> {
        let mut proof = self.inner.prove(table, request).await?;
        if let Some(stated) = proof.as_mut().and_then(|p| p.ranges.first_mut())
            && self.script.happens(&Fault::ProofWrong)
        {
            stated.digest.sum = stated.digest.sum.wrapping_add(1);
        }
        Ok(proof)
    }
    fn keep(&self) {
        self.inner.keep();
    }
    async fn release(&self) -> Result<()> {
        self.inner.release().await
    }
}

#[derive(Debug)]
struct FaultyLoad {
    inner: Arc<dyn Load>,
    script: Arc<Script>,
    schemas: BTreeMap<TableName, TableSchema>,
    /// What the store really holds of parts of which it says more.
    held: Mutex<BTreeMap<(TableName, u32), LoadedPart>>,
}

impl FaultyLoad {
    /// Writes a part without one of its rows, or with one of them twice, and says that each was written once.
    async fn bend_row(
        &self,
        table: &TableName,
        part: u32,
        rows: Vec<RecordBatch>,
        row: u64,
        doubled: bool,
    ) -> Result<LoadedPart> {
        let Some(schema) = self.schemas.get(table) else { return Err(broken("bending a row")) };
        let hasher = RowHasher::new(schema);
        let mut digest = Digest::default();
        let mut kept = vec![];
        let mut first = 0;
        for batch in rows {
            digest = digest.merge(hasher.digest(&batch)?);
            let in_batch = (first..first + batch.num_rows() as u64).contains(&row);
            match in_batch && doubled {
                true => kept.extend([Ok(batch.clone()), Ok(batch.slice((row - first) as usize, 1))]),
                false => kept.push(batches::without(&batch, first, row).unwrap_or_else(|| Ok(batch.clone()))),
            }
            first += batch.num_rows() as u64;
        }
        let written = self.inner.write_part(table, part, stream::iter(kept).boxed()).await?;
        let said = LoadedPart { digest, ..written.clone() };
        self.held.lock().unwrap_or_else(PoisonError::into_inner).insert((table.clone(), part), written);
        Ok(said)
    }
}

#[async_trait]
impl Load for FaultyLoad {
    fn token(&self) -> Option<serde_json::Value> {
        self.inner.token()
    }
    async fn write_part(&self, table: &TableName, part: u32, rows: BatchStream) -> Result<LoadedPart> {
        if self.script.happens(&Fault::PartFails { part }) {
            let half = rows.take(1).chain(stream::iter([Err(broken("writing a part"))])).boxed();
            return match self.inner.write_part(table, part, half).await {
                Ok(_) => Err(broken("writing a part")),
                Err(e) => Err(e),
            };
        }
        if !self.schemas.contains_key(table) {
            return self.inner.write_part(table, part, rows).await;
        }
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&(table.clone(), part));
        let rows: Vec<RecordBatch> = rows.try_collect().await?;
        let count: u64 = rows.iter().map(|b| b.num_rows() as u64).sum();
        let bent = self.script.fire(|fault| match fault {
            Fault::PartLosesRow { part: p, row } if *p == part && *row < count => Some((*row, false)),
            Fault::PartDoublesRow { part: p, row } if *p == part && *row < count => Some((*row, true)),
            _ => None,
        });
        match bent {
            Some((row, doubled)) => self.bend_row(table, part, rows, row, doubled).await,
            None => self.inner.write_part(table, part, stream::iter(rows.into_iter().map(Ok)).boxed()).await,
        }
    }
    async fn finish(&self, mut parts: Vec<(TableName, Vec<LoadedPart>)>) -> Result<()> {
        self.script.fail(&Fault::FinishFails, "finishing a load")?;
        {
            let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            for (table, parts) in &mut parts {
                for part in parts {
                    if let Some(really) = held.get(&(table.clone(), part.part)) {
                        *part = really.clone();
                    }
                }
            }
        }
        self.inner.finish(parts).await
    }
    async fn open_cut(&self) -> Result<Arc<dyn OpenCut>> {
        self.inner.open_cut().await
    }
    async fn publish(&self) -> Result<Published> {
        self.script.fail(&Fault::PublishFails, "publishing")?;
        let published = self.inner.publish().await?;
        self.script.fail(&Fault::PublishAnswerLost, "publishing")?;
        Ok(published)
    }
    async fn abandon(&self) -> Result<()> {
        self.inner.abandon().await
    }
    async fn remember(&self, purpose: &serde_json::Value) -> Result<bool> {
        self.inner.remember(purpose).await
    }
    async fn note(&self, name: &str, note: &serde_json::Value) -> Result<bool> {
        self.inner.note(name, note).await
    }
    async fn notes(&self) -> Result<BTreeMap<String, serde_json::Value>> {
        self.inner.notes().await
    }
    async fn state(&self) -> Result<LoadState> {
        self.inner.state().await
    }
    async fn forget(&self) -> Result<()> {
        self.inner.forget().await
    }
}
