//! Reading files as physical batches of a table.
//!
//! [`open_imports`] decides the table's schema, which for CSV and JSON lines takes a first pass over all of the files
//! unless the table is given; [`Import::rows`] reads them, one batch at a time. Invariant: a batch holds exactly the
//! values written in the file, each as its column's type, or there is an error that says where it is not.

mod batch;
mod csv;
mod infer;
mod json;
mod parquet;

pub(crate) use batch::Growing;

use crate::error::{FilesError, Place};
use crate::input::{Progress, open_file};
use crate::options::{Compression, Format, ImportOptions};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use keepfast_model::{ColumnType, TableSchema, hidden};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Columns of a table at most.
const MOST_COLUMNS: usize = 10_000;

/// Files that were found to be rows of one table, not yet read.
#[derive(Debug)]
pub struct Import {
    target: Arc<Target>,
    inputs: Vec<Input>,
    bytes: u64,
}

/// One file and its format.
#[derive(Clone, Debug)]
struct Input {
    path: PathBuf,
    format: Format,
}

/// What the rows become.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) schema: TableSchema,
    physical: SchemaRef,
    /// Positions of the key columns.
    key: Vec<usize>,
    options: ImportOptions,
}

/// Reads one file.
trait Source: Send + std::fmt::Debug {
    /// The next rows; none at the end.
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, FilesError>;
}

/// Opens one file. See [`open_imports`].
///
/// # Errors
/// As [`open_imports`].
pub fn open_import(path: impl AsRef<Path>, options: ImportOptions) -> Result<Import, FilesError> {
    open_imports(&[path.as_ref()], options)
}

/// Opens files that together are the rows of one table.
///
/// Without `options.schema` names and types are inferred: from all values of CSV and JSON lines, from the schema of
/// Parquet. Where Parquet is among several files, its columns are the table's, and the other files are read as them.
///
/// # Errors
/// Whatever is wrong before rows are read: a missing file, an unknown format, text that is not of its format,
/// columns that are not the table's ([`FilesError::Columns`]), files that are not of one table
/// ([`FilesError::Disagree`]), NULL in a key column.
pub fn open_imports<P: AsRef<Path>>(paths: &[P], options: ImportOptions) -> Result<Import, FilesError> {
    options.check()?;
    if paths.is_empty() {
        return Err(FilesError::Options { option: "files", reason: "names no file".into() });
    }
    let mut inputs = Vec::with_capacity(paths.len());
    let mut bytes = 0;
    for path in paths {
        let path = path.as_ref();
        let format = options.format_of(path)?;
        if format == Format::Parquet && Compression::of(path) != Compression::None {
            return Err(FilesError::Malformed {
                place: Place::file(path),
                reason: "Parquet is compressed inside; decompress the file first".into(),
            });
        }
        bytes += open_file(path)?.1;
        inputs.push(Input { path: path.to_owned(), format });
    }
    let schema = match &options.schema {
        Some(schema) => schema.clone(),
        None if inputs.iter().any(|i| i.format == Format::Parquet) => parquet::schema_of(&inputs, &options)?,
        None => infer::schema_of(&inputs, &options)?,
    };
    schema.check("")?;
    let import = Import { target: Arc::new(Target::new(schema, options)), inputs, bytes };
    // Headers and file schemas that do not fit are found before any row is read.
    let unseen = Progress::default();
    for input in &import.inputs {
        import.target.source(input, &unseen)?;
    }
    Ok(import)
}

impl Import {
    /// The table's columns and key: those given, or those inferred.
    pub fn schema(&self) -> &TableSchema {
        &self.target.schema
    }

    /// Stored bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// All rows, file after file, as physical batches of [`Self::schema`]. Memory is bounded by the longest record and
    /// the rows of a batch. After an error nothing follows.
    pub fn rows(&self) -> Rows {
        Rows {
            target: self.target.clone(),
            inputs: self.inputs.clone().into_iter(),
            source: None,
            progress: Progress::default(),
        }
    }
}

/// The rows of an import.
#[derive(Debug)]
pub struct Rows {
    target: Arc<Target>,
    inputs: std::vec::IntoIter<Input>,
    source: Option<Box<dyn Source>>,
    progress: Progress,
}

impl Rows {
    /// Stored bytes read so far, of [`Import::bytes`].
    pub fn bytes_read(&self) -> u64 {
        self.progress.load(Ordering::Relaxed)
    }

    fn advance(&mut self) -> Result<Option<RecordBatch>, FilesError> {
        loop {
            if let Some(source) = &mut self.source
                && let Some(batch) = source.next_batch()?
            {
                return Ok(Some(batch));
            }
            let Some(input) = self.inputs.next() else { return Ok(None) };
            self.source = Some(self.target.source(&input, &self.progress)?);
        }
    }
}

