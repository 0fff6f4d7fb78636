//! Cells: versions of values, and deletes that reach over versions, columns and families.

use super::rows::ChangeRows;
use super::walk::{Origin, Outcome, RowMerger, Stays};
use crate::Result;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use keepfast_model::{ChangeOp, TableSchema};
use std::collections::HashMap;
use std::sync::Arc;

/// Position of `timestamp` in a table of cells.
const TIMESTAMP: usize = 3;

/// The cells of one shard after its changes.
///
/// As [`merge_keyed`](super::merge_keyed), for the schema [`TableSchema::cells`], with operations 0 (put), 2 (delete
/// row), 3 (delete cell), 4 (delete version) and 5 (delete family). A delete reaches the cells that were there before
/// it in the order of `__keepfast_seq`: a cell that is put after it lives, whatever its timestamp. All deletes that
/// reach a cell of `base` must be among `changes`.
///
/// # Errors
/// As [`merge_keyed`](super::merge_keyed).
pub fn merge_cells(
    schema: &TableSchema,
    base: &[RecordBatch],
    changes: &[RecordBatch],
) -> Result<Vec<RecordBatch>> {
    RowMerger::cells(Arc::new(schema.clone()), changes)?.run(base)
}

impl RowMerger {
    /// [`merge_cells`] for a base that streams through.
    ///
    /// # Errors
    /// [`FormatError::Change`](crate::FormatError::Change) for a change that such a table cannot have.
    pub fn cells(schema: Arc<TableSchema>, changes: &[RecordBatch]) -> Result<Self> {
        let changes = ChangeRows::new(&schema, changes)?;
        let deletes = Deletes::new(&changes);
        let mut outcomes = Vec::new();
        for rows in changes.by_key() {
            let put = rows.iter().rev().find(|row| changes.op(**row) == ChangeOp::PutRow);
            let Some(put) = put else { continue };
            changes.check_whole(&schema, *put)?;
            let dead = deletes.reach(changes.key(*put), timestamp(&changes, *put), Some(changes.seq(*put)));
            let origin = (!dead).then_some(Origin::Change(*put));
            outcomes.push(Outcome { key: *put, origin, patches: vec![] });
        }
        let stays = if deletes.is_empty() { Stays::All } else { Stays::Cells(deletes) };
        Ok(Self::new(schema, changes, outcomes, stays))
    }
}

fn timestamp(changes: &ChangeRows, row: u32) -> i64 {
    changes.columns()[TIMESTAMP].as_primitive::<Int64Type>().value(row as usize)
}

/// The timestamp at the end of an encoded key of a cell: 8 bytes with the sign bit flipped.
fn key_timestamp(key: &[u8]) -> i64 {
    let word = key.last_chunk::<8>().map_or(0, |b| u64::from_be_bytes(*b));
    (word ^ (1 << 63)) as i64
}

/// Deletes by what they reach.
#[derive(Debug, Default)]
pub(super) struct Deletes {
    /// Encoded row, row and family, or row, family and column: deletes up to a timestamp.
    ranges: HashMap<Vec<u8>, UpTo>,
    /// Encoded key: the last delete of exactly this version.
    versions: HashMap<Vec<u8>, i64>,
}

/// Deletes of one range: by seq ascending, the largest timestamp that this one or a later one reaches up to.
#[derive(Debug, Default)]
struct UpTo(Vec<(i64, i64)>);

impl Deletes {
    fn new(changes: &ChangeRows) -> Self {
        let mut deletes = Self::default();
        for row in changes.by_key().flatten().copied() {
            let columns = match changes.op(row) {
                ChangeOp::DeleteRow => 1,
                ChangeOp::DeleteFamily => 2,
                ChangeOp::DeleteCell => 3,
                ChangeOp::DeleteVersion => {
                    let seq = changes.seq(row);
                    let last = deletes.versions.entry(changes.key(row).to_vec()).or_insert(seq);
                    *last = seq.max(*last);
                    continue;
                }
                _ => continue,
            };
            let key = changes.key(row);
            let range = key[..prefix(key, columns)].to_vec();
            deletes.ranges.entry(range).or_default().0.push((changes.seq(row), timestamp(changes, row)));
        }
        for up_to in deletes.ranges.values_mut() {
            up_to.0.sort_unstable();
            let mut latest = i64::MIN;
            for (_, timestamp) in up_to.0.iter_mut().rev() {
                latest = latest.max(*timestamp);
                *timestamp = latest;
            }
        }
        deletes
    }

    fn is_empty(&self) -> bool {
        self.ranges.is_empty() && self.versions.is_empty()
    }

    /// Whether a delete reaches a cell of the base.
    pub(super) fn reach_base(&self, key: &[u8]) -> bool {
        self.reach(key, key_timestamp(key), None)
    }

    /// Whether a delete after `seq` (none: any) reaches the cell.
    fn reach(&self, key: &[u8], timestamp: i64, seq: Option<i64>) -> bool {
        let later = |at: i64| seq.is_none_or(|s| at > s);
        if self.versions.get(key).is_some_and(|at| later(*at)) {
            return true;
        }
        !self.ranges.is_empty()
            && (1..=3).any(|columns| {
                self.ranges.get(&key[..prefix(key, columns)]).is_some_and(|up_to| {
                    let first = up_to.0.partition_point(|(at, _)| !later(*at));
                    up_to.0.get(first).is_some_and(|(_, latest)| timestamp <= *latest)
                })
            })
    }
}

/// Bytes of an encoded key that its first columns, all blobs, take up.
fn prefix(key: &[u8], columns: usize) -> usize {
    let mut at = 0;
    for _ in 0..columns {
        if key.get(at) != Some(&1) {
            at = (at + 1).min(key.len());
            continue;
        }
        at += 1;
        while at + 1 < key.len() && key[at..at + 2] != [0, 0] {
            at += if key[at] == 0 { 2 } else { 1 };
        }
        at = (at + 2).min(key.len());
    }
    at
}
