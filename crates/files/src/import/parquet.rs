//! Parquet as rows of a table.
//!
//! Values of other Arrow types than the column's are converted only when nothing is lost: what does not come back the
//! same from the column's type is refused with its row.

use super::batch::MOST_BYTES;
use super::{Found, Input, Source, Target, new_schema};
use crate::column::Column as Growing;
use crate::error::{FilesError, Place, Refusal, Wrong, shown};
use crate::guard::guarded;
use crate::input::{Progress, open_file};
use crate::options::{Format, ImportOptions};
use crate::{SCHEMA_METADATA, exact};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field};
use keepfast_format::{footer_fault, footer_length, page_length};
use keepfast_model::{Column, ColumnType, ModelError, TableSchema, convert};
use parquet::arrow::arrow_reader::{
    ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::LogicalType;
use parquet::errors::ParquetError;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The rows of one Parquet file.
pub(super) struct ParquetRows {
    path: PathBuf,
    target: Arc<Target>,
    reader: ParquetRecordBatchReader,
    /// The column of each of the file's.
    fields: Vec<usize>,
    lacking: Vec<usize>,
    /// Rows read, and rows and stored bytes of the file.
    row: u64,
    rows: u64,
    bytes: u64,
    counted: u64,
    progress: Progress,
}

impl std::fmt::Debug for ParquetRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParquetRows")
            .field("path", &self.path)
            .field("row", &self.row)
            .finish_non_exhaustive()
    }
}

/// What stands after the footer: its length and the format's letters.
const FRAME: usize = 8;

type Builder = ParquetRecordBatchReaderBuilder<File>;

fn open(path: &Path) -> Result<(Builder, u64), FilesError> {
    let (mut file, bytes) = open_file(path)?;
    let refused = |fault: io::Result<Option<&'static str>>| match fault {
        Ok(None) => Ok(()),
        Ok(Some(fault)) => {
            Err(FilesError::Parquet { place: Place::file(path), reason: fault.to_owned(), source: None })
        }
        Err(source) => Err(FilesError::io("read", path, source)),
    };
    refused(footer_fault_of(&mut file, bytes))?;
    let mut pages = file.try_clone().map_err(|source| FilesError::io("read", path, source))?;
    // Parquet's own types decide; the Arrow schema that some writers embed adds nothing that tables have.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = readable(Place::file(path), || Builder::try_new_with_options(file, options))?;
    refused(pages_fault_of(&mut pages, &builder, bytes))?;
    Ok((builder, bytes))
}

/// Why the file's footer must not be given to the reader, which would believe what its lists state.
fn footer_fault_of(file: &mut File, bytes: u64) -> io::Result<Option<&'static str>> {
    let mut frame = [0; FRAME];
    if bytes < FRAME as u64 {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(bytes - FRAME as u64))?;
    file.read_exact(&mut frame)?;
    let Some(start) = bytes.checked_sub(footer_length(frame) + FRAME as u64) else { return Ok(None) };
    file.seek(SeekFrom::Start(start))?;
    let mut tail = vec![];
    file.take(bytes - start).read_to_end(&mut tail)?;
    file.rewind()?;
    Ok(footer_fault(&tail))
}

/// Longest header of a page, which holds the page's least and greatest value.
const LONGEST_HEADER: u64 = 1 << 24;

/// Why a page's header must not be given to the reader either. Pages that end early are left to it.
fn pages_fault_of(file: &mut File, builder: &Builder, bytes: u64) -> io::Result<Option<&'static str>> {
    let columns = builder.metadata().row_groups().iter().flat_map(|group| group.columns());
    let mut left = bytes;
    let mut header = vec![];
    for column in columns {
        let start = u64::try_from(column.dictionary_page_offset().unwrap_or(column.data_page_offset()));
        let length = u64::try_from(column.compressed_size()).ok().filter(|length| *length <= left);
        let (Ok(mut at), Some(length)) = (start, length) else {
            return Ok(Some("a column lies outside the file or over others"));
        };
        left -= length;
        let end = at.saturating_add(length);
        let mut wanted = 1 << 12;
        while at < end {
            header.clear();
            file.seek(SeekFrom::Start(at))?;
            file.take(wanted.min(end - at)).read_to_end(&mut header)?;
            match page_length(&header) {
                Ok(Some(page)) => at = at.saturating_add(page),
                Ok(None) if (header.len() as u64) < wanted => break,
                Ok(None) if wanted >= LONGEST_HEADER => return Ok(Some("a page's header is too long")),
                Ok(None) => wanted *= 8,
                Err(fault) => return Ok(Some(fault)),
            }
        }
    }
    Ok(None)
}

