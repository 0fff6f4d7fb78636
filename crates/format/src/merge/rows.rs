//! The changes of one merge, checked and in order.

use crate::Result;
use crate::change::{change_keys, change_table, check_operations, join, refuse};
use crate::conform::Conform;
use crate::error::FormatError;
use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, RecordBatch};
use arrow::datatypes::{Int8Type, Int64Type};
use keepfast_model::change::HIDDEN_COLUMNS;
use keepfast_model::{ChangeOp, TableSchema};

/// Change rows of one shard, and their order by key and seq.
#[derive(Debug)]
pub(super) struct ChangeRows {
    rows: RecordBatch,
    keys: BinaryArray,
    /// Row numbers, by key, then seq, then as they came.
    order: Vec<u32>,
}

impl ChangeRows {
    /// `changes` are batches of any number, with and without the hidden column `__keepfast_exact`.
    pub(super) fn new(schema: &TableSchema, changes: &[RecordBatch]) -> Result<Self> {
        let rows = join(&Conform::new(change_table(schema).physical()), changes)?;
        check_operations(schema, &rows)?;
        let keys = change_keys(schema, &rows)?;
        let seq = rows.column(1).as_primitive::<Int64Type>().values();
        let mut order: Vec<u32> = (0..rows.num_rows() as u32).collect();
        let by_key_and_seq = |a: &u32, b: &u32| {
            let (i, j) = (*a as usize, *b as usize);
            keys.value(i).cmp(keys.value(j)).then_with(|| seq[i].cmp(&seq[j]))
        };
        if !order.is_sorted_by(|a, b| by_key_and_seq(a, b).is_le()) {
            order.sort_by(by_key_and_seq);
        }
        Ok(Self { rows, keys, order })
    }

    pub(super) fn len(&self) -> usize {
        self.rows.num_rows()
    }

    /// Row numbers of one key after the other, keys ascending, each in the order of seq.
    pub(super) fn by_key(&self) -> impl Iterator<Item = &[u32]> {
        self.order.chunk_by(|a, b| self.keys.value(*a as usize) == self.keys.value(*b as usize))
    }

    pub(super) fn key(&self, row: u32) -> &[u8] {
        self.keys.value(row as usize)
    }

    pub(super) fn op(&self, row: u32) -> ChangeOp {
        let number = self.rows.column(0).as_primitive::<Int8Type>().value(row as usize);
        ChangeOp::from_i8(number).expect("operations were checked when the changes were taken")
    }

    pub(super) fn seq(&self, row: u32) -> i64 {
        self.rows.column(1).as_primitive::<Int64Type>().value(row as usize)
    }

    pub(super) fn shard(&self, row: u32) -> &str {
        self.rows.column(2).as_string::<i32>().value(row as usize)
    }

    /// Which table columns a patch sets: bit *i* of byte *i/8*.
    pub(super) fn mask(&self, row: u32) -> &[u8] {
        self.rows.column(5).as_binary::<i32>().value(row as usize)
    }

    pub(super) fn count(&self, row: u32) -> i64 {
        self.rows.column(6).as_primitive::<Int64Type>().value(row as usize)
    }

    /// The table's columns of all rows; the hidden column last where a batch had it.
    pub(super) fn columns(&self) -> &[ArrayRef] {
        &self.rows.columns()[HIDDEN_COLUMNS..]
    }

    /// Whether the hidden column `__keepfast_exact` is there.
    pub(super) fn has_exact(&self, schema: &TableSchema) -> bool {
        self.columns().len() > schema.columns.len()
    }

    pub(super) fn refuse(&self, row: u32, reason: impl Into<String>) -> FormatError {
        refuse(&self.rows, row as usize, reason)
    }

    /// Refuses a row that must be whole and has NULL in a column that allows none.
    pub(super) fn check_whole(&self, schema: &TableSchema, row: u32) -> Result<()> {
        for (column, array) in schema.columns.iter().zip(self.columns()) {
            if !column.nullable && array.is_null(row as usize) {
                return Err(self.refuse(row, format!("column '{}' is NULL", column.name)));
            }
        }
        Ok(())
    }
}
