//! Errors of this crate. Each names the file, and the line or row and the column where there is one.

use arrow::error::ArrowError;
use keepfast_model::{Class, Code, Coded, ColumnType, ModelError};
use parquet::errors::ParquetError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Where in a file something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file as it was named.
    pub file: PathBuf,
    /// Where in it.
    pub spot: Spot,
}

/// Where in its file something stands, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spot {
    /// The file as a whole.
    File,
    /// The line in which the record begins.
    Line(u64),
    /// The row.
    Row(u64),
}

impl Place {
    /// A file as a whole.
    pub fn file(file: &Path) -> Self {
        Self { file: file.to_owned(), spot: Spot::File }
    }

    /// A line of a file, from 1.
    pub fn line(file: &Path, line: u64) -> Self {
        Self { file: file.to_owned(), spot: Spot::Line(line) }
    }

    /// A row of a file, from 1.
    pub fn row(file: &Path, row: u64) -> Self {
        Self { file: file.to_owned(), spot: Spot::Row(row) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        match self.spot {
            Spot::File => Ok(()),
            Spot::Line(n) => write!(f, ", line {n}"),
            Spot::Row(n) => write!(f, ", row {n}"),
        }
    }
}

/// Why a type does not take a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It is written as something else.
    Form,
    /// It is smaller or larger than anything the type holds.
    Range,
    /// It has more digits after the point than the type holds.
    Digits,
    /// It is longer than the type holds.
    TooLong,
    /// It has not the type's fixed length.
    Length,
    /// The type holds only something near it.
    Inexact,
}

/// Why a column refuses a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong with the value.
    pub wrong: Wrong,
    /// The type that refuses it; for a list the type of the item.
    pub column_type: ColumnType,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sql = self.column_type.sql();
        match self.wrong {
            Wrong::Form => write!(f, "is not {} {sql}", if sql.starts_with("INT") { "an" } else { "a" }),
            Wrong::Range => write!(f, "is out of range for {sql}"),
            Wrong::Digits => write!(f, "has more digits after the point than {sql} holds"),
            Wrong::TooLong => write!(f, "is longer than {sql} holds"),
            Wrong::Length => write!(f, "has not the length of {sql}"),
            Wrong::Inexact => write!(f, "cannot be held exactly by {sql}"),
        }
    }
}

/// Why a file could not be imported or exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilesError {
    /// The file system refused.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The format is neither given nor known by the file's name.
    #[error("{path}: the name does not tell whether it is CSV, JSON lines or Parquet")]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// The file breaks the rules of its format, or is cut off.
    #[error("{place}: {reason}")]
    Malformed {
        /// Where.
        place: Place,
        /// Which rule.
        reason: String,
    },
    /// A value is not one of its column's type.
    #[error("{place}, column '{column}': '{value}' {refusal}")]
    Value {
        /// Where.
        place: Place,
        /// The column.
        column: String,
        /// The value, shortened.
        value: String,
        /// Why it is refused.
        refusal: Refusal,
    },
    /// A value of another type does not become one of its column's type.
    #[error("{place}, column '{column}': {value} is refused, {reason}")]
    Refused {
        /// Where.
        place: Place,
        /// The column.
        column: String,
        /// The value, shortened.
        value: String,
        /// What the column asks for.
        reason: String,
    },
    /// NULL, or nothing, stands where a value is needed.
    #[error("{place}, column '{column}': NULL in a column that is {because}")]
    Null {
        /// Where.
        place: Place,
        /// The column.
        column: String,
        /// `NOT NULL`, or part of the key.
        because: &'static str,
    },
    /// The file's columns are not those of the table, or contradict themselves.
    #[error("{place}: column '{column}' {reason}")]
    Columns {
        /// Where.
        place: Place,
        /// The column.
        column: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Files that were named together are not of one table.
    #[error("{path}: column '{column}' {reason}, unlike {other}")]
    Disagree {
        /// The file that differs.
        path: PathBuf,
        /// The file before it.
        other: PathBuf,
        /// The column.
        column: String,
        /// How they differ.
        reason: String,
    },
    /// The file is not Parquet, or is damaged or cut off.
    #[error("{place}: not readable as Parquet: {reason}")]
    Parquet {
        /// Where.
        place: Place,
        /// What the reader says, on one line.
        reason: String,
        /// The cause; none where the reader gave up without one.
        #[source]
        source: Option<ParquetError>,
    },
    /// A column has a type that the table's column does not take, or that no table has.
    #[error("{path}: column '{column}' has type {found}, which does not become {wanted}")]
    UnsupportedType {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// The type as Arrow calls it.
        found: String,
        /// The type it should become.
        wanted: String,
    },
    /// The files hold nothing from which columns could be told.
    #[error("{path} is empty: it names no columns")]
    Empty {
        /// The first file.
        path: PathBuf,
    },
    /// A file of that name exists already.
    #[error("{path} exists already")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Options that contradict each other or make no sense.
    #[error("option '{option}' {reason}")]
    Options {
        /// The option.
        option: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A schema or a batch of the model is not well formed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Rows could not be put together.
    #[error("rows of {path} could not be put together: {source}")]
    Rows {
        /// The file.
        path: PathBuf,
        /// What Arrow says.
        #[source]
        source: ArrowError,
    },
}

impl FilesError {
    pub(crate) fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { what, path: path.to_owned(), source }
    }

    pub(crate) fn parquet(place: Place) -> impl FnOnce(ParquetError) -> Self {
        move |source| Self::Parquet { place, reason: line(&source.to_string()), source: Some(source) }
    }

    pub(crate) fn rows(path: &Path) -> impl FnOnce(ArrowError) -> Self {
        let path = path.to_owned();
        move |source| Self::Rows { path, source }
    }
}