/// How many rows of the file take about so many bytes, going by its widest row group; at least one.
fn rows_within(bytes: usize, builder: &Builder) -> usize {
    let widths = builder.metadata().row_groups().iter().filter_map(|group| {
        let rows = u64::try_from(group.num_rows()).ok().filter(|n| *n > 0)?;
        Some(u64::try_from(group.total_byte_size()).ok()? / rows)
    });
    bytes / usize::try_from(widths.max().unwrap_or(0)).unwrap_or(usize::MAX).clamp(1, bytes)
}

/// What the reader gives, or why it does not.
fn readable<T>(place: Place, read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, FilesError> {
    match guarded(read) {
        Ok(result) => result.map_err(FilesError::parquet(place)),
        Err(reason) => Err(FilesError::Parquet { place, reason, source: None }),
    }
}

impl ParquetRows {
    pub(super) fn open(path: &Path, target: Arc<Target>, progress: &Progress) -> Result<Self, FilesError> {
        let (builder, bytes) = open(path)?;
        let names = builder.schema().fields().iter().map(|f| f.name().as_str());
        let (fields, lacking) = target.match_columns(names, &Place::file(path))?;
        let rows = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
        let rows_a_batch = target.options.batch_rows.min(rows_within(MOST_BYTES, &builder));
        let builder = builder.with_batch_size(rows_a_batch);
        let reader = readable(Place::file(path), || builder.build())?;
        Ok(Self {
            path: path.to_owned(),
            target,
            reader,
            fields,
            lacking,
            row: 0,
            rows,
            bytes,
            counted: 0,
            progress: progress.clone(),
        })
    }

    /// One column of the table from the file's array.
    fn column(&self, at: usize, array: &ArrayRef) -> Result<ArrayRef, FilesError> {
        let column = &self.target.schema.columns[at];
        let place = |row: usize| Place::row(&self.path, self.row + row as u64 + 1);
        if !column.nullable
            && let Some(nulls) = array.logical_nulls()
            && let Some(row) = (0..array.len()).find(|i| nulls.is_null(*i))
        {
            return Err(self.target.null(at, place(row)));
        }
        let refused = |row: usize, value: String, refusal: Refusal| FilesError::Value {
            place: place(row),
            column: shown(&column.name),
            value: shown(&value),
            refusal,
        };
        if is_text(array.data_type()) && !is_text(&column.column_type.physical()) {
            let text = cast(array, &DataType::Utf8).map_err(FilesError::rows(&self.path))?;
            let text = text.as_string::<i32>();
            let mut parsed = Growing::new(&column.column_type);
            for (row, value) in text.iter().enumerate() {
                match value {
                    None => parsed.push_null(),
                    Some(value) => {
                        parsed.push_text(value).map_err(|e| refused(row, value.to_owned(), e))?;
                    }
                }
            }
            return parsed.finish().map_err(FilesError::rows(&self.path));
        }
        let physical = convert::column_to_physical(column, array).map_err(|e| match e {
            ModelError::Value { row, value, reason, .. } => {
                FilesError::Refused { place: place(row as usize), column: shown(&column.name), value, reason }
            }
            _ => FilesError::UnsupportedType {
                path: self.path.clone(),
                column: shown(&column.name),
                found: array.data_type().to_string(),
                wanted: column.column_type.sql(),
            },
        })?;
        match exact::first_difference(array, &physical, &column.column_type) {
            None => Ok(physical),
            Some(row) => {
                let column_type = column.column_type.clone();
                Err(refused(row, convert::shown(array, row), Refusal { wrong: Wrong::Inexact, column_type }))
            }
        }
    }
}

impl Source for ParquetRows {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, FilesError> {
        let place = Place::row(&self.path, self.row + 1);
        let next = readable(place.clone(), || Ok(self.reader.next().transpose()?))?;
        let Some(batch) = next else {
            if self.row != self.rows {
                let reason = format!("the file ends, though it should have {} rows", self.rows);
                return Err(FilesError::Malformed { place, reason });
            }
            return Ok(None);
        };
        let rows = batch.num_rows();
        let mut columns: Vec<Option<ArrayRef>> = vec![None; self.target.schema.columns.len()];
        for (at, array) in self.fields.iter().zip(batch.columns()) {
            columns[*at] = Some(self.column(*at, array)?);
        }
        for at in &self.lacking {
            let physical = self.target.schema.columns[*at].column_type.physical();
            columns[*at] = Some(arrow::array::new_null_array(&physical, rows));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        // Every column is either in the file or lacking.
        let columns = columns.into_iter().flatten().collect();
        let batch = RecordBatch::try_new_with_options(self.target.physical.clone(), columns, &options)
            .map_err(FilesError::rows(&self.path))?;
        self.row += rows as u64;
        let share = (u128::from(self.bytes) * u128::from(self.row) / u128::from(self.rows.max(1))) as u64;
        self.progress.fetch_add(share.saturating_sub(self.counted), Ordering::Relaxed);
        self.counted = share;
        Ok(Some(batch))
    }
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, value) => is_text(value),
        _ => false,
    }
}

