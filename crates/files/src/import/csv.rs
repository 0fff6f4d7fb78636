//! CSV as rows of a table.

use super::batch::Growing;
use super::{Source, Target};
use crate::csv::Reader;
use crate::error::{FilesError, Place};
use crate::infer::Evidence;
use crate::input::{Progress, Text};
use crate::options::ImportOptions;
use arrow::array::RecordBatch;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The rows of one CSV file.
#[derive(Debug)]
pub(super) struct CsvRows {
    path: PathBuf,
    reader: Reader,
    nulls: Nulls,
    rows: Growing,
    /// The column of each field.
    fields: Vec<usize>,
    /// Columns that the file lacks.
    lacking: Vec<usize>,
}

impl CsvRows {
    pub(super) fn open(path: &Path, target: Arc<Target>, progress: &Progress) -> Result<Self, FilesError> {
        let options = &target.options;
        let mut reader = open(path, options, progress)?;
        let (fields, lacking) = if options.header {
            let (names, line) =
                read_names(&mut reader)?.ok_or_else(|| FilesError::Empty { path: path.to_owned() })?;
            target.match_columns(names.iter().map(String::as_str), &Place::line(path, line))?
        } else if options.schema.is_some() {
            // Without names the order decides.
            ((0..target.schema.columns.len()).collect(), vec![])
        } else {
            let names = (1..=target.schema.columns.len()).map(unnamed).collect::<Vec<_>>();
            target.match_columns(names.iter().map(String::as_str), &Place::file(path))?
        };
        let nulls = Nulls::new(options);
        Ok(Self { path: path.to_owned(), reader, nulls, rows: Growing::new(target), fields, lacking })
    }
}

impl Source for CsvRows {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, FilesError> {
        while let Some(record) = self.reader.next(Some(self.fields.len()))? {
            let place = || Place::line(&self.path, record.line);
            for (i, at) in self.fields.iter().enumerate() {
                let (text, quoted) = record.field(i);
                if !quoted && self.nulls.has(&text) {
                    self.rows.push_null(*at, place)?;
                } else {
                    self.rows.push_text(*at, &text, place)?;
                }
            }
            for at in &self.lacking {
                self.rows.push_null(*at, place)?;
            }
            if self.rows.end_row(record.bytes) {
                break;
            }
        }
        self.rows.finish(&self.path)
    }
}

/// What an unquoted field says when it is NULL.
#[derive(Debug)]
struct Nulls {
    empty: bool,
    texts: Vec<String>,
}

impl Nulls {
    fn new(options: &ImportOptions) -> Self {
        let (empty, texts) = options.null.iter().cloned().partition::<Vec<_>, _>(String::is_empty);
        Self { empty: !empty.is_empty(), texts }
    }

    #[inline]
    fn has(&self, text: &str) -> bool {
        if text.is_empty() { self.empty } else { self.texts.iter().any(|t| t == text) }
    }
}

fn open(path: &Path, options: &ImportOptions, progress: &Progress) -> Result<Reader, FilesError> {
    Ok(Reader::new(path, Text::open(path, progress)?, options.delimiter_for(path)))
}

/// The name of column `n`, from 1, that the file does not name.
fn unnamed(n: usize) -> String {
    format!("column_{n}")
}

/// The header's names and its line; none where the file is empty.
fn read_names(reader: &mut Reader) -> Result<Option<(Vec<String>, u64)>, FilesError> {
    let Some(record) = reader.next(None)? else { return Ok(None) };
    let name = |i: usize| {
        let name = record.field(i).0;
        if name.is_empty() { unnamed(i + 1) } else { name.into_owned() }
    };
    Ok(Some(((0..record.len()).map(name).collect(), record.line)))
}

/// What all values of a file show of its columns, in the file's order.
pub(super) fn observe(path: &Path, options: &ImportOptions) -> Result<Vec<(String, Evidence)>, FilesError> {
    let mut reader = open(path, options, &Progress::default())?;
    let nulls = Nulls::new(options);
    let empty = || FilesError::Empty { path: path.to_owned() };
    let mut found: Vec<(String, Evidence)> = vec![];
    let mut fields = None;
    if options.header {
        let (names, _) = read_names(&mut reader)?.ok_or_else(empty)?;
        fields = Some(names.len());
        found = names.into_iter().map(|n| (n, Evidence::default())).collect();
    }
    while let Some(record) = reader.next(fields)? {
        if fields.is_none() {
            fields = Some(record.len());
            found = (1..=record.len()).map(|n| (unnamed(n), Evidence::default())).collect();
        }
        for (i, (_, evidence)) in found.iter_mut().enumerate() {
            let (text, quoted) = record.field(i);
            if !quoted && nulls.has(&text) {
                evidence.see_null(|| Place::line(path, record.line));
            } else {
                evidence.see_text(&text);
            }
        }
    }
    if found.is_empty() { Err(empty()) } else { Ok(found) }
}