impl Coded for FilesError {
    fn code(&self) -> Code {
        Code(match self {
            Self::Io { .. } => 750,
            Self::UnknownFormat { .. } => 751,
            Self::Malformed { .. } => 752,
            Self::Value { .. } | Self::Refused { .. } => 753,
            Self::Null { .. } => 754,
            Self::Columns { .. } => 755,
            Self::Disagree { .. } => 756,
            Self::Parquet { .. } => 757,
            Self::UnsupportedType { .. } => 758,
            Self::Empty { .. } => 759,
            Self::Exists { .. } => 760,
            Self::Options { .. } => 761,
            Self::Rows { .. } => 762,
            Self::Model(e) => return e.code(),
        })
    }

    fn class(&self) -> Class {
        match self {
            Self::Io { source, .. }
                if matches!(source.kind(), io::ErrorKind::Interrupted | io::ErrorKind::TimedOut) =>
            {
                Class::Retry
            }
            Self::Rows { .. } => Class::Bug,
            Self::Model(e) => e.class(),
            _ => Class::Fix,
        }
    }

    fn next_step(&self) -> String {
        match self {
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => "Check the path.",
                io::ErrorKind::PermissionDenied => "Grant the permission, or use another folder.",
                io::ErrorKind::StorageFull => "Make room, then run the same command again.",
                _ => "Check the file and its folder, then run the same command again.",
            },
            Self::UnknownFormat { .. } => {
                "Name the format, or end the name in .csv, .tsv, .jsonl, .ndjson, .json or .parquet."
            }
            Self::Malformed { .. } => "Correct the file there, or write it again.",
            Self::Value { .. } | Self::Refused { .. } => {
                "Correct the value, or import into a column of another type."
            }
            Self::Null { .. } => "Fill in the value, or leave the column out of the key or allow NULL in it.",
            Self::Columns { .. } => {
                "Give the file's columns the names of the table's columns, each of them once."
            }
            Self::Disagree { .. } => "Import the files one by one, or make their columns agree.",
            Self::Parquet { .. } => "Check that the file is complete, or write it again.",
            Self::UnsupportedType { .. } => {
                "Leave the column out, or write it as text, JSON or columns of their own."
            }
            Self::Empty { .. } => "Name a file that has a header or rows, or create the table first.",
            Self::Exists { .. } => "Choose another name, or allow it to be overwritten.",
            Self::Options { .. } => "Correct the option.",
            Self::Rows { .. } => "This is a defect of Keepfast; please report it with the code.",
            Self::Model(e) => return e.next_step(),
        }
        .to_owned()
    }
}

/// Text as an error shows it: on one line, and not longer than 40 characters.
pub(crate) fn shown(text: &str) -> String {
    const MOST: usize = 40;
    let escape = |c: char| -> String {
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}') {
            c.escape_default().collect()
        } else {
            c.to_string()
        }
    };
    let mut out: String = text.chars().take(MOST).map(escape).collect();
    if text.chars().nth(MOST).is_some() {
        out.push('…');
    }
    out
}

/// A message of another library on one line.
pub(crate) fn line(text: &str) -> String {
    text.split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|w| !w.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_error_names_file_line_column_and_value() {
        let error = FilesError::Value {
            place: Place::line(Path::new("people.csv"), 7),
            column: "age".into(),
            value: shown("abc"),
            refusal: Refusal { wrong: Wrong::Form, column_type: ColumnType::Int32 },
        };
        assert_eq!(error.to_string(), "people.csv, line 7, column 'age': 'abc' is not an INT");
        assert_eq!(error.code().to_string(), "KF0753");
    }

    #[test]
    fn long_values_and_control_characters_are_shown_on_one_short_line() {
        assert_eq!(shown("a\nb"), "a\\nb");
        assert_eq!(shown(&"é".repeat(41)), format!("{}…", "é".repeat(40)));
        assert_eq!(shown(&"é".repeat(40)), "é".repeat(40));
    }
}
