//! Changes merged into a base give what a simple model gives.

mod support;

use arrow::array::RecordBatch;
use keepfast_format::{BagMerger, FormatError, change_table, merge_cells, merge_keyed, with_exact};
use keepfast_model::change::change_schema;
use keepfast_model::{ColumnType, Digest, RowHasher, TableSchema};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use support::*;

/// One change as a test writes it.
#[derive(Clone, Debug)]
struct Change {
    op: i8,
    seq: i64,
    mask: Option<Vec<u8>>,
    count: Option<i64>,
    row: Row,
}

fn hidden(c: &Change) -> Row {
    let optional = |v: Option<Value>| v.unwrap_or(Value::Null);
    vec![
        Value::Int(c.op.into()),
        Value::Int(c.seq),
        Value::Text("shard-1".into()),
        Value::Null,
        Value::Int(0),
        optional(c.mask.clone().map(Value::Bytes)),
        optional(c.count.map(Value::Int)),
    ]
}

/// Change batches of `size` rows each; each sorted by key and seq when `sorted`, as change segments are.
fn change_batches(schema: &TableSchema, changes: &[Change], size: usize, sorted: bool) -> Vec<RecordBatch> {
    let exact = changes.iter().any(|c| c.row.len() > schema.columns.len());
    let arrow = change_schema(schema);
    let arrow = if exact { with_exact(&arrow) } else { arrow };
    let keys = schema.key_positions();
    changes
        .chunks(size.max(1))
        .map(|chunk| {
            let mut chunk = chunk.to_vec();
            if sorted {
                let key = |c: &Change| keys.iter().map(|k| c.row[*k].clone()).collect::<Vec<_>>();
                chunk.sort_by_key(|c| (key(c), c.seq));
            }
            let rows: Vec<Row> = chunk
                .iter()
                .map(|c| {
                    let mut row = [hidden(c), c.row.clone()].concat();
                    row.resize(arrow.fields().len(), Value::Null);
                    row
                })
                .collect();
            batch(&arrow, &rows)
        })
        .collect()
}

fn digest(schema: &TableSchema, batches: &[RecordBatch]) -> Digest {
    chunk(schema, batches.to_vec()).digest
}

fn check_equal(schema: &TableSchema, merged: &[RecordBatch], expected: &[Row]) -> Result<(), TestCaseError> {
    prop_assert_eq!(rows_of(merged), expected.to_vec());
    let model = RowHasher::new(schema).digest(&batch(&schema.physical(), expected)).unwrap();
    prop_assert_eq!(digest(schema, merged), model);
    prop_assert!(merged.iter().all(|b| b.schema() == schema.physical()));
    Ok(())
}

fn keyed_schema() -> TableSchema {
    TableSchema::of(
        vec![
            ("a".into(), ColumnType::Text, true),
            ("id".into(), ColumnType::Int32, false),
            ("b".into(), ColumnType::Int64, true),
            ("l".into(), ColumnType::List(Box::new(ColumnType::Int32)), true),
        ],
        &["id"],
    )
    .unwrap()
}

fn keyed_row(id: i32) -> impl Strategy<Value = Row> {
    let schema = keyed_schema();
    row(&schema).prop_map(move |mut r| {
        r[1] = Value::Int(id.into());
        r
    })
}

