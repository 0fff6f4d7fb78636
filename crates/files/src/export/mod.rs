//! Writing physical batches of a table to a file.
//!
//! Invariant: the file appears under its name complete or not at all. Rows go to `<name>.tmp-…` beside it, which is
//! synced and renamed by [`Exporter::finish`] and removed when the exporter is dropped before. What is written is read
//! back by an import with the same schema to the same values.

mod sink;
mod text;

use crate::SCHEMA_METADATA;
use crate::error::{FilesError, Place};
use crate::options::{Compression, ExportOptions, Format};
use arrow::array::RecordBatch;
use keepfast_model::{ByteCount, ModelError, TableSchema, convert};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression as Codec, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use sink::{Destination, Sink};
use std::fmt;
use std::fs::File;
use std::path::Path;

/// What an export wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Rows.
    pub rows: u64,
    /// Size of the file.
    pub bytes: ByteCount,
}

/// A file in the making.
pub struct Exporter {
    writer: Writer,
    destination: Destination,
    schema: TableSchema,
    rows: u64,
}

enum Writer {
    Text(Box<text::TextWriter>),
    Parquet(Box<ArrowWriter<File>>),
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter")
            .field("destination", &self.destination)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

/// Rows and bytes of a Parquet row group at most.
const GROUP_ROWS: usize = 1 << 20;
const GROUP_BYTES: usize = 128 << 20;

impl Exporter {
    /// Begins a file for rows of this table.
    ///
    /// # Errors
    /// [`FilesError::Exists`] when the file is there and may not be overwritten; [`FilesError::UnknownFormat`];
    /// [`FilesError::Io`] when it cannot be written.
    pub fn create(
        path: impl AsRef<Path>,
        schema: &TableSchema,
        options: &ExportOptions,
    ) -> Result<Self, FilesError> {
        let path = path.as_ref();
        let format = options
            .format
            .or_else(|| Format::of(path))
            .ok_or_else(|| FilesError::UnknownFormat { path: path.to_owned() })?;
        let delimiter = options.delimiter_for(path);
        options.check(delimiter)?;
        let compression = Compression::of(path);
        if format == Format::Parquet && compression != Compression::None {
            return Err(FilesError::Options {
                option: "file",
                reason: format!("is '{}', but Parquet is compressed inside", path.display()),
            });
        }
        let (destination, file) = Destination::create(path, options.overwrite)?;
        let io = |e| FilesError::io("write", path, e);
        let writer = match format {
            Format::Csv | Format::JsonLines => {
                let sink = Sink::new(file, compression).map_err(io)?;
                let style = if format == Format::Csv {
                    text::Style::Csv { delimiter, null: options.null.clone() }
                } else {
                    text::Style::JsonLines
                };
                let mut writer = text::TextWriter::new(sink, style, schema);
                if options.header {
                    writer.write_header(schema).map_err(io)?;
                }
                Writer::Text(Box::new(writer))
            }
            Format::Parquet => {
                let noted = serde_json::to_string(schema).ok();
                let properties = WriterProperties::builder()
                    .set_compression(Codec::ZSTD(ZstdLevel::default()))
                    .set_max_row_group_row_count(Some(GROUP_ROWS))
                    .set_max_row_group_bytes(Some(GROUP_BYTES))
                    .set_created_by(concat!("keepfast ", env!("CARGO_PKG_VERSION")).to_owned())
                    .set_key_value_metadata(Some(vec![KeyValue::new(SCHEMA_METADATA.to_owned(), noted)]))
                    .build();
                let writer = ArrowWriter::try_new(file, schema.native(), Some(properties))
                    .map_err(|e| parquet_error(path, e))?;
                Writer::Parquet(Box::new(writer))
            }
        };
        Ok(Self { writer, destination, schema: schema.clone(), rows: 0 })
    }

    /// Adds the rows of a physical batch of the table.
    ///
    /// # Errors
    /// [`FilesError::Model`] when the batch is not one of the table; [`FilesError::Io`] when it cannot be written.
    /// After an error the exporter is good for nothing but being dropped.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), FilesError> {
        if batch.num_columns() != self.schema.columns.len() {
            return Err(ModelError::Batch {
                column: "all".into(),
                expected: format!("{} columns", self.schema.columns.len()),
                found: format!("{} columns", batch.num_columns()),
            }
            .into());
        }
        match &mut self.writer {
            Writer::Text(writer) => writer.write(batch, &self.schema, self.destination.path())?,
            Writer::Parquet(writer) => {
                let native = convert::to_native(&self.schema, batch)?;
                writer.write(&native).map_err(|e| parquet_error(self.destination.path(), e))?;
            }
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// Completes the file, syncs it and gives it its name.
    ///
    /// # Errors
    /// [`FilesError::Exists`] when a file of that name has appeared meanwhile; [`FilesError::Io`].
    pub fn finish(self) -> Result<Exported, FilesError> {
        let path = self.destination.path().to_owned();
        let file = match self.writer {
            Writer::Text(writer) => writer.finish().map_err(|e| FilesError::io("write", &path, e))?,
            Writer::Parquet(writer) => writer.into_inner().map_err(|e| parquet_error(&path, e))?,
        };
        let bytes = self.destination.publish(file)?;
        Ok(Exported { rows: self.rows, bytes: ByteCount(bytes) })
    }
}

fn parquet_error(path: &Path, error: ParquetError) -> FilesError {
    let other = FilesError::parquet(Place::file(path));
    match error {
        ParquetError::External(source) => match source.downcast::<std::io::Error>() {
            Ok(source) => FilesError::io("write", path, *source),
            Err(source) => other(ParquetError::External(source)),
        },
        source => other(source),
    }
}
