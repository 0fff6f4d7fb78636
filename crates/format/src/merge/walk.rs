//! The walk over base and changes side by side, shared by rows and cells.

use super::BATCH_ROWS;
use super::rows::ChangeRows;
use crate::Result;
use crate::conform::{Conform, assemble};
use crate::error::FormatError;
use arrow::array::{Array, ArrayRef, RecordBatch, StringArray, new_null_array};
use arrow::compute::interleave;
use keepfast_model::{KeyBytes, TableSchema, encode_keys};

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

/// Base and changes of one merge.
pub(super) struct Walk<'a> {
    pub(super) schema: &'a TableSchema,
    pub(super) changes: &'a ChangeRows,
    /// By key, ascending.
    pub(super) outcomes: Vec<Outcome>,
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

impl Walk<'_> {
    /// The merged rows. `stays` says whether a base row without changes of its own stays; `untouched` says that it
    /// would say so for all rows.
    pub(super) fn run(
        &self,
        base: &[RecordBatch],
        untouched: bool,
        mut stays: impl FnMut(&[u8]) -> bool,
    ) -> Result<Vec<RecordBatch>> {
        let conform = Conform::new(self.schema.physical());
        let exact = self.changes.has_exact(self.schema) || base.iter().any(|b| conform.has_exact(b));
        let empty = RecordBatch::new_empty(conform.schema(exact).clone());
        let mut out = Vec::with_capacity(base.len());
        let mut picks = Picks::default();
        let mut next = 0;
        let mut last_key: Option<Vec<u8>> = None;
        for batch in base.iter().filter(|b| b.num_rows() > 0) {
            let batch = if exact { conform.batch_with_exact(batch)? } else { conform.batch(batch)? };
            let rows = batch.num_rows();
            let ends = [0, rows - 1].map(|at| encode_keys(self.schema, &batch.slice(at, 1)));
            let [first, last] = ends;
            let (first, last) = (first?, last?);
            if let Some(before) = &last_key {
                ascending(before, first.value(0))?;
            }
            if untouched {
                // Inserted rows before the batch; when nothing falls into it, it goes through as it is.
                while next < self.outcomes.len() && self.key(next) < first.value(0) {
                    self.insert(next, &mut picks);
                    next += 1;
                    self.flush_full(&mut picks, &empty, &mut out)?;
                }
                if next == self.outcomes.len() || self.key(next) > last.value(0) {
                    self.flush(&mut picks, &empty, &mut out)?;
                    last_key = Some(last.value(0).to_vec());
                    out.push(batch);
                    continue;
                }
                self.flush(&mut picks, &empty, &mut out)?;
            }
            let keys = encode_keys(self.schema, &batch)?;
            for row in 0..rows {
                let key = keys.value(row);
                if row > 0 {
                    ascending(keys.value(row - 1), key)?;
                }
                while next < self.outcomes.len() && self.key(next) < key {
                    self.insert(next, &mut picks);
                    next += 1;
                    self.flush_full(&mut picks, &batch, &mut out)?;
                }
                if next < self.outcomes.len() && self.key(next) == key {
                    self.change(next, row, &mut picks);
                    next += 1;
                } else if stays(key) {
                    picks.rows.push((BASE, row));
                }
            }
            self.flush(&mut picks, &batch, &mut out)?;
            last_key = Some(last.value(0).to_vec());
        }
        while next < self.outcomes.len() {
            self.insert(next, &mut picks);
            next += 1;
            self.flush_full(&mut picks, &empty, &mut out)?;
        }
        self.flush(&mut picks, &empty, &mut out)?;
        Ok(out)
    }

    fn key(&self, outcome: usize) -> &[u8] {
        self.changes.key(self.outcomes[outcome].key)
    }

    /// An outcome whose key the base does not have.
    fn insert(&self, at: usize, picks: &mut Picks) {
        self.pick(at, (NOTHING, 0), picks);
    }

    /// An outcome of a base row.
    fn change(&self, at: usize, row: usize, picks: &mut Picks) {
        self.pick(at, (BASE, row), picks);
    }

    fn pick(&self, at: usize, base: (usize, usize), picks: &mut Picks) {
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
            let absent = null.slice(0, 0);
            let change = self.changes.columns().get(at).unwrap_or(&absent);
            let mut rows = rows.clone();
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

/// The JSON of the hidden column `__keepfast_exact`.
mod exact {
    use arrow::array::{Array, ArrayRef, AsArray};
    use std::collections::BTreeMap;

    /// Exact text by column id.
    pub(super) type Values = BTreeMap<u32, String>;

    /// None when the text is not such JSON.
    pub(super) fn read(column: Option<&ArrayRef>, row: usize) -> Option<Values> {
        match column {
            Some(column) if column.is_valid(row) => {
                serde_json::from_str(column.as_string::<i32>().value(row)).ok()
            }
            _ => Some(Values::new()),
        }
    }

    pub(super) fn write(values: &Values) -> Option<String> {
        let json = || serde_json::to_string(values).expect("numbers and text have a JSON form");
        (!values.is_empty()).then(json)
    }
}
