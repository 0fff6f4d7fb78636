//! Rows on their way into a table: checked, hashed, with their key and their place in a scan.

use super::table::Table;
use crate::row::{Row, canonical, column, rows_of};
use crate::{Result, StoreError};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use keepfast_model::{RowHasher, TableSchema, TableShape, encode_keys, key::encode_columns};
use std::sync::Arc;

/// A row that is about to be written.
pub(super) struct Incoming {
    pub key: Vec<u8>,
    pub order: Vec<u8>,
    pub row: Row,
    pub hash: u128,
    pub home: usize,
}

impl Table {
    /// The rows of a physical batch.
    ///
    /// # Errors
    /// `Row` when the batch does not fit the table.
    pub(super) fn read(&self, batch: &RecordBatch) -> Result<Vec<Incoming>> {
        let schema = self.schema();
        let physical = schema.physical();
        let declared = physical.fields().len();
        if batch.num_columns() < declared || batch.num_columns() > declared + 1 {
            return Err(self.refuse(format!("{} columns, expected {declared}", batch.num_columns())));
        }
        for (field, array) in physical.fields().iter().zip(batch.columns()) {
            if field.data_type() != array.data_type() {
                let found = array.data_type();
                return Err(self.refuse(format!(
                    "column '{}' is {found}, expected {}",
                    field.name(),
                    field.data_type()
                )));
            }
            if !field.is_nullable() && array.null_count() > 0 {
                return Err(self.refuse(format!("column '{}' may not be NULL", field.name())));
            }
        }
        let hashes = RowHasher::new(schema).hash(batch)?;
        let keys = encode_keys(schema, batch)?;
        let orders = if self.options.collated { collated(schema, batch)? } else { None };
        let homes = match schema.shape {
            TableShape::Cells => Some(encode_columns(&batch.columns()[..1], batch.num_rows())?),
            TableShape::Rows => None,
        };
        Ok(rows_of(batch, 0, declared)
            .into_iter()
            .enumerate()
            .map(|(i, row)| {
                let key = if schema.is_bag() { canonical(&row) } else { keys.value(i).to_vec() };
                let order = orders.as_ref().map_or_else(|| key.clone(), |orders| orders[i].clone());
                let spread = homes.as_ref().map_or(key.as_slice(), |homes| homes.value(i));
                let home =
                    spread.iter().fold(7usize, |h, b| h.wrapping_mul(31).wrapping_add(usize::from(*b)));
                Incoming { home: home % self.shards.len(), key, order, row, hash: hashes.rows[i] }
            })
            .collect())
    }
}

/// Where rows stand when text keys are compared without case; equal texts then follow their bytes. None for a bag.
fn collated(schema: &TableSchema, batch: &RecordBatch) -> Result<Option<Vec<Vec<u8>>>> {
    if schema.is_bag() {
        return Ok(None);
    }
    let folded: Vec<ArrayRef> = schema
        .key_positions()
        .into_iter()
        .map(|at| {
            let array = batch.column(at);
            if *array.data_type() != DataType::Utf8 {
                return array.clone();
            }
            let lower = array.as_string::<i32>().iter().map(|t| t.map(str::to_lowercase));
            Arc::new(StringArray::from_iter(lower)) as ArrayRef
        })
        .collect();
    let folded = encode_columns(&folded, batch.num_rows())?;
    let exact = encode_keys(schema, batch)?;
    Ok(Some((0..batch.num_rows()).map(|i| [folded.value(i), exact.value(i)].concat()).collect()))
}

/// Rows under the schema that they were written with, as a batch.
pub(super) fn batch_of<'a>(
    schema: &TableSchema,
    rows: impl IntoIterator<Item = &'a Row>,
) -> Result<RecordBatch> {
    let rows: Vec<&Row> = rows.into_iter().collect();
    let physical = schema.physical();
    let columns = physical
        .fields()
        .iter()
        .enumerate()
        .map(|(at, field)| column(field.data_type(), rows.iter().map(|r| &r[at])))
        .collect::<Result<Vec<_>, _>>()
        .and_then(|columns| RecordBatch::try_new(physical.clone(), columns));
    columns.map_err(|e| StoreError::Damaged { object: "a row".into(), reason: e.to_string() })
}
