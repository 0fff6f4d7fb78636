//! Checks that rows come in strictly ascending key order, faster than by encoding every key.

use crate::Result;
use crate::error::FormatError;
use arrow::array::{ArrayRef, DynComparator, RecordBatch, make_comparator};
use arrow::compute::SortOptions;
use keepfast_model::key::encode_columns;
use keepfast_model::{KeyBytes, TableSchema};
use std::cmp::Ordering;

/// Follows the rows of one partition.
///
/// Arrow's comparison of key columns orders as encoded keys do: integers, decimals, dates and times by value, floats
/// totally, text and bytes by byte, NULL first.
#[derive(Debug)]
pub(crate) struct KeyOrder {
    positions: Vec<usize>,
    /// Key columns of the last row seen, one row each.
    last: Option<Vec<ArrayRef>>,
}

impl KeyOrder {
    pub(crate) fn new(schema: &TableSchema) -> Self {
        Self { positions: schema.key_positions(), last: None }
    }

    /// Takes a batch that follows those before.
    pub(crate) fn follow(&mut self, batch: &RecordBatch) -> Result<()> {
        let rows = batch.num_rows();
        if rows == 0 {
            return Ok(());
        }
        let columns = self.columns(batch);
        if let Some(last) = &self.last {
            let compare = comparators(last, &columns)?;
            check(order(&compare, 0, 0), || (key_of(last, 0), key_of(&columns, 0)))?;
        }
        let compare = comparators(&columns, &columns)?;
        for row in 1..rows {
            check(order(&compare, row - 1, row), || (key_of(&columns, row - 1), key_of(&columns, row)))?;
        }
        self.last = Some(columns.iter().map(|c| c.slice(rows - 1, 1)).collect());
        Ok(())
    }

    /// Begins anew.
    pub(crate) fn forget(&mut self) {
        self.last = None;
    }

    /// The encoded key of a row.
    pub(crate) fn key(&self, batch: &RecordBatch, row: usize) -> Result<KeyBytes> {
        key_of(&self.columns(batch), row)
    }

    fn columns(&self, batch: &RecordBatch) -> Vec<ArrayRef> {
        self.positions.iter().map(|at| batch.column(*at).clone()).collect()
    }
}

fn comparators(left: &[ArrayRef], right: &[ArrayRef]) -> Result<Vec<DynComparator>> {
    let options = SortOptions { descending: false, nulls_first: true };
    left.iter()
        .zip(right)
        .map(|(l, r)| make_comparator(l.as_ref(), r.as_ref(), options))
        .collect::<Result<_, _>>()
        .map_err(FormatError::kernel("compared"))
}

fn order(comparators: &[DynComparator], left: usize, right: usize) -> Ordering {
    comparators.iter().map(|c| c(left, right)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
}

fn check(order: Ordering, keys: impl FnOnce() -> (Result<KeyBytes>, Result<KeyBytes>)) -> Result<()> {
    if order.is_lt() {
        return Ok(());
    }
    let (first, second) = keys();
    let (first, second) = (first?, second?);
    let object = "the partition".to_owned();
    Err(match order {
        Ordering::Equal => FormatError::DuplicateKey { object, key: first },
        _ => FormatError::Order { object, first, second },
    })
}

fn key_of(columns: &[ArrayRef], row: usize) -> Result<KeyBytes> {
    let columns: Vec<ArrayRef> = columns.iter().map(|c| c.slice(row, 1)).collect();
    Ok(KeyBytes(encode_columns(&columns, 1)?.value(0).to_vec()))
}
