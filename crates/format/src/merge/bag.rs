//! Bags: tables without a key, whose rows count with their multiplicity.

use super::BATCH_ROWS;
use super::rows::ChangeRows;
use crate::Result;
use crate::conform::{Conform, assemble};
use crate::error::FormatError;
use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{filter_record_batch, take};
use keepfast_model::digest::canonical_value;
use keepfast_model::{ChangeOp, RowHasher, TableSchema};
use std::collections::HashMap;
use std::sync::Arc;

/// Applies counted changes (operation 6) to a table without key, while its base streams through.
///
/// Memory follows the changes, not the base. Additions and removals of equal rows cancel each other first.
#[derive(Debug)]
pub struct BagMerger {
    schema: Arc<TableSchema>,
    conform: Conform,
    hasher: RowHasher,
    changes: ChangeRows,
    /// By row hash; several only when unequal rows share one.
    removed: HashMap<u128, Vec<Counted>>,
    added: Vec<Counted>,
}

/// Equal rows and how many of them.
#[derive(Clone, Copy, Debug)]
struct Counted {
    /// A change with such a row; for removals one that removes.
    row: u32,
    count: u64,
}

impl BagMerger {
    /// A merger for one shard; `changes` are all its changes since the base.
    ///
    /// # Errors
    /// [`FormatError::Change`] for a change that is not a counted row of the table.
    pub fn new(schema: Arc<TableSchema>, changes: &[RecordBatch]) -> Result<Self> {
        let conform = Conform::new(schema.physical());
        let hasher = RowHasher::new(&schema);
        let changes = ChangeRows::new(&schema, changes)?;
        let rows = changes.len() as u32;
        for row in 0..rows {
            if changes.op(row) != ChangeOp::Count {
                return Err(changes.refuse(row, "it is not a counted change"));
            }
            changes.check_whole(&schema, row)?;
        }
        let table =
            assemble(conform.schema(changes.has_exact(&schema)), changes.columns().to_vec(), changes.len())?;
        let hashes = hasher.hash(&table)?.rows;

        let mut sums: HashMap<u128, Vec<(u32, i64)>> = HashMap::new();
        for row in 0..rows {
            let equal = sums.entry(hashes[row as usize]).or_default();
            let count = changes.count(row);
            let known = equal
                .iter_mut()
                .find(|(r, _)| rows_equal(table.columns(), *r as usize, table.columns(), row as usize));
            match known {
                Some((known, sum)) => {
                    *sum = sum
                        .checked_add(count)
                        .ok_or_else(|| changes.refuse(row, "its count is too large"))?;
                    if count < 0 {
                        *known = row;
                    }
                }
                None => equal.push((row, count)),
            }
        }
        let mut removed: HashMap<u128, Vec<Counted>> = HashMap::new();
        let mut added = Vec::new();
        for (hash, equal) in sums {
            for (row, sum) in equal {
                let counted = Counted { row, count: sum.unsigned_abs() };
                match sum.signum() {
                    1 => added.push(counted),
                    -1 => removed.entry(hash).or_default().push(counted),
                    _ => {}
                }
            }
        }
        added.sort_unstable_by_key(|a| a.row);
        Ok(Self { schema, conform, hasher, changes, removed, added })
    }

    /// What stays of a batch of the base.
    ///
    /// # Errors
    /// [`FormatError::Model`] when the batch does not fit the schema.
    pub fn push(&mut self, base: &RecordBatch) -> Result<RecordBatch> {
        let base = self.conform.batch(base)?;
        if self.removed.is_empty() || base.num_rows() == 0 {
            return Ok(base);
        }
        let hashes = self.hasher.hash(&base)?.rows;
        let mut stays = vec![true; base.num_rows()];
        for (row, hash) in hashes.iter().enumerate() {
            let Some(equal) = self.removed.get_mut(hash) else { continue };
            let found = equal.iter_mut().find(|removed| {
                rows_equal(base.columns(), row, self.changes.columns(), removed.row as usize)
            });
            let Some(removed) = found else { continue };
            stays[row] = false;
            removed.count -= 1;
            if removed.count == 0 {
                equal.retain(|removed| removed.count > 0);
                if equal.is_empty() {
                    self.removed.remove(hash);
                }
            }
        }
        if stays.iter().all(|s| *s) {
            return Ok(base);
        }
        filter_record_batch(&base, &BooleanArray::from(stays)).map_err(FormatError::kernel("filtered"))
    }

    /// The rows that changes added, after the last batch of the base.
    ///
    /// # Errors
    /// [`FormatError::MissingRow`] when removals found no row.
    pub fn finish(self) -> Result<BagAdditions> {
        let missing = || self.removed.values().flatten();
        if let Some(first) = missing().min_by_key(|m| self.changes.seq(m.row)) {
            return Err(FormatError::MissingRow {
                count: missing().map(|m| m.count).sum(),
                shard: self.changes.shard(first.row).to_owned(),
                seq: self.changes.seq(first.row),
            });
        }
        Ok(BagAdditions {
            conform: self.conform,
            exact: self.changes.has_exact(&self.schema),
            columns: self.changes.columns().to_vec(),
            left: self.added.into_iter(),
            current: None,
        })
    }
}

/// Added rows, each as often as it counts.
#[derive(Debug)]
pub struct BagAdditions {
    conform: Conform,
    exact: bool,
    columns: Vec<ArrayRef>,
    left: std::vec::IntoIter<Counted>,
    current: Option<Counted>,
}

impl Iterator for BagAdditions {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut rows: Vec<u32> = Vec::new();
        while rows.len() < BATCH_ROWS {
            let Some(mut counted) = self.current.take().or_else(|| self.left.next()) else { break };
            let now = counted.count.min((BATCH_ROWS - rows.len()) as u64);
            rows.extend(std::iter::repeat_n(counted.row, now as usize));
            counted.count -= now;
            self.current = (counted.count > 0).then_some(counted);
        }
        if rows.is_empty() {
            return None;
        }
        let n = rows.len();
        let rows = UInt32Array::from(rows);
        let columns: Result<Vec<ArrayRef>, _> =
            self.columns.iter().map(|c| take(c.as_ref(), &rows, None)).collect();
        let columns = columns.map_err(FormatError::kernel("repeated"));
        Some(columns.and_then(|columns| assemble(self.conform.schema(self.exact), columns, n)))
    }
}

/// Whether two rows have the same values. A column that one side lacks is NULL.
fn rows_equal(left: &[ArrayRef], i: usize, right: &[ArrayRef], j: usize) -> bool {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    (0..left.len().max(right.len())).all(|at| {
        let l = left.get(at).filter(|c| c.is_valid(i));
        let r = right.get(at).filter(|c| c.is_valid(j));
        match (l, r) {
            (None, None) => true,
            (Some(l), Some(r)) => {
                a.clear();
                b.clear();
                canonical_value(l.as_ref(), i, &mut a).is_ok()
                    && canonical_value(r.as_ref(), j, &mut b).is_ok()
                    && a == b
            }
            _ => false,
        }
    })
}
