//! The walk over base and changes side by side, shared by rows and cells.

use super::BATCH_ROWS;
use super::cells::Deletes;
use super::rows::ChangeRows;
use crate::Result;
use crate::conform::{Conform, assemble};
use crate::error::FormatError;
use crate::exact;
use arrow::array::{Array, ArrayRef, RecordBatch, StringArray, new_null_array};
use arrow::compute::interleave;
use keepfast_model::{KeyBytes, TableSchema, encode_keys};
use std::sync::Arc;

/// Where an output row comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The base's row of this key; without one, a row of NULLs.
    Base,
    /// This change.
    Change(u32),
    /// A row of NULLs.
    Nothing,
}

/// What the changes of one key come to.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// A change of this key; its key columns are the row's.
    pub(super) key: u32,
    /// None when the row is gone.
    pub(super) origin: Option<Origin>,
    /// Changes that patch the origin, in order.
    pub(super) patches: Vec<u32>,
}

/// Which base rows without changes of their own stay.
#[derive(Debug)]
pub(super) enum Stays {
    All,
    /// All that no delete reaches.
    Cells(Deletes),
}

/// Applies changes to the rows of one shard, while its base streams through.
///
/// Memory follows the changes, not the base. Rows come out in key order; a batch that no change touches comes out as it
/// is. An output batch has the hidden column `__keepfast_exact` where its base batch or the changes have it.
#[derive(Debug)]
pub struct RowMerger {
    schema: Arc<TableSchema>,
    conform: Conform,
    changes: ChangeRows,
    /// By key, ascending.
    outcomes: Vec<Outcome>,
    stays: Stays,
    /// Whether every output batch has the hidden column.
    exact: bool,
    /// The first outcome that is not merged yet.
    next: usize,
    /// The last key of the base so far.
    last: Option<Vec<u8>>,
}

/// Sources of `interleave`, in this order.
const BASE: usize = 0;
const CHANGE: usize = 1;
const NOTHING: usize = 2;
const EXACT: usize = 3;

/// Rows of one output batch: base rows and outcomes in key order.
#[derive(Default)]
struct Picks {
    /// Source and row, as for every column that no patch sets.
    rows: Vec<(usize, usize)>,
    /// Output rows with patches, and the outcome.
    patched: Vec<(usize, usize)>,
}

impl RowMerger {
    pub(super) fn new(
        schema: Arc<TableSchema>,
        changes: ChangeRows,
        outcomes: Vec<Outcome>,
        stays: Stays,
    ) -> Self {
        let conform = Conform::new(schema.physical());
        let exact = changes.has_exact(&schema);
        Self { schema, conform, changes, outcomes, stays, exact, next: 0, last: None }
    }

    /// All batches of a base that is at hand; either all or none of the merged ones have the hidden column.
    pub(super) fn run(mut self, base: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
        self.exact |= base.iter().any(|b| self.conform.has_exact(b));
        let mut out = Vec::with_capacity(base.len());
        for batch in base {
            out.extend(self.push(batch)?);
        }
        out.extend(self.finish()?);
        Ok(out)
    }

