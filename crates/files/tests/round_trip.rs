//! What is exported is imported to the same values, for every type, in every format.

use arrow::array::{BinaryArray, Int32Array, RecordBatch};
use arrow::datatypes::Schema;
use keepfast_files::{ExportOptions, Exporter, Format, ImportOptions, open_import};
use keepfast_model::{ColumnType, Digest, RowHasher, TableSchema};
use keepfast_store::sample;
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;

fn digest<'a>(schema: &TableSchema, batches: impl IntoIterator<Item = &'a RecordBatch>) -> Digest {
    let hasher = RowHasher::new(schema);
    batches.into_iter().fold(Digest::default(), |d, b| d.merge(hasher.digest(b).unwrap()))
}

fn export(path: &Path, schema: &TableSchema, batches: &[RecordBatch], options: &ExportOptions) -> u64 {
    let mut exporter = Exporter::create(path, schema, options).unwrap();
    batches.iter().for_each(|b| exporter.write(b).unwrap());
    let exported = exporter.finish().unwrap();
    assert_eq!(exported.bytes.0, path.metadata().unwrap().len());
    exported.rows
}

fn import(path: &Path, options: ImportOptions) -> (TableSchema, Vec<RecordBatch>) {
    let import = open_import(path, options).unwrap();
    let batches: Vec<RecordBatch> = import.rows().map(|b| b.unwrap()).collect();
    for batch in &batches {
        assert_eq!(batch.schema(), import.schema().physical());
    }
    (import.schema().clone(), batches)
}

fn with_schema(schema: &TableSchema) -> ImportOptions {
    ImportOptions { schema: Some(schema.clone()), ..Default::default() }
}

const NAMES: [&str; 6] = ["t.csv", "t.tsv.zst", "t.csv.gz", "t.jsonl", "t.ndjson.gz", "t.parquet"];

fn assert_round_trip(schema: &TableSchema, batches: &[RecordBatch]) {
    let folder = tempfile::tempdir().unwrap();
    let expected = digest(schema, batches);
    for name in NAMES {
        let path = folder.path().join(name);
        assert_eq!(export(&path, schema, batches, &ExportOptions::default()), expected.rows);
        let (_, back) = import(&path, with_schema(schema));
        assert_eq!(digest(schema, &back), expected, "{name}");
        if back.len() == 1 && batches.len() == 1 {
            assert_eq!(back[0].num_rows(), batches[0].num_rows(), "{name}");
        }
        assert!(back.iter().all(|b| b.num_rows() <= 8192), "{name}");
    }
    assert_eq!(folder.path().read_dir().unwrap().count(), NAMES.len(), "temporary files are left");
}

#[test]
fn every_edge_value_of_every_type_comes_back() {
    let schema = sample::schema_of_all_types();
    for seed in 0..2 {
        assert_round_trip(&schema, &[sample::batch(&schema, 64, seed)]);
    }
}

#[test]
fn types_inside_lists_come_back() {
    let types: Vec<ColumnType> =
        sample::all_types().into_iter().map(|t| ColumnType::List(Box::new(t))).collect();
    let schema = sample::schema_of(&types);
    assert_round_trip(&schema, &[sample::batch(&schema, 40, 1)]);
}

#[test]
fn a_table_without_rows_a_wide_one_and_a_bag_come_back() {
    let plain = sample::plain();
    assert_round_trip(&plain, &[]);
    assert_round_trip(&plain, &[sample::batch(&plain, 0, 1)]);
    let wide = sample::wide(300);
    assert_round_trip(&wide, &[sample::batch(&wide, 40, 2)]);
    let bag = sample::bag();
    assert_round_trip(&bag, &sample::pieces(&sample::batch(&bag, 20_000, 3), 777));
    let cells = TableSchema::cells();
    assert_round_trip(&cells, &[sample::batch(&cells, 100, 3)]);
}

#[test]
fn a_column_alone_keeps_its_nulls_and_empty_texts() {
    for column_type in [ColumnType::Text, ColumnType::Int32, ColumnType::Blob] {
        let schema = TableSchema::of(vec![("only".into(), column_type, true)], &[]).unwrap();
        let of_all = sample::schema_of(&[schema.columns[0].column_type.clone()]);
        let rows = sample::batch(&of_all, 100, 5);
        let only = RecordBatch::try_new(schema.physical(), vec![rows.column(1).clone()]).unwrap();
        assert!(only.column(0).null_count() > 0);
        assert_round_trip(&schema, &[only]);
    }
}

