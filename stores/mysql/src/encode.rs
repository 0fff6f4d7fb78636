//! Rows as the text that `LOAD DATA` reads, value by value as exact as they were read.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use jiff::Span;
use jiff::civil::{Date, date};
use keepfast_model::{Column, ColumnType, TableSchema, hidden};
use std::collections::BTreeMap;
use std::io::Write as _;

/// What of a schema is loaded, and how.
#[derive(Debug)]
pub(crate) struct Encoder {
    columns: Vec<(usize, Form)>,
    ids: Vec<u32>,
}

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Int8,
    Int16,
    Year,
    Int32,
    Int64,
    Decimal(u8),
    Float32,
    Float64,
    Text,
    Bytes,
    Date,
    Time,
    Moment,
}

/// Why a row cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(pub String);

impl Encoder {
    /// For these columns of the schema, by position.
    pub fn new(schema: &TableSchema, columns: &[usize]) -> Self {
        let form = |column: &Column| match &column.column_type {
            ColumnType::Int8 | ColumnType::Boolean => Form::Int8,
            ColumnType::Int16 if column.origin.as_deref().is_some_and(|o| o.starts_with("year")) => {
                Form::Year
            }
            ColumnType::Int16 | ColumnType::UInt8 => Form::Int16,
            ColumnType::Int32 | ColumnType::UInt16 => Form::Int32,
            ColumnType::Int64 | ColumnType::UInt32 => Form::Int64,
            ColumnType::UInt64 => Form::Decimal(0),
            ColumnType::Decimal { scale, .. } => Form::Decimal(*scale),
            ColumnType::Float32 => Form::Float32,
            ColumnType::Float64 => Form::Float64,
            ColumnType::Date => Form::Date,
            ColumnType::Time => Form::Time,
            ColumnType::Timestamp { .. } => Form::Moment,
            ColumnType::Binary { .. } | ColumnType::Varbinary { .. } | ColumnType::Blob => Form::Bytes,
            _ => Form::Text,
        };
        Self {
            columns: columns.iter().map(|at| (*at, form(&schema.columns[*at]))).collect(),
            ids: schema.columns.iter().map(|c| c.id.0).collect(),
        }
    }

    /// Appends each row of a physical batch to one of the files; `routes` says to which, none means the first.
    pub fn write(
        &self,
        batch: &RecordBatch,
        routes: Option<&[u32]>,
        files: &mut [Vec<u8>],
    ) -> Result<(), Refused> {
        let exact = batch.schema().index_of(hidden::EXACT).ok().map(|at| batch.column(at).clone());
        for row in 0..batch.num_rows() {
            let exact = exact_of(exact.as_ref(), row)?;
            let out = &mut files[routes.map_or(0, |routes| routes[row] as usize)];
            for (n, (at, form)) in self.columns.iter().enumerate() {
                if n > 0 {
                    out.push(b'\t');
                }
                let array = batch.column(*at);
                if array.is_valid(row) {
                    form.write(array, row, out)?;
                } else if let Some(text) = exact.get(&self.ids[*at].to_string()) {
                    escape(text.as_bytes(), out);
                } else {
                    out.extend(b"\\N");
                }
            }
            out.push(b'\n');
        }
        Ok(())
    }
}

/// Exact values of a row by column id.
fn exact_of(column: Option<&ArrayRef>, row: usize) -> Result<BTreeMap<String, String>, Refused> {
    match column.and_then(|column| column.as_string_opt::<i32>()).filter(|column| column.is_valid(row)) {
        None => Ok(BTreeMap::new()),
        Some(column) => serde_json::from_str(column.value(row))
            .map_err(|e| Refused(format!("the exact values of a row are no JSON object of texts: {e}"))),
    }
}

