//! What an exact type promises beyond its physical type.

use super::{refused, shown};
use crate::column_type::ColumnType;
use crate::error::ModelError;
use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::{ArrowPrimitiveType, Decimal128Type, Int16Type, Int32Type, Int64Type};
use serde::de::IgnoredAny;
use std::sync::Arc;

const MICROS_A_DAY: i64 = 86_400_000_000;

/// The array, when every value of it fits; UUIDs come back in lower case.
pub(super) fn values(name: &str, t: &ColumnType, array: ArrayRef) -> Result<ArrayRef, ModelError> {
    match t {
        ColumnType::UInt8 => range::<Int16Type>(name, t, &array, 0, i16::from(u8::MAX))?,
        ColumnType::UInt16 => range::<Int32Type>(name, t, &array, 0, i32::from(u16::MAX))?,
        ColumnType::UInt32 => range::<Int64Type>(name, t, &array, 0, i64::from(u32::MAX))?,
        ColumnType::UInt64 => range::<Decimal128Type>(name, t, &array, 0, i128::from(u64::MAX))?,
        ColumnType::Time => range::<Int64Type>(name, t, &array, 0, MICROS_A_DAY - 1)?,
        ColumnType::Decimal { precision, .. } => {
            let end = 10i128.pow(u32::from(*precision)) - 1;
            range::<Decimal128Type>(name, t, &array, -end, end)?;
        }
        ColumnType::Char { length } | ColumnType::Varchar { length: Some(length) } => {
            let limit = *length as usize;
            let text = array.as_string::<i32>();
            // A text has at most as many characters as bytes, so most are settled by their length.
            first(text, |i| {
                let value = text.value(i);
                value.len() > limit && value.chars().count() > limit
            })
            .map_or(Ok(()), |row| {
                let found = text.value(row).chars().count();
                Err(refused(
                    name,
                    row,
                    shown(text, row),
                    format!("{found} characters do not fit {}", t.sql()),
                ))
            })?;
        }
        ColumnType::Binary { length } => {
            let bytes = array.as_binary::<i32>();
            first(bytes, |i| bytes.value(i).len() != *length as usize).map_or(Ok(()), |row| {
                let found = bytes.value(row).len();
                Err(refused(name, row, shown(bytes, row), format!("{found} bytes are not {}", t.sql())))
            })?;
        }
        ColumnType::Varbinary { length: Some(length) } => {
            let bytes = array.as_binary::<i32>();
            first(bytes, |i| bytes.value(i).len() > *length as usize).map_or(Ok(()), |row| {
                let found = bytes.value(row).len();
                Err(refused(name, row, shown(bytes, row), format!("{found} bytes do not fit {}", t.sql())))
            })?;
        }
        ColumnType::Json => {
            let text = array.as_string::<i32>();
            for i in (0..text.len()).filter(|i| text.is_valid(*i)) {
                if let Err(e) = serde_json::from_str::<IgnoredAny>(text.value(i)) {
                    return Err(refused(name, i, shown(text, i), format!("it is not JSON: {e}")));
                }
            }
        }
        ColumnType::Uuid => return uuids(name, &array),
        _ => {}
    }
    Ok(array)
}

fn first(array: &dyn Array, mut wrong: impl FnMut(usize) -> bool) -> Option<usize> {
    (0..array.len()).find(|i| array.is_valid(*i) && wrong(*i))
}

fn range<T: ArrowPrimitiveType>(
    name: &str,
    t: &ColumnType,
    array: &ArrayRef,
    least: T::Native,
    most: T::Native,
) -> Result<(), ModelError> {
    let values = array.as_primitive::<T>();
    let fits = |v: &T::Native| *v >= least && *v <= most;
    if values.values().iter().all(fits) {
        return Ok(());
    }
    match first(values, |i| !fits(&values.value(i))) {
        Some(row) => Err(refused(name, row, shown(values, row), format!("it does not fit {}", t.sql()))),
        None => Ok(()),
    }
}

fn uuids(name: &str, array: &ArrayRef) -> Result<ArrayRef, ModelError> {
    let text = array.as_string::<i32>();
    let mut plain = true;
    for i in (0..text.len()).filter(|i| text.is_valid(*i)) {
        let value = text.value(i).as_bytes();
        let formed = value.len() == 36
            && value.iter().enumerate().all(|(at, b)| match at {
                8 | 13 | 18 | 23 => *b == b'-',
                _ => b.is_ascii_hexdigit(),
            });
        if !formed {
            return Err(refused(name, i, shown(text, i), "it is not a UUID".into()));
        }
        plain &= !value.iter().any(u8::is_ascii_uppercase);
    }
    if plain {
        return Ok(array.clone());
    }
    let lower: StringArray = text.iter().map(|v| v.map(str::to_ascii_lowercase)).collect();
    Ok(Arc::new(lower))
}
