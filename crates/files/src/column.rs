//! One column of a batch in the making: takes text and JSON values, gives a physical array.
//!
//! Invariant: what a column takes is exactly a value of its type, limits of length included; everything else is a
//! [`Wrong`] and leaves nothing behind that would be read. NULL is taken always; who adds it looks whether it may be.

use crate::calendar;
use crate::error::{Refusal, Wrong};
use crate::json::{self, JsonError, Value};
use crate::number;
use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder,
    Float64Builder, Int8Builder, Int16Builder, Int32Builder, Int64Builder, ListArray, NullBufferBuilder,
    StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;
use keepfast_model::ColumnType;
use std::sync::Arc;

/// The one member of the object that stands in JSON lines for a JSON value that cannot stand there as it is.
pub(crate) const WRAPPED_JSON: &str = "__keepfast_json";

/// Bytes in text start so; hex digits follow.
pub(crate) const BYTES: &str = "\\x";

/// A growing column.
#[derive(Debug)]
pub(crate) struct Column {
    column_type: ColumnType,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Boolean(BooleanBuilder),
    Int8(Int8Builder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal(Decimal128Builder),
    Utf8(StringBuilder),
    Binary(BinaryBuilder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
    List { item: Box<Column>, offsets: Vec<i32>, valid: NullBufferBuilder, field: Arc<Field> },
}

impl Column {
    /// An empty column of this type.
    pub(crate) fn new(column_type: &ColumnType) -> Self {
        let values = match (column_type, column_type.physical()) {
            (ColumnType::List(item), DataType::List(field)) => Values::List {
                item: Box::new(Self::new(item)),
                offsets: vec![0],
                valid: NullBufferBuilder::new(0),
                field,
            },
            (_, DataType::Boolean) => Values::Boolean(BooleanBuilder::new()),
            (_, DataType::Int8) => Values::Int8(Int8Builder::new()),
            (_, DataType::Int16) => Values::Int16(Int16Builder::new()),
            (_, DataType::Int32) => Values::Int32(Int32Builder::new()),
            (_, DataType::Int64) => Values::Int64(Int64Builder::new()),
            (_, DataType::Float32) => Values::Float32(Float32Builder::new()),
            (_, DataType::Float64) => Values::Float64(Float64Builder::new()),
            (_, t @ DataType::Decimal128(_, _)) => {
                Values::Decimal(Decimal128Builder::new().with_data_type(t))
            }
            (_, DataType::Binary) => Values::Binary(BinaryBuilder::new()),
            (_, DataType::Date32) => Values::Date(Date32Builder::new()),
            (_, t @ DataType::Timestamp(_, _)) => {
                Values::Timestamp(TimestampMicrosecondBuilder::new().with_data_type(t))
            }
            // The physical types end with text.
            _ => Values::Utf8(StringBuilder::new()),
        };
        Self { column_type: column_type.clone(), values }
    }

    /// Adds NULL.
    pub(crate) fn push_null(&mut self) {
        match &mut self.values {
            Values::Boolean(b) => b.append_null(),
            Values::Int8(b) => b.append_null(),
            Values::Int16(b) => b.append_null(),
            Values::Int32(b) => b.append_null(),
            Values::Int64(b) => b.append_null(),
            Values::Float32(b) => b.append_null(),
            Values::Float64(b) => b.append_null(),
            Values::Decimal(b) => b.append_null(),
            Values::Utf8(b) => b.append_null(),
            Values::Binary(b) => b.append_null(),
            Values::Date(b) => b.append_null(),
            Values::Timestamp(b) => b.append_null(),
            Values::List { offsets, valid, .. } => {
                offsets.push(offsets.last().copied().unwrap_or(0));
                valid.append_null();
            }
        }
    }

    /// Adds a value from its text, as CSV holds it.
    #[inline]
    pub(crate) fn push_text(&mut self, text: &str) -> Result<(), Refusal> {
        if let Values::List { .. } = self.values {
            return self.push_list(text);
        }
        self.push_scalar(text).map_err(|wrong| self.refusal(wrong))
    }

    /// Adds a value from JSON; strings and numbers are read as their text.
    pub(crate) fn push_json(&mut self, value: &Value<'_>) -> Result<(), Refusal> {
        let is_json = self.column_type == ColumnType::Json;
        let is_list = matches!(self.column_type, ColumnType::List(_));
        match value {
            Value::Null => {
                self.push_null();
                Ok(())
            }
            Value::Array(text) if is_list => self.push_list(text),
            Value::Array(text) if is_json => self.push_text(text),
            Value::Object(text) if is_json => match wrapped(text) {
                Some(inner) => self.push_text(&inner),
                None => self.push_text(text),
            },
            Value::String(text) if is_json => {
                let mut quoted = String::with_capacity(text.len() + 2);
                json::write_string(text, &mut quoted);
                self.push_text(&quoted)
            }
            _ if is_list => Err(self.refusal(Wrong::Form)),
            Value::Array(_) | Value::Object(_) => Err(self.refusal(Wrong::Form)),
            Value::Bool(true) => self.push_text("true"),
            Value::Bool(false) => self.push_text("false"),
            Value::Number(text) => self.push_text(text),
            Value::String(text) => self.push_text(text),
        }
    }

    fn refusal(&self, wrong: Wrong) -> Refusal {
        Refusal { wrong, column_type: self.column_type.clone() }
    }

    #[inline]
    fn push_scalar(&mut self, text: &str) -> Result<(), Wrong> {
        match &mut self.values {
            Values::Boolean(b) => b.append_value(read_boolean(text)?),
            Values::Int8(b) => {
                b.append_value(number::read_integer(text, i8::MIN.into(), i8::MAX.into())? as i8);
            }
            Values::Int16(b) => {
                let (least, most) = match self.column_type {
                    ColumnType::UInt8 => (0, u8::MAX.into()),
                    _ => (i16::MIN.into(), i16::MAX.into()),
                };
                b.append_value(number::read_integer(text, least, most)? as i16);
            }
            Values::Int32(b) => {
                let (least, most) = match self.column_type {
                    ColumnType::UInt16 => (0, u16::MAX.into()),
                    _ => (i32::MIN.into(), i32::MAX.into()),
                };
                b.append_value(number::read_integer(text, least, most)? as i32);
            }
            Values::Int64(b) => b.append_value(match self.column_type {
                ColumnType::Time => calendar::read_time(text.as_bytes(), false)?,
                ColumnType::UInt32 => number::read_integer(text, 0, u32::MAX.into())? as i64,
                _ => number::read_integer(text, i64::MIN.into(), i64::MAX.into())? as i64,
            }),
            Values::Float32(b) => b.append_value(number::read_f32(text)?),
            Values::Float64(b) => b.append_value(number::read_f64(text)?),
            Values::Decimal(b) => b.append_value(match self.column_type {
                ColumnType::Decimal { precision, scale } => number::read_decimal(text, precision, scale)?,
                _ => number::read_integer(text, 0, u64::MAX.into())?,
            }),
            Values::Utf8(b) => match self.column_type {
                ColumnType::Char { length } | ColumnType::Varchar { length: Some(length) } => {
                    check_characters(text, length)?;
                    b.append_value(text);
                }
                ColumnType::Json if !json::is_json(text) => return Err(Wrong::Form),
                ColumnType::Uuid => {
                    if !is_uuid(text) {
                        return Err(Wrong::Form);
                    }
                    if text.bytes().any(|b| b.is_ascii_uppercase()) {
                        b.append_value(text.to_ascii_lowercase());
                    } else {
                        b.append_value(text);
                    }
                }
                _ => b.append_value(text),
            },
            Values::Binary(b) => {
                let bytes = read_bytes(text).ok_or(Wrong::Form)?;
                check_bytes(&bytes, &self.column_type)?;
                b.append_value(bytes);
            }
            Values::Date(b) => b.append_value(calendar::read_date(text.as_bytes())?),
            Values::Timestamp(b) => {
                let moment = calendar::read_timestamp(text.as_bytes())?;
                // A reading without a zone is UTC where a moment is wanted; the other way round the zone would be lost.
                if moment.zone && self.column_type == (ColumnType::Timestamp { zone: false }) {
                    return Err(Wrong::Form);
                }
                b.append_value(moment.micros);
            }
            Values::List { .. } => return Err(Wrong::Form),
        }
        Ok(())
    }

    /// Adds a list from the text of a JSON array.
    fn push_list(&mut self, text: &str) -> Result<(), Refusal> {
        /// What stops the reading of a list.
        enum Stop {
            Json,
            Item(Refusal),
        }
        impl From<JsonError> for Stop {
            fn from(_: JsonError) -> Self {
                Self::Json
            }
        }
        let refusal = self.refusal(Wrong::Form);
        let too_long = self.refusal(Wrong::TooLong);
        let Values::List { item, offsets, valid, .. } = &mut self.values else { return Err(refusal) };
        let mut count = 0i64;
        json::items(text, |value| {
            count += 1;
            item.push_json(&value).map_err(Stop::Item)
        })
        .map_err(|stop| match stop {
            Stop::Json => refusal,
            Stop::Item(refusal) => refusal,
        })?;
        let end = i64::from(offsets.last().copied().unwrap_or(0)) + count;
        offsets.push(i32::try_from(end).map_err(|_| too_long)?);
        valid.append_non_null();
        Ok(())
    }

    /// The values so far as a physical array; the column is empty afterwards.
    pub(crate) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        Ok(match &mut self.values {
            Values::Boolean(b) => Arc::new(b.finish()),
            Values::Int8(b) => Arc::new(b.finish()),
            Values::Int16(b) => Arc::new(b.finish()),
            Values::Int32(b) => Arc::new(b.finish()),
            Values::Int64(b) => Arc::new(b.finish()),
            Values::Float32(b) => Arc::new(b.finish()),
            Values::Float64(b) => Arc::new(b.finish()),
            Values::Decimal(b) => Arc::new(b.finish()),
            Values::Utf8(b) => Arc::new(b.finish()),
            Values::Binary(b) => Arc::new(b.finish()),
            Values::Date(b) => Arc::new(b.finish()),
            Values::Timestamp(b) => Arc::new(b.finish()),
            Values::List { item, offsets, valid, field } => {
                let offsets = std::mem::replace(offsets, vec![0]);
                // Offsets only ever grow, so that this holds for any input.
                let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
                Arc::new(ListArray::try_new(field.clone(), offsets, item.finish()?, valid.finish())?)
            }
        })
    }
}

/// The text inside `{"__keepfast_json": "text"}`, when the object has just this member.
pub(crate) fn wrapped(object: &str) -> Option<String> {
    if !object.contains(WRAPPED_JSON) {
        return None;
    }
    let (mut inner, mut only) = (None, true);
    let read = json::members(object, |name, value| {
        match value {
            Value::String(text) if inner.is_none() && name == WRAPPED_JSON => inner = Some(text.into_owned()),
            _ => only = false,
        }
        Ok::<_, JsonError>(())
    });
    inner.filter(|_| read.is_ok() && only)
}

/// Refuses text of more characters than `length`.
pub(crate) fn check_characters(text: &str, length: u32) -> Result<(), Wrong> {
    let most = length as usize;
    if text.len() > most && text.chars().count() > most { Err(Wrong::TooLong) } else { Ok(()) }
}

/// Refuses bytes that are too many, or not exactly as many as the type has.
pub(crate) fn check_bytes(bytes: &[u8], column_type: &ColumnType) -> Result<(), Wrong> {
    match column_type {
        ColumnType::Binary { length } if bytes.len() != *length as usize => Err(Wrong::Length),
        ColumnType::Varbinary { length: Some(length) } if bytes.len() > *length as usize => {
            Err(Wrong::TooLong)
        }
        _ => Ok(()),
    }
}

fn read_boolean(text: &str) -> Result<bool, Wrong> {
    if ["true", "t", "1"].iter().any(|w| text.eq_ignore_ascii_case(w)) {
        Ok(true)
    } else if ["false", "f", "0"].iter().any(|w| text.eq_ignore_ascii_case(w)) {
        Ok(false)
    } else {
        Err(Wrong::Form)
    }
}

/// Whether the text is a UUID in its 36 characters, in either case.
pub(crate) fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

/// The bytes of `\x` and an even number of hex digits.
fn read_bytes(text: &str) -> Option<Vec<u8>> {
    let hex = text.strip_prefix(BYTES)?.as_bytes();
    if hex.len() % 2 != 0 {
        return None;
    }
    let digit = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
    hex.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, AsArray};

