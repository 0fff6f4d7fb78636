//! One key must live in one shard only: the shards' keys, each in order, are merged and neighbours compared.

use crate::Result;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::source::{Rows, TableSource};
use arrow::array::{Array, BinaryArray, RecordBatch};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::{StreamExt, TryStreamExt};
use keepfast_model::{ColumnId, ShardId, TableName, TableSchema, convert, encode_keys};
use keepfast_store::StoreError;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// The keys of one shard, in order.
struct Keys {
    shard: ShardId,
    rows: Rows,
    batch: Option<(RecordBatch, BinaryArray)>,
    at: usize,
}

impl Keys {
    async fn advance(&mut self, schema: &TableSchema) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some((_, keys)) = &self.batch
                && self.at < keys.len()
            {
                self.at += 1;
                return Ok(Some(keys.value(self.at - 1).to_vec()));
            }
            let Some(batch) = self.rows.try_next().await? else { return Ok(None) };
            let keys = encode_keys(schema, &batch)?;
            self.batch = Some((batch, keys));
            self.at = 0;
        }
    }
}

impl Engine {
    /// Fails when a key stands in two shards of a key-ordered source.
    ///
    /// # Errors
    /// [`StoreError::DuplicateKey`] with the first such key.
    pub(crate) async fn check_shards(&self, table: &TableName, source: &Arc<dyn TableSource>) -> Result<()> {
        let schema = source.schema().clone();
        let mut shards: Vec<(ShardId, Vec<usize>)> = vec![];
        for partition in 0..source.partitions() {
            let shard = source.shard(partition);
            match shards.iter_mut().find(|(s, _)| *s == shard) {
                Some((_, partitions)) => partitions.push(partition),
                None => shards.push((shard, vec![partition])),
            }
        }
        if shards.len() < 2 || schema.is_bag() {
            return Ok(());
        }
        let key: Vec<ColumnId> = schema.key.clone();
        let names: Vec<String> = schema.key_names().into_iter().map(str::to_owned).collect();
        let keys_only = schema.project(&names)?;
        let mut streams = vec![];
        for (shard, partitions) in shards {
            let (source, key) = (source.clone(), key.clone());
            let rows = futures::stream::iter(partitions)
                .then(move |p| {
                    let (source, key) = (source.clone(), key.clone());
                    async move { source.open(p, Some(&key)).await }
                })
                .try_flatten()
                .boxed();
            streams.push(Keys { shard, rows, batch: None, at: 0 });
        }
        let mut heap = BinaryHeap::new();
        for (i, stream) in streams.iter_mut().enumerate() {
            if let Some(key) = stream.advance(&keys_only).await? {
                heap.push(Reverse((key, i)));
            }
        }
        let mut last: Option<(Vec<u8>, usize)> = None;
        while let Some(Reverse((key, i))) = heap.pop() {
            if let Some((before, j)) = &last
                && *before == key
                && *j != i
            {
                return Err(StoreError::DuplicateKey {
                    table: table.to_string(),
                    key: shown(&keys_only, &streams[i])?,
                    first: streams[*j].shard.to_string(),
                    second: streams[i].shard.to_string(),
                }
                .into());
            }
            if let Some(next) = streams[i].advance(&keys_only).await? {
                heap.push(Reverse((next, i)));
            }
            last = Some((key, i));
        }
        Ok(())
    }
}

/// The key that a stream gave last, as `column = value, …`.
fn shown(schema: &TableSchema, keys: &Keys) -> Result<String> {
    let Some((batch, _)) = &keys.batch else { return Ok(String::new()) };
    let row = convert::to_native(schema, &batch.slice(keys.at.saturating_sub(1), 1))?;
    let options = FormatOptions::default();
    let parts = row
        .columns()
        .iter()
        .zip(&schema.columns)
        .map(|(array, column)| {
            let value = ArrayFormatter::try_new(array.as_ref(), &options)?.value(0).try_to_string()?;
            Ok::<_, EngineError>(format!("{} = {value}", column.name))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(parts.join(", "))
}
