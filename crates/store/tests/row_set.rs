//! What the suite compares with can tell every difference.

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use keepfast_model::change::change_schema;
use keepfast_model::{ChangeOp, ColumnType, RowHasher, ShardId, TableSchema};
use keepfast_store::conformance::RowSet;
use keepfast_store::{StoreError, sample};
use std::sync::Arc;

fn schema() -> TableSchema {
    let columns =
        vec![("id".to_owned(), ColumnType::Int64, false), ("x".to_owned(), ColumnType::Float64, true)];
    TableSchema::of(columns, &["id"]).unwrap()
}

fn rows(rows: &[(i64, Option<f64>)]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0))),
        Arc::new(Float64Array::from_iter(rows.iter().map(|r| r.1))),
    ];
    RecordBatch::try_new(schema().physical(), columns).unwrap()
}

fn set(of: &[(i64, Option<f64>)]) -> RowSet {
    RowSet::of(&schema(), &[rows(of)]).unwrap()
}

#[test]
fn every_difference_is_named() {
    let expected = set(&[(1, Some(0.0)), (2, None), (3, Some(f64::NAN))]);
    assert_eq!(set(&[(3, Some(f64::NAN)), (1, Some(0.0)), (2, None)]).difference(&expected), None);
    let other_nan = f64::from_bits(f64::NAN.to_bits() ^ 1);
    for (found, text) in [
        (set(&[(1, Some(0.0)), (2, None)]), "2 rows, expected 3: row lost: id=\"3\""),
        (
            set(&[(1, Some(-0.0)), (2, None), (3, Some(f64::NAN))]),
            "row id=\"1\": x is \"-0.0\", expected \"0.0\"",
        ),
        (set(&[(1, Some(0.0)), (2, Some(0.0)), (3, Some(f64::NAN))]), "x is \"0.0\", expected NULL"),
        (set(&[(1, Some(0.0)), (2, None), (3, Some(other_nan))]), "x is 0x"),
        (set(&[(1, Some(0.0)), (2, None), (2, None), (3, Some(f64::NAN))]), "row stands 2 times, expected 1"),
        (set(&[(1, Some(0.0)), (2, None), (3, Some(f64::NAN)), (4, None)]), "row not expected: id=\"4\""),
    ] {
        let difference = found.difference(&expected).unwrap();
        assert!(difference.contains(text), "{difference:?} lacks {text:?}");
    }
}

#[test]
fn the_digest_is_that_of_the_rows_and_batches_come_back() {
    let schema = sample::schema_of_all_types();
    let batch = sample::batch(&schema, 100, 1);
    let set = RowSet::of(&schema, std::slice::from_ref(&batch)).unwrap();
    assert_eq!(set.digest().unwrap(), RowHasher::new(&schema).digest(&batch).unwrap());
    assert_eq!(set.to_batch().unwrap(), sample::sorted(&schema, &batch).unwrap());
}

/// Operation, number, shard, mask, and the row.
type Change<'a> = (ChangeOp, i64, &'a str, Option<u8>, i64, Option<f64>);

fn changes(of: &[Change<'_>]) -> RecordBatch {
    use arrow::array::{BinaryArray, Int8Array, Int32Array};
    let masks: Vec<Option<Vec<u8>>> = of.iter().map(|c| c.3.map(|m| vec![m])).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int8Array::from_iter_values(of.iter().map(|c| c.0 as i8))),
        Arc::new(Int64Array::from_iter_values(of.iter().map(|c| c.1))),
        Arc::new(StringArray::from_iter_values(of.iter().map(|c| c.2))),
        Arc::new(StringArray::from(vec![None::<&str>; of.len()])),
        Arc::new(Int32Array::from(vec![0; of.len()])),
        Arc::new(BinaryArray::from_iter(masks)),
        Arc::new(Int64Array::from(vec![None; of.len()])),
        Arc::new(Int64Array::from_iter_values(of.iter().map(|c| c.4))),
        Arc::new(Float64Array::from_iter(of.iter().map(|c| c.5))),
    ];
    RecordBatch::try_new(change_schema(&schema()), columns).unwrap()
}

#[test]
fn changes_are_applied_in_each_shards_order() {
    use ChangeOp::{DeleteRow, Patch, PutRow};
    let mut base = RowSet::new(&schema());
    base.add(&ShardId("a".into()), &rows(&[(1, Some(1.0)), (2, Some(2.0))])).unwrap();
    base.add(&ShardId("b".into()), &rows(&[(3, Some(3.0))])).unwrap();
    base.apply(&[
        changes(&[
            (Patch, 1, "a", Some(0b10), 1, Some(1.5)),
            (PutRow, 1, "b", None, 2, Some(2.5)),
            (Patch, 2, "a", Some(0b10), 4, Some(4.5)),
        ]),
        changes(&[(DeleteRow, 3, "a", None, 2, None), (DeleteRow, 2, "b", None, 3, None)]),
    ])
    .unwrap();
    assert_eq!(base.difference(&set(&[(1, Some(1.5)), (2, Some(2.5)), (4, Some(4.5))])), None);
}

#[test]
fn changes_that_contradict_themselves_are_refused() {
    use ChangeOp::{Count, DeleteCell, Patch, PutRow};
    let mut base = RowSet::new(&schema());
    base.add(&ShardId("a".into()), &rows(&[(1, Some(1.0))])).unwrap();
    for batch in [
        changes(&[(PutRow, 2, "a", None, 1, None), (PutRow, 2, "a", None, 1, None)]),
        changes(&[(Patch, 1, "a", None, 1, None)]),
        changes(&[(Count, 1, "a", None, 1, None)]),
        changes(&[(DeleteCell, 1, "a", None, 1, None)]),
        rows(&[(1, None)]),
    ] {
        assert!(matches!(base.clone().apply(&[batch]), Err(StoreError::Damaged { .. })));
    }
    let second = changes(&[(PutRow, 1, "b", None, 1, Some(9.0))]);
    let Err(StoreError::DuplicateKey { first, second, .. }) = base.apply(&[second]) else {
        panic!("a key in two shards was accepted")
    };
    assert_eq!((first.as_str(), second.as_str()), ("a", "b"));
}
