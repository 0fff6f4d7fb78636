//! Tables and rows for tests: every column type with its hardest values, from a seed alone.
//!
//! The number of a row decides its key, the seed decides everything else: the same rows under another seed are an
//! update of all of them. Among the first [`EDGE_ROWS`] rows of a table every column holds each of its edge values
//! (NaN with two payloads, -0.0, empty, huge, smallest, largest, quotes, NUL, NULL where it is allowed).

mod array;
mod value;

use crate::{BatchStream, StoreError};
use arrow::array::{RecordBatch, UInt64Array};
use arrow::compute::take_record_batch;
use futures::StreamExt;
use keepfast_model::{ColumnType, ModelError, TableSchema, encode_keys};
use std::ops::Range;

/// Rows that hold every edge value of every column.
pub const EDGE_ROWS: u64 = 32;

/// Every column type once, with several lengths and scales where they matter.
pub fn all_types() -> Vec<ColumnType> {
    use ColumnType::*;
    vec![
        Boolean,
        Int8,
        Int16,
        Int32,
        Int64,
        UInt8,
        UInt16,
        UInt32,
        UInt64,
        Float32,
        Float64,
        Decimal { precision: 10, scale: 2 },
        Decimal { precision: 38, scale: 0 },
        Decimal { precision: 38, scale: 38 },
        Char { length: 5 },
        Varchar { length: Some(255) },
        Varchar { length: None },
        Text,
        Binary { length: 16 },
        Varbinary { length: Some(40) },
        Varbinary { length: None },
        Blob,
        Date,
        Time,
        Timestamp { zone: false },
        Timestamp { zone: true },
        Json,
        Uuid,
        List(Box::new(Int32)),
        List(Box::new(Text)),
        List(Box::new(List(Box::new(Decimal { precision: 12, scale: 3 })))),
    ]
}

/// The types that can be a key, of [`all_types`].
pub fn key_types() -> Vec<ColumnType> {
    all_types().into_iter().filter(|t| !matches!(t, ColumnType::List(_) | ColumnType::Json)).collect()
}

/// A table with the key `id BIGINT` and one nullable column of each type, `c0`, `c1`, ….
pub fn schema_of(types: &[ColumnType]) -> TableSchema {
    let mut columns = vec![("id".to_owned(), ColumnType::Int64, false)];
    columns.extend(types.iter().enumerate().map(|(i, t)| (format!("c{i}"), t.clone(), true)));
    TableSchema::of(columns, &["id"]).expect("names and key are made here")
}

/// A table with a column of every type, twice: once nullable and once not.
pub fn schema_of_all_types() -> TableSchema {
    let mut columns = vec![("id".to_owned(), ColumnType::Int64, false)];
    for (i, t) in all_types().into_iter().enumerate() {
        columns.push((format!("c{i}"), t.clone(), true));
        columns.push((format!("n{i}"), t, false));
    }
    TableSchema::of(columns, &["id"]).expect("names and key are made here")
}

/// A table whose key has these types, `k0`, `k1`, …, with the columns `note VARCHAR` and `amount BIGINT`.
///
/// # Errors
/// [`ModelError::Schema`] for a type that cannot be a key.
pub fn keyed_by(types: &[ColumnType]) -> Result<TableSchema, ModelError> {
    let keys: Vec<String> = (0..types.len()).map(|i| format!("k{i}")).collect();
    let mut columns: Vec<_> =
        keys.iter().cloned().zip(types.iter().cloned()).map(|(n, t)| (n, t, false)).collect();
    columns.push(("note".to_owned(), ColumnType::Varchar { length: None }, true));
    columns.push(("amount".to_owned(), ColumnType::Int64, true));
    TableSchema::of(columns, &keys.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The plainest table: `id BIGINT` as key, `note VARCHAR`, `amount BIGINT`.
pub fn plain() -> TableSchema {
    let columns = vec![
        ("id".to_owned(), ColumnType::Int64, false),
        ("note".to_owned(), ColumnType::Varchar { length: None }, true),
        ("amount".to_owned(), ColumnType::Int64, true),
    ];
    TableSchema::of(columns, &["id"]).expect("names and key are made here")
}

/// A table without a key, `word VARCHAR`, `number INT`, both not NULL; its rows repeat every 50 rows or so.
pub fn bag() -> TableSchema {
    let columns = vec![
        ("word".to_owned(), ColumnType::Varchar { length: Some(20) }, false),
        ("number".to_owned(), ColumnType::Int8, false),
    ];
    TableSchema::of(columns, &[]).expect("names are made here")
}

/// A table with the key `id BIGINT` and this many columns of mixed types in all.
pub fn wide(columns: usize) -> TableSchema {
    let types = all_types();
    schema_of(&types.iter().cycle().take(columns.saturating_sub(1)).cloned().collect::<Vec<_>>())
}

/// The first `rows` rows of a table. Same as [`rows`] from 0.
pub fn batch(schema: &TableSchema, rows: usize, seed: u64) -> RecordBatch {
    self::rows(schema, 0..rows as u64, seed)
}

/// Rows by their numbers, as one physical batch. Equal numbers have equal keys under any seed; keys are distinct as
/// long as the key's types hold that many values, and do not ascend with the number.
pub fn rows(schema: &TableSchema, numbers: Range<u64>, seed: u64) -> RecordBatch {
    let numbers: Vec<u64> = numbers.collect();
    let keys = schema.key_positions();
    let bag = schema.is_bag();
    let columns = schema
        .columns
        .iter()
        .enumerate()
        .map(|(at, column)| {
            let edges = if numbers.first().is_some_and(|n| *n < EDGE_ROWS) {
                value::edges(&column.column_type)
            } else {
                vec![]
            };
            let values = numbers
                .iter()
                .map(|n| match keys.iter().position(|k| *k == at) {
                    Some(place) => Some(value::of_key(schema, &keys, place, *n)),
                    None if bag => value::of_bag(column, *n, seed),
                    None => value::of_column(column, &edges, *n, seed),
                })
                .collect();
            array::build(&column.column_type, values)
        })
        .collect();
    RecordBatch::try_new(schema.physical(), columns).expect("every column was built from the schema")
}

/// The rows of a batch in the order of their encoded keys; unchanged for a bag.
///
/// # Errors
/// [`ModelError::Batch`] when the batch does not have the schema's columns.
pub fn sorted(schema: &TableSchema, batch: &RecordBatch) -> Result<RecordBatch, StoreError> {
    let keys = encode_keys(schema, batch)?;
    let mut order: Vec<u64> = (0..batch.num_rows() as u64).collect();
    order.sort_by(|a, b| keys.value(*a as usize).cmp(keys.value(*b as usize)));
    Ok(take_record_batch(batch, &UInt64Array::from(order)).expect("every index is one of the batch"))
}

/// A batch in pieces of at most `rows` rows. No piece for an empty batch.
pub fn pieces(batch: &RecordBatch, rows: usize) -> Vec<RecordBatch> {
    let rows = rows.max(1);
    (0..batch.num_rows()).step_by(rows).map(|at| batch.slice(at, rows.min(batch.num_rows() - at))).collect()
}

/// Batches as a stream that never fails.
pub fn stream(batches: Vec<RecordBatch>) -> BatchStream {
    futures::stream::iter(batches.into_iter().map(Ok)).boxed()
}

#[cfg(test)]
mod tests;
