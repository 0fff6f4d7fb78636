//! The demo's sample table: orders that follow from their number alone, so that every run has the same rows.

use crate::error::CliError;
use arrow::array::{
    ArrayRef, Decimal128Builder, Int32Builder, Int64Builder, RecordBatch, StringBuilder,
    TimestampMicrosecondBuilder,
};
use futures::stream::{self, StreamExt, TryStreamExt};
use keepfast_model::random::Random;
use keepfast_model::{ColumnType, ModelError, RunId, TableName, TableSchema};
use keepfast_store::load::LoadTable;
use keepfast_store::{LoadMode, LoadOptions, Store, StoreError};
use std::ops::Range;
use std::sync::Arc;

/// Rows of one part of the load.
const PART_ROWS: u64 = 1 << 17;
const BATCH_ROWS: u64 = 8192;
const SEED: u64 = 42;
/// 2026-01-01 00:00:00 UTC in microseconds.
const FIRST: i64 = 1_767_225_600_000_000;

const CITIES: [&str; 12] = [
    "Amsterdam",
    "Berlin",
    "Cairo",
    "Hangzhou",
    "Lagos",
    "Lima",
    "London",
    "Mumbai",
    "New York",
    "Osaka",
    "Paris",
    "Sydney",
];
const STATUSES: [&str; 4] = ["new", "paid", "shipped", "delivered"];
const WORDS: [&str; 16] = [
    "leave", "at", "the", "door", "call", "before", "delivery", "gift", "wrap", "fragile", "second", "floor",
    "ring", "twice", "no", "bag",
];

/// Columns and key of the sample table.
///
/// # Errors
/// None in practice: the columns are fixed and valid.
pub fn schema() -> Result<TableSchema, ModelError> {
    let text = || ColumnType::Varchar { length: None };
    TableSchema::of(
        vec![
            ("id".into(), ColumnType::Int64, false),
            ("customer".into(), ColumnType::Int32, false),
            ("city".into(), text(), false),
            ("amount".into(), ColumnType::Decimal { precision: 10, scale: 2 }, false),
            ("status".into(), text(), false),
            ("created".into(), ColumnType::Timestamp { zone: false }, false),
            ("note".into(), text(), true),
        ],
        &["id"],
    )
}

/// Loads the first `rows` orders into a new table, in parts side by side.
///
/// # Errors
/// The store's.
pub async fn load(store: &dyn Store, table: &TableName, rows: u64, threads: usize) -> Result<(), CliError> {
    let schema = schema()?;
    let load = store
        .begin_load(LoadOptions {
            run: RunId("demo".into()),
            tables: vec![LoadTable {
                target: table.clone(),
                schema: schema.clone(),
                dependents: vec![],
                mode: LoadMode::Create,
                segment_rows: None,
                replaced_tag: "demo".into(),
                shard_rule: None,
            }],
        })
        .await?;
    let schema = Arc::new(schema);
    let parts = stream::iter((0..rows.div_ceil(PART_ROWS)).map(|part| {
        let (load, table, schema) = (load.clone(), table.clone(), schema.clone());
        let range = part * PART_ROWS..rows.min((part + 1) * PART_ROWS);
        // A task of its own for each part, so that parts are made and encoded on several cores.
        let task = tokio::spawn(async move {
            let batches = stream::iter(range.step_by(BATCH_ROWS as usize)).map(move |from| {
                let to = rows.min(from + BATCH_ROWS).min((part + 1) * PART_ROWS);
                batch(&schema, from..to).map_err(StoreError::from)
            });
            load.write_part(&table, part as u32, batches.boxed()).await
        });
        async move {
            match task.await {
                Ok(result) => result.map_err(CliError::from),
                Err(stopped) => std::panic::resume_unwind(stopped.into_panic()),
            }
        }
    }))
    .buffered(threads.max(1))
    .try_collect::<Vec<_>>()
    .await?;
    load.finish(vec![(table.clone(), parts)]).await?;
    load.publish().await?;
    Ok(())
}

/// The orders with these numbers, counted from 0.
fn batch(schema: &TableSchema, numbers: Range<u64>) -> Result<RecordBatch, ModelError> {
    let mut id = Int64Builder::new();
    let mut customer = Int32Builder::new();
    let mut city = StringBuilder::new();
    let mut amount = Decimal128Builder::new();
    let mut status = StringBuilder::new();
    let mut created = TimestampMicrosecondBuilder::new();
    let mut note = StringBuilder::new();
    let mut text = String::new();
    for number in numbers {
        let mut random = Random::at(SEED, number, 0);
        id.append_value(number as i64 + 1);
        customer.append_value(random.below(100_000) as i32 + 1);
        city.append_value(CITIES[random.below(CITIES.len() as u64) as usize]);
        amount.append_value(i128::from(random.below(500_000)) + 100);
        status.append_value(STATUSES[random.below(STATUSES.len() as u64) as usize]);
        created.append_value(FIRST + number as i64 * 1_250_000 + random.below(1_000_000) as i64);
        if random.below(4) == 0 {
            note.append_null();
        } else {
            text.clear();
            for i in 0..2 + random.below(6) {
                if i > 0 {
                    text.push(' ');
                }
                text.push_str(WORDS[random.below(WORDS.len() as u64) as usize]);
            }
            note.append_value(&text);
        }
    }
    let amount = amount.finish().with_data_type(arrow::datatypes::DataType::Decimal128(10, 2));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(id.finish()),
        Arc::new(customer.finish()),
        Arc::new(city.finish()),
        Arc::new(amount),
        Arc::new(status.finish()),
        Arc::new(created.finish()),
        Arc::new(note.finish()),
    ];
    RecordBatch::try_new(schema.physical(), columns).map_err(|e| ModelError::Batch {
        column: "all".into(),
        expected: "the sample table's columns".into(),
        found: e.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_follow_from_their_number_alone() {
        let schema = schema().unwrap();
        let all = batch(&schema, 0..100).unwrap();
        assert_eq!(all.slice(40, 20), batch(&schema, 40..60).unwrap());
        assert!(all.column(6).null_count() > 0 && all.column(6).null_count() < 100);
    }
}
