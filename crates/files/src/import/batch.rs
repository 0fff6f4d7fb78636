//! A batch in the making.

use super::Target;
use crate::column::Column;
use crate::error::{FilesError, Place, Refusal, shown};
use crate::json::Value;
use arrow::array::{RecordBatch, RecordBatchOptions};
use std::path::Path;
use std::sync::Arc;

/// Bytes in a file after which a batch ends before it has all its rows.
pub(crate) const MOST_BYTES: usize = 16 << 20;

/// The columns of a batch while rows are added.
#[derive(Debug)]
pub(crate) struct Growing {
    target: Arc<Target>,
    columns: Vec<Column>,
    rows: usize,
    bytes: usize,
}

impl Growing {
    pub(crate) fn new(target: Arc<Target>) -> Self {
        let columns = target.schema.columns.iter().map(|c| Column::new(&c.column_type)).collect();
        Self { target, columns, rows: 0, bytes: 0 }
    }

    /// Adds NULL to a column.
    #[inline]
    pub(crate) fn push_null(&mut self, at: usize, place: impl FnOnce() -> Place) -> Result<(), FilesError> {
        if !self.target.schema.columns[at].nullable {
            return Err(self.target.null(at, place()));
        }
        self.columns[at].push_null();
        Ok(())
    }

    /// Adds a value from its text.
    #[inline]
    pub(crate) fn push_text(
        &mut self,
        at: usize,
        text: &str,
        place: impl FnOnce() -> Place,
    ) -> Result<(), FilesError> {
        self.columns[at].push_text(text).map_err(|refusal| self.refused(at, text, refusal, place()))
    }

    /// Adds a value from JSON.
    pub(crate) fn push_json(
        &mut self,
        at: usize,
        value: &Value<'_>,
        place: impl FnOnce() -> Place,
    ) -> Result<(), FilesError> {
        if *value == Value::Null {
            return self.push_null(at, place);
        }
        self.columns[at].push_json(value).map_err(|refusal| {
            let text = match value {
                Value::Null => "null",
                Value::Bool(true) => "true",
                Value::Bool(false) => "false",
                Value::String(text) => text,
                Value::Number(text) | Value::Array(text) | Value::Object(text) => text,
            };
            self.refused(at, text, refusal, place())
        })
    }

    fn refused(&self, at: usize, text: &str, refusal: Refusal, place: Place) -> FilesError {
        let column = shown(&self.target.schema.columns[at].name);
        FilesError::Value { place, column, value: shown(text), refusal }
    }

    /// Ends a row of so many bytes of text. True when the batch has enough.
    pub(crate) fn end_row(&mut self, bytes: usize) -> bool {
        self.rows += 1;
        self.bytes += bytes;
        self.rows >= self.target.options.batch_rows || self.bytes >= MOST_BYTES
    }

    /// The rows so far, if any; afterwards it is empty.
    pub(crate) fn finish(&mut self, path: &Path) -> Result<Option<RecordBatch>, FilesError> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        if rows == 0 {
            return Ok(None);
        }
        let arrays = self.columns.iter_mut().map(Column::finish).collect::<Result<_, _>>();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        arrays
            .and_then(|a| RecordBatch::try_new_with_options(self.target.physical.clone(), a, &options))
            .map(Some)
            .map_err(FilesError::rows(path))
    }
}
