//! Formats, and what a person may say about a file.

use crate::error::FilesError;
use keepfast_model::TableSchema;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// How rows are written in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Values between delimiters, quoted where need be (RFC 4180).
    Csv,
    /// One JSON object a line.
    JsonLines,
    /// Apache Parquet.
    Parquet,
}

impl Format {
    /// The format that the file's name tells, whatever compression it ends in.
    pub fn of(path: &Path) -> Option<Self> {
        Some(match extensions(path).0.as_str() {
            "csv" | "tsv" => Self::Csv,
            "json" | "jsonl" | "ndjson" => Self::JsonLines,
            "parquet" => Self::Parquet,
            _ => return None,
        })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Csv => "CSV",
            Self::JsonLines => "JSON lines",
            Self::Parquet => "Parquet",
        })
    }
}

impl FromStr for Format {
    type Err = FilesError;
    fn from_str(text: &str) -> Result<Self, FilesError> {
        match text.to_ascii_lowercase().as_str() {
            "csv" => Ok(Self::Csv),
            "json" | "jsonl" | "ndjson" => Ok(Self::JsonLines),
            "parquet" => Ok(Self::Parquet),
            _ => Err(FilesError::Options {
                option: "format",
                reason: format!("is '{}'; csv, jsonl and parquet are known", crate::error::shown(text)),
            }),
        }
    }
}

/// How a file is compressed from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    pub(crate) fn of(path: &Path) -> Self {
        extensions(path).1
    }
}

/// The last extension before a compression's own, in lower case, and the compression.
fn extensions(path: &Path) -> (String, Compression) {
    let name = path.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
    let (name, compression) = if let Some(name) = name.strip_suffix(".gz") {
        (name, Compression::Gzip)
    } else if let Some(name) = name.strip_suffix(".zst") {
        (name, Compression::Zstd)
    } else {
        (name.as_str(), Compression::None)
    };
    (name.rsplit_once('.').map(|(_, e)| e.to_owned()).unwrap_or_default(), compression)
}

/// The delimiter that the file's name tells.
fn delimiter_of(path: &Path) -> u8 {
    if extensions(path).0 == "tsv" { b'\t' } else { b',' }
}

/// How files are read.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// The format; none means that each file's name tells it.
    pub format: Option<Format>,
    /// CSV: whether the first record names the columns. Without, they are `column_1`, `column_2`, …, or those of
    /// `schema` in its order.
    pub header: bool,
    /// CSV: one ASCII character between values; none means a tab for `.tsv` and a comma otherwise.
    pub delimiter: Option<u8>,
    /// CSV: unquoted fields with one of these texts are NULL. The default is the empty field alone.
    pub null: Vec<String>,
    /// Key columns of the new table, in key order; none means a bag. With `schema` it is its key or left out.
    pub key: Vec<String>,
    /// The table that the rows will go to. Columns are matched by name and every value is read as its column's type;
    /// none means that names and types are inferred from the files.
    pub schema: Option<TableSchema>,
    /// Rows of a batch at most.
    pub batch_rows: usize,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self {
            format: None,
            header: true,
            delimiter: None,
            null: vec![String::new()],
            key: vec![],
            schema: None,
            batch_rows: 8192,
        }
    }
}

impl ImportOptions {
    pub(crate) fn check(&self) -> Result<(), FilesError> {
        check_delimiter(self.delimiter)?;
        if self.batch_rows == 0 {
            return Err(FilesError::Options { option: "batch_rows", reason: "is 0".into() });
        }
        if let Some(schema) = self.schema.as_ref().filter(|_| !self.key.is_empty()) {
            let stored = schema.key_names();
            let same = stored.len() == self.key.len()
                && stored.iter().zip(&self.key).all(|(a, b)| a.eq_ignore_ascii_case(b));
            if !same {
                return Err(FilesError::Options {
                    option: "key",
                    reason: format!(
                        "is ({}), but the table exists and its key is ({})",
                        self.key.join(", "),
                        stored.join(", ")
                    ),
                });
            }
        }
        Ok(())
    }

    pub(crate) fn format_of(&self, path: &Path) -> Result<Format, FilesError> {
        self.format
            .or_else(|| Format::of(path))
            .ok_or_else(|| FilesError::UnknownFormat { path: path.to_owned() })
    }

    pub(crate) fn delimiter_for(&self, path: &Path) -> u8 {
        self.delimiter.unwrap_or_else(|| delimiter_of(path))
    }
}

/// How a file is written.
#[derive(Clone, Debug)]
pub struct ExportOptions {
    /// The format; none means that the file's name tells it.
    pub format: Option<Format>,
    /// Whether a file of that name is replaced.
    pub overwrite: bool,
    /// CSV: whether the first record names the columns.
    pub header: bool,
    /// CSV: one ASCII character between values; none means a tab for `.tsv` and a comma otherwise.
    pub delimiter: Option<u8>,
    /// CSV: what stands for NULL. Values that look like it are quoted. Without quotes, delimiters or line ends.
    pub null: String,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self { format: None, overwrite: false, header: true, delimiter: None, null: String::new() }
    }
}

impl ExportOptions {
    pub(crate) fn check(&self, delimiter: u8) -> Result<(), FilesError> {
        check_delimiter(self.delimiter)?;
        if self.null.bytes().any(|b| matches!(b, b'"' | b'\r' | b'\n') || b == delimiter) {
            return Err(FilesError::Options {
                option: "null",
                reason: "holds a quote, a delimiter or a line end".into(),
            });
        }
        Ok(())
    }

    pub(crate) fn delimiter_for(&self, path: &Path) -> u8 {
        self.delimiter.unwrap_or_else(|| delimiter_of(path))
    }
}

fn check_delimiter(delimiter: Option<u8>) -> Result<(), FilesError> {
    match delimiter {
        Some(b'"' | b'\r' | b'\n' | 0 | 0x80..) => Err(FilesError::Options {
            option: "delimiter",
            reason: "is a quote, a line end, NUL or no ASCII character".into(),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_format_and_compression() {
        for (name, format, compression) in [
            ("a.csv", Some(Format::Csv), Compression::None),
            ("dir.json/A.TSV.GZ", Some(Format::Csv), Compression::Gzip),
            ("a.jsonl.zst", Some(Format::JsonLines), Compression::Zstd),
            ("a.parquet", Some(Format::Parquet), Compression::None),
            ("csv", None, Compression::None),
            ("a.gz", None, Compression::Gzip),
            ("", None, Compression::None),
        ] {
            assert_eq!(
                (Format::of(Path::new(name)), Compression::of(Path::new(name))),
                (format, compression),
                "{name}"
            );
        }
    }
}
