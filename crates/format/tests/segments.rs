//! Rows come back from segments exactly as they went in, for every type.

mod support;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use bytes::Bytes;
use keepfast_format::{Chunk, Encoding, FormatError, WriterProfile, exact_field, read_segment, with_exact};
use keepfast_model::{Coded, ColumnId, ColumnType, Hash256, RowHasher, ShardId, TableSchema, hidden};
use proptest::prelude::*;
use std::sync::Arc;
use support::*;

fn shard() -> ShardId {
    ShardId("0".into())
}

fn stored(schema: &TableSchema, profile: &WriterProfile, batches: Vec<RecordBatch>) -> Bytes {
    let writer = writer(schema, profile);
    let chunk = chunk(schema, batches);
    let id = writer.identity(&chunk).unwrap();
    let segment = writer.encode(id, &shard(), &chunk).unwrap();
    assert_eq!(segment.entry.stored, Hash256::of(&segment.bytes));
    assert_eq!(segment.entry.bytes.0, segment.bytes.len() as u64);
    assert_eq!(segment.entry.rows, chunk.rows);
    assert_eq!(segment.entry.file_name(), format!("{id}-{}.parquet", segment.entry.stored));
    segment.bytes
}

fn read(bytes: &Bytes, schema: &TableSchema, columns: Option<&[ColumnId]>, rows: usize) -> Vec<RecordBatch> {
    read_segment(bytes.clone(), schema, columns, rows).unwrap().collect::<Result<_, _>>().unwrap()
}

/// Every way in which a profile can say that columns are written.
fn profiles(schema: &TableSchema) -> Vec<WriterProfile> {
    let mut all = vec![WriterProfile::choose(schema, &[], 8)];
    for dictionary in [false, true] {
        for encoding in [Encoding::Plain, Encoding::Delta, Encoding::DeltaLength] {
            let mut profile = all[0].clone();
            profile.columns.iter_mut().for_each(|c| (c.dictionary, c.encoding) = (dictionary, encoding));
            all.push(profile.clone());
            profile.columns.iter_mut().for_each(|c| c.compressed = false);
            all.push(profile);
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn rows_of_every_type_come_back_exactly(
        (schema, rows) in schema_and_rows(0..40),
        cuts in prop::collection::vec(0usize..40, 0..3),
        way in 0usize..13,
        batch_rows in 1usize..50,
    ) {
        let profile = profiles(&schema)[way].clone();
        let bytes = stored(&schema, &profile, sliced(&schema.physical(), &rows, &cuts));
        let back = read(&bytes, &schema, None, batch_rows);
        prop_assert_eq!(rows_of(&back), rows.clone());
        for batch in &back {
            prop_assert_eq!(batch.schema(), schema.physical());
            prop_assert!(batch.num_rows() <= batch_rows);
        }
        let hasher = RowHasher::new(&schema);
        let digest = |batches: &[RecordBatch]| chunk(&schema, batches.to_vec()).digest;
        prop_assert_eq!(digest(&back), hasher.digest(&batch(&schema.physical(), &rows)).unwrap());
    }

    #[test]
    fn chosen_columns_come_back_alone_in_table_order(
        (schema, rows) in schema_and_rows(1..20),
        chosen in prop::collection::vec(any::<bool>(), 6),
    ) {
        let bytes = stored(&schema, &profiles(&schema)[0], vec![batch(&schema.physical(), &rows)]);
        let places: Vec<usize> = (0..schema.columns.len()).filter(|i| chosen[*i]).collect();
        let mut ids: Vec<ColumnId> = places.iter().map(|i| schema.columns[*i].id).collect();
        ids.reverse();
        let back = rows_of(&read(&bytes, &schema, Some(&ids), 7));
        let expected: Vec<Row> = rows.iter().map(|r| places.iter().map(|i| r[*i].clone()).collect()).collect();
        prop_assert_eq!(back, expected);
    }
}

fn ids_and_names() -> (TableSchema, RecordBatch) {
    let schema = TableSchema::of(
        vec![("id".into(), ColumnType::Int32, false), ("name".into(), ColumnType::Text, true)],
        &["id"],
    )
    .unwrap();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![1, 2, 3])),
        Arc::new(StringArray::from(vec![Some("a"), None, Some("c")])),
    ];
    let batch = RecordBatch::try_new(schema.physical(), columns).unwrap();
    (schema, batch)
}