    fn refused(column_type: &str, text: &str) -> String {
        let column_type: ColumnType = column_type.parse().unwrap();
        Column::new(&column_type).push_text(text).unwrap_err().to_string()
    }

    fn taken(column_type: &str, text: &str) -> String {
        let column_type: ColumnType = column_type.parse().unwrap();
        let mut column = Column::new(&column_type);
        column.push_text(text).unwrap();
        let array = column.finish().unwrap();
        assert_eq!(array.data_type(), &column_type.physical());
        let mut out = String::new();
        crate::text::write_value(&column_type, array.as_ref(), 0, &mut out).unwrap();
        out
    }

    #[test]
    fn values_outside_their_type_are_refused_with_the_reason() {
        assert_eq!(refused("int32", "abc"), "is not an INT");
        assert_eq!(refused("int32", ""), "is not an INT");
        assert_eq!(refused("int32", "2147483648"), "is out of range for INT");
        assert_eq!(refused("uint8", "256"), "is out of range for TINYINT UNSIGNED");
        assert_eq!(refused("uint64", "-1"), "is out of range for BIGINT UNSIGNED");
        assert_eq!(refused("boolean", "yes"), "is not a BOOLEAN");
        assert_eq!(
            refused("decimal(4,2)", "1.234"),
            "has more digits after the point than DECIMAL(4,2) holds"
        );
        assert_eq!(refused("varchar(2)", "äöü"), "is longer than VARCHAR(2) holds");
        assert_eq!(refused("binary(2)", "\\x00"), "has not the length of BINARY(2)");
        assert_eq!(refused("varbinary(1)", "\\x0000"), "is longer than VARBINARY(1) holds");
        assert_eq!(refused("blob", "abc"), "is not a BLOB");
        assert_eq!(refused("blob", "\\x0"), "is not a BLOB");
        assert_eq!(refused("date", "2023-02-29"), "is not a DATE");
        assert_eq!(refused("timestamp", "2024-01-01T00:00:00Z"), "is not a TIMESTAMP");
        assert_eq!(refused("json", "{a:1}"), "is not a JSON");
        assert_eq!(refused("uuid", "123"), "is not a UUID");
        assert_eq!(refused("list(int32)", "[1,\"x\"]"), "is not an INT");
        assert_eq!(refused("list(int32)", "[1,2"), "is not an INT[]");
        assert_eq!(refused("list(int32)", "1"), "is not an INT[]");
    }

