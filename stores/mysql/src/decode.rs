//! Rows in the binary form as columns, with the exact text of what no column can hold.

use crate::wire::WireError;
use crate::wire::codec::Reader;
use crate::wire::reply::{ColumnHead, UNSIGNED};
use arrow::array::{
    ArrayRef, BinaryBuilder, Date32Builder, Decimal128Builder, Float32Builder, Float64Builder, Int8Builder,
    Int16Builder, Int32Builder, Int64Builder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use keepfast_model::{ColumnId, ColumnType, TableSchema, hidden};
use std::fmt::Write as _;
use std::sync::Arc;

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

/// Columns that grow row by row.
#[derive(Debug)]
pub(crate) struct Decoder {
    schema: SchemaRef,
    columns: Vec<Growing>,
    ids: Vec<ColumnId>,
    exact: Option<StringBuilder>,
    rows: usize,
    bytes: usize,
}

#[derive(Debug)]
enum Growing {
    Int8(Int8Builder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    /// Unsigned numbers of 64 bits.
    Wide(Decimal128Builder),
    Bits(Decimal128Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal(Decimal128Builder, u8, u8),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Date(Date32Builder),
    Time(Int64Builder),
    Moment(TimestampMicrosecondBuilder),
}

/// What a value is.
enum Value {
    Held,
    /// No column holds it: its text.
    Exact(String),
}

impl Decoder {
    /// For rows of these columns. `exact` says whether the table has the hidden column.
    pub fn new(table: &TableSchema, exact: bool) -> Self {
        let mut fields: Vec<Arc<Field>> = table.physical().fields().iter().cloned().collect();
        if exact {
            fields.push(Arc::new(Field::new(hidden::EXACT, DataType::Utf8, true)));
        }
        Self {
            schema: Arc::new(Schema::new(fields)),
            columns: table.columns.iter().map(|c| Growing::of(&c.column_type, c.origin.as_deref())).collect(),
            ids: table.columns.iter().map(|c| c.id).collect(),
            exact: exact.then(StringBuilder::new),
            rows: 0,
            bytes: 0,
        }
    }

    /// Rows since the last batch.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes since the last batch, as they came.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a row as the server sent it, behind its first byte.
    pub fn push(&mut self, heads: &[ColumnHead], row: &[u8]) -> Result<(), WireError> {
        if heads.len() != self.columns.len() {
            return Err(WireError::Malformed("rows have other columns than the table"));
        }
        let mut reader = Reader(row);
        let nulls = reader.take((heads.len() + 7 + 2) / 8)?;
        let mut exact = String::new();
        for (at, (column, head)) in self.columns.iter_mut().zip(heads).enumerate() {
            if nulls[(at + 2) / 8] & (1 << ((at + 2) % 8)) != 0 {
                column.push_null();
                continue;
            }
            match column.push(head, &mut reader)? {
                Value::Held => {}
                Value::Exact(text) => {
                    column.push_null();
                    let comma = if exact.is_empty() { '{' } else { ',' };
                    // Such texts are digits and signs.
                    let _ = write!(exact, "{comma}\"{}\":\"{text}\"", self.ids[at].0);
                }
            }
        }
        if !reader.is_empty() {
            return Err(WireError::Malformed("a row is longer than its columns"));
        }
        match (&mut self.exact, exact.is_empty()) {
            (Some(builder), true) => builder.append_null(),
            (Some(builder), false) => {
                exact.push('}');
                builder.append_value(exact);
            }
            (None, true) => {}
            (None, false) => {
                return Err(WireError::Malformed("a value of a table without exact values is one"));
            }
        }
        self.rows += 1;
        self.bytes += row.len();
        Ok(())
    }

    /// The rows since the last batch.
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let arrays = self.arrays()?;
        RecordBatch::try_new(self.schema.clone(), arrays)
    }

    /// The columns of the rows since the last batch, the hidden one last.
    pub fn arrays(&mut self) -> Result<Vec<ArrayRef>, ArrowError> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let mut arrays: Vec<ArrayRef> =
            self.columns.iter_mut().map(|column| column.finish(rows)).collect::<Result<_, _>>()?;
        if let Some(exact) = &mut self.exact {
            arrays.push(Arc::new(exact.finish()));
        }
        Ok(arrays)
    }
}

impl Growing {
    fn of(column_type: &ColumnType, origin: Option<&str>) -> Self {
        let decimal = |p, s| Decimal128Builder::new().with_data_type(DataType::Decimal128(p, s));
        match column_type {
            ColumnType::UInt64 if origin.is_some_and(|o| o.starts_with("bit")) => Self::Bits(decimal(20, 0)),
            ColumnType::UInt64 => Self::Wide(decimal(20, 0)),
            ColumnType::Decimal { precision, scale } => {
                Self::Decimal(decimal(*precision, *scale as i8), *precision, *scale)
            }
            ColumnType::Date => Self::Date(Date32Builder::new()),
            ColumnType::Time => Self::Time(Int64Builder::new()),
            ColumnType::Timestamp { zone } => {
                let zone = zone.then(|| Arc::from("UTC"));
                Self::Moment(TimestampMicrosecondBuilder::new().with_timezone_opt(zone))
            }
            ColumnType::Float32 => Self::Float32(Float32Builder::new()),
            ColumnType::Float64 => Self::Float64(Float64Builder::new()),
            other => match other.physical() {
                DataType::Int8 => Self::Int8(Int8Builder::new()),
                DataType::Int16 => Self::Int16(Int16Builder::new()),
                DataType::Int32 => Self::Int32(Int32Builder::new()),
                DataType::Int64 => Self::Int64(Int64Builder::new()),
                DataType::Binary => Self::Bytes(BinaryBuilder::new()),
                _ => Self::Text(StringBuilder::new()),
            },
        }
    }

    fn push_null(&mut self) {
        match self {
            Self::Int8(b) => b.append_null(),
            Self::Int16(b) => b.append_null(),
            Self::Int32(b) => b.append_null(),
            Self::Int64(b) | Self::Time(b) => b.append_null(),
            Self::Wide(b) | Self::Bits(b) | Self::Decimal(b, ..) => b.append_null(),
            Self::Float32(b) => b.append_null(),
            Self::Float64(b) => b.append_null(),
            Self::Text(b) => b.append_null(),
            Self::Bytes(b) => b.append_null(),
            Self::Date(b) => b.append_null(),
            Self::Moment(b) => b.append_null(),
        }
    }

    fn push(&mut self, head: &ColumnHead, reader: &mut Reader<'_>) -> Result<Value, WireError> {
        match self {
            Self::Int8(b) => b.append_value(narrow(integer(head, reader)?)?),
            Self::Int16(b) => b.append_value(narrow(integer(head, reader)?)?),
            Self::Int32(b) => b.append_value(narrow(integer(head, reader)?)?),
            Self::Int64(b) => b.append_value(narrow(integer(head, reader)?)?),
            Self::Wide(b) => b.append_value(match (head.kind, head.flags & UNSIGNED != 0) {
                (8, true) => reader.u64()?.into(),
                _ => integer(head, reader)?.into(),
            }),
            Self::Bits(b) => b.append_value(bits(reader.bytes()?)?),
            Self::Float32(b) => b.append_value(f32::from_le_bytes(reader.array()?)),
            Self::Float64(b) => b.append_value(f64::from_le_bytes(reader.array()?)),
            Self::Text(b) => {
                let text = std::str::from_utf8(reader.bytes()?);
                b.append_value(text.map_err(|_| WireError::Malformed("a text is not UTF-8"))?);
            }
            Self::Bytes(b) => b.append_value(reader.bytes()?),
            Self::Decimal(b, precision, scale) => {
                let text = reader.bytes()?;
                match unscaled(text, *precision, *scale) {
                    Some(unscaled) => b.append_value(unscaled),
                    None => return ascii(text).map(Value::Exact),
                }
            }
            Self::Date(b) => {
                let when = When::read(reader)?;
                match when.day() {
                    Some(day) => b.append_value(day),
                    None => return Ok(Value::Exact(when.date())),
                }
            }
            Self::Moment(b) => {
                let when = When::read(reader)?;
                match when.day() {
                    Some(day) => b.append_value(i64::from(day) * DAY + when.of_day()),
                    None => return Ok(Value::Exact(when.moment())),
                }
            }
            Self::Time(b) => {
                let (negative, micros) = duration(reader)?;
                if negative || micros >= DAY {
                    return Ok(Value::Exact(duration_text(negative, micros)));
                }
                b.append_value(micros);
            }
        }
        Ok(Value::Held)
    }

    /// The values so far; `rows` more of them will find room.
    fn finish(&mut self, rows: usize) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Int8(b) => Arc::new(b.finish()),
            Self::Int16(b) => Arc::new(b.finish()),
            Self::Int32(b) => Arc::new(b.finish()),
            Self::Int64(b) | Self::Time(b) => Arc::new(b.finish()),
            Self::Wide(b) | Self::Bits(b) | Self::Decimal(b, ..) => Arc::new(b.finish()),
            Self::Float32(b) => Arc::new(b.finish()),
            Self::Float64(b) => Arc::new(b.finish()),
            // The next batch is mostly as large, and growing step by step copies all of it.
            Self::Text(b) => {
                let room = StringBuilder::with_capacity(rows, b.values_slice().len() / 8 * 9);
                Arc::new(std::mem::replace(b, room).finish())
            }
            Self::Bytes(b) => {
                let room = BinaryBuilder::with_capacity(rows, b.values_slice().len() / 8 * 9);
                Arc::new(std::mem::replace(b, room).finish())
            }
            Self::Date(b) => Arc::new(b.finish()),
            Self::Moment(b) => Arc::new(b.finish()),
        })
    }
}