impl Iterator for Rows {
    type Item = Result<RecordBatch, FilesError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance().transpose();
        if !matches!(next, Some(Ok(_))) {
            self.source = None;
            self.inputs = vec![].into_iter();
        }
        next
    }
}

impl Target {
    pub(crate) fn new(schema: TableSchema, options: ImportOptions) -> Self {
        Self { physical: schema.physical(), key: schema.key_positions(), schema, options }
    }

    fn source(self: &Arc<Self>, input: &Input, progress: &Progress) -> Result<Box<dyn Source>, FilesError> {
        Ok(match input.format {
            Format::Csv => Box::new(csv::CsvRows::open(&input.path, self.clone(), progress)?),
            Format::JsonLines => Box::new(json::JsonRows::open(&input.path, self.clone(), progress)?),
            Format::Parquet => Box::new(parquet::ParquetRows::open(&input.path, self.clone(), progress)?),
        })
    }

    /// The error for NULL in a column that does not take it.
    fn null(&self, column: usize, place: Place) -> FilesError {
        let because = if self.key.contains(&column) { "part of the key" } else { "NOT NULL" };
        FilesError::Null { place, column: crate::error::shown(&self.schema.columns[column].name), because }
    }

    /// The columns that a file's names stand for, in the file's order; and those that it lacks.
    ///
    /// # Errors
    /// [`FilesError::Columns`] for an unknown or doubled name, or when a column that needs values is lacking.
    pub(crate) fn match_columns<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
        place: &Place,
    ) -> Result<(Vec<usize>, Vec<usize>), FilesError> {
        let refuse = |name: &str, reason| FilesError::Columns {
            place: place.clone(),
            column: crate::error::shown(name),
            reason,
        };
        let mut found = vec![];
        let mut seen = vec![false; self.schema.columns.len()];
        for name in names {
            let at = self.schema.position(name).ok_or_else(|| refuse(name, "is not one of the table"))?;
            if std::mem::replace(&mut seen[at], true) {
                return Err(refuse(name, "stands twice"));
            }
            found.push(at);
        }
        let lacking: Vec<usize> = (0..seen.len()).filter(|at| !seen[*at]).collect();
        for at in &lacking {
            let column = &self.schema.columns[*at];
            if !column.nullable {
                return Err(refuse(&column.name, "is missing and may not be NULL"));
            }
        }
        Ok((found, lacking))
    }
}

/// One column as a file declares it or its values show it.
#[derive(Debug)]
struct Found {
    name: String,
    column_type: ColumnType,
    nullable: bool,
    /// Where the first NULL stands, when that is known.
    null: Option<Place>,
}

/// The schema of a new table, ids counted from 1. `first` is the file to name in errors.
fn new_schema(found: Vec<Found>, key: &[String], first: &Path) -> Result<TableSchema, FilesError> {
    if found.is_empty() {
        return Err(FilesError::Empty { path: first.to_owned() });
    }
    let place = Place::file(first);
    let refuse = |name: &str, reason| FilesError::Columns {
        place: place.clone(),
        column: crate::error::shown(name),
        reason,
    };
    let mut names = HashSet::new();
    for column in &found {
        if column.name.is_empty() {
            return Err(refuse("", "has no name"));
        }
        if column.name.to_lowercase().starts_with(hidden::PREFIX) {
            return Err(refuse(&column.name, "has a reserved name"));
        }
        if !names.insert(column.name.to_lowercase()) {
            return Err(refuse(&column.name, "stands twice"));
        }
    }
    let mut of_key = HashSet::new();
    for name in key {
        let at = found
            .iter()
            .position(|c| c.name == *name)
            .or_else(|| found.iter().position(|c| c.name.eq_ignore_ascii_case(name)))
            .ok_or_else(|| refuse(name, "is named as key but is not in the file"))?;
        let column = &found[at];
        if !of_key.insert(at) {
            return Err(refuse(name, "stands twice in the key"));
        }
        if matches!(column.column_type, ColumnType::List(_) | ColumnType::Json) {
            return Err(refuse(name, "holds lists or JSON and cannot be a key"));
        }
        if let Some(place) = &column.null {
            return Err(FilesError::Null {
                place: place.clone(),
                column: crate::error::shown(name),
                because: "part of the key",
            });
        }
    }
    let names: Vec<String> = key
        .iter()
        .filter_map(|k| {
            found
                .iter()
                .find(|c| c.name == *k)
                .or_else(|| found.iter().find(|c| c.name.eq_ignore_ascii_case(k)))
        })
        .map(|c| c.name.clone())
        .collect();
    let columns = found
        .into_iter()
        .enumerate()
        .map(|(at, c)| (c.name, c.column_type, c.nullable && !of_key.contains(&at)))
        .collect();
    let key: Vec<&str> = names.iter().map(String::as_str).collect();
    Ok(TableSchema::of(columns, &key)?)
}