    #[test]
    fn values_of_their_type_are_taken_in_several_forms() {
        assert_eq!(taken("boolean", "TRUE"), "true");
        assert_eq!(taken("uint64", "18446744073709551615"), "18446744073709551615");
        assert_eq!(taken("varchar(3)", "äöü"), "äöü");
        assert_eq!(taken("blob", "\\xfF00"), "\\xff00");
        assert_eq!(
            taken("uuid", "00000000-0000-0000-0000-0000000000AB"),
            "00000000-0000-0000-0000-0000000000ab"
        );
        assert_eq!(taken("timestamptz", "2024-01-01 12:00"), "2024-01-01T12:00:00Z");
        assert_eq!(taken("timestamp", "2024-01-01"), "2024-01-01T00:00:00");
        assert_eq!(taken("list(list(decimal(5,2)))", "[ [1.1, null], null, [] ]"), "[[1.10,null],null,[]]");
        assert_eq!(taken("json", " {\"b\": 1.0} "), " {\"b\": 1.0} ");
    }

    #[test]
    fn nulls_in_lists_and_null_lists_stay_apart() {
        let mut column = Column::new(&"list(int32)".parse().unwrap());
        column.push_null();
        column.push_text("[null]").unwrap();
        column.push_text("[]").unwrap();
        let array = column.finish().unwrap();
        let lists = array.as_list::<i32>();
        assert!(lists.is_null(0) && lists.is_valid(1) && lists.is_valid(2));
        assert_eq!((lists.value(1).len(), lists.value(1).null_count(), lists.value(2).len()), (1, 1, 0));
    }
}