#[test]
fn csv_without_header_with_another_delimiter_and_null_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.txt");
    let schema = sample::schema_of_all_types();
    let rows = sample::batch(&schema, 64, 9);
    for null in ["\\N", "NULL", ""] {
        let options = ExportOptions {
            format: Some(Format::Csv),
            overwrite: true,
            header: false,
            delimiter: Some(b';'),
            null: null.into(),
        };
        export(&path, &schema, std::slice::from_ref(&rows), &options);
        let options = ImportOptions {
            format: Some(Format::Csv),
            header: false,
            delimiter: Some(b';'),
            null: vec![null.into()],
            ..with_schema(&schema)
        };
        assert_eq!(digest(&schema, &import(&path, options).1), digest(&schema, [&rows]), "{null}");
    }
}

#[test]
fn batches_of_large_cells_have_few_rows() {
    let folder = tempfile::tempdir().unwrap();
    let columns = vec![("id".into(), ColumnType::Int32, false), ("data".into(), ColumnType::Blob, false)];
    let schema = TableSchema::of(columns, &["id"]).unwrap();
    // Bytes that do not compress, 10 MB a cell.
    let mut state = 1u64;
    let mut cell = || {
        let next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        std::iter::repeat_with(next).take(10_000_000).collect::<Vec<u8>>()
    };
    let cells: Vec<Vec<u8>> = (0..4).map(|_| cell()).collect();
    let batches: Vec<RecordBatch> = cells
        .iter()
        .zip(1..)
        .map(|(cell, id)| {
            let data = BinaryArray::from_vec(vec![cell.as_slice()]);
            RecordBatch::try_new(
                schema.physical(),
                vec![Arc::new(Int32Array::from(vec![id])), Arc::new(data)],
            )
            .unwrap()
        })
        .collect();
    for name in ["t.csv", "t.jsonl", "t.parquet"] {
        let path = folder.path().join(name);
        export(&path, &schema, &batches, &ExportOptions::default());
        let (_, back) = import(&path, with_schema(&schema));
        assert_eq!(digest(&schema, &back), digest(&schema, &batches), "{name}");
        assert!(back.iter().all(|b| b.num_rows() <= 2), "{name}");
    }
}

#[test]
fn parquet_alone_tells_types_and_key_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    let schema = sample::schema_of_all_types();
    let rows = sample::batch(&schema, 64, 9);
    export(&path, &schema, std::slice::from_ref(&rows), &ExportOptions::default());
    let (inferred, back) = import(&path, ImportOptions::default());
    assert_eq!(inferred, schema);
    assert_eq!(digest(&schema, &back), digest(&schema, [&rows]));
}

/// Types whose values tell their type also without a schema.
#[test]
fn csv_and_json_infer_plain_types_and_keep_their_values() {
    let folder = tempfile::tempdir().unwrap();
    let types = [
        ColumnType::Boolean,
        ColumnType::Date,
        ColumnType::Time,
        ColumnType::Timestamp { zone: false },
        ColumnType::Timestamp { zone: true },
        ColumnType::Uuid,
        ColumnType::Varchar { length: None },
        ColumnType::Int32,
        ColumnType::UInt64,
    ];
    let schema = sample::schema_of(&types);
    // So many that the ids need 64 bits.
    let rows = sample::batch(&schema, 10_000, 1);
    for name in ["t.csv", "t.jsonl"] {
        let path = folder.path().join(name);
        export(&path, &schema, std::slice::from_ref(&rows), &ExportOptions::default());
        let (inferred, back) = import(&path, ImportOptions { key: vec!["id".into()], ..Default::default() });
        assert_eq!(inferred, schema, "{name}");
        assert_eq!(digest(&schema, &back), digest(&schema, [&rows]), "{name}");
    }
}

#[test]
fn columns_are_matched_by_name_in_any_order() {
    let folder = tempfile::tempdir().unwrap();
    let schema = sample::plain();
    let rows = sample::batch(&schema, 50, 1);
    let turned = TableSchema { columns: schema.columns.iter().rev().cloned().collect(), ..schema.clone() };
    let columns = rows.columns().iter().rev().cloned().collect();
    let physical: Schema = turned.physical().as_ref().clone();
    let back = RecordBatch::try_new(physical.into(), columns).unwrap();
    for name in ["t.csv", "t.jsonl", "t.parquet"] {
        let path = folder.path().join(name);
        export(&path, &turned, std::slice::from_ref(&back), &ExportOptions::default());
        assert_eq!(digest(&schema, &import(&path, with_schema(&schema)).1), digest(&schema, [&rows]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rows_of_any_types_come_back(
        picks in prop::collection::vec(0..sample::all_types().len(), 1..8),
        rows in 0usize..200,
        seed in any::<u64>(),
        piece in 1usize..100,
    ) {
        let all = sample::all_types();
        let schema = sample::schema_of(&picks.iter().map(|i| all[*i].clone()).collect::<Vec<_>>());
        assert_round_trip(&schema, &sample::pieces(&sample::batch(&schema, rows, seed), piece));
    }
}
