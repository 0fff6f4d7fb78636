//! Batches brought to exactly the Arrow schema that a stored form has, without copying values.

use crate::Result;
use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use keepfast_model::schema::{META_COLUMN_ID, META_PARQUET_ID, META_TYPE};
use keepfast_model::{ColumnId, ColumnType, ModelError, hidden};
use std::collections::HashMap;
use std::sync::Arc;

/// The Arrow field of the hidden column `__keepfast_exact`.
pub fn exact_field() -> FieldRef {
    let id = ColumnId::EXACT.0.to_string();
    Arc::new(Field::new(hidden::EXACT, DataType::Utf8, true).with_metadata(HashMap::from([
        (META_COLUMN_ID.to_owned(), id.clone()),
        (META_PARQUET_ID.to_owned(), id),
        (META_TYPE.to_owned(), ColumnType::Text.to_string()),
    ])))
}

/// A schema with the hidden column `__keepfast_exact` behind its columns.
pub fn with_exact(schema: &Schema) -> SchemaRef {
    let mut fields: Vec<FieldRef> = schema.fields().iter().cloned().collect();
    fields.push(exact_field());
    Arc::new(Schema::new(fields))
}

/// Brings batches to one Arrow schema, with or without the trailing hidden column.
#[derive(Clone, Debug)]
pub(crate) struct Conform {
    plain: SchemaRef,
    exact: SchemaRef,
}

impl Conform {
    pub(crate) fn new(plain: SchemaRef) -> Self {
        Self { exact: with_exact(&plain), plain }
    }

    /// The schema of batches with this many columns.
    pub(crate) fn schema(&self, exact: bool) -> &SchemaRef {
        if exact { &self.exact } else { &self.plain }
    }

    /// Whether a batch has the trailing hidden column.
    pub(crate) fn has_exact(&self, batch: &RecordBatch) -> bool {
        batch.num_columns() == self.exact.fields().len()
    }

    /// The same rows under exactly this schema.
    ///
    /// # Errors
    /// [`ModelError::Batch`] for another number of columns, another type, or NULL where it is not allowed.
    pub(crate) fn batch(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let schema = self.schema(self.has_exact(batch));
        if batch.num_columns() != schema.fields().len() {
            return Err(ModelError::Batch {
                column: "all".into(),
                expected: format!("{} columns", schema.fields().len()),
                found: format!("{} columns", batch.num_columns()),
            }
            .into());
        }
        if Arc::ptr_eq(schema, batch.schema_ref()) {
            return Ok(batch.clone());
        }
        let columns = schema
            .fields()
            .iter()
            .zip(batch.columns())
            .map(|(field, array)| conform_array(field, array))
            .collect::<Result<Vec<_>>>()?;
        assemble(schema, columns, batch.num_rows())
    }

    /// The same rows with a trailing hidden column, NULL where the batch had none.
    pub(crate) fn batch_with_exact(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let batch = self.batch(batch)?;
        if self.has_exact(&batch) {
            return Ok(batch);
        }
        let mut columns = batch.columns().to_vec();
        columns.push(arrow::array::new_null_array(&DataType::Utf8, batch.num_rows()));
        assemble(&self.exact, columns, batch.num_rows())
    }
}

/// A batch of checked columns.
pub(crate) fn assemble(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
        .map_err(crate::FormatError::kernel("put together"))
}

/// The array under exactly the field's type, which may name list items otherwise.
pub(crate) fn conform_array(field: &Field, array: &ArrayRef) -> Result<ArrayRef> {
    let refuse = |expected: String, found: String| {
        Err(ModelError::Batch { column: field.name().clone(), expected, found }.into())
    };
    if !field.is_nullable() && array.null_count() > 0 {
        return refuse(format!("{} without NULL", field.data_type()), format!("{} NULL", array.null_count()));
    }
    if array.data_type() == field.data_type() {
        return Ok(array.clone());
    }
    match retype(array, field.data_type()) {
        Some(array) => Ok(array),
        None => refuse(field.data_type().to_string(), array.data_type().to_string()),
    }
}

fn retype(array: &ArrayRef, to: &DataType) -> Option<ArrayRef> {
    if array.data_type() == to {
        return Some(array.clone());
    }
    match (array.data_type(), to) {
        (DataType::List(_), DataType::List(item)) => {
            let list = array.as_list::<i32>();
            let values = retype(list.values(), item.data_type())?;
            let list =
                ListArray::try_new(item.clone(), list.offsets().clone(), values, list.nulls().cloned());
            list.ok().map(|l| Arc::new(l) as ArrayRef)
        }
        _ => None,
    }
}
