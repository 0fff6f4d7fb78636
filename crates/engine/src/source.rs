//! Tables that can be read in partitions: live ones at a cut, and those of restore points.
//!
//! Rows come as physical batches. Where [`TableSource::key_order`] holds, partitions ascend and each is in the order
//! of encoded keys within its shard, which is what merging and comparing rest on.

use crate::Result;
use crate::certify::check_cover;
use crate::error::EngineError;
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use keepfast_model::change::hidden;
use keepfast_model::{Column, ColumnId, ColumnType, Partition, ShardId, TableName, TableSchema};
use keepfast_store::{OpenCut, PlanOptions, ScanOptions};
use std::fmt::Debug;
use std::iter::repeat_n;
use std::sync::Arc;

/// Physical batches of one partition.
pub type Rows = BoxStream<'static, Result<RecordBatch>>;

/// A table that can be read in partitions.
#[async_trait]
pub trait TableSource: Debug + Send + Sync {
    /// Columns and key.
    fn schema(&self) -> &Arc<TableSchema>;

    /// How many partitions there are.
    fn partitions(&self) -> usize;

    /// The shard of a partition; partitions of one shard stand together.
    fn shard(&self, partition: usize) -> ShardId;

    /// Rows of a partition; a guess.
    fn rows(&self, partition: usize) -> u64;

    /// Whether rows come in key order.
    fn key_order(&self) -> bool;

    /// Reads a partition; only `columns` where given, in table order.
    async fn open(&self, partition: usize, columns: Option<&[ColumnId]>) -> Result<Rows>;
}

/// A live table at a cut.
#[derive(Debug)]
pub struct LiveSource {
    cut: Arc<dyn OpenCut>,
    schema: Arc<TableSchema>,
    partitions: Vec<Partition>,
    key_order: bool,
}

impl LiveSource {
    /// A table at a cut, in about so many partitions, which together cover it once. `key_order` is that of the store's tables.
    pub async fn open(
        cut: Arc<dyn OpenCut>,
        table: &TableName,
        partitions: usize,
        key_order: bool,
    ) -> Result<Self> {
        let schema = Arc::new(cut.table(table).await?.schema);
        let plan = PlanOptions { partitions: partitions as u32, ..PlanOptions::default() };
        let partitions = cut.plan(table, &plan).await?;
        check_cover(table, schema.is_bag(), &partitions)?;
        let key_order = key_order || cut.scans_in_key_order(table);
        Ok(Self { cut, schema, partitions, key_order })
    }
}

#[async_trait]
impl TableSource for LiveSource {
    fn schema(&self) -> &Arc<TableSchema> {
        &self.schema
    }

    fn partitions(&self) -> usize {
        self.partitions.len()
    }

    fn shard(&self, partition: usize) -> ShardId {
        self.partitions[partition].shard.clone()
    }

    fn rows(&self, partition: usize) -> u64 {
        self.partitions[partition].rows_expected
    }

    fn key_order(&self) -> bool {
        self.key_order && !self.schema.is_bag()
    }

    async fn open(&self, partition: usize, columns: Option<&[ColumnId]>) -> Result<Rows> {
        let options = ScanOptions { columns: columns.map(<[_]>::to_vec), ..ScanOptions::default() };
        let stream = self.cut.scan(&self.partitions[partition], &options).await?;
        let schema = self.schema.clone();
        let columns = columns.map(<[_]>::to_vec);
        Ok(stream
            .map_err(EngineError::from)
            .map(move |batch| batch.and_then(|b| pick(&schema, columns.as_deref(), b)))
            .boxed())
    }
}

/// A table whose rows tell their shard, in a column behind the others.
#[derive(Debug)]
pub struct TellsShard {
    inner: Arc<dyn TableSource>,
    schema: Arc<TableSchema>,
}

impl TellsShard {
    /// Of a table without such a column.
    pub fn new(inner: Arc<dyn TableSource>) -> Self {
        let mut schema = inner.schema().as_ref().clone();
        schema.columns.push(Column {
            id: ColumnId(ColumnId::FIRST_HIDDEN + 3),
            name: hidden::SHARD.into(),
            column_type: ColumnType::Text,
            nullable: false,
            default: None,
            origin: None,
        });
        Self { inner, schema: Arc::new(schema) }
    }
}

#[async_trait]
impl TableSource for TellsShard {
    fn schema(&self) -> &Arc<TableSchema> {
        &self.schema
    }

    fn partitions(&self) -> usize {
        self.inner.partitions()
    }

    fn shard(&self, partition: usize) -> ShardId {
        self.inner.shard(partition)
    }

    fn rows(&self, partition: usize) -> u64 {
        self.inner.rows(partition)
    }

    fn key_order(&self) -> bool {
        self.inner.key_order()
    }

    async fn open(&self, partition: usize, columns: Option<&[ColumnId]>) -> Result<Rows> {
        let own: Vec<ColumnId> = self.inner.schema().columns.iter().map(|c| c.id).collect();
        let chosen: Vec<ColumnId> =
            own.iter().filter(|id| columns.is_none_or(|wanted| wanted.contains(id))).copied().collect();
        if columns.is_some_and(|wanted| wanted.len() == chosen.len()) {
            return self.inner.open(partition, Some(&chosen)).await;
        }
        let shard = self.shard(partition).0;
        // Without any other column there are still as many rows.
        let read = if chosen.is_empty() { &own[..1] } else { &chosen[..] };
        let rows = self.inner.open(partition, Some(read)).await?;
        let field = Arc::new(Field::new(hidden::SHARD, ColumnType::Text.physical(), false));
        let told = move |batch: RecordBatch| {
            let batch = batch.project(&(0..chosen.len()).collect::<Vec<_>>())?;
            let fields = batch.schema().fields().iter().cloned().chain([field.clone()]).collect::<Vec<_>>();
            let shards: ArrayRef =
                Arc::new(StringArray::from_iter_values(repeat_n(&shard, batch.num_rows())));
            let columns = batch.columns().iter().cloned().chain([shards]).collect();
            Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
        };
        Ok(rows.map(move |batch| batch.and_then(&told)).boxed())
    }
}

/// The chosen columns of a batch, by name; stores may give their key columns besides.
pub fn pick(schema: &TableSchema, columns: Option<&[ColumnId]>, batch: RecordBatch) -> Result<RecordBatch> {
    let Some(columns) = columns else { return Ok(batch) };
    let found = batch.schema();
    let mut at = Vec::with_capacity(columns.len());
    for column in schema.columns.iter().filter(|c| columns.contains(&c.id)) {
        at.push(found.index_of(&column.name)?);
    }
    Ok(batch.project(&at)?)
}

/// The native Arrow schema of chosen columns, as SQL sees it.
pub fn native_schema(schema: &TableSchema, columns: Option<&[ColumnId]>) -> SchemaRef {
    let fields: Vec<Field> = schema
        .columns
        .iter()
        .filter(|c| columns.is_none_or(|wanted| wanted.contains(&c.id)))
        .map(|c| Field::new(&c.name, c.column_type.native(), c.nullable))
        .collect();
    Arc::new(Schema::new(fields))
}