/// The schema that the Parquet files among the inputs declare together.
pub(super) fn schema_of(inputs: &[Input], options: &ImportOptions) -> Result<TableSchema, FilesError> {
    let mut found: Option<(Vec<Found>, Option<TableSchema>, &Path)> = None;
    for input in inputs.iter().filter(|i| i.format == Format::Parquet) {
        let (builder, _) = open(&input.path)?;
        let noted = noted_schema(&builder);
        let next = declared(&builder, noted.as_ref(), &input.path)?;
        match &mut found {
            None => found = Some((next, noted, &input.path)),
            Some((found, first_noted, first)) => {
                agree(found, next, &input.path, first)?;
                if *first_noted != noted {
                    *first_noted = None;
                }
            }
        }
    }
    match found {
        Some((_, Some(noted), _)) if options.key.is_empty() => Ok(noted),
        Some((found, _, first)) => new_schema(found, &options.key, first),
        None => new_schema(vec![], &options.key, &inputs[0].path),
    }
}

/// The schema that an export noted in the file, if it is one of the file's columns.
fn noted_schema(builder: &Builder) -> Option<TableSchema> {
    let all = builder.metadata().file_metadata().key_value_metadata()?;
    let text = all.iter().find(|kv| kv.key == SCHEMA_METADATA)?.value.as_deref()?;
    let schema: TableSchema = serde_json::from_str(text).ok()?;
    schema.check("").ok()?;
    let fields = builder.schema().fields();
    let fits = |column: &Column, field: &Field| {
        column.name == *field.name()
            && (column.nullable || !field.is_nullable())
            && ColumnType::from_arrow(field.data_type())
                .is_some_and(|plain| plain.native() == column.column_type.native())
    };
    let all_fit = schema.columns.len() == fields.len()
        && schema.columns.iter().zip(fields.iter()).all(|(column, field)| fits(column, field));
    all_fit.then_some(schema)
}

/// The columns as the file declares them.
fn declared(builder: &Builder, noted: Option<&TableSchema>, path: &Path) -> Result<Vec<Found>, FilesError> {
    let roots = builder.parquet_schema().root_schema().get_fields();
    let fields = builder.schema().fields().iter().enumerate();
    fields
        .map(|(i, field)| {
            let logical = roots.get(i).and_then(|t| t.get_basic_info().logical_type_ref().cloned());
            let column_type = match noted {
                Some(noted) => Some(noted.columns[i].column_type.clone()),
                None => ColumnType::from_arrow(field.data_type()).map(|plain| match (logical, plain) {
                    (Some(LogicalType::Uuid), ColumnType::Binary { length: 16 }) => ColumnType::Uuid,
                    (Some(LogicalType::Json), ColumnType::Varchar { .. }) => ColumnType::Json,
                    (_, plain) => plain,
                }),
            };
            let column_type = column_type.ok_or_else(|| FilesError::UnsupportedType {
                path: path.to_owned(),
                column: shown(field.name()),
                found: field.data_type().to_string(),
                wanted: "any that tables have".into(),
            })?;
            Ok(Found { name: field.name().clone(), column_type, nullable: field.is_nullable(), null: None })
        })
        .collect()
}

/// Checks that a further file has the same columns; NULL is allowed where any of the files allows it.
fn agree(found: &mut [Found], next: Vec<Found>, path: &Path, first: &Path) -> Result<(), FilesError> {
    let disagree = |name: &str, reason: String| FilesError::Disagree {
        path: path.to_owned(),
        other: first.to_owned(),
        column: shown(name),
        reason,
    };
    if let Some(missing) = found.iter().find(|c| next.iter().all(|n| n.name != c.name)) {
        return Err(disagree(&missing.name, "is missing".into()));
    }
    for column in next {
        let known = found.iter_mut().find(|c| c.name == column.name);
        let known = known.ok_or_else(|| disagree(&column.name, "is new".into()))?;
        if known.column_type != column.column_type {
            return Err(disagree(
                &column.name,
                format!("is {}, not {}", column.column_type.sql(), known.column_type.sql()),
            ));
        }
        known.nullable |= column.nullable;
    }
    Ok(())
}
