//! Faults in streams of batches.

use super::fault::{Fault, Script, broken};
use crate::{BatchStream, Result, StoreError};
use arrow::array::{Array, ArrayRef, RecordBatch, UInt64Array};
use arrow::compute::{take, take_record_batch};
use futures::{StreamExt, stream};
use keepfast_model::change::hidden;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// What a scan's faults need to know of it.
pub(super) struct Scan {
    pub script: Arc<Script>,
    pub partition: u32,
    /// Names of the key's columns.
    pub key: Vec<String>,
    /// Batches given in the whole cut; [`LOST`] once the cut is lost.
    pub given: Arc<AtomicU32>,
    pub store: String,
}

/// The cut is lost.
pub(super) const LOST: u32 = u32::MAX;

impl Scan {
    pub fn spoil(self, batches: BatchStream) -> BatchStream {
        let scan = Arc::new(self);
        stream::unfold((batches, 0u32, 0u64, false), move |(mut batches, number, rows, over)| {
            let scan = scan.clone();
            async move {
                if over {
                    return None;
                }
                let partition = scan.partition;
                if let Err(e) = scan.lose_cut() {
                    return Some((Err(e), (batches, number, rows, true)));
                }
                if scan.script.happens(&Fault::ScanFails { partition, batch: number }) {
                    return Some((Err(broken("scanning")), (batches, number, rows, true)));
                }
                let batch = match batches.next().await? {
                    Ok(batch) => batch,
                    Err(e) => return Some((Err(e), (batches, number, rows, true))),
                };
                if scan.script.happens(&Fault::ScanEndsEarly { partition, batch: number }) {
                    return None;
                }
                let next = rows + batch.num_rows() as u64;
                let spoiled = scan.rows(batch, rows);
                if scan.given.load(Ordering::SeqCst) != LOST {
                    scan.given.fetch_add(1, Ordering::SeqCst);
                }
                Some((spoiled, (batches, number + 1, next, false)))
            }
        })
        .boxed()
    }

    fn lose_cut(&self) -> Result<()> {
        let given = self.given.load(Ordering::SeqCst);
        let lost = given == LOST
            || self
                .script
                .fire(|f| matches!(f, Fault::CutLost { batches } if *batches <= given).then_some(()))
                .is_some();
        if !lost {
            return Ok(());
        }
        self.given.store(LOST, Ordering::SeqCst);
        Err(StoreError::CutLost { store: self.store.clone(), reason: "a fault of the test's script".into() })
    }

    /// The batch whose first row has this number, after every fault that hits one of its rows.
    fn rows(&self, mut batch: RecordBatch, first: u64) -> Result<RecordBatch> {
        let mine = |partition: u32, row: u64, batch: &RecordBatch| {
            place(batch, first, row).filter(|_| partition == self.partition)
        };
        let spoil = |fault: &Fault, batch: &RecordBatch| -> Option<Result<RecordBatch>> {
            let n = batch.num_rows();
            let neighbour = |at: usize| if at + 1 < n { Some(at + 1) } else { at.checked_sub(1) };
            match fault {
                Fault::RowLost { partition, row } => {
                    let at = mine(*partition, *row, batch)?;
                    Some(pick(batch, (0..n).filter(|i| *i != at)))
                }
                Fault::RowDoubled { partition, row } => {
                    let at = mine(*partition, *row, batch)?;
                    Some(pick(batch, doubled(n, at)))
                }
                Fault::RowsSwapped { partition, row } => {
                    let at = mine(*partition, *row, batch)?;
                    let other = neighbour(at)?;
                    Some(pick(batch, swapped(n, at, other)))
                }
                Fault::ValueMoved { partition, row } => {
                    let at = mine(*partition, *row, batch)?;
                    let other = neighbour(at)?;
                    change_column(&self.key, batch, |column| {
                        let differs = column.slice(at, 1).to_data() != column.slice(other, 1).to_data();
                        differs
                            .then(|| UInt64Array::from_iter_values(swapped(n, at, other).map(|i| i as u64)))
                    })
                }
                Fault::ValueLost { partition, row } => {
                    let at = mine(*partition, *row, batch)?;
                    change_column(&self.key, batch, lost_at(n, at))
                }
                _ => None,
            }
        };
        let mut failed = None;
        self.script.fire_each(|fault| match spoil(fault, &batch) {
            None => false,
            Some(Ok(spoiled)) => {
                batch = spoiled;
                true
            }
            Some(Err(e)) => {
                failed = Some(e);
                true
            }
        });
        failed.map_or(Ok(batch), Err)
    }
}