fn keyed_change() -> impl Strategy<Value = (i8, u8, Row)> {
    (prop_oneof![Just(0i8), Just(1), Just(2)], 0u8..16, (0..60i32).prop_flat_map(keyed_row))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn keyed_changes_give_what_a_map_gives(
        ids in prop::collection::btree_set(0..60i32, 0..40),
        seed_rows in prop::collection::vec(keyed_row(0), 40),
        changes in prop::collection::vec(keyed_change(), 0..60),
        cuts in prop::collection::vec(0usize..40, 0..4),
        size in 1usize..30,
        sorted in any::<bool>(),
    ) {
        let schema = keyed_schema();
        let mut model: BTreeMap<i64, Row> = ids
            .iter()
            .zip(&seed_rows)
            .map(|(id, row)| {
                let mut row = row.clone();
                row[1] = Value::Int((*id).into());
                (i64::from(*id), row)
            })
            .collect();
        let base = sliced(&schema.physical(), &model.values().cloned().collect::<Vec<_>>(), &cuts);
        let mut written = Vec::new();
        for (seq, (op, mask, row)) in changes.into_iter().enumerate() {
            let Value::Int(id) = row[1] else { unreachable!() };
            let mut change = Change { op, seq: seq as i64 - 20, mask: None, count: None, row: row.clone() };
            match op {
                0 => { model.insert(id, row); }
                1 => {
                    change.mask = Some(vec![mask]);
                    let old = model.entry(id).or_insert_with(|| vec![Value::Null, Value::Int(id), Value::Null, Value::Null]);
                    for (i, value) in row.into_iter().enumerate() {
                        if i != 1 && mask >> i & 1 == 1 { old[i] = value; }
                    }
                }
                _ => {
                    change.row = vec![Value::Null, Value::Int(id), Value::Null, Value::Null];
                    model.remove(&id);
                }
            }
            written.push(change);
        }
        let merged = merge_keyed(&schema, &base, &change_batches(&schema, &written, size, sorted)).unwrap();
        check_equal(&schema, &merged, &model.into_values().collect::<Vec<_>>())?;
    }

    #[test]
    fn counted_changes_give_what_a_multiset_gives(
        base in prop::collection::vec((0..4i64, "[ab]?"), 0..60),
        changes in prop::collection::vec((0..4i64, "[ab]?", -3..4i64), 0..40),
        cuts in prop::collection::vec(0usize..60, 0..4),
        size in 1usize..30,
    ) {
        let schema = TableSchema::of(
            vec![("n".into(), ColumnType::Int64, false), ("t".into(), ColumnType::Text, true)], &[],
        ).unwrap();
        let to_row = |n: i64, t: &str| {
            vec![Value::Int(n), if t.is_empty() { Value::Null } else { Value::Text(t.into()) }]
        };
        let rows: Vec<Row> = base.iter().map(|(n, t)| to_row(*n, t)).collect();
        let mut model: HashMap<Row, i64> = HashMap::new();
        rows.iter().for_each(|r| *model.entry(r.clone()).or_default() += 1);
        let mut written = Vec::new();
        for (seq, (n, t, count)) in changes.into_iter().enumerate() {
            let row = to_row(n, &t);
            *model.entry(row.clone()).or_default() += count;
            written.push(Change { op: 6, seq: seq as i64, mask: None, count: Some(count), row });
        }
        let missing: i64 = model.values().filter(|n| **n < 0).map(|n| -n).sum();

        let mut merger = BagMerger::new(Arc::new(schema.clone()), &change_batches(&schema, &written, size, false)).unwrap();
        let mut merged: Vec<RecordBatch> = Vec::new();
        for batch in sliced(&schema.physical(), &rows, &cuts) {
            merged.push(merger.push(&batch).unwrap());
        }
        match merger.finish() {
            Ok(additions) => {
                prop_assert_eq!(missing, 0);
                merged.extend(additions.collect::<Result<Vec<_>, _>>().unwrap());
                let mut found = rows_of(&merged);
                found.sort();
                let mut expected: Vec<Row> = model
                    .into_iter()
                    .flat_map(|(row, n)| std::iter::repeat_n(row, n as usize))
                    .collect();
                expected.sort();
                prop_assert_eq!(found, expected);
            }
            Err(FormatError::MissingRow { count, .. }) => prop_assert_eq!(missing, count as i64),
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn changes_of_cells_give_what_a_model_of_versions_gives(
        base in prop::collection::btree_map(cell_key(), "[xy]{0,2}", 0..50),
        changes in prop::collection::vec((prop::sample::select(vec![0i8, 0, 0, 2, 3, 4, 5]), cell_key(), "[xy]{0,2}"), 0..60),
        cuts in prop::collection::vec(0usize..50, 0..4),
        size in 1usize..40,
    ) {
        let schema = TableSchema::cells();
        let mut model: BTreeMap<Cell, String> = base;
        let all: Vec<Row> = model.iter().map(|(k, v)| cell_row(k, Some(v))).collect();
        let mut written = Vec::new();
        for (seq, (op, key, value)) in changes.into_iter().enumerate() {
            let (row, family, column, ts) = key.clone();
            let empty = || b"".to_vec();
            let (stored, value) = match op {
                0 => { model.insert(key.clone(), value.clone()); (key, Some(value)) }
                2 => { model.retain(|k, _| !(k.0 == row && k.3 <= ts)); ((row, empty(), empty(), ts), None) }
                3 => { model.retain(|k, _| !(k.0 == row && k.1 == family && k.2 == column && k.3 <= ts)); ((row, family, column, ts), None) }
                4 => { model.remove(&key); (key, None) }
                _ => { model.retain(|k, _| !(k.0 == row && k.1 == family && k.3 <= ts)); ((row, family, empty(), ts), None) }
            };
            written.push(Change { op, seq: seq as i64, mask: None, count: None, row: cell_row(&stored, value.as_ref()) });
        }
        let base = sliced(&schema.physical(), &all, &cuts);
        let merged = merge_cells(&schema, &base, &change_batches(&schema, &written, size, true)).unwrap();
        let expected: Vec<Row> = model.iter().map(|(k, v)| cell_row(k, Some(v))).collect();
        check_equal(&schema, &merged, &expected)?;
    }
}

/// Row, family, column, timestamp.
type Cell = (Vec<u8>, Vec<u8>, Vec<u8>, i64);

fn cell_key() -> impl Strategy<Value = Cell> {
    let bytes = |all: &[&[u8]]| prop::sample::select(all.iter().map(|b| b.to_vec()).collect::<Vec<_>>());
    (bytes(&[b"r", b"r\0", b"\0\0", b"s"]), bytes(&[b"", b"f", b"f\0"]), bytes(&[b"", b"c", b"\0"]), -2..4i64)
}

fn cell_row(key: &Cell, value: Option<&String>) -> Row {
    let value = value.map_or(Value::Null, |v| Value::Bytes(v.clone().into_bytes()));
    let bytes = |b: &Vec<u8>| Value::Bytes(b.clone());
    vec![bytes(&key.0), bytes(&key.1), bytes(&key.2), Value::Int(key.3), Value::Int(0), value]
}

fn put(seq: i64, row: Row) -> Change {
    Change { op: 0, seq, mask: None, count: None, row }
}

fn text(t: &str) -> Value {
    Value::Text(t.into())
}

fn simple_row(id: i64) -> Row {
    vec![Value::Null, Value::Int(id), Value::Int(id), Value::Null]
}

#[test]
fn batches_that_no_change_touches_come_out_as_they_are() {
    let schema = keyed_schema();
    let base: Vec<RecordBatch> = (0..3)
        .map(|i| batch(&schema.physical(), &(i * 10..i * 10 + 10).map(simple_row).collect::<Vec<_>>()))
        .collect();
    let changes = change_batches(&schema, &[put(1, simple_row(15)), put(2, simple_row(100))], 10, true);
    let merged = merge_keyed(&schema, &base, &changes).unwrap();
    assert_eq!(merged.len(), 4);
    for i in [0, 2] {
        assert_eq!(
            merged[i].column(2).to_data().buffers()[0].as_ptr(),
            base[i].column(2).to_data().buffers()[0].as_ptr()
        );
    }
}

#[test]
fn exact_values_follow_the_columns_that_patches_set() {
    let schema = keyed_schema();
    let exact = with_exact(&schema.physical());
    let old = |id: i64, json: &str| [simple_row(id), vec![text(json)]].concat();
    let base = [batch(
        &exact,
        &[old(1, r#"{"1":"one","3":"three"}"#), old(2, r#"{"3":"gone"}"#), old(3, r#"{"1":"x"}"#)],
    )];
    let patch = |seq, id, mask, json: Value| Change {
        op: 1,
        seq,
        mask: Some(vec![mask]),
        count: None,
        row: [simple_row(id), vec![json]].concat(),
    };
    let changes = [
        patch(1, 1, 0b1000, text(r#"{"4":"four"}"#)),
        patch(2, 1, 0b0100, text(r#"{"3":"THREE"}"#)),
        patch(3, 2, 0b0100, Value::Null),
        put(4, [simple_row(3), vec![Value::Null]].concat()),
        patch(5, 4, 0b0001, text(r#"{"1":"new"}"#)),
    ];
    let merged = merge_keyed(&schema, &base, &change_batches(&schema, &changes, 2, true)).unwrap();
    let found: Vec<Value> = rows_of(&merged).into_iter().map(|r| r[4].clone()).collect();
    assert_eq!(
        found,
        [text(r#"{"1":"one","3":"THREE","4":"four"}"#), Value::Null, Value::Null, text(r#"{"1":"new"}"#)]
    );
}

#[test]
fn changes_without_exact_values_take_those_of_the_base_away() {
    let schema = keyed_schema();
    let exact = with_exact(&schema.physical());
    let old = |id: i64| [simple_row(id), vec![text(r#"{"1":"x","3":"y"}"#)]].concat();
    let base = [batch(&exact, &[old(1), old(2), old(3)])];
    let patch = Change { op: 1, seq: 2, mask: Some(vec![0b0001]), count: None, row: simple_row(2) };
    let changes = [put(1, simple_row(1)), patch, put(3, simple_row(9))];
    let merged = merge_keyed(&schema, &base, &change_batches(&schema, &changes, 9, true)).unwrap();
    let found: Vec<Value> = rows_of(&merged).into_iter().map(|r| r[4].clone()).collect();
    assert_eq!(found, [Value::Null, text(r#"{"3":"y"}"#), text(r#"{"1":"x","3":"y"}"#), Value::Null]);
}

#[test]
fn a_base_out_of_order_and_a_key_twice_in_it_are_refused() {
    let schema = keyed_schema();
    let base =
        |ids: &[i64]| batch(&schema.physical(), &ids.iter().copied().map(simple_row).collect::<Vec<_>>());
    let changes = change_batches(&schema, &[put(1, simple_row(2))], 10, true);
    for wrong in [vec![base(&[1, 3, 2])], vec![base(&[2, 3]), base(&[1])]] {
        assert!(matches!(merge_keyed(&schema, &wrong, &changes).unwrap_err(), FormatError::Order { .. }));
    }
    for wrong in [vec![base(&[1, 3, 3])], vec![base(&[1, 3]), base(&[3])]] {
        assert!(matches!(
            merge_keyed(&schema, &wrong, &changes).unwrap_err(),
            FormatError::DuplicateKey { .. }
        ));
    }
}

#[test]
fn changes_that_a_table_cannot_have_are_refused_with_shard_and_number() {
    let schema = keyed_schema();
    let refused = |change: Change| {
        let changes = change_batches(&schema, &[change], 1, true);
        match merge_keyed(&schema, &[], &changes).unwrap_err() {
            FormatError::Change { shard, seq, reason } => {
                assert_eq!((shard.as_str(), seq), ("shard-1", 9));
                reason
            }
            other => panic!("{other}"),
        }
    };
    let change = |op, row| Change { op, seq: 9, mask: None, count: None, row };
    assert!(refused(change(7, simple_row(1))).contains("unknown"));
    for op in [3, 4, 5, 6] {
        assert!(refused(change(op, simple_row(1))).contains("not one of such a table"));
    }
    assert!(refused(change(1, simple_row(1))).contains("mask"));
    assert!(refused(change(0, vec![Value::Null; 4])).contains("key column"));

    let mut strict = keyed_schema();
    strict.columns[2].nullable = false;
    let null = vec![Value::Null, Value::Int(1), Value::Null, Value::Null];
    for change in [change(0, null.clone()), Change { mask: Some(vec![1]), ..change(1, null) }] {
        let changes = change_batches(&strict, &[change], 1, true);
        let error = merge_keyed(&strict, &[], &changes).unwrap_err();
        assert!(matches!(&error, FormatError::Change { reason, .. } if reason.contains("'b'")), "{error}");
    }

    let bag = TableSchema { key: vec![], ..keyed_schema() };
    for wrong in [change(0, simple_row(1)), change(6, simple_row(1))] {
        let changes = change_batches(&bag, &[wrong], 1, true);
        assert!(matches!(
            BagMerger::new(Arc::new(bag.clone()), &changes),
            Err(FormatError::Change { seq: 9, .. })
        ));
    }
    let cells = TableSchema::cells();
    let key = (b"r".to_vec(), vec![], vec![], 1);
    let patch = Change { mask: Some(vec![1]), ..change(1, cell_row(&key, None)) };
    assert!(merge_cells(&cells, &[], &change_batches(&cells, &[patch], 1, true)).is_err());
}

#[test]
fn a_removal_without_a_row_names_its_change_and_many_additions_come_in_batches() {
    let bag = TableSchema { key: vec![], ..keyed_schema() };
    let count = |seq, n, id| Change { op: 6, seq, mask: None, count: Some(n), row: simple_row(id) };
    let changes = change_batches(&bag, &[count(4, -2, 1), count(3, -1, 2), count(5, 20_000, 3)], 1, true);
    let mut merger = BagMerger::new(Arc::new(bag.clone()), &changes).unwrap();
    merger.push(&batch(&bag.physical(), &[simple_row(1)])).unwrap();
    let Err(FormatError::MissingRow { count, shard, seq }) = merger.finish() else { panic!() };
    assert_eq!((count, shard.as_str(), seq), (2, "shard-1", 3));

    let mut merger = BagMerger::new(Arc::new(bag.clone()), &changes[2..]).unwrap();
    merger.push(&batch(&bag.physical(), &[simple_row(1)])).unwrap();
    let additions: Vec<RecordBatch> = merger.finish().unwrap().collect::<Result<_, _>>().unwrap();
    assert!(additions.len() > 2 && additions.iter().all(|b| b.num_rows() <= 8_192));
    assert_eq!(additions.iter().map(|b| b.num_rows()).sum::<usize>(), 20_000);
}

#[test]
fn a_cell_that_is_put_after_a_delete_lives_whatever_its_timestamp() {
    let schema = TableSchema::cells();
    let key = (b"r".to_vec(), b"f".to_vec(), b"c".to_vec(), 1);
    let delete = (b"r".to_vec(), vec![], vec![], 100);
    let value = "v".to_owned();
    let first = Change { op: 2, seq: 1, mask: None, count: None, row: cell_row(&delete, None) };
    let changes = [first, put(2, cell_row(&key, Some(&value)))];
    let base = [batch(&schema.physical(), &[cell_row(&key, Some(&"old".into()))])];
    let merged = merge_cells(&schema, &base, &change_batches(&schema, &changes, 2, true)).unwrap();
    assert_eq!(rows_of(&merged), [cell_row(&key, Some(&value))]);
}

#[test]
fn nothing_merged_with_nothing_is_nothing() {
    let schema = keyed_schema();
    assert!(merge_keyed(&schema, &[], &[]).unwrap().is_empty());
    let base = batch(&schema.physical(), &[simple_row(1)]);
    assert_eq!(merge_keyed(&schema, std::slice::from_ref(&base), &[]).unwrap(), [base]);
    assert_eq!(change_table(&schema).columns.len(), 11);
}
