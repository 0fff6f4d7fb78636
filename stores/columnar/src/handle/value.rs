//! One cell as programs without Arrow see it, and columns built from such cells.

use crate::Result;
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array,
    Int64Array, ListArray, NullArray, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray,
    UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{cast, concat};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use keepfast_model::ModelError;
use keepfast_store::StoreError;
use std::sync::Arc;

/// One cell.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No value.
    Null,
    /// TRUE or FALSE.
    Boolean(bool),
    /// A signed integer of any width.
    Int(i64),
    /// An unsigned integer of any width.
    UInt(u64),
    /// A floating-point number of either width.
    Float(f64),
    /// A decimal: all its digits, and how many of them stand after the point.
    Decimal(i128, u8),
    /// Text, JSON, or a UUID.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since midnight.
    Time(i64),
    /// Microseconds since 1970, by the wall clock.
    Timestamp(i64),
    /// Microseconds since 1970 in UTC.
    TimestampTz(i64),
    /// A list.
    List(Vec<Value>),
}

/// The cell of a native array.
///
/// # Errors
/// `Model` for a type that no column has.
pub fn value_at(array: &dyn Array, row: usize) -> Result<Value> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    macro_rules! of {
        ($t:ty) => {
            array.as_primitive::<$t>().value(row)
        };
    }
    Ok(match array.data_type() {
        DataType::Boolean => Value::Boolean(array.as_boolean().value(row)),
        DataType::Int8 => Value::Int(of!(Int8Type).into()),
        DataType::Int16 => Value::Int(of!(Int16Type).into()),
        DataType::Int32 => Value::Int(of!(Int32Type).into()),
        DataType::Int64 => Value::Int(of!(Int64Type)),
        DataType::UInt8 => Value::UInt(of!(UInt8Type).into()),
        DataType::UInt16 => Value::UInt(of!(UInt16Type).into()),
        DataType::UInt32 => Value::UInt(of!(UInt32Type).into()),
        DataType::UInt64 => Value::UInt(of!(UInt64Type)),
        DataType::Float32 => Value::Float(of!(Float32Type).into()),
        DataType::Float64 => Value::Float(of!(Float64Type)),
        DataType::Decimal128(_, scale) => {
            Value::Decimal(of!(Decimal128Type), u8::try_from(*scale).unwrap_or(0))
        }
        DataType::Utf8 => Value::Text(array.as_string::<i32>().value(row).to_owned()),
        DataType::Binary => Value::Bytes(array.as_binary::<i32>().value(row).to_vec()),
        DataType::Date32 => Value::Date(of!(Date32Type)),
        DataType::Time64(TimeUnit::Microsecond) => Value::Time(of!(Time64MicrosecondType)),
        DataType::Timestamp(TimeUnit::Microsecond, None) => Value::Timestamp(of!(TimestampMicrosecondType)),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => {
            Value::TimestampTz(of!(TimestampMicrosecondType))
        }
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            Value::List((0..items.len()).map(|i| value_at(items.as_ref(), i)).collect::<Result<_>>()?)
        }
        other => return Err(unfit("a cell", "a type that a column has", &other.to_string())),
    })
}

