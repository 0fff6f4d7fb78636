use super::*;
use arrow::array::{Array, AsArray};
use arrow::datatypes::Float64Type;
use keepfast_model::RowHasher;
use std::collections::HashSet;

#[test]
fn the_same_seed_gives_the_same_rows_and_another_seed_the_same_keys() {
    let schema = schema_of_all_types();
    let hasher = RowHasher::new(&schema);
    let a = hasher.hash(&batch(&schema, 200, 1)).unwrap();
    let again = hasher.hash(&batch(&schema, 200, 1)).unwrap();
    let other = hasher.hash(&batch(&schema, 200, 2)).unwrap();
    assert_eq!(a.rows, again.rows);
    assert_eq!(a.keys, other.keys);
    assert!(a.rows.iter().zip(&other.rows).all(|(a, b)| a != b));
}

#[test]
fn rows_by_number_are_the_same_whatever_batch_they_come_in() {
    let schema = schema_of_all_types();
    let all = batch(&schema, 90, 3);
    assert_eq!(all.slice(40, 50), rows(&schema, 40..90, 3));
}

#[test]
fn keys_of_every_type_are_distinct() {
    for key in key_types() {
        let rows = match key {
            ColumnType::Boolean => 2,
            ColumnType::Int8 | ColumnType::UInt8 => 256,
            _ => 2000,
        };
        let schema = keyed_by(std::slice::from_ref(&key)).unwrap();
        let keys = encode_keys(&schema, &batch(&schema, rows, 1)).unwrap();
        let distinct: HashSet<&[u8]> = keys.iter().flatten().collect();
        assert_eq!(distinct.len(), rows, "{key}");
    }
    let schema = keyed_by(&[ColumnType::Text, ColumnType::Boolean, ColumnType::Blob]).unwrap();
    let keys = encode_keys(&schema, &batch(&schema, 5000, 1)).unwrap();
    assert_eq!(keys.iter().flatten().collect::<HashSet<_>>().len(), 5000);
}

#[test]
fn the_first_rows_hold_every_edge() {
    for seed in 0..3 {
        let schema = schema_of_all_types();
        let batch = batch(&schema, EDGE_ROWS as usize, seed);
        for (column, array) in schema.columns.iter().zip(batch.columns()) {
            assert_eq!(array.null_count() > 0, column.nullable, "{} {}", column.name, column.column_type);
            if column.column_type == ColumnType::Float64 {
                let bits: HashSet<u64> =
                    array.as_primitive::<Float64Type>().iter().flatten().map(f64::to_bits).collect();
                for edge in [f64::NAN.to_bits(), f64::NAN.to_bits() ^ 1, (-0.0f64).to_bits(), 0, 1] {
                    assert!(bits.contains(&edge), "{edge:x}");
                }
            }
            if column.column_type == ColumnType::Text {
                let lengths: HashSet<usize> =
                    array.as_string::<i32>().iter().flatten().map(str::len).collect();
                assert!(lengths.contains(&0) && lengths.iter().any(|l| *l >= 100_000));
            }
        }
    }
}

#[test]
fn sorted_rows_ascend_and_pieces_hold_all_of_them() {
    let schema = keyed_by(&[ColumnType::Text]).unwrap();
    let sorted = sorted(&schema, &batch(&schema, 100, 1)).unwrap();
    let keys = encode_keys(&schema, &sorted).unwrap();
    assert!((1..keys.len()).all(|i| keys.value(i - 1) < keys.value(i)));
    let pieces = pieces(&sorted, 7);
    assert_eq!(pieces.len(), 15);
    assert_eq!(arrow::compute::concat_batches(&sorted.schema(), &pieces).unwrap(), sorted);
}

#[test]
fn a_bag_repeats_rows() {
    let schema = bag();
    let hashes = RowHasher::new(&schema).hash(&batch(&schema, 100, 1)).unwrap();
    assert!(hashes.rows.iter().collect::<HashSet<_>>().len() <= 50);
}
