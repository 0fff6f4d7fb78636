//! Values of physical arrays as text, for CSV and JSON lines.
//!
//! Invariant: [`crate::column::Column`] reads back exactly what is written here. Every value has one form.

use crate::column::{BYTES, WRAPPED_JSON};
use crate::json;
use crate::{calendar, number};
use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimestampMicrosecondType,
};
use keepfast_model::{ColumnType, ModelError};

/// Appends a non-NULL value in the form that CSV holds, without CSV's own quotes.
///
/// # Errors
/// [`ModelError::Batch`] when the array is not of the type's physical form, or holds a time that no clock shows.
pub(crate) fn write_value(
    column_type: &ColumnType,
    array: &dyn Array,
    i: usize,
    out: &mut String,
) -> Result<(), ModelError> {
    match (column_type, array.data_type()) {
        (ColumnType::List(item), DataType::List(_)) => {
            let list = array.as_list::<i32>().value(i);
            out.push('[');
            for j in 0..list.len() {
                if j > 0 {
                    out.push(',');
                }
                write_json(item, list.as_ref(), j, out)?;
            }
            out.push(']');
        }
        (_, DataType::Boolean) => out.push_str(if array.as_boolean().value(i) { "true" } else { "false" }),
        (_, DataType::Int8) => number::write_plain(array.as_primitive::<Int8Type>().value(i), out),
        (_, DataType::Int16) => number::write_plain(array.as_primitive::<Int16Type>().value(i), out),
        (_, DataType::Int32) => number::write_plain(array.as_primitive::<Int32Type>().value(i), out),
        (ColumnType::Time, DataType::Int64) => {
            let micros = array.as_primitive::<Int64Type>().value(i);
            if !(0..calendar::DAY).contains(&micros) {
                return Err(misfit(column_type, &format!("{micros} microseconds since midnight")));
            }
            calendar::write_time(micros, out);
        }
        (_, DataType::Int64) => number::write_plain(array.as_primitive::<Int64Type>().value(i), out),
        (_, DataType::Float32) => {
            number::write_f32(array.as_primitive::<Float32Type>().value(i), out);
        }
        (_, DataType::Float64) => {
            number::write_f64(array.as_primitive::<Float64Type>().value(i), out);
        }
        (_, DataType::Decimal128(_, scale)) => number::write_decimal(
            array.as_primitive::<Decimal128Type>().value(i),
            u8::try_from(*scale).map_err(|_| misfit(column_type, &array.data_type().to_string()))?,
            out,
        ),
        (_, DataType::Utf8) => out.push_str(array.as_string::<i32>().value(i)),
        (_, DataType::Binary) => write_bytes(array.as_binary::<i32>().value(i), out),
        (_, DataType::Date32) => {
            calendar::write_date(array.as_primitive::<Date32Type>().value(i).into(), out);
        }
        (_, DataType::Timestamp(_, zone)) => calendar::write_timestamp(
            array.as_primitive::<TimestampMicrosecondType>().value(i),
            zone.is_some(),
            out,
        ),
        (_, other) => return Err(misfit(column_type, &other.to_string())),
    }
    Ok(())
}

/// Appends bytes as `\x` and hex digits.
pub(crate) fn write_bytes(bytes: &[u8], out: &mut String) {
    out.push_str(BYTES);
    for b in bytes {
        for digit in [b >> 4, b & 15] {
            out.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
}

/// Appends a value, or `null`, as JSON on one line.
///
/// # Errors
/// As [`write_value`].
pub(crate) fn write_json(
    column_type: &ColumnType,
    array: &dyn Array,
    i: usize,
    out: &mut String,
) -> Result<(), ModelError> {
    if array.is_null(i) {
        out.push_str("null");
        return Ok(());
    }
    match (column_type, array.data_type()) {
        (ColumnType::Json, DataType::Utf8) => write_json_text(array.as_string::<i32>().value(i), out),
        (_, DataType::Utf8) => json::write_string(array.as_string::<i32>().value(i), out),
        (_, DataType::Float32 | DataType::Float64) => {
            let from = out.len();
            write_value(column_type, array, i, out)?;
            // JSON has no NaN and no infinity: those are strings.
            if !out[from..].bytes().all(|b| matches!(b, b'0'..=b'9' | b'-' | b'.' | b'e')) {
                out.insert(from, '"');
                out.push('"');
            }
        }
        (_, DataType::Binary | DataType::Date32 | DataType::Timestamp(_, _)) | (ColumnType::Time, _) => {
            let from = out.len();
            write_value(column_type, array, i, out)?;
            let text = out.split_off(from);
            json::write_string(&text, out);
        }
        _ => write_value(column_type, array, i, out)?,
    }
    Ok(())
}

/// Appends the text of a JSON value as it is, or wrapped where a line cannot hold it or it would be taken for NULL.
fn write_json_text(text: &str, out: &mut String) {
    let outer = |b: Option<&u8>| b.is_none_or(u8::is_ascii_whitespace);
    let bytes = text.as_bytes();
    let first = bytes.first();
    let has_line_end = bytes.iter().any(|b| matches!(b, b'\n' | b'\r'));
    // A string comes back with its escapes written our way.
    let changes = first == Some(&b'"') && bytes.contains(&b'\\');
    let looks_wrapped = first == Some(&b'{') && text.contains(WRAPPED_JSON);
    let other = outer(first) || outer(bytes.last()) || has_line_end || text == "null";
    let is_bare = !(other || changes || looks_wrapped) && json::is_json(text);
    if is_bare {
        out.push_str(text);
    } else {
        out.push_str("{\"");
        out.push_str(WRAPPED_JSON);
        out.push_str("\":");
        json::write_string(text, out);
        out.push('}');
    }
}

fn misfit(column_type: &ColumnType, found: &str) -> ModelError {
    ModelError::Batch { column: "a column".into(), expected: column_type.sql(), found: found.to_owned() }
}