/// An array of cells, of the type that fits them all; the column's own checks follow.
///
/// # Errors
/// `Model` when the cells have no type in common.
pub fn array_of(column: &str, cells: &[Value]) -> Result<ArrayRef> {
    let mut kind: Option<DataType> = None;
    for cell in cells {
        kind = match (kind, cell_type(cell)) {
            (known, DataType::Null) => known,
            (None, found) => Some(found),
            (Some(known), found) => Some(common(column, known, found)?),
        };
    }
    let Some(kind) = kind else { return Ok(Arc::new(NullArray::new(cells.len()))) };
    if let DataType::List(_) = kind {
        return list_of(column, cells);
    }
    macro_rules! each {
        ($array:ty, $pattern:pat => $value:expr) => {
            cells
                .iter()
                .map(|c| match c {
                    $pattern => Some($value),
                    _ => None,
                })
                .collect::<$array>()
        };
    }
    Ok(match &kind {
        DataType::Boolean => Arc::new(each!(BooleanArray, Value::Boolean(b) => *b)),
        DataType::Int64 => Arc::new(each!(Int64Array, Value::Int(n) => *n)),
        DataType::UInt64 => Arc::new(each!(UInt64Array, Value::UInt(n) => *n)),
        DataType::Utf8 => Arc::new(each!(StringArray, Value::Text(t) => t.as_str())),
        DataType::Binary => Arc::new(each!(BinaryArray, Value::Bytes(b) => b.as_slice())),
        DataType::Date32 => Arc::new(each!(Date32Array, Value::Date(d) => *d)),
        DataType::Time64(_) => Arc::new(each!(Time64MicrosecondArray, Value::Time(t) => *t)),
        DataType::Timestamp(_, None) => Arc::new(each!(TimestampMicrosecondArray, Value::Timestamp(t) => *t)),
        DataType::Timestamp(_, Some(_)) => {
            Arc::new(each!(TimestampMicrosecondArray, Value::TimestampTz(t) => *t).with_timezone("UTC"))
        }
        DataType::Float64 => {
            let floats = cells.iter().map(|c| match c {
                Value::Float(f) => Some(*f),
                Value::Int(n) => Some(*n as f64),
                Value::UInt(n) => Some(*n as f64),
                _ => None,
            });
            Arc::new(floats.collect::<Float64Array>())
        }
        DataType::Decimal128(_, scale) => {
            let scale = u8::try_from(*scale).unwrap_or(0);
            let decimals: Vec<Option<i128>> = cells
                .iter()
                .map(|c| match c {
                    Value::Decimal(n, s) => rescaled(*n, *s, scale),
                    Value::Int(n) => rescaled(i128::from(*n), 0, scale),
                    Value::UInt(n) => rescaled(i128::from(*n), 0, scale),
                    _ => None,
                })
                .collect();
            let lost = decimals.iter().zip(cells).any(|(d, c)| d.is_none() && *c != Value::Null);
            if lost {
                return Err(unfit(column, "a decimal of at most 38 digits", "a longer one"));
            }
            let array = Decimal128Array::from(decimals).with_precision_and_scale(38, scale as i8);
            Arc::new(array.map_err(crate::rows::kernel)?)
        }
        other => return Err(unfit(column, "a value", &other.to_string())),
    })
}

fn rescaled(n: i128, from: u8, to: u8) -> Option<i128> {
    n.checked_mul(10i128.checked_pow(u32::from(to.checked_sub(from)?))?)
}

fn cell_type(cell: &Value) -> DataType {
    match cell {
        Value::Null => DataType::Null,
        Value::Boolean(_) => DataType::Boolean,
        Value::Int(_) => DataType::Int64,
        Value::UInt(_) => DataType::UInt64,
        Value::Float(_) => DataType::Float64,
        Value::Decimal(_, scale) => DataType::Decimal128(38, i8::try_from(*scale).unwrap_or(38)),
        Value::Text(_) => DataType::Utf8,
        Value::Bytes(_) => DataType::Binary,
        Value::Date(_) => DataType::Date32,
        Value::Time(_) => DataType::Time64(TimeUnit::Microsecond),
        Value::Timestamp(_) => DataType::Timestamp(TimeUnit::Microsecond, None),
        Value::TimestampTz(_) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Value::List(_) => DataType::List(Arc::new(Field::new("element", DataType::Null, true))),
    }
}

/// The type of both; whole numbers of both kinds meet as decimals, which hold them exactly.
fn common(column: &str, a: DataType, b: DataType) -> Result<DataType> {
    use DataType::{Decimal128, Float64, Int64, UInt64};
    Ok(match (a, b) {
        (a, b) if a == b => a,
        (Int64, UInt64) | (UInt64, Int64) => Decimal128(38, 0),
        (Int64 | UInt64, Float64) | (Float64, Int64 | UInt64) => Float64,
        (Decimal128(_, s), Int64 | UInt64) | (Int64 | UInt64, Decimal128(_, s)) => Decimal128(38, s),
        (Decimal128(_, a), Decimal128(_, b)) => Decimal128(38, a.max(b)),
        (a, b) => return Err(unfit(column, &a.to_string(), &b.to_string())),
    })
}

fn list_of(column: &str, cells: &[Value]) -> Result<ArrayRef> {
    let mut items = vec![];
    let mut lengths = vec![];
    for cell in cells {
        match cell {
            Value::List(list) => {
                items.extend(list.iter().cloned());
                lengths.push(list.len());
            }
            _ => lengths.push(0),
        }
    }
    let items = array_of(column, &items)?;
    let field = Arc::new(Field::new("element", items.data_type().clone(), true));
    let nulls: NullBuffer = cells.iter().map(|c| *c != Value::Null).collect();
    let list = ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), items, Some(nulls));
    Ok(Arc::new(list.map_err(crate::rows::kernel)?))
}

/// Arrays one after the other, which may have different types that all go into the same column.
pub(crate) fn typed(array: ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    match array.data_type() {
        // A column of NULL alone has any type.
        DataType::Null => cast(&array, wanted).map_err(crate::rows::kernel),
        _ => concat(&[array.as_ref()]).map_err(crate::rows::kernel),
    }
}

fn unfit(column: &str, expected: &str, found: &str) -> StoreError {
    StoreError::Model(ModelError::Batch {
        column: column.into(),
        expected: expected.into(),
        found: found.into(),
    })
}
