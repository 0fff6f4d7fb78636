//! Rows as CSV or JSON lines.

use super::sink::Sink;
use crate::csv::write_field;
use crate::error::FilesError;
use crate::{json, text};
use arrow::array::{Array, RecordBatch};
use keepfast_model::{ColumnType, ModelError, TableSchema};
use std::fs::File;
use std::io;
use std::path::Path;

/// How a row is written.
#[derive(Debug)]
pub(super) enum Style {
    Csv { delimiter: u8, null: String },
    JsonLines,
}

/// Writes rows.
pub(super) struct TextWriter {
    sink: Sink,
    style: Style,
    /// JSON lines: each column's name with what stands before and after it.
    members: Vec<String>,
    out: String,
    field: String,
}

/// Text after which it goes to the file.
const PIECE: usize = 1 << 20;

impl TextWriter {
    pub(super) fn new(sink: Sink, style: Style, schema: &TableSchema) -> Self {
        let member = |(i, name): (usize, &str)| {
            let mut member = String::from(if i == 0 { "{" } else { "," });
            json::write_string(name, &mut member);
            member.push(':');
            member
        };
        let members = schema.columns.iter().map(|c| c.name.as_str()).enumerate().map(member).collect();
        Self { sink, style, members, out: String::new(), field: String::new() }
    }

    /// Writes the names of the columns, where the style has a header.
    pub(super) fn write_header(&mut self, schema: &TableSchema) -> io::Result<()> {
        let Style::Csv { delimiter, .. } = self.style else { return Ok(()) };
        for (i, column) in schema.columns.iter().enumerate() {
            if i > 0 {
                self.out.push(char::from(delimiter));
            }
            write_field(&column.name, delimiter, "", &mut self.out);
        }
        self.out.push('\n');
        self.flush()
    }

    pub(super) fn write(
        &mut self,
        batch: &RecordBatch,
        schema: &TableSchema,
        path: &Path,
    ) -> Result<(), FilesError> {
        let columns: Vec<(&ColumnType, &dyn Array)> = schema
            .columns
            .iter()
            .map(|c| &c.column_type)
            .zip(batch.columns().iter().map(AsRef::as_ref))
            .collect();
        for (column, (column_type, array)) in schema.columns.iter().zip(&columns) {
            if array.data_type() != &column_type.physical() {
                return Err(ModelError::Batch {
                    column: column.name.clone(),
                    expected: column_type.physical().to_string(),
                    found: array.data_type().to_string(),
                }
                .into());
            }
        }
        for row in 0..batch.num_rows() {
            match &self.style {
                Style::Csv { delimiter, null } => {
                    for (i, (column_type, array)) in columns.iter().enumerate() {
                        if i > 0 {
                            self.out.push(char::from(*delimiter));
                        }
                        if array.is_null(row) {
                            self.out.push_str(null);
                        } else {
                            self.field.clear();
                            text::write_value(column_type, *array, row, &mut self.field)?;
                            write_field(&self.field, *delimiter, null, &mut self.out);
                        }
                    }
                    self.out.push('\n');
                }
                Style::JsonLines => {
                    for ((column_type, array), member) in columns.iter().zip(&self.members) {
                        self.out.push_str(member);
                        text::write_json(column_type, *array, row, &mut self.out)?;
                    }
                    self.out.push_str("}\n");
                }
            }
            if self.out.len() >= PIECE {
                self.flush().map_err(|e| FilesError::io("write", path, e))?;
            }
        }
        self.flush().map_err(|e| FilesError::io("write", path, e))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.write(self.out.as_bytes())?;
        self.out.clear();
        Ok(())
    }

    pub(super) fn finish(self) -> io::Result<File> {
        self.sink.finish()
    }
}