    /// Takes the next batch of the base; gives the merged rows up to its last key.
    ///
    /// # Errors
    /// [`FormatError::Order`] and [`FormatError::DuplicateKey`] when the base is not in key order;
    /// [`FormatError::Change`] when a change does not fit the row it changes.
    pub fn push(&mut self, base: &RecordBatch) -> Result<Vec<RecordBatch>> {
        let mut out = Vec::new();
        if base.num_rows() == 0 {
            return Ok(out);
        }
        let batch =
            if self.exact { self.conform.batch_with_exact(base)? } else { self.conform.batch(base)? };
        let ends = encode_ends(&self.schema, &batch)?;
        if let Some(before) = &self.last {
            ascending(before, &ends[0])?;
        }
        let mut picks = Picks::default();
        if matches!(self.stays, Stays::All) {
            while self.next < self.outcomes.len() && self.key(self.next) < ends[0].as_slice() {
                self.pick((NOTHING, 0), &mut picks);
                self.flush_full(&mut picks, &batch, &mut out)?;
            }
            if self.next == self.outcomes.len() || self.key(self.next) > ends[1].as_slice() {
                self.flush(&mut picks, &batch, &mut out)?;
                self.last = Some(ends[1].clone());
                out.push(batch);
                return Ok(out);
            }
        }
        let keys = encode_keys(&self.schema, &batch)?;
        for row in 0..batch.num_rows() {
            let key = keys.value(row);
            if row > 0 {
                ascending(keys.value(row - 1), key)?;
            }
            while self.next < self.outcomes.len() && self.key(self.next) < key {
                self.pick((NOTHING, 0), &mut picks);
                self.flush_full(&mut picks, &batch, &mut out)?;
            }
            if self.next < self.outcomes.len() && self.key(self.next) == key {
                self.pick((BASE, row), &mut picks);
            } else if self.stays(key) {
                picks.rows.push((BASE, row));
            }
        }
        self.flush(&mut picks, &batch, &mut out)?;
        self.last = Some(ends[1].clone());
        Ok(out)
    }