#[test]
fn no_columns_at_all_still_count_their_rows() {
    let (schema, batch) = ids_and_names();
    let bytes = stored(&schema, &profiles(&schema)[0], vec![batch]);
    let back = read(&bytes, &schema, Some(&[]), 2);
    assert_eq!(back.iter().map(|b| (b.num_columns(), b.num_rows())).collect::<Vec<_>>(), [(0, 2), (0, 1)]);
}

#[test]
fn columns_are_found_by_id_after_renames_additions_drops_and_another_order() {
    let (schema, batch) = ids_and_names();
    let bytes = stored(&schema, &profiles(&schema)[0], vec![batch]);
    let mut later = schema.clone();
    later.columns[1].name = "title".into();
    later.columns.swap(0, 1);
    let added = |id, column_type, nullable| keepfast_model::Column {
        id: ColumnId(id),
        name: format!("added{id}"),
        column_type,
        nullable,
        default: None,
        origin: None,
    };
    later.columns.insert(1, added(9, ColumnType::List(Box::new(ColumnType::Text)), true));
    let back = read(&bytes, &later, None, 10);
    assert_eq!(back[0].schema(), later.physical());
    let text = |t: &str| Value::Text(t.into());
    assert_eq!(
        rows_of(&back),
        [
            [text("a"), Value::Null, Value::Int(1)],
            [Value::Null, Value::Null, Value::Int(2)],
            [text("c"), Value::Null, Value::Int(3)]
        ]
    );

    later.columns.retain(|c| c.name != "title");
    assert_eq!(rows_of(&read(&bytes, &later, None, 10))[2], [Value::Null, Value::Int(3)]);

    later.columns.push(added(10, ColumnType::Int32, false));
    let refused = read_segment(bytes.clone(), &later, None, 10).unwrap_err();
    assert!(
        matches!(&refused, FormatError::Columns { column, found, .. } if column == "added10" && found == "none")
    );

    later = schema;
    later.columns[0].column_type = ColumnType::Int64;
    let refused = read_segment(bytes, &later, None, 10).unwrap_err();
    assert!(matches!(&refused, FormatError::Columns { column, expected, found, .. }
        if column == "id" && expected == "Int64" && found == "Int32"));
    assert_eq!(refused.code().to_string(), "KF0104");
}

#[test]
fn the_hidden_column_travels_behind_the_others_and_only_where_it_was() {
    let (schema, plain) = ids_and_names();
    let mut columns = plain.columns().to_vec();
    columns.push(Arc::new(StringArray::from(vec![None, Some("{\"2\":\"0000-00-00\"}"), None])));
    let exact = RecordBatch::try_new(with_exact(&schema.physical()), columns).unwrap();
    let profile = &profiles(&schema)[0];

    let bytes = stored(&schema, profile, vec![plain.clone(), exact.clone()]);
    let back = read(&bytes, &schema, None, 10);
    assert_eq!(back[0].schema().field(2), exact_field().as_ref());
    assert_eq!(back[0].column(2).null_count(), 5);
    assert_eq!(back[0].slice(3, 3), exact);
    assert_eq!(read(&bytes, &schema, Some(&[ColumnId(1)]), 10)[0].num_columns(), 1);
    let named = &read(&bytes, &schema, Some(&[ColumnId::EXACT]), 10)[0];
    assert_eq!(named.schema().field(0).name(), hidden::EXACT);

    let without = stored(&schema, profile, vec![plain]);
    assert_eq!(read(&without, &schema, None, 10)[0].num_columns(), 2);
    let asked = &read(&without, &schema, Some(&[ColumnId(1), ColumnId::EXACT]), 10)[0];
    assert_eq!(asked.column(1).null_count(), 3);
}

