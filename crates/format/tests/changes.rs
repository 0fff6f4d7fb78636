//! Changes come back from change segments sorted, complete and with the entry that says so.

mod support;

use arrow::array::RecordBatch;
use keepfast_format::{
    ChangeWriter, EncodedSegment, FormatError, Splitter, WriterProfile, change_digest, merge_keyed,
    read_changes, read_segment, with_exact,
};
use keepfast_model::change::{HIDDEN_COLUMNS, change_schema};
use keepfast_model::{ByteCount, ColumnType, Digest, KeyBytes, ShardId, TableSchema, encode_keys};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use support::*;

fn schema() -> TableSchema {
    TableSchema::of(
        vec![
            ("name".into(), ColumnType::Text, true),
            ("id".into(), ColumnType::Int32, false),
            ("amount".into(), ColumnType::Decimal { precision: 30, scale: 2 }, true),
        ],
        &["id"],
    )
    .unwrap()
}

fn writer_of(schema: &TableSchema, run: u64) -> ChangeWriter {
    let profile = Arc::new(WriterProfile::choose(schema, &[], 64));
    ChangeWriter::new(Arc::new(schema.clone()), profile, protection()).with_run_bytes(ByteCount(run))
}

fn change(op: i64, seq: i64, shard: &str, mask: Value, count: Value, row: Row) -> Row {
    let position = Value::Text(format!("binlog.1:{seq}"));
    [
        vec![
            Value::Int(op),
            Value::Int(seq),
            Value::Text(shard.into()),
            position,
            Value::Int(2),
            mask,
            count,
        ],
        row,
    ]
    .concat()
}

/// Changes in the order in which they happened, over three shards.
fn changes() -> impl Strategy<Value = Vec<Row>> {
    let one = (0u8..3, prop::sample::select(vec!["a", "b", "c/1"]), row(&schema()));
    prop::collection::vec(one, 0..80).prop_map(|all| {
        all.into_iter()
            .enumerate()
            .map(|(seq, (op, shard, mut row))| {
                if let Value::Int(id) = &mut row[1] {
                    *id %= 20;
                }
                if op == 2 {
                    (row[0], row[2]) = (Value::Null, Value::Null);
                }
                let mask = if op == 1 { Value::Bytes(vec![0b101]) } else { Value::Null };
                change(op.into(), seq as i64, shard, mask, Value::Null, row)
            })
            .collect()
    })
}

fn written(mut writer: ChangeWriter, batches: Vec<RecordBatch>) -> Vec<EncodedSegment> {
    let mut segments = Vec::new();
    for batch in batches {
        segments.extend(writer.push(batch).unwrap());
    }
    segments.extend(writer.finish().unwrap());
    assert!(writer.finish().unwrap().is_empty());
    segments
}