    /// The rows behind the last batch of the base.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub fn finish(mut self) -> Result<Vec<RecordBatch>> {
        let empty = RecordBatch::new_empty(self.conform.schema(self.exact).clone());
        let mut out = Vec::new();
        let mut picks = Picks::default();
        while self.next < self.outcomes.len() {
            self.pick((NOTHING, 0), &mut picks);
            self.flush_full(&mut picks, &empty, &mut out)?;
        }
        self.flush(&mut picks, &empty, &mut out)?;
        Ok(out)
    }

    fn stays(&self, key: &[u8]) -> bool {
        match &self.stays {
            Stays::All => true,
            Stays::Cells(deletes) => !deletes.reach_base(key),
        }
    }

    fn key(&self, outcome: usize) -> &[u8] {
        self.changes.key(self.outcomes[outcome].key)
    }

    /// Takes the next outcome; `base` is the base row of its key, or nothing.
    fn pick(&mut self, base: (usize, usize), picks: &mut Picks) {
        let at = self.next;
        self.next += 1;
        let outcome = &self.outcomes[at];
        let source = match outcome.origin {
            None => return,
            Some(Origin::Base) => base,
            Some(Origin::Change(row)) => (CHANGE, row as usize),
            Some(Origin::Nothing) => (NOTHING, 0),
        };
        if !outcome.patches.is_empty() {
            picks.patched.push((picks.rows.len(), at));
        }
        picks.rows.push(source);
    }

    fn flush_full(&self, picks: &mut Picks, base: &RecordBatch, out: &mut Vec<RecordBatch>) -> Result<()> {
        if picks.rows.len() >= BATCH_ROWS { self.flush(picks, base, out) } else { Ok(()) }
    }

    fn flush(&self, picks: &mut Picks, base: &RecordBatch, out: &mut Vec<RecordBatch>) -> Result<()> {
        let Picks { rows, patched } = std::mem::take(picks);
        if rows.is_empty() {
            return Ok(());
        }
        let keys = self.schema.key_positions();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(base.num_columns());
        let declared = self.schema.columns.len();
        for (at, column) in base.columns().iter().enumerate() {
            let null = new_null_array(column.data_type(), 1);
            let change = self.changes.columns().get(at);
            let mut rows = rows.clone();
            if change.is_none() {
                // Changes without the hidden column: their rows have no exact values.
                let no_exact = |source: &mut (usize, usize)| {
                    if source.0 == CHANGE {
                        *source = (NOTHING, 0);
                    }
                };
                rows.iter_mut().for_each(no_exact);
            }
            let change = change.unwrap_or(&null);
            let mut exact: Vec<Option<String>> = Vec::new();
            for (place, outcome) in &patched {
                let outcome = &self.outcomes[*outcome];
                if at == declared {
                    let text = self.patched_exact(base, rows[*place], outcome)?;
                    rows[*place] = (EXACT, exact.len());
                    exact.push(text);
                } else if keys.contains(&at) {
                    rows[*place] = (CHANGE, outcome.key as usize);
                } else if let Some(patch) = outcome.patches.iter().rev().find(|p| self.sets(**p, at)) {
                    rows[*place] = (CHANGE, *patch as usize);
                }
            }
            let exact = StringArray::from(exact);
            let mut sources: Vec<&dyn Array> = vec![column.as_ref(), change.as_ref(), null.as_ref()];
            if at == declared {
                sources.push(&exact);
            }
            columns.push(interleave(&sources, &rows).map_err(FormatError::kernel("merged"))?);
        }
        self.check_patched(&columns, &patched)?;
        out.push(assemble(base.schema_ref(), columns, rows.len())?);
        Ok(())
    }

    fn sets(&self, patch: u32, column: usize) -> bool {
        self.changes.mask(patch).get(column / 8).is_some_and(|byte| byte >> (column % 8) & 1 == 1)
    }

    /// A patch of a row that was not there may leave a column NULL that allows none.
    fn check_patched(&self, columns: &[ArrayRef], patched: &[(usize, usize)]) -> Result<()> {
        for (column, array) in self.schema.columns.iter().zip(columns) {
            if column.nullable || array.null_count() == 0 {
                continue;
            }
            if let Some((_, outcome)) = patched.iter().find(|(place, _)| array.is_null(*place)) {
                let patch = *self.outcomes[*outcome].patches.last().unwrap_or(&self.outcomes[*outcome].key);
                return Err(self.changes.refuse(patch, format!("column '{}' is NULL after it", column.name)));
            }
        }
        Ok(())
    }

    /// The exact values of a patched row: those of its origin without the columns that patches set, and theirs.
    fn patched_exact(
        &self,
        base: &RecordBatch,
        origin: (usize, usize),
        outcome: &Outcome,
    ) -> Result<Option<String>> {
        let at = self.schema.columns.len();
        let changes = self.changes.columns().get(at);
        let refuse = |row: u32| self.changes.refuse(row, "its exact values cannot be read");
        let last = *outcome.patches.last().unwrap_or(&outcome.key);
        let mut values = match origin {
            (BASE, row) => exact::read(base.columns().get(at), row).ok_or_else(|| refuse(last))?,
            (CHANGE, row) => exact::read(changes, row).ok_or_else(|| refuse(row as u32))?,
            _ => exact::Values::new(),
        };
        for patch in &outcome.patches {
            values.retain(|id, _| {
                !self.schema.columns.iter().position(|c| c.id.0 == *id).is_some_and(|c| self.sets(*patch, c))
            });
            values.extend(exact::read(changes, *patch as usize).ok_or_else(|| refuse(*patch))?);
        }
        Ok(exact::write(&values))
    }
}

/// The encoded keys of the first and the last row.
fn encode_ends(schema: &TableSchema, batch: &RecordBatch) -> Result<[Vec<u8>; 2]> {
    let key = |row: usize| Ok::<_, FormatError>(encode_keys(schema, &batch.slice(row, 1))?.value(0).to_vec());
    Ok([key(0)?, key(batch.num_rows() - 1)?])
}

/// Refuses base rows that are not in strictly ascending key order.
fn ascending(first: &[u8], second: &[u8]) -> Result<()> {
    let key = |bytes: &[u8]| KeyBytes(bytes.to_vec());
    match first.cmp(second) {
        std::cmp::Ordering::Less => Ok(()),
        std::cmp::Ordering::Equal => {
            Err(FormatError::DuplicateKey { object: "the base".into(), key: key(first) })
        }
        std::cmp::Ordering::Greater => {
            Err(FormatError::Order { object: "the base".into(), first: key(first), second: key(second) })
        }
    }
}