#[test]
fn three_hundred_columns_and_no_rows_and_ten_megabytes_in_a_cell_come_back() {
    let wide = schema_of((0..300).map(|i| (all_types()[i % all_types().len()].clone(), true)).collect());
    let nothing: Vec<Row> = vec![vec![Value::Null; 300]; 5];
    let bytes = stored(&wide, &profiles(&wide)[0], vec![batch(&wide.physical(), &nothing)]);
    assert_eq!(rows_of(&read(&bytes, &wide, None, 100)), nothing);

    let empty = stored(&wide, &profiles(&wide)[0], vec![]);
    assert_eq!(read_segment(empty.clone(), &wide, None, 100).unwrap().rows(), 0);
    assert!(read(&empty, &wide, None, 100).iter().all(|b| b.num_rows() == 0));

    let blob = schema_of(vec![(ColumnType::Blob, false), (ColumnType::Text, false)]);
    let mut state = 1u64;
    let noise: Vec<u8> = (0..10 << 20)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .collect();
    let rows = vec![vec![Value::Bytes(noise), Value::Text("x".repeat(10 << 20))]; 2];
    for profile in profiles(&blob) {
        let bytes = stored(&blob, &profile, vec![batch(&blob.physical(), &rows)]);
        assert!(rows_of(&read(&bytes, &blob, None, 1)) == rows);
    }
}

#[test]
fn a_file_is_plain_parquet_with_field_ids_and_without_an_arrow_schema() {
    let (schema, batch) = ids_and_names();
    let bytes = stored(&schema, &profiles(&schema)[0], vec![batch]);
    let reader =
        parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).unwrap();
    let file = reader.metadata().file_metadata();
    let pairs: Vec<&str> = file.key_value_metadata().unwrap().iter().map(|p| p.key.as_str()).collect();
    assert_eq!(pairs, ["keepfast.format", "keepfast.identity", "keepfast.table"]);
    let ids: Vec<i32> =
        file.schema_descr().root_schema().get_fields().iter().map(|f| f.get_basic_info().id()).collect();
    assert_eq!(ids, [1, 2]);
    let segment = read_segment(bytes, &schema, None, 10).unwrap();
    assert_eq!((segment.rows(), segment.identity().is_some()), (3, true));
}

#[test]
fn rows_that_do_not_fit_the_schema_are_refused_with_the_column() {
    let (schema, batch) = ids_and_names();
    let writer = writer(&schema, &profiles(&schema)[0]);
    let chunk = |batch: RecordBatch| Chunk {
        rows: 3,
        digest: Default::default(),
        batches: vec![batch],
        min: None,
        max: None,
    };
    let with_id = |array: ArrayRef| {
        let fields = vec![Field::new("id", array.data_type().clone(), true), batch.schema().field(1).clone()];
        RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![array, batch.column(1).clone()]).unwrap()
    };
    let null = with_id(Arc::new(Int32Array::from(vec![Some(1), None, Some(3)])));
    let text = with_id(Arc::new(StringArray::from(vec!["1", "2", "3"])));
    for wrong in [null, text, batch.project(&[0]).unwrap()] {
        assert!(matches!(writer.identity(&chunk(wrong)).unwrap_err(), FormatError::Model(_)));
    }
}

