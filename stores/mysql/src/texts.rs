//! Rows in the text form as columns: what the proof of content is made of. It shares nothing with the decoder of scans.

use arrow::array::{
    Array, ArrayRef, BinaryBuilder, Date32Builder, Int64Builder, RecordBatch, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use keepfast_model::{ColumnId, ColumnType, TableSchema, hidden};
use std::sync::Arc;

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;
/// Digits that a decimal column holds.
const DIGITS: usize = 38;

/// Columns that grow by texts.
#[derive(Debug)]
pub(crate) struct Texts {
    schema: SchemaRef,
    columns: Vec<Growing>,
    ids: Vec<ColumnId>,
    /// The hidden column of exact values, where the table has one.
    exact: Option<StringBuilder>,
    /// Exact values of the row under way.
    row: Vec<String>,
    rows: usize,
    bytes: usize,
}

#[derive(Debug)]
enum Growing {
    Bytes(BinaryBuilder),
    Text(StringBuilder),
    /// Numbers, read by Arrow once they are together.
    Number(StringBuilder, DataType),
    Decimal(StringBuilder, DataType),
    Date(Date32Builder),
    Moment(TimestampMicrosecondBuilder),
    Time(Int64Builder),
}

impl Growing {
    fn of(column_type: &ColumnType) -> Self {
        match (column_type, column_type.physical()) {
            (ColumnType::Date, _) => Self::Date(Date32Builder::new()),
            (ColumnType::Time, _) => Self::Time(Int64Builder::new()),
            (ColumnType::Timestamp { zone }, _) => {
                let zone = zone.then(|| Arc::from("UTC"));
                Self::Moment(TimestampMicrosecondBuilder::new().with_timezone_opt(zone))
            }
            (_, DataType::Binary) => Self::Bytes(BinaryBuilder::new()),
            (_, DataType::Utf8) => Self::Text(StringBuilder::new()),
            (_, decimal @ DataType::Decimal128(..)) => Self::Decimal(StringBuilder::new(), decimal),
            (_, number) => Self::Number(StringBuilder::new(), number),
        }
    }

    /// Adds a value, or NULL; what no column holds is NULL, and its exact text is given back.
    fn push(&mut self, value: Option<&[u8]>) -> Result<Option<String>, String> {
        let text =
            || value.map(std::str::from_utf8).transpose().map_err(|_| "a text is not UTF-8".to_owned());
        let beyond = match self {
            Self::Bytes(b) => {
                b.append_option(value);
                None
            }
            Self::Text(b) => {
                b.append_option(text()?);
                None
            }
            Self::Number(b, _) => {
                // Floats come as the only item of a list.
                b.append_option(text()?.map(|t| t.trim_matches(['[', ']'])));
                None
            }
            Self::Decimal(b, _) => {
                let text = text()?;
                let digits = text.map_or("", |t| t.trim_start_matches(['-', '0', '.']));
                let held = digits.bytes().filter(u8::is_ascii_digit).count() <= DIGITS;
                b.append_option(text.filter(|_| held));
                text.filter(|_| !held).map(str::to_owned)
            }
            Self::Date(b) => {
                let text = text()?;
                let day = text.map(day).transpose()?;
                b.append_option(day.flatten());
                text.filter(|_| day == Some(None)).map(str::to_owned)
            }
            Self::Moment(b) => {
                let parts = text()?.map(|t| t.split_once(' ').ok_or(format!("'{t}' is no time of a day")));
                let Some((date, time)) = parts.transpose()? else {
                    b.append_null();
                    return Ok(None);
                };
                let (time, micros) = time_of(time)?;
                let day = day(date)?;
                b.append_option(day.map(|day| i64::from(day) * DAY + micros));
                day.is_none().then(|| format!("{date} {time}"))
            }
            Self::Time(b) => {
                let found = text()?.map(time_of).transpose()?;
                let held = found.as_ref().is_some_and(|(_, micros)| (0..DAY).contains(micros));
                b.append_option(found.as_ref().map(|(_, micros)| *micros).filter(|_| held));
                found.filter(|_| !held).map(|(text, _)| text)
            }
        };
        Ok(beyond)
    }

    fn finish(&mut self) -> Result<ArrayRef, String> {
        let cast = |texts: &mut StringBuilder, to: &DataType| {
            let strict = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(&texts.finish(), to, &strict).map_err(|e| e.to_string())
        };
        Ok(match self {
            Self::Bytes(b) => Arc::new(b.finish()),
            Self::Text(b) => Arc::new(b.finish()),
            Self::Number(b, to) | Self::Decimal(b, to) => cast(b, to)?,
            Self::Date(b) => Arc::new(b.finish()),
            Self::Moment(b) => Arc::new(b.finish()),
            Self::Time(b) => Arc::new(b.finish()),
        })
    }
}

impl Texts {
    pub fn new(table: &TableSchema) -> Self {
        let mut fields: Vec<Arc<Field>> = table.physical().fields().iter().cloned().collect();
        let exact = crate::decode::needs_exact(table);
        if exact {
            fields.push(Arc::new(Field::new(hidden::EXACT, DataType::Utf8, true)));
        }
        Self {
            schema: Arc::new(Schema::new(fields)),
            columns: table.columns.iter().map(|c| Growing::of(&c.column_type)).collect(),
            ids: table.columns.iter().map(|c| c.id).collect(),
            exact: exact.then(StringBuilder::new),
            row: vec![],
            rows: 0,
            bytes: 0,
        }
    }

    /// Rows since the last batch.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of texts since the last batch.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a column's value to the row under way.
    pub fn push(&mut self, at: usize, value: Option<&[u8]>) -> Result<(), String> {
        let column = self.columns.get_mut(at).ok_or("a row has too many columns")?;
        self.bytes += value.map_or(0, <[u8]>::len);
        if let Some(text) = column.push(value)? {
            self.row.push(format!("\"{}\":\"{text}\"", self.ids[at].0));
        }
        Ok(())
    }

    /// Ends the row under way.
    pub fn end_row(&mut self) {
        if let Some(exact) = &mut self.exact {
            let beyond = std::mem::take(&mut self.row);
            exact.append_option((!beyond.is_empty()).then(|| format!("{{{}}}", beyond.join(","))));
        }
        self.rows += 1;
    }

    /// The rows since the last batch.
    pub fn finish(&mut self) -> Result<RecordBatch, String> {
        (self.rows, self.bytes) = (0, 0);
        if !self.row.is_empty() {
            return Err("a value of a table without exact values is one".into());
        }
        let mut arrays: Vec<ArrayRef> =
            self.columns.iter_mut().map(Growing::finish).collect::<Result<_, _>>()?;
        if let Some(exact) = &mut self.exact {
            arrays.push(Arc::new(exact.finish()));
        }
        if let Some(wrong) =
            arrays.iter().zip(self.schema.fields()).find(|(a, f)| !f.is_nullable() && a.null_count() > 0)
        {
            return Err(format!("column '{}' has NULL, which it cannot have", wrong.1.name()));
        }
        RecordBatch::try_new(self.schema.clone(), arrays).map_err(|e| e.to_string())
    }
}

/// Days since 1970 of `2024-02-29`; none where no calendar has the day.
fn day(text: &str) -> Result<Option<i32>, String> {
    let wrong = || format!("'{text}' is no date");
    let mut parts = text.splitn(3, '-');
    let mut part = || parts.next().and_then(|p| p.parse::<u16>().ok()).ok_or_else(wrong);
    let (year, month, day) = (part()?, part()?, part()?);
    if year == 0 || year > 9999 || month == 0 || month > 12 || day == 0 {
        return Ok(None);
    }
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + u16::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if day > length {
        return Ok(None);
    }
    // Years begin in March here, so that the day that is not in each year is the last one.
    let (year, month) =
        if month < 3 { (i32::from(year) - 1, month + 9) } else { (i32::from(year), month - 3) };
    let of_year = (153 * i32::from(month) + 2) / 5 + i32::from(day) - 1;
    Ok(Some(year * 365 + year / 4 - year / 100 + year / 400 + of_year - 719_468))
}

/// `-838:59:58.5` with all digits of its fraction, and its microseconds.
fn time_of(text: &str) -> Result<(String, i64), String> {
    let wrong = || format!("'{text}' is no time");
    let (sign, rest) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (whole, fraction) = rest.split_once('.').unwrap_or((rest, ""));
    if fraction.len() > 6 {
        return Err(wrong());
    }
    let mut seconds = 0_i64;
    let mut parts = 0;
    for part in whole.split(':') {
        let part: u16 = part.parse().map_err(|_| wrong())?;
        seconds = seconds * 60 + i64::from(part);
        parts += 1;
    }
    let fraction = format!("{fraction:0<6}");
    let micros: u32 = fraction.parse().map_err(|_| wrong())?;
    if parts != 3 {
        return Err(wrong());
    }
    let sign_text = if sign < 0 { "-" } else { "" };
    Ok((format!("{sign_text}{whole}.{fraction}"), sign * (seconds * 1_000_000 + i64::from(micros))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;
    use arrow::datatypes::{Decimal128Type, Float32Type, Float64Type};

    #[test]
    fn days_are_those_of_the_calendar() {
        for (text, found) in [
            ("1970-01-01", Some(0)),
            ("2024-02-29", Some(19_782)),
            ("1000-01-01", Some(-354_285)),
            ("0001-01-01", Some(-719_162)),
            ("9999-12-31", Some(2_932_896)),
            ("2023-02-29", None),
            ("2024-02-30", None),
            ("0000-00-00", None),
            ("0000-05-05", None),
            ("2020-00-00", None),
        ] {
            assert_eq!(day(text).unwrap(), found, "{text}");
        }
        assert!(day("2020").is_err() && day("x-1-1").is_err());
    }

    #[test]
    fn times_have_all_digits() {
        assert_eq!(time_of("-838:59:58.9").unwrap(), ("-838:59:58.900000".into(), -3_020_398_900_000));
        assert_eq!(time_of("00:00:01").unwrap(), ("00:00:01.000000".into(), 1_000_000));
        assert!(time_of("12:30").is_err() && time_of("a:b:c").is_err() && time_of("1:2:3.1234567").is_err());
    }

    #[test]
    fn numbers_keep_every_digit_and_every_bit() {
        let columns = vec![
            ("a".to_owned(), ColumnType::UInt64, true),
            ("b".to_owned(), ColumnType::Float32, true),
            ("c".to_owned(), ColumnType::Float64, true),
            ("d".to_owned(), ColumnType::Decimal { precision: 38, scale: 30 }, true),
            ("e".to_owned(), ColumnType::Int32, true),
        ];
        let mut texts = Texts::new(&TableSchema::of(columns, &[]).unwrap());
        let rows = [
            [
                "18446744073709551615",
                "[-1.1754943508222875e-38]",
                "[5e-324]",
                "12345678.500000000000000000000000000001",
                "00000077",
            ],
            ["0", "-0", "-1.7976931348623157e308", "123456789.500000000000000000000000000000", "-2147483648"],
        ];
        for row in rows {
            for (at, value) in row.iter().enumerate() {
                texts.push(at, Some(value.as_bytes())).unwrap();
            }
            texts.end_row();
        }
        let batch = texts.finish().unwrap();
        assert_eq!(batch.column(0).as_primitive::<Decimal128Type>().value(0), i128::from(u64::MAX));
        assert_eq!(batch.column(1).as_primitive::<Float32Type>().value(0).to_bits(), 0x8080_0000);
        assert_eq!(batch.column(1).as_primitive::<Float32Type>().value(1).to_bits(), 0x8000_0000);
        assert_eq!(batch.column(2).as_primitive::<Float64Type>().value(0).to_bits(), 1);
        let decimals = batch.column(3).as_primitive::<Decimal128Type>();
        assert_eq!(decimals.value(0), 12_345_678_500_000_000_000_000_000_000_000_000_001);
        assert!(decimals.is_null(1));
        assert_eq!(
            batch.column(5).as_string::<i32>().value(1),
            r#"{"4":"123456789.500000000000000000000000000000"}"#
        );
        texts.push(0, Some(b"12x")).unwrap();
        assert!(texts.finish().is_err(), "a number that is none is an error");
    }
}
