//! Reading the rows of segments, and small work on batches.

use crate::shared::Shared;
use crate::{Result, fault, names};
use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{Field, Schema, SchemaRef};
use keepfast_format::{FormatError, SegmentEntry, SegmentFile, read_segment, with_exact};
use keepfast_model::{ColumnId, KeyRange, TableId, TableSchema, encode_keys};
use keepfast_store::StoreError;
use std::sync::Arc;

/// Rows that are decoded at once where nobody asks for another number.
pub(crate) const BATCH_ROWS: usize = 8_192;

/// The rows of one segment, checked against what was recorded of it: stored bytes, number of rows.
pub(crate) async fn read(
    shared: &Shared,
    table: &TableId,
    schema: &Arc<TableSchema>,
    segment: &SegmentEntry,
    columns: Option<Arc<[ColumnId]>>,
    batch_rows: usize,
) -> Result<Vec<RecordBatch>> {
    let name = names::segment(table, &segment.file_name());
    let bytes = shared.place.get(&name).await?;
    let full = shared.place.full(&name);
    let keys = match (shared.place.keys(), &segment.key) {
        (None, None) => None,
        (None, Some(_)) => return Err(StoreError::Locked { store: shared.url() }),
        (Some(_), None) => return Err(shared.place.not_sealed(&name)),
        (Some(keys), Some(_)) => {
            Some(keys.file_keys(table, segment).map_err(|e| fault::format(full.clone(), e))?)
        }
    };
    let (schema, segment) = (schema.clone(), segment.clone());
    let file = SegmentFile { bytes, keys };
    shared.compute(move || decode(full, file, &schema, &segment, columns.as_deref(), batch_rows)).await
}

fn decode(
    full: String,
    file: SegmentFile,
    schema: &TableSchema,
    segment: &SegmentEntry,
    columns: Option<&[ColumnId]>,
    batch_rows: usize,
) -> Result<Vec<RecordBatch>> {
    if keepfast_model::Hash256::of(&file.bytes) != segment.stored {
        return Err(fault::damaged(full, "its bytes are not those that were written"));
    }
    let fail = |e: FormatError| fault::format(full.clone(), e);
    let batches = read_segment(file, schema, columns, batch_rows).map_err(fail)?;
    // The identity in the file is its first writer's; a segment that a load took as it was has another name here.
    if batches.rows() != segment.rows {
        return Err(fault::damaged(full, "it holds other rows than its page says"));
    }
    batches.collect::<Result<Vec<_>, _>>().map_err(fail)
}

/// The batches under one schema: all with the hidden column where one has it.
pub(crate) fn uniform(
    physical: &SchemaRef,
    batches: &[RecordBatch],
) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let plain = physical.fields().len();
    if batches.iter().all(|b| b.num_columns() == plain) {
        return Ok((physical.clone(), batches.to_vec()));
    }
    let schema = with_exact(physical);
    let batches = batches
        .iter()
        .map(|b| {
            let mut columns = b.columns().to_vec();
            if columns.len() == plain {
                columns.push(new_null_array(schema.field(plain).data_type(), b.num_rows()));
            }
            assemble(&schema, columns, b.num_rows())
        })
        .collect::<Result<_>>()?;
    Ok((schema, batches))
}

/// The same schema with every column nullable, for rows of which only the key is known.
pub(crate) fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields: Vec<Field> = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    Arc::new(Schema::new(fields))
}

pub(crate) fn assemble(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(kernel)
}

/// An Arrow kernel that refused batches of one schema: what they hold is not what they promise.
pub(crate) fn kernel(error: arrow::error::ArrowError) -> StoreError {
    StoreError::Model(keepfast_model::ModelError::Batch {
        column: "all".into(),
        expected: "rows that fit their schema".into(),
        found: error.to_string(),
    })
}

/// The rows of a key-ordered batch that lie in the range.
pub(crate) fn within(schema: &TableSchema, batch: &RecordBatch, range: &KeyRange) -> Result<RecordBatch> {
    let keys = encode_keys(schema, batch)?;
    let before = |bound: &[u8]| {
        let (mut low, mut high) = (0, keys.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if keys.value(middle) < bound { low = middle + 1 } else { high = middle }
        }
        low
    };
    let start = range.start.as_ref().map_or(0, |s| before(&s.0));
    let end = range.end.as_ref().map_or(keys.len(), |e| before(&e.0));
    Ok(batch.slice(start, end.saturating_sub(start)))
}
