//! Stored rows and log entries as the batches that the traits ask for.

use super::table::{Entry, Event, Table};
use crate::row::{Cell, Row, column};
use crate::{Result, StoreError};
use arrow::array::{
    ArrayRef, BinaryArray, Int8Array, Int32Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray,
};
use arrow::datatypes::{DataType, Field, Schema};
use keepfast_model::change::change_schema;
use keepfast_model::{ChangeOp, ColumnId, ShardId, TableSchema, hidden};
use std::sync::Arc;

/// Rows as a physical batch of a schema, each from the schema that it was written with. Of the columns only those
/// chosen and the key; the hidden exact column last, where the table has it and all columns are chosen.
pub(super) fn rows(
    schema: &TableSchema,
    rows: &[(Row, Arc<TableSchema>)],
    chosen: Option<&[ColumnId]>,
    has_exact: bool,
) -> Result<RecordBatch> {
    let cells: Vec<Row> = rows.iter().map(|(row, from)| under(schema, row, from)).collect();
    let physical = schema.physical();
    let mut fields = vec![];
    let mut columns = vec![];
    for (at, (field, c)) in physical.fields().iter().zip(&schema.columns).enumerate() {
        if chosen.is_none_or(|ids| ids.contains(&c.id)) || schema.key.contains(&c.id) {
            columns.push(array(field.data_type(), cells.iter().map(|r| &r[at]))?);
            fields.push(field.clone());
        }
    }
    let exact = schema.columns.len();
    if chosen.is_none() && has_exact {
        columns.push(array(&DataType::Utf8, cells.iter().map(|r| &r[exact]))?);
        fields.push(Arc::new(Field::new(hidden::EXACT, DataType::Utf8, true)));
    }
    batch(fields, columns, rows.len())
}

/// Log entries of one shard as a change batch of a schema.
pub(super) fn changes(
    schema: &TableSchema,
    table: &Table,
    shard: &ShardId,
    entries: &[Entry],
) -> Result<RecordBatch> {
    let mut ops = vec![];
    let mut masks: Vec<Option<Vec<u8>>> = vec![];
    let mut counts = vec![];
    let mut cells: Vec<Row> = vec![];
    let mut kept: Vec<&Entry> = vec![];
    for entry in entries {
        let (op, row, set, count) = match &entry.event {
            Event::Put(row) => (ChangeOp::PutRow, row, None, None),
            Event::Patch(row, columns) => (ChangeOp::Patch, row, Some(columns.as_slice()), None),
            Event::Delete(op, row) => (*op, row, Some([].as_slice()), None),
            Event::Count(row, count) => (ChangeOp::Count, row, None, Some(*count)),
            Event::Altered(_) => continue,
        };
        let mut row = under(schema, row, &entry.schema);
        let mut mask = vec![0u8; schema.columns.len().div_ceil(8)];
        if let Some(set) = set {
            for (at, c) in schema.columns.iter().enumerate() {
                if set.contains(&c.id) {
                    mask[at / 8] |= 1 << (at % 8);
                } else if !schema.key.contains(&c.id) {
                    row[at] = None;
                }
            }
        }
        if matches!(op, ChangeOp::DeleteRow | ChangeOp::DeleteFamily)
            && schema.shape == keepfast_model::TableShape::Cells
        {
            // What the delete does not name is empty, not a part of its key.
            let empty: ArrayRef = Arc::new(BinaryArray::from(vec![&b""[..]]));
            let from = if op == ChangeOp::DeleteRow { 1 } else { 2 };
            row[from..3].iter_mut().for_each(|cell| *cell = Some((empty.clone(), 0)));
        }
        ops.push(op as i8);
        masks.push((op == ChangeOp::Patch).then_some(mask));
        counts.push(count);
        cells.push(row);
        kept.push(entry);
    }
    let full = change_schema(schema);
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(Int8Array::from(ops)),
        Arc::new(Int64Array::from_iter_values(kept.iter().map(|e| e.seq as i64))),
        Arc::new(StringArray::from_iter_values(kept.iter().map(|_| shard.0.as_str()))),
        Arc::new(StringArray::from_iter_values(
            kept.iter().map(|e| format!("log.{}:{}", table.incarnation, e.seq)),
        )),
        Arc::new(Int32Array::from_iter_values(kept.iter().map(|e| e.epoch))),
        Arc::new(BinaryArray::from_iter(masks)),
        Arc::new(Int64Array::from(counts)),
    ];
    for (at, field) in schema.physical().fields().iter().enumerate() {
        columns.push(array(field.data_type(), cells.iter().map(|r| &r[at]))?);
    }
    let mut fields: Vec<_> = full.fields().iter().cloned().collect();
    let exact = schema.columns.len();
    if table.exact {
        columns.push(array(&DataType::Utf8, cells.iter().map(|r| &r[exact]))?);
        fields.push(Arc::new(Field::new(hidden::EXACT, DataType::Utf8, true)));
    }
    batch(fields, columns, kept.len())
}

/// A row of one schema under another: columns of equal id and type keep their values, others are NULL.
fn under(schema: &TableSchema, row: &Row, from: &Arc<TableSchema>) -> Row {
    let exact = row.get(from.columns.len()).cloned().flatten();
    let mut cells: Row = schema
        .columns
        .iter()
        .map(|c| {
            let at = from.columns.iter().position(|f| f.id == c.id && f.column_type == c.column_type)?;
            row[at].clone()
        })
        .collect();
    cells.push(exact);
    cells
}

fn array<'a>(data_type: &DataType, cells: impl Iterator<Item = &'a Cell>) -> Result<ArrayRef> {
    column(data_type, cells).map_err(|e| damaged(e.to_string()))
}

fn batch(fields: Vec<Arc<Field>>, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        .map_err(|e| damaged(e.to_string()))
}

fn damaged(reason: String) -> StoreError {
    StoreError::Damaged { object: "rows of an awkward table".into(), reason }
}
