//! Keys as bytes that compare like the values, so that merges and ranges need no types.
//!
//! Each key column gives a byte `1` and its ordered bytes (`0` alone for NULL, which sorts first). The encoding is in
//! `docs/format.md`; it is the order of everything Keepfast merges.

use crate::error::ModelError;
use crate::schema::TableSchema;
use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimeUnit, TimestampMicrosecondType,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::fmt;

/// One encoded key; hex when written.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct KeyBytes(pub Vec<u8>);

impl fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for KeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl Serialize for KeyBytes {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyBytes {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(d)?;
        let bytes = text.as_bytes();
        if bytes.len() % 2 != 0 {
            return Err(D::Error::custom("an odd number of hex digits"));
        }
        bytes
            .chunks(2)
            .map(|pair| {
                let text = std::str::from_utf8(pair).ok()?;
                u8::from_str_radix(text, 16).ok()
            })
            .collect::<Option<Vec<u8>>>()
            .map(Self)
            .ok_or_else(|| D::Error::custom("not hex digits"))
    }
}

/// Keys from `start` (included) to `end` (not included); none is unbounded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyRange {
    /// First key covered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<KeyBytes>,
    /// First key no longer covered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<KeyBytes>,
}

impl KeyRange {
    /// Whether the key lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.start.as_ref().is_none_or(|s| key >= s.0.as_slice())
            && self.end.as_ref().is_none_or(|e| key < e.0.as_slice())
    }

    /// Whether it has no bounds.
    pub fn is_all(&self) -> bool {
        self.start.is_none() && self.end.is_none()
    }
}

/// The encoded key of every row of a physical batch. Empty keys for a bag.
///
/// # Errors
/// [`ModelError::Batch`] when a key column is missing or has a type that cannot be a key.
pub fn encode_keys(schema: &TableSchema, batch: &RecordBatch) -> Result<BinaryArray, ModelError> {
    let columns = schema
        .key_positions()
        .into_iter()
        .map(|at| {
            batch.columns().get(at).cloned().ok_or_else(|| ModelError::Batch {
                column: schema.columns[at].name.clone(),
                expected: "a column".into(),
                found: "none".into(),
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    encode_columns(&columns, batch.num_rows())
}

/// The encoded key of every row of these key columns.
///
/// # Errors
/// [`ModelError::Batch`] for a type that cannot be a key.
pub fn encode_columns(columns: &[ArrayRef], rows: usize) -> Result<BinaryArray, ModelError> {
    let mut builder = BinaryBuilder::with_capacity(rows, rows * 10 * columns.len().max(1));
    let mut key = Vec::with_capacity(32);
    for i in 0..rows {
        key.clear();
        for column in columns {
            encode_value(column.as_ref(), i, &mut key)?;
        }
        builder.append_value(&key);
    }
    Ok(builder.finish())
}

fn ordered_f64(bits: u64) -> u64 {
    if bits >> 63 == 0 { bits ^ (1 << 63) } else { !bits }
}

fn ordered_f32(bits: u32) -> u32 {
    if bits >> 31 == 0 { bits ^ (1 << 31) } else { !bits }
}

fn encode_value(array: &dyn Array, i: usize, out: &mut Vec<u8>) -> Result<(), ModelError> {
    if array.is_null(i) {
        out.push(0);
        return Ok(());
    }
    out.push(1);
    macro_rules! integer {
        ($t:ty) => {{
            let v = i64::from(array.as_primitive::<$t>().value(i));
            out.extend_from_slice(&((v as u64) ^ (1 << 63)).to_be_bytes());
        }};
    }
    match array.data_type() {
        DataType::Boolean => out.push(u8::from(array.as_boolean().value(i))),
        DataType::Int8 => integer!(Int8Type),
        DataType::Int16 => integer!(Int16Type),
        DataType::Int32 => integer!(Int32Type),
        DataType::Int64 => integer!(Int64Type),
        DataType::Date32 => integer!(Date32Type),
        DataType::Timestamp(TimeUnit::Microsecond, _) => integer!(TimestampMicrosecondType),
        DataType::Float32 => out.extend_from_slice(
            &ordered_f32(array.as_primitive::<Float32Type>().value(i).to_bits()).to_be_bytes(),
        ),
        DataType::Float64 => out.extend_from_slice(
            &ordered_f64(array.as_primitive::<Float64Type>().value(i).to_bits()).to_be_bytes(),
        ),
        DataType::Decimal128(_, _) => {
            let v = array.as_primitive::<Decimal128Type>().value(i);
            out.extend_from_slice(&((v as u128) ^ (1 << 127)).to_be_bytes());
        }
        DataType::Utf8 => escape(array.as_string::<i32>().value(i).as_bytes(), out),
        DataType::Binary => escape(array.as_binary::<i32>().value(i), out),
        other => {
            return Err(ModelError::Batch {
                column: "a key column".into(),
                expected: "a type that has an order".into(),
                found: other.to_string(),
            });
        }
    }
    Ok(())
}

/// `00` becomes `00 ff`; the end is `00 00`, which sorts before any continuation.
fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for part in bytes.split_inclusive(|b| *b == 0) {
        out.extend_from_slice(part);
        if part.last() == Some(&0) {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Decimal128Array, Float64Array, Int64Array, StringArray};
    use proptest::prelude::*;
    use std::sync::Arc;

    proptest! {
        #[test]
        fn encoded_keys_order_like_their_values(
            mut rows in prop::collection::vec(("[\\x00ab]{0,3}", any::<i64>(), any::<i128>()), 1..30)
        ) {
            rows.iter_mut().for_each(|r| r.2 >>= 2);
            let columns: Vec<ArrayRef> = vec![
                Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.0.as_str()))),
                Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.1))),
                Arc::new(Decimal128Array::from_iter_values(rows.iter().map(|r| r.2))),
            ];
            let keys = encode_columns(&columns, rows.len()).unwrap();
            for i in 0..rows.len() {
                for j in 0..rows.len() {
                    let by_value = (rows[i].0.as_bytes(), rows[i].1, rows[i].2)
                        .cmp(&(rows[j].0.as_bytes(), rows[j].1, rows[j].2));
                    prop_assert_eq!(by_value, keys.value(i).cmp(keys.value(j)));
                }
            }
        }

        #[test]
        fn encoded_floats_order_totally(a in any::<f64>(), b in any::<f64>()) {
            let column: ArrayRef = Arc::new(Float64Array::from(vec![a, b]));
            let keys = encode_columns(&[column], 2).unwrap();
            prop_assert_eq!(a.total_cmp(&b), keys.value(0).cmp(keys.value(1)));
        }
    }
}
