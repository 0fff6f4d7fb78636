//! Plain values as Arrow arrays of a column's physical type.

use super::value::Value;
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, ListArray, StringArray, TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field};
use keepfast_model::ColumnType;
use std::sync::Arc;

/// The values as an array. A value of another kind than the type's becomes NULL, which the schema then refuses.
pub(super) fn build(column_type: &ColumnType, values: Vec<Option<Value>>) -> ArrayRef {
    fn int(v: Option<Value>) -> Option<i128> {
        match v {
            Some(Value::Int(n)) => Some(n),
            _ => None,
        }
    }
    macro_rules! ints {
        ($array:ty, $native:ty) => {
            Arc::new(<$array>::from_iter(values.into_iter().map(|v| int(v).map(|n| n as $native))))
        };
    }
    match column_type.physical() {
        DataType::Boolean => {
            Arc::new(BooleanArray::from_iter(values.into_iter().map(|v| int(v).map(|n| n != 0))))
        }
        DataType::Int8 => ints!(Int8Array, i8),
        DataType::Int16 => ints!(Int16Array, i16),
        DataType::Int32 => ints!(Int32Array, i32),
        DataType::Int64 => ints!(Int64Array, i64),
        DataType::Date32 => ints!(Date32Array, i32),
        DataType::Decimal128(precision, scale) => {
            let array = Decimal128Array::from_iter(values.into_iter().map(int));
            Arc::new(
                array.with_precision_and_scale(precision, scale).expect("a column type's precision is valid"),
            )
        }
        DataType::Timestamp(_, zone) => {
            let array =
                TimestampMicrosecondArray::from_iter(values.into_iter().map(|v| int(v).map(|n| n as i64)));
            Arc::new(array.with_timezone_opt(zone))
        }
        DataType::Float32 => Arc::new(Float32Array::from_iter(values.into_iter().map(|v| match v {
            Some(Value::Float(bits)) => Some(f32::from_bits(bits as u32)),
            _ => None,
        }))),
        DataType::Float64 => Arc::new(Float64Array::from_iter(values.into_iter().map(|v| match v {
            Some(Value::Float(bits)) => Some(f64::from_bits(bits)),
            _ => None,
        }))),
        DataType::Utf8 => Arc::new(StringArray::from_iter(values.into_iter().map(|v| match v {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }))),
        DataType::Binary => Arc::new(BinaryArray::from_iter(values.into_iter().map(|v| match v {
            Some(Value::Bytes(bytes)) => Some(bytes),
            _ => None,
        }))),
        _ => {
            let ColumnType::List(item) = column_type else {
                unreachable!("lists are the last physical type")
            };
            let nulls = NullBuffer::from_iter(values.iter().map(Option::is_some));
            let mut lengths = Vec::with_capacity(values.len());
            let mut items = vec![];
            for value in values {
                let list = match value {
                    Some(Value::List(list)) => list,
                    _ => vec![],
                };
                lengths.push(list.len());
                items.extend(list);
            }
            let field = Arc::new(Field::new("element", item.physical(), true));
            let items = build(item, items);
            Arc::new(ListArray::new(field, OffsetBuffer::from_lengths(lengths), items, Some(nulls)))
        }
    }
}
