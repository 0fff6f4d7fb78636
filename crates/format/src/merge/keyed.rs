//! Rows with a key: puts, patches and deletes.

use super::rows::ChangeRows;
use super::walk::{Origin, Outcome, RowMerger, Stays};
use crate::Result;
use arrow::array::RecordBatch;
use keepfast_model::{ChangeOp, TableSchema};
use std::sync::Arc;

/// The rows of one shard after its changes.
///
/// `base` are physical batches in key order; `changes` are batches of
/// [`change_schema`](keepfast_model::change::change_schema) of that shard, all of the keys that `base` stands for, with
/// operations 0 (put), 1 (patch) and 2 (delete). They apply per key in the order of `__keepfast_seq`; equal numbers
/// as they come. The rows come back in key order, with the hidden column `__keepfast_exact` where an input has it.
///
/// # Errors
/// [`FormatError::Order`](crate::FormatError::Order) and `DuplicateKey` when the base is not in key order,
/// [`FormatError::Change`](crate::FormatError::Change) for a change that such a table cannot have.
pub fn merge_keyed(
    schema: &TableSchema,
    base: &[RecordBatch],
    changes: &[RecordBatch],
) -> Result<Vec<RecordBatch>> {
    RowMerger::keyed(Arc::new(schema.clone()), changes)?.run(base)
}

impl RowMerger {
    /// [`merge_keyed`] for a base that streams through.
    ///
    /// # Errors
    /// [`FormatError::Change`](crate::FormatError::Change) for a change that such a table cannot have.
    pub fn keyed(schema: Arc<TableSchema>, changes: &[RecordBatch]) -> Result<Self> {
        let changes = ChangeRows::new(&schema, changes)?;
        let outcomes = changes.by_key().map(|rows| fold(&schema, &changes, rows)).collect::<Result<_>>()?;
        Ok(Self::new(schema, changes, outcomes, Stays::All))
    }
}

/// What the changes of one key come to, oldest first.
fn fold(schema: &TableSchema, changes: &ChangeRows, rows: &[u32]) -> Result<Outcome> {
    let mut outcome = Outcome { key: rows[0], origin: Some(Origin::Base), patches: vec![] };
    for row in rows {
        match changes.op(*row) {
            ChangeOp::PutRow => {
                changes.check_whole(schema, *row)?;
                outcome.origin = Some(Origin::Change(*row));
                outcome.patches.clear();
            }
            ChangeOp::Patch => {
                outcome.origin.get_or_insert(Origin::Nothing);
                outcome.patches.push(*row);
            }
            ChangeOp::DeleteRow => {
                outcome.origin = None;
                outcome.patches.clear();
            }
            _ => return Err(changes.refuse(*row, "it is not a change of rows")),
        }
    }
    Ok(outcome)
}
