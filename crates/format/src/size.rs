//! How many canonical bytes rows have, without making them.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::DataType;

/// Canonical bytes of the non-NULL values of rows `from .. from + rows`.
pub(crate) fn canonical_size(batch: &RecordBatch, from: usize, rows: usize) -> u64 {
    batch.columns().iter().map(|c| column_size(c.as_ref(), from, rows)).sum()
}

fn column_size(array: &dyn Array, from: usize, rows: usize) -> u64 {
    let nulls = array.nulls().filter(|n| n.null_count() > 0).map(|n| n.slice(from, rows));
    let valid = rows - nulls.as_ref().map_or(0, |n| n.null_count());
    let fixed = |width: usize| (valid * width) as u64;
    match array.data_type() {
        DataType::Boolean => fixed(1),
        DataType::Float32 => fixed(4),
        DataType::Decimal128(_, _) => fixed(16),
        DataType::Utf8 => variable_size(array.as_string::<i32>().value_offsets(), from, rows, array, valid),
        DataType::Binary => variable_size(array.as_binary::<i32>().value_offsets(), from, rows, array, valid),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let offsets = list.value_offsets();
            let items = |i: usize, n: usize| {
                let (start, end) = (offsets[i] as usize, offsets[i + n] as usize);
                let values = list.values();
                let alive = match values.nulls() {
                    Some(nulls) => end - start - nulls.slice(start, end - start).null_count(),
                    None => end - start,
                };
                (end - start + 4 * alive) as u64 + column_size(values.as_ref(), start, end - start)
            };
            if valid == rows {
                items(from, rows)
            } else {
                (from..from + rows).filter(|i| list.is_valid(*i)).map(|i| items(i, 1)).sum()
            }
        }
        _ => fixed(8),
    }
}

fn variable_size(offsets: &[i32], from: usize, rows: usize, array: &dyn Array, valid: usize) -> u64 {
    let length = |i: usize| (offsets[i + 1] - offsets[i]) as u64;
    if valid == rows {
        (offsets[from + rows] - offsets[from]) as u64
    } else {
        (from..from + rows).filter(|i| array.is_valid(*i)).map(length).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        ArrayRef, BooleanArray, Decimal128Array, Float32Array, Int8Array, Int32Builder, ListBuilder,
        StringArray,
    };
    use keepfast_model::digest::canonical_value;
    use std::sync::Arc;

    #[test]
    fn sizes_are_those_of_the_canonical_bytes_in_any_slice() {
        let mut list = ListBuilder::new(Int32Builder::new());
        list.append_value([Some(1), None, Some(3)]);
        list.append_null();
        list.append_value([]);
        list.append_value([None]);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("a", Arc::new(Int8Array::from(vec![Some(1), None, Some(3), Some(4)]))),
            ("b", Arc::new(StringArray::from(vec![Some("xyz"), None, Some(""), Some("12345")]))),
            ("c", Arc::new(BooleanArray::from(vec![true, false, true, true]))),
            ("d", Arc::new(Float32Array::from(vec![None, None, Some(f32::NAN), None]))),
            ("e", Arc::new(Decimal128Array::from(vec![Some(1), Some(2), None, Some(4)]))),
            ("f", Arc::new(list.finish())),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        for from in 0..4 {
            for rows in 0..=4 - from {
                let mut bytes = Vec::new();
                for column in batch.columns() {
                    for i in (from..from + rows).filter(|i| column.is_valid(*i)) {
                        canonical_value(column.as_ref(), i, &mut bytes).unwrap();
                    }
                }
                assert_eq!(canonical_size(&batch, from, rows), bytes.len() as u64, "{from} {rows}");
                assert_eq!(canonical_size(&batch.slice(from, rows), 0, rows), bytes.len() as u64);
            }
        }
    }
}