#[test]
fn a_profile_follows_its_sample_and_has_a_stable_identity() {
    let schema = TableSchema::of(
        vec![
            ("id".into(), ColumnType::Int64, false),
            ("state".into(), ColumnType::Text, false),
            ("note".into(), ColumnType::Text, true),
            ("price".into(), ColumnType::Float64, true),
        ],
        &["id"],
    )
    .unwrap();
    let rows: Vec<Row> = (0..4_000u64)
        .map(|i| {
            let hash = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let hash = (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            vec![
                Value::Int(i as i64),
                Value::Text(format!("{:x}", (1 + (hash >> 61)).wrapping_mul(0x94d0_49bb_1331_11eb))),
                Value::Text(format!("{hash:x}")),
                Value::Float64(hash),
            ]
        })
        .collect();
    let sample = [batch(&schema.physical(), &rows)];
    let profile = WriterProfile::choose(&schema, &sample, 8_192);
    let ways: Vec<(bool, Encoding)> = profile.columns.iter().map(|c| (c.dictionary, c.encoding)).collect();
    assert_eq!(ways[0], (false, Encoding::Delta));
    assert!(ways[1].0, "few distinct values: a dictionary");
    assert!(!ways[2].0, "nearly unique values: none");
    assert_eq!(ways[3], (false, Encoding::Plain));
    let compressed: Vec<bool> = profile.columns.iter().map(|c| c.compressed).collect();
    assert_eq!(compressed, [true, false, true, true], "zstd adds nothing to three random bits a row");
    assert_eq!(profile, WriterProfile::choose(&schema, &sample, 8_192));
    let json = serde_json::to_string(&profile.columns[1]).unwrap();
    assert_eq!(json, "{\"id\":2,\"dictionary\":true,\"encoding\":\"delta_length\",\"compressed\":false}");
    assert_eq!(
        serde_json::from_str::<WriterProfile>(&serde_json::to_string(&profile).unwrap()).unwrap(),
        profile
    );

    let json = serde_json::to_string(&WriterProfile::choose(&schema, &[], 8_192)).unwrap();
    assert_eq!(
        json,
        "{\"version\":1,\"zstd_level\":1,\"row_group_rows\":65536,\"target_rows\":8192,\"columns\":[\
         {\"id\":1,\"dictionary\":false,\"encoding\":\"delta\"},\
         {\"id\":2,\"dictionary\":false,\"encoding\":\"delta_length\"},\
         {\"id\":3,\"dictionary\":false,\"encoding\":\"delta_length\"},\
         {\"id\":4,\"dictionary\":false,\"encoding\":\"plain\"}]}"
    );
    assert_eq!(WriterProfile::choose(&schema, &[], 8_192).id(), Hash256::of(json.as_bytes()));
}

#[test]
fn targets_are_powers_of_two_that_make_about_as_many_segments_as_are_wanted() {
    for (rows, target) in [
        (0, 4_096),
        (8_000_000, 4_096),
        (16_400_000, 8_192),
        (33_000_000, 16_384),
        (65_536_000, 32_768),
        (u64::MAX, 32_768),
    ] {
        assert_eq!(keepfast_format::target_rows_for(rows, 2_000), target, "{rows}");
    }
    assert_eq!(keepfast_format::target_rows_for(8_000_000, 400), 16_384);
}

#[test]
fn lists_whose_items_have_another_name_are_the_same_lists() {
    let schema = schema_of(vec![(ColumnType::List(Box::new(ColumnType::Int32)), true)]);
    let list = array(
        &schema.physical().field(0).data_type().clone(),
        &[Value::List(vec![Value::Int(1), Value::Null])],
    );
    let list = list.as_list::<i32>();
    let renamed = arrow::array::ListArray::new(
        Arc::new(Field::new("item", DataType::Int32, true)),
        list.offsets().clone(),
        list.values().clone(),
        None,
    );
    let other = RecordBatch::try_from_iter([("x", Arc::new(renamed) as ArrayRef)]).unwrap();
    let own = batch(&schema.physical(), &[vec![Value::List(vec![Value::Int(1), Value::Null])]]);
    let writer = writer(&schema, &profiles(&schema)[0]);
    let id = |b: &RecordBatch| writer.identity(&chunk(&schema, vec![b.clone()])).unwrap();
    assert_eq!(id(&other), id(&own));
    let bytes = stored(&schema, &profiles(&schema)[0], vec![other]);
    assert_eq!(read(&bytes, &schema, None, 10), [own]);
}

#[test]
fn a_decimal_of_too_many_digits_is_refused_and_not_cut_off() {
    let decimal = |precision| ColumnType::Decimal { precision, scale: 0 };
    for (column_type, wrap) in
        [(decimal(5), false), (decimal(18), false), (decimal(20), false), (decimal(5), true)]
    {
        let too_large = Value::Decimal(10i128.pow(30));
        let (column_type, value) = if wrap {
            (ColumnType::List(Box::new(column_type)), Value::List(vec![too_large]))
        } else {
            (column_type, too_large)
        };
        let schema = schema_of(vec![(column_type, true)]);
        let chunk = chunk(&schema, vec![batch(&schema.physical(), &[vec![Value::Null], vec![value]])]);
        let refused = writer(&schema, &profiles(&schema)[0]).encode(Hash256([0; 32]), &shard(), &chunk);
        assert!(matches!(refused, Err(FormatError::Model(_))));
    }
}