/// An integer of any width, as the column's head says.
fn integer(head: &ColumnHead, reader: &mut Reader<'_>) -> Result<i64, WireError> {
    let unsigned = head.flags & UNSIGNED != 0;
    Ok(match (head.kind, unsigned) {
        (1, false) => i8::from_le_bytes(reader.array()?).into(),
        (1, true) => reader.u8()?.into(),
        (2, false) => i16::from_le_bytes(reader.array()?).into(),
        (2, true) | (13, _) => reader.u16()?.into(),
        (3 | 9, false) => i32::from_le_bytes(reader.array()?).into(),
        (3 | 9, true) => reader.u32()?.into(),
        (8, false) => i64::from_le_bytes(reader.array()?),
        (8, true) => narrow(reader.u64()?)?,
        _ => return Err(WireError::Malformed("a number is of another kind")),
    })
}

fn narrow<T: TryFrom<N>, N>(number: N) -> Result<T, WireError> {
    T::try_from(number).map_err(|_| WireError::Malformed("a number is larger than its column"))
}

/// Up to eight bytes, the first ones highest.
fn bits(bytes: &[u8]) -> Result<i128, WireError> {
    if bytes.len() > 8 {
        return Err(WireError::Malformed("a number is larger than its column"));
    }
    Ok(bytes.iter().fold(0, |number, byte| (number << 8) | i128::from(*byte)))
}