fn read(schema: &TableSchema, segment: &EncodedSegment) -> Vec<RecordBatch> {
    read_changes(segment.bytes.clone(), schema, 7).unwrap().collect::<Result<_, _>>().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn nothing_is_lost_and_every_segment_is_a_sorted_run_of_one_shard(
        all in changes(),
        cuts in prop::collection::vec(0usize..80, 0..4),
        run in prop::sample::select(vec![1u64, 500, 2_000, 1 << 20]),
    ) {
        let schema = schema();
        let arrow = change_schema(&schema);
        let segments = written(writer_of(&schema, run), sliced(&arrow, &all, &cuts));
        if run == 1 << 20 {
            let shards: std::collections::HashSet<_> = all.iter().map(|r| r[2].clone()).collect();
            prop_assert_eq!(segments.len(), shards.len(), "one run, and one segment a shard");
            let again = written(writer_of(&schema, run), vec![batch(&arrow, &all)]);
            let names = |s: &[EncodedSegment]| s.iter().map(|s| s.entry.file_name()).collect::<Vec<_>>();
            prop_assert_eq!(names(&segments), names(&again), "batches never matter");
        }
        let mut found = Vec::new();
        for segment in &segments {
            let batches = read(&schema, segment);
            prop_assert!(batches.iter().all(|b| b.schema() == arrow));
            let rows = rows_of(&batches);
            let entry = &segment.entry;
            prop_assert_eq!(entry.rows as usize, rows.len());
            prop_assert!(rows.iter().all(|r| r[2] == Value::Text(entry.shard.0.clone())));
            let order: Vec<(&Value, &Value)> = rows.iter().map(|r| (&r[HIDDEN_COLUMNS + 1], &r[1])).collect();
            prop_assert!(order.is_sorted());
            let digest = batches.iter().map(|b| change_digest(&schema, b).unwrap()).fold(Digest::default(), Digest::merge);
            prop_assert_eq!(entry.digest, digest);
            let seqs = rows.iter().map(|r| if let Value::Int(n) = r[1] { n } else { unreachable!() });
            prop_assert_eq!((entry.seq_min, entry.seq_max), (seqs.clone().min(), seqs.max()));
            prop_assert_eq!(entry.epoch, 2);
            let table: Vec<usize> = (HIDDEN_COLUMNS..arrow.fields().len()).collect();
            let first = batches[0].project(&table).unwrap();
            let last = batches[batches.len() - 1].project(&table).unwrap();
            let key = |b: &RecordBatch, at: usize| Some(KeyBytes(encode_keys(&schema, b).unwrap().value(at).to_vec()));
            prop_assert_eq!(&entry.min, &key(&first, 0));
            prop_assert_eq!(&entry.max, &key(&last, last.num_rows() - 1));
            found.extend(rows);
        }
        found.sort();
        let mut expected = all;
        expected.sort();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn a_base_and_changes_from_stored_bytes_give_the_rows_of_the_store(
        ids in prop::collection::btree_set(0i64..300, 0..200),
        steps in prop::collection::vec((0i64..300, any::<bool>(), "[ab]{0,2}"), 0..100),
        run in prop::sample::select(vec![300u64, 1 << 20]),
    ) {
        let schema = schema();
        let new_row = |id: i64, name: &str| vec![Value::Text(name.into()), Value::Int(id), Value::Decimal(id.into())];
        let mut model: BTreeMap<i64, Row> = ids.iter().map(|id| (*id, new_row(*id, "base"))).collect();

        let mut splitter = Splitter::new(Arc::new(schema.clone()), 16);
        let base: Vec<Row> = model.values().cloned().collect();
        let mut chunks = splitter.push(batch(&schema.physical(), &base)).unwrap();
        chunks.extend(splitter.finish().unwrap());
        let segments = writer(&schema, &WriterProfile::choose(&schema, &[], 16));
        let mut stored = Vec::new();
        for chunk in &chunks {
            let segment = segments.encode(segments.identity(chunk).unwrap(), &ShardId("a".into()), chunk).unwrap();
            prop_assert_eq!((&segment.entry.min, &segment.entry.max), (&chunk.min, &chunk.max));
            stored.push(segment);
        }

        let mut all = Vec::new();
        for (seq, (id, put, name)) in steps.iter().enumerate() {
            let row = if *put { new_row(*id, name) } else { vec![Value::Null, Value::Int(*id), Value::Null] };
            all.push(change(if *put { 0 } else { 2 }, seq as i64, "a", Value::Null, Value::Null, row.clone()));
            if *put { model.insert(*id, row); } else { model.remove(id); }
        }
        let changes: Vec<RecordBatch> = written(writer_of(&schema, run), vec![batch(&change_schema(&schema), &all)])
            .iter()
            .flat_map(|s| read(&schema, s))
            .collect();
        let base: Vec<RecordBatch> = stored
            .iter()
            .flat_map(|s| read_segment(s.bytes.clone(), &schema, None, 10).unwrap())
            .collect::<Result<_, _>>()
            .unwrap();
        let merged = merge_keyed(&schema, &base, &changes).unwrap();
        prop_assert_eq!(rows_of(&merged), model.into_values().collect::<Vec<_>>());
    }
}

#[test]
fn exact_values_travel_with_changes() {
    let schema = schema();
    let arrow = change_schema(&schema);
    let row = |id| vec![Value::Null, Value::Int(id), Value::Null];
    let plain = change(0, 1, "a", Value::Null, Value::Null, row(1));
    let exact =
        [change(0, 2, "a", Value::Null, Value::Null, row(2)), vec![Value::Text("{\"1\":\"x\"}".into())]]
            .concat();
    let batches = vec![batch(&arrow, &[plain]), batch(&with_exact(&arrow), std::slice::from_ref(&exact))];
    let segments = written(writer_of(&schema, 1 << 20), batches);
    assert_eq!(segments.len(), 1);
    let back = read(&schema, &segments[0]);
    assert_eq!(back[0].schema(), with_exact(&arrow));
    assert_eq!(rows_of(&back)[1], exact);
}

#[test]
fn a_bag_has_counts_and_no_keys() {
    let bag = TableSchema { key: vec![], ..schema() };
    let row = vec![Value::Null, Value::Int(1), Value::Null];
    let all = [
        change(6, 1, "a", Value::Null, Value::Int(-3), row.clone()),
        change(6, 2, "a", Value::Null, Value::Int(2), row),
    ];
    let segments = written(writer_of(&bag, 1 << 20), vec![batch(&change_schema(&bag), &all)]);
    assert_eq!((segments.len(), &segments[0].entry.min, &segments[0].entry.max), (1, &None, &None));
    assert_eq!(rows_of(&read(&bag, &segments[0])), all);
}

#[test]
fn a_wrong_change_is_refused_before_it_is_stored() {
    let schema = schema();
    let row = || vec![Value::Null, Value::Int(1), Value::Null];
    for wrong in [
        change(6, 4, "a", Value::Null, Value::Int(1), row()),
        change(1, 4, "a", Value::Null, Value::Null, row()),
        change(0, 4, "a", Value::Null, Value::Null, vec![Value::Null; 3]),
    ] {
        let error = writer_of(&schema, 1).push(batch(&change_schema(&schema), &[wrong])).unwrap_err();
        assert!(matches!(error, FormatError::Change { seq: 4, .. }), "{error}");
    }
}