/// The batch with the first column of the table that is no key and that `turn` wants taken anew.
fn change_column(
    key: &[String],
    batch: &RecordBatch,
    turn: impl Fn(&ArrayRef) -> Option<UInt64Array>,
) -> Option<Result<RecordBatch>> {
    let schema = batch.schema();
    let may_turn = |at: &usize| {
        let field = schema.field(*at);
        !key.contains(field.name()) && !field.name().starts_with(hidden::PREFIX) && field.is_nullable()
    };
    let (at, indices) =
        (0..batch.num_columns()).filter(may_turn).find_map(|at| Some((at, turn(batch.column(at))?)))?;
    let mut columns = batch.columns().to_vec();
    let changed = take(&columns[at], &indices, None).and_then(|column| {
        columns[at] = column;
        RecordBatch::try_new(schema, columns)
    });
    Some(changed.map_err(|_| broken("spoiling a batch")))
}

/// Rows of a column of so many whose value at one place is lost, where it has one there.
fn lost_at(n: usize, at: usize) -> impl Fn(&ArrayRef) -> Option<UInt64Array> {
    move |column| {
        column.is_valid(at).then(|| UInt64Array::from_iter((0..n).map(|i| (i != at).then_some(i as u64))))
    }
}

fn doubled(n: usize, at: usize) -> impl Iterator<Item = usize> {
    (0..n).flat_map(move |i| std::iter::repeat_n(i, if i == at { 2 } else { 1 }))
}

fn swapped(n: usize, a: usize, b: usize) -> impl Iterator<Item = usize> {
    (0..n).map(move |i| {
        if i == a {
            b
        } else if i == b {
            a
        } else {
            i
        }
    })
}

fn pick(batch: &RecordBatch, rows: impl Iterator<Item = usize>) -> Result<RecordBatch> {
    let rows = UInt64Array::from_iter_values(rows.map(|i| i as u64));
    take_record_batch(batch, &rows).map_err(|_| broken("spoiling a batch"))
}

/// Where in a batch a row stands; `first` is the number of the batch's first row.
fn place(batch: &RecordBatch, first: u64, row: u64) -> Option<usize> {
    row.checked_sub(first).filter(|at| *at < batch.num_rows() as u64).map(|at| at as usize)
}

/// The batch without this row, where it has it; `first` is the number of its first row.
pub(super) fn without(batch: &RecordBatch, first: u64, row: u64) -> Option<Result<RecordBatch>> {
    let n = batch.num_rows();
    let at = place(batch, first, row)?;
    Some(pick(batch, (0..n).filter(|i| *i != at)))
}

/// Changes of a table with this key, with the faults of changes.
pub(super) fn spoil_changes(script: Arc<Script>, key: Vec<String>, changes: BatchStream) -> BatchStream {
    let key = Arc::new(key);
    stream::unfold((changes, 0u32, 0u64, false), move |(mut changes, number, rows, over)| {
        let (script, key) = (script.clone(), key.clone());
        async move {
            if over {
                return None;
            }
            if script.happens(&Fault::ChangesFail { batch: number }) {
                return Some((Err(broken("reading changes")), (changes, number, rows, true)));
            }
            let batch = match changes.next().await? {
                Ok(batch) => batch,
                Err(e) => return Some((Err(e), (changes, number, rows, true))),
            };
            if script.happens(&Fault::ChangesEndEarly { batch: number }) {
                return None;
            }
            let n = batch.num_rows();
            let next = rows + n as u64;
            let spoiled = script.fire(|fault| match fault {
                Fault::ChangeLost { change } => without(&batch, rows, *change),
                Fault::ChangeDoubled { change } => {
                    Some(pick(&batch, doubled(n, place(&batch, rows, *change)?)))
                }
                Fault::ChangeValueLost { change } => {
                    change_column(&key, &batch, lost_at(n, place(&batch, rows, *change)?))
                }
                _ => None,
            });
            Some((spoiled.unwrap_or(Ok(batch)), (changes, number + 1, next, false)))
        }
    })
    .boxed()
}