/// Powers of ten up to the eighteenth.
const POWERS: [u64; 19] = {
    let mut powers = [1; 19];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = powers[at - 1] * 10;
        at += 1;
    }
    powers
};

/// A decimal's digits without its point; none where there are too many.
fn unscaled(text: &[u8], precision: u8, scale: u8) -> Option<i128> {
    let (negative, digits) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, text),
    };
    let (whole, part) = match digits.iter().position(|b| *b == b'.') {
        Some(at) => (&digits[..at], &digits[at + 1..]),
        None => (digits, &[][..]),
    };
    if part.len() > usize::from(scale) {
        return None;
    }
    let missing = usize::from(scale) - part.len();
    let mut number = 0_i128;
    // So many digits fit into 64 bits, and are faster there.
    for digits in whole.chunks(18).chain(part.chunks(18)) {
        let mut few = 0_u64;
        for digit in digits {
            few = few * 10 + u64::from(digit.checked_sub(b'0').filter(|d| *d < 10)?);
        }
        number = number.checked_mul(POWERS[digits.len()].into())?.checked_add(few.into())?;
    }
    for _ in 0..missing {
        number = number.checked_mul(10)?;
    }
    (number < 10_i128.pow(precision.into())).then_some(if negative { -number } else { number })
}

fn ascii(text: &[u8]) -> Result<String, WireError> {
    let plain = text.iter().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'+'));
    match std::str::from_utf8(text) {
        Ok(text) if plain => Ok(text.to_owned()),
        _ => Err(WireError::Malformed("a decimal is none")),
    }
}

/// A date with its time of day, which may be one that no calendar has.
struct When {
    year: u16,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
    micros: u32,
}

