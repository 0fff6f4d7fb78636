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
use std::sync::Arc;

/// The keys of one shard, in order.
struct Keys {
    shard: ShardId,
    rows: Rows,
    batch: Option<(RecordBatch, BinaryArray)>,
    at: usize,
}

impl Keys {
    /// The key it stands at; none where there is no batch yet, or no more.
    fn key(&self) -> Option<&[u8]> {
        let (_, keys) = self.batch.as_ref()?;
        (self.at < keys.len()).then(|| keys.value(self.at))
    }

    /// Makes sure that it stands at a key, where there is one more.
    async fn settle(&mut self, schema: &TableSchema) -> Result<()> {
        while self.key().is_none() {
            let Some(batch) = self.rows.try_next().await? else { return Ok(()) };
            let keys = encode_keys(schema, &batch)?;
            self.batch = Some((batch, keys));
            self.at = 0;
        }
        Ok(())
    }

    /// Goes past its key, and past all that come before `next` where its whole batch does.
    fn pass(&mut self, next: Option<&[u8]>) {
        let Some((_, keys)) = &self.batch else { return };
        let last = keys.len().checked_sub(1).map(|last| keys.value(last));
        self.at = if last < next { keys.len() } else { self.at + 1 };
    }
}

impl Engine {
    /// Fails when a key stands in two shards.
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
        let (ordered, in_order) = (source.key_order(), Arc::new(keys_only.clone()));
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
            let rows = if ordered { rows } else { self.in_key_order(&in_order, rows)? };
            streams.push(Keys { shard, rows, batch: None, at: 0 });
        }
        for stream in &mut streams {
            stream.settle(&keys_only).await?;
        }
        // Those that have a key, the least key first.
        let mut order: Vec<usize> = (0..streams.len()).filter(|i| streams[*i].key().is_some()).collect();
        order.sort_by(|a, b| streams[*a].key().cmp(&streams[*b].key()));
        // What stands in one shard alone from here on is in no other.
        while let [first, second, ..] = order[..] {
            let [stream, other] =
                streams.get_disjoint_mut([first, second]).map_err(|_| EngineError::Query {
                    message: format!("a shard of table '{table}' stands twice in the order of its keys"),
                })?;
            if stream.key() == other.key() {
                return Err(StoreError::DuplicateKey {
                    table: table.to_string(),
                    key: shown(&keys_only, stream)?,
                    first: stream.shard.to_string(),
                    second: other.shard.to_string(),
                }
                .into());
            }
            stream.pass(other.key());
            stream.settle(&keys_only).await?;
            order.remove(0);
            if let Some(key) = streams[first].key() {
                let at = order.partition_point(|i| streams[*i].key() < Some(key));
                order.insert(at, first);
            }
        }
        Ok(())
    }
}

/// The key that a stream stands at, as `column = value, …`.
fn shown(schema: &TableSchema, keys: &Keys) -> Result<String> {
    let Some((batch, _)) = &keys.batch else { return Ok(String::new()) };
    let row = convert::to_native(schema, &batch.slice(keys.at, 1))?;
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
