//! Rows as the text that `LOAD DATA` reads, value by value as exact as they were read.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array,
    Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::NullBuffer;
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
        let exact = batch.schema().index_of(hidden::EXACT).ok();
        let exact = exact.and_then(|at| batch.column(at).as_string_opt::<i32>());
        let mut columns: Vec<(Option<&NullBuffer>, Values<'_>, String)> = vec![];
        for (at, form) in &self.columns {
            let array = batch.column(*at);
            columns.push((array.nulls(), form.values(array), self.ids[*at].to_string()));
        }
        for row in 0..batch.num_rows() {
            let exact = exact_of(exact, row)?;
            let out = &mut files[routes.map_or(0, |routes| routes[row] as usize)];
            for (n, (nulls, values, id)) in columns.iter_mut().enumerate() {
                if n > 0 {
                    out.push(b'\t');
                }
                if nulls.is_none_or(|nulls| nulls.is_valid(row)) {
                    values.write(row, out)?;
                } else if let Some(text) = exact.as_ref().and_then(|exact| exact.get(id)) {
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

/// Exact values of a row by column id; none where it has none.
fn exact_of(column: Option<&StringArray>, row: usize) -> Result<Option<BTreeMap<String, String>>, Refused> {
    let Some(column) = column.filter(|column| column.is_valid(row)) else { return Ok(None) };
    let exact = serde_json::from_str(column.value(row));
    exact
        .map(Some)
        .map_err(|e| Refused(format!("the exact values of a row are no JSON object of texts: {e}")))
}

/// The values of a column in a batch.
enum Values<'a> {
    Boolean(&'a BooleanArray),
    Int8(&'a Int8Array),
    Int16(&'a Int16Array),
    Year(&'a Int16Array),
    Int32(&'a Int32Array),
    Int64(&'a Int64Array),
    Decimal(&'a Decimal128Array, u8),
    Float32(&'a Float32Array),
    Float64(&'a Float64Array),
    Text(&'a StringArray),
    Bytes(&'a BinaryArray),
    Date(&'a Date32Array, LastDay),
    Time(&'a Int64Array),
    Moment(&'a TimestampMicrosecondArray, LastDay),
}

impl Form {
    fn values(self, array: &ArrayRef) -> Values<'_> {
        match self {
            Self::Int8 => match array.as_boolean_opt() {
                Some(array) => Values::Boolean(array),
                None => Values::Int8(array.as_primitive()),
            },
            Self::Int16 => Values::Int16(array.as_primitive()),
            Self::Year => Values::Year(array.as_primitive()),
            Self::Int32 => Values::Int32(array.as_primitive()),
            Self::Int64 => Values::Int64(array.as_primitive()),
            Self::Decimal(scale) => Values::Decimal(array.as_primitive(), scale),
            Self::Float32 => Values::Float32(array.as_primitive()),
            Self::Float64 => Values::Float64(array.as_primitive()),
            Self::Text => Values::Text(array.as_string()),
            Self::Bytes => Values::Bytes(array.as_binary()),
            Self::Date => Values::Date(array.as_primitive(), LastDay::default()),
            Self::Time => Values::Time(array.as_primitive()),
            Self::Moment => Values::Moment(array.as_primitive(), LastDay::default()),
        }
    }
}

impl Values<'_> {
    fn write(&mut self, row: usize, out: &mut Vec<u8>) -> Result<(), Refused> {
        match self {
            Self::Boolean(array) => out.push(b'0' + u8::from(array.value(row))),
            Self::Int8(array) => digits(array.value(row), out),
            Self::Int16(array) => digits(array.value(row), out),
            Self::Year(array) => padded(array.value(row).unsigned_abs().into(), 4, out),
            Self::Int32(array) => digits(array.value(row), out),
            Self::Int64(array) => digits(array.value(row), out),
            Self::Decimal(array, scale) => decimal(array.value(row), *scale, out),
            Self::Float32(array) => float(array.value(row).into(), out)?,
            Self::Float64(array) => float(array.value(row), out)?,
            Self::Text(array) => escape(array.value(row).as_bytes(), out),
            Self::Bytes(array) => escape(array.value(row), out),
            Self::Date(array, last) => last.write(array.value(row).into(), out)?,
            Self::Time(array) => time(array.value(row), out),
            Self::Moment(array, last) => {
                let micros = array.value(row);
                last.write(micros.div_euclid(DAY), out)?;
                out.push(b' ');
                time(micros.rem_euclid(DAY), out);
            }
        }
        Ok(())
    }
}

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

/// A day and its text: neighbouring rows often have the same one.
#[derive(Default)]
struct LastDay(Option<(i64, Vec<u8>)>);

impl LastDay {
    fn write(&mut self, days: i64, out: &mut Vec<u8>) -> Result<(), Refused> {
        if self.0.as_ref().is_none_or(|(last, _)| *last != days) {
            let day = day(days)?;
            let mut text = vec![];
            padded(day.year().unsigned_abs().into(), 4, &mut text);
            text.push(b'-');
            padded(day.month().unsigned_abs().into(), 2, &mut text);
            text.push(b'-');
            padded(day.day().unsigned_abs().into(), 2, &mut text);
            self.0 = Some((days, text));
        }
        out.extend(self.0.iter().flat_map(|(_, text)| text));
        Ok(())
    }
}

fn day(days: i64) -> Result<Date, Refused> {
    let refuse = || Refused(format!("day {days} after 1970-01-01 is in no calendar that the server has"));
    let span: Span = Span::new().try_days(days).map_err(|_| refuse())?;
    let day = date(1970, 1, 1).checked_add(span).map_err(|_| refuse())?;
    if (0..=9999).contains(&day.year()) { Ok(day) } else { Err(refuse()) }
}

fn digits(number: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend(itoa::Buffer::new().format(number).as_bytes());
}

/// A number with zeros before it, at least so wide.
fn padded(number: u128, width: usize, out: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    let text = match u64::try_from(number) {
        Ok(number) => buffer.format(number),
        Err(_) => buffer.format(number),
    };
    out.extend(std::iter::repeat_n(b'0', width.saturating_sub(text.len())));
    out.extend(text.as_bytes());
}

fn time(micros: i64, out: &mut Vec<u8>) {
    if micros < 0 {
        out.push(b'-');
    }
    let micros = u128::from(micros.unsigned_abs());
    let (seconds, part) = (micros / 1_000_000, micros % 1_000_000);
    padded(seconds / 3600, 2, out);
    out.push(b':');
    padded(seconds / 60 % 60, 2, out);
    out.push(b':');
    padded(seconds % 60, 2, out);
    out.push(b'.');
    padded(part, 6, out);
}

fn decimal(unscaled: i128, scale: u8, out: &mut Vec<u8>) {
    if unscaled < 0 {
        out.push(b'-');
    }
    padded(unscaled.unsigned_abs(), usize::from(scale) + 1, out);
    if scale > 0 {
        out.insert(out.len() - usize::from(scale), b'.');
    }
}

/// The shortest text that is this number and no other.
fn float(number: f64, out: &mut Vec<u8>) -> Result<(), Refused> {
    if !number.is_finite() {
        return Err(Refused(format!("the server has no number {number}")));
    }
    // Writing to memory does not fail.
    let _ = write!(out, "{number:e}");
    Ok(())
}

/// What separates values and rows stands behind a backslash.
fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\\' | b'\t' | b'\n' | 0)) {
        out.extend(&rest[..at]);
        out.extend([b'\\', if rest[at] == 0 { b'0' } else { rest[at] }]);
        rest = &rest[at + 1..];
    }
    out.extend(rest);
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
        assert_eq!(text(|out| time(45_000_500_000, out)), "12:30:00.500000");
        assert_eq!(text(|out| time(-3_020_399_000_001, out)), "-838:59:59.000001");
        assert_eq!(text(|out| decimal(i128::MIN, 30, out)), "-170141183.460469231731687303715884105728");
        assert_eq!(text(|out| escape(b"", out)), "");
        assert_eq!(text(|out| padded(7, 4, out)), "0007");
        let mut last = LastDay::default();
        let days =
            text(|out| [0, 0, -719_528, 2_932_896].iter().for_each(|day| last.write(*day, out).unwrap()));
        assert_eq!(days, "1970-01-011970-01-010000-01-019999-12-31");
        assert_eq!(day(-354_285).unwrap(), date(1000, 1, 1));
        assert!(day(100_000_000).is_err());
        assert!(float(f64::NAN, &mut vec![]).is_err());
        assert_eq!(text(|out| float(f64::from(0.1_f32), out).unwrap()), "1.0000000149011612e-1");
    }
}