impl When {
    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let mut when = Self { year: 0, month: 0, day: 0, hour: 0, minute: 0, second: 0, micros: 0 };
        let length = reader.u8()?;
        if !matches!(length, 0 | 4 | 7 | 11) {
            return Err(WireError::Malformed("a date is none"));
        }
        if length >= 4 {
            (when.year, when.month, when.day) = (reader.u16()?, reader.u8()?, reader.u8()?);
        }
        if length >= 7 {
            (when.hour, when.minute, when.second) = (reader.u8()?, reader.u8()?, reader.u8()?);
        }
        if length == 11 {
            when.micros = reader.u32()?;
        }
        Ok(when)
    }

    /// Days since 1970, where the calendar has the day.
    fn day(&self) -> Option<i32> {
        // The calendar's year 0 is one that the server has no dates in.
        let year = Some(self.year).filter(|year| *year > 0)?;
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let length = match self.month {
            4 | 6 | 9 | 11 => 30,
            2 => 28 + u8::from(leap),
            1..=12 => 31,
            _ => return None,
        };
        if !(1..=length).contains(&self.day) || year > 9999 {
            return None;
        }
        // Years are counted from March, so that the leap day is the last one; eras have 400 of them.
        let (month, day) = (i32::from(self.month), i32::from(self.day));
        let year = i32::from(year) - i32::from(month < 3);
        let (era, of_era) = (year / 400, year % 400);
        let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
    }

    fn of_day(&self) -> i64 {
        let seconds = i64::from(self.hour) * 3600 + i64::from(self.minute) * 60 + i64::from(self.second);
        seconds * 1_000_000 + i64::from(self.micros)
    }

    fn date(&self) -> String {
        format!("{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }

    fn moment(&self) -> String {
        let (date, hour, minute, second) = (self.date(), self.hour, self.minute, self.second);
        format!("{date} {hour:02}:{minute:02}:{second:02}.{:06}", self.micros)
    }
}

/// Sign and microseconds of a time.
fn duration(reader: &mut Reader<'_>) -> Result<(bool, i64), WireError> {
    let length = reader.u8()?;
    if length == 0 {
        return Ok((false, 0));
    }
    if !matches!(length, 8 | 12) {
        return Err(WireError::Malformed("a time is none"));
    }
    let negative = reader.u8()? != 0;
    let days = i64::from(reader.u32()?);
    let (hour, minute, second) = (reader.u8()?, reader.u8()?, reader.u8()?);
    let micros = if length == 12 { reader.u32()? } else { 0 };
    let seconds = days * 86_400 + i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
    Ok((negative, seconds * 1_000_000 + i64::from(micros)))
}

fn duration_text(negative: bool, micros: i64) -> String {
    let (seconds, part) = (micros / 1_000_000, micros % 1_000_000);
    let sign = if negative { "-" } else { "" };
    format!("{sign}{:02}:{:02}:{:02}.{part:06}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Whether rows of the table may have values that no column of ours holds.
pub(crate) fn needs_exact(table: &TableSchema) -> bool {
    table.columns.iter().any(|column| match &column.column_type {
        ColumnType::Date | ColumnType::Time | ColumnType::Timestamp { .. } => true,
        ColumnType::Decimal { precision, .. } => {
            *precision == 38 && column.origin.as_deref().is_none_or(|o| !o.starts_with("decimal(38,"))
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact_or_text() {
        assert_eq!(unscaled(b"-12.5", 10, 2), Some(-1250));
        assert_eq!(unscaled(b"0.00", 10, 2), Some(0));
        assert_eq!(
            unscaled(b"-1234567890123456789012345.5", 38, 3),
            Some(-1_234_567_890_123_456_789_012_345_500)
        );
        assert_eq!(unscaled(b"1.005", 10, 2), None);
        assert_eq!(unscaled(b"100000000.00", 10, 2), None);
        assert_eq!(unscaled(b"99999999999999999999999999999999999999", 38, 0), Some(10_i128.pow(38) - 1));
        assert_eq!(unscaled(b"999999999999999999999999999999999999999", 38, 0), None);
        assert_eq!(unscaled(b"1e5", 10, 2), None);
    }

    #[test]
    fn dates_that_no_calendar_has_stay_text() {
        let read = |bytes: &[u8]| When::read(&mut Reader(bytes)).unwrap();
        assert_eq!(read(&[4, 0xb2, 0x07, 1, 1]).day(), Some(0));
        assert_eq!(read(&[4, 0xe8, 0x07, 2, 29]).day(), Some(19_782));
        let zero = read(&[0]);
        assert_eq!(
            (zero.day(), zero.date(), zero.moment()),
            (None, "0000-00-00".into(), "0000-00-00 00:00:00.000000".into())
        );
        assert_eq!(read(&[4, 0xe7, 0x07, 2, 29]).day(), None);
        let mut when = zero;
        let first = jiff::civil::date(1970, 1, 1);
        for year in (1..=9999).step_by(13).chain(1896..=2004) {
            for month in 0..=13 {
                for day in 0..=32 {
                    (when.year, when.month, when.day) = (year, month, day);
                    let date = jiff::civil::Date::new(year as i16, month as i8, day as i8);
                    assert_eq!(
                        when.day(),
                        date.ok().map(|date| (date - first).get_days()),
                        "{}",
                        when.date()
                    );
                }
            }
        }
        assert_eq!(duration_text(true, 3_020_399_000_001), "-838:59:59.000001");
        assert!(duration(&mut Reader(&[9, 0])).is_err());
    }
}
