//! A table's content as bytes: equal content gives equal bytes, however the table was written or is laid out.
//!
//! The bytes are described in `docs/columnar.md`. They are made in pieces of bounded size.

use crate::shared::Shared;
use crate::stage::{Op, OpCursor, pick};
use crate::table::TableVersion;
use crate::{Result, rows};
use arrow::array::{Array, ArrayRef, BinaryArray, RecordBatch};
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use keepfast_model::digest::canonical_value;
use keepfast_model::{KeyRange, RowHasher, TableSchema};
use keepfast_store::StoreError;
use std::sync::Arc;

/// The content's bytes, in pieces of about 1 MiB and never more than one row beyond that.
pub(crate) fn content(version: TableVersion) -> BoxStream<'static, Result<Bytes>> {
    let header = header(version.schema());
    let declared = version.schema().columns.len();
    let ordered = if version.schema().is_bag() {
        stream::once(by_hash(version)).try_flatten().boxed()
    } else {
        version.scan(KeyRange::default(), None, rows::BATCH_ROWS)
    };
    let pieces = ordered
        .map(move |batch| batch.and_then(|b| pieces(declared, &b)))
        .map_ok(|pieces| stream::iter(pieces.into_iter().map(Ok)))
        .try_flatten();
    stream::once(async move { header }).chain(pieces).boxed()
}

const PIECE: usize = 1 << 20;

/// What the rows mean: a line with the format, and one with columns and key.
fn header(schema: &TableSchema) -> Result<Bytes> {
    let columns: Vec<serde_json::Value> = schema
        .columns
        .iter()
        .map(|c| serde_json::json!({"name": c.name, "type": c.column_type.to_string()}))
        .collect();
    let content = serde_json::json!({"columns": columns, "key": schema.key_names()});
    Ok(format!("keepfast content 1\n{content}\n").into())
}

/// Rows as bytes: per column `0` for NULL, else `1`, the length of its canonical bytes as u32, and the bytes. An exact
/// value follows its row as `2`, length and bytes, and nothing where there is none.
fn pieces(declared: usize, batch: &RecordBatch) -> Result<Vec<Bytes>> {
    let mut out = vec![];
    let mut piece = Vec::with_capacity(PIECE.min(batch.num_rows() * batch.num_columns() * 12));
    for row in 0..batch.num_rows() {
        for (at, column) in batch.columns().iter().enumerate() {
            match (column.is_null(row), at < declared) {
                (true, true) => piece.push(0),
                (true, false) => {}
                (false, true) => piece.push(1),
                (false, false) => piece.push(2),
            }
            if column.is_null(row) {
                continue;
            }
            let at = piece.len();
            piece.extend_from_slice(&[0; 4]);
            canonical_value(column.as_ref(), row, &mut piece)?;
            let length = (piece.len() - at - 4) as u32;
            piece[at..at + 4].copy_from_slice(&length.to_le_bytes());
        }
        if piece.len() >= PIECE {
            out.push(std::mem::take(&mut piece).into());
        }
    }
    if !piece.is_empty() {
        out.push(piece.into());
    }
    Ok(out)
}

/// A bag's rows by their hashes.
async fn by_hash(version: TableVersion) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    let shared = version.shared.clone();
    let hasher = RowHasher::new(version.schema());
    let mut staged = shared.staging(version.schema());
    let mut scan = version.scan(KeyRange::default(), None, rows::BATCH_ROWS);
    while let Some(batch) = scan.next().await {
        let (batch, hasher, mut taken) = (batch?, hasher.clone(), staged);
        staged = shared
            .compute(move || {
                let hashes = hasher.hash(&batch)?.rows;
                let keys = BinaryArray::from_iter_values(hashes.iter().map(|h| h.to_be_bytes()));
                taken.add_keyed(Op::Insert, batch, keys)?;
                Ok(taken)
            })
            .await?;
    }
    let state = Sorted { shared, physical: version.schema().physical(), cursor: Some(staged.cursor()?) };
    Ok(stream::try_unfold(state, |mut state| async move {
        let batches = state.next().await?;
        Ok::<_, StoreError>(batches.map(|b| (stream::iter(b.into_iter().map(Ok)), state)))
    })
    .try_flatten()
    .boxed())
}

#[derive(Debug)]
struct Sorted {
    shared: Arc<Shared>,
    physical: arrow::datatypes::SchemaRef,
    cursor: Option<OpCursor>,
}

impl Sorted {
    async fn next(&mut self) -> Result<Option<Vec<RecordBatch>>> {
        let Some(mut cursor) = self.cursor.take() else { return Ok(None) };
        let physical = self.physical.clone();
        let (cursor, batches) = self
            .shared
            .compute(move || {
                let Some(window) = cursor.next()? else { return Ok((cursor, None)) };
                let none: &[ArrayRef] = &[];
                let sources: Vec<&[ArrayRef]> =
                    window.sources.iter().map(|s| s.columns.as_deref().unwrap_or(none)).collect();
                let index: Vec<(u32, u32)> = window.ops.iter().map(|op| (op.source, op.row)).collect();
                Ok((cursor, Some(pick(&physical, &sources, &index)?)))
            })
            .await?;
        self.cursor = Some(cursor);
        Ok(batches)
    }
}