impl Form {
    fn write(self, array: &ArrayRef, row: usize, out: &mut Vec<u8>) -> Result<(), Refused> {
        // Writing to memory does not fail.
        let _ = match self {
            Self::Int8 => match array.as_boolean_opt() {
                Some(array) => write!(out, "{}", u8::from(array.value(row))),
                None => write!(out, "{}", array.as_primitive::<Int8Type>().value(row)),
            },
            Self::Int16 => write!(out, "{}", array.as_primitive::<Int16Type>().value(row)),
            Self::Year => write!(out, "{:04}", array.as_primitive::<Int16Type>().value(row)),
            Self::Int32 => write!(out, "{}", array.as_primitive::<Int32Type>().value(row)),
            Self::Int64 => write!(out, "{}", array.as_primitive::<Int64Type>().value(row)),
            Self::Decimal(scale) => {
                decimal(array.as_primitive::<Decimal128Type>().value(row), scale, out);
                Ok(())
            }
            Self::Float32 => float(array.as_primitive::<Float32Type>().value(row).into(), out)?,
            Self::Float64 => float(array.as_primitive::<Float64Type>().value(row), out)?,
            Self::Text => {
                escape(array.as_string::<i32>().value(row).as_bytes(), out);
                Ok(())
            }
            Self::Bytes => {
                escape(array.as_binary::<i32>().value(row), out);
                Ok(())
            }
            Self::Date => {
                let day = day(i64::from(array.as_primitive::<Date32Type>().value(row)))?;
                write!(out, "{:04}-{:02}-{:02}", day.year(), day.month(), day.day())
            }
            Self::Time => time(array.as_primitive::<Int64Type>().value(row), out),
            Self::Moment => {
                let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
                let day = day(micros.div_euclid(DAY))?;
                let _ = write!(out, "{:04}-{:02}-{:02} ", day.year(), day.month(), day.day());
                time(micros.rem_euclid(DAY), out)
            }
        };
        Ok(())
    }
}

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

fn day(days: i64) -> Result<Date, Refused> {
    let refuse = || Refused(format!("day {days} after 1970-01-01 is in no calendar that the server has"));
    let span: Span = Span::new().try_days(days).map_err(|_| refuse())?;
    let day = date(1970, 1, 1).checked_add(span).map_err(|_| refuse())?;
    if (0..=9999).contains(&day.year()) { Ok(day) } else { Err(refuse()) }
}

fn time(micros: i64, out: &mut Vec<u8>) -> std::io::Result<()> {
    let (seconds, part) = (micros / 1_000_000, micros % 1_000_000);
    write!(out, "{:02}:{:02}:{:02}.{part:06}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn decimal(unscaled: i128, scale: u8, out: &mut Vec<u8>) {
    let sign = if unscaled < 0 { "-" } else { "" };
    let digits = format!("{:0width$}", unscaled.unsigned_abs(), width = usize::from(scale) + 1);
    let (whole, part) = digits.split_at(digits.len() - usize::from(scale));
    let _ = match part {
        "" => write!(out, "{sign}{whole}"),
        part => write!(out, "{sign}{whole}.{part}"),
    };
}

/// The shortest text that is this number and no other.
fn float(number: f64, out: &mut Vec<u8>) -> Result<std::io::Result<()>, Refused> {
    match number.is_finite() {
        true => Ok(write!(out, "{number:e}")),
        false => Err(Refused(format!("the server has no number {number}"))),
    }
}

/// What separates values and rows stands behind a backslash.
fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        match byte {
            b'\\' | b'\t' | b'\n' => out.extend([b'\\', *byte]),
            0 => out.extend(b"\\0"),
            other => out.push(*other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = vec![];
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_are_written_as_the_server_reads_them() {
        assert_eq!(text(|out| decimal(-5, 2, out)), "-0.05");
        assert_eq!(text(|out| decimal(1250, 2, out)), "12.50");
        assert_eq!(text(|out| decimal(7, 0, out)), "7");
        assert_eq!(text(|out| escape(b"a\tb\nc\\d\0e", out)), "a\\\tb\\\nc\\\\d\\0e");
        assert_eq!(text(|out| time(45_000_500_000, out).unwrap()), "12:30:00.500000");
        assert_eq!(day(-354_285).unwrap(), date(1000, 1, 1));
        assert!(day(100_000_000).is_err());
        assert!(float(f64::NAN, &mut vec![]).is_err());
        assert_eq!(text(|out| float(f64::from(0.1_f32), out).unwrap().unwrap()), "1.0000000149011612e-1");
    }
}
