//! Segments and change segments: Parquet files, edited where their readers look.

use crate::{edit, form, seed, small_rows};
use arrow::array::{ArrayRef, BinaryArray, Int8Array, Int32Array, Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use keepfast_format::{
    ChangeWriter, Chunk, FormatError, IdentityKey, Protection, SegmentBatches, SegmentWriter, WriterProfile,
    change_digest, read_changes, read_segment,
};
use keepfast_model::change::{ChangeOp, change_schema};
use keepfast_model::{RowHasher, ShardId, TableId, TableSchema};
use keepfast_store::sample;
use std::sync::{Arc, LazyLock};

/// Rows of a batch that is read.
const BATCH_ROWS: usize = 64;

/// A table, and segments of it as they stand in a vault.
struct Samples {
    schema: TableSchema,
    files: Vec<Vec<u8>>,
}

static ROWS: LazyLock<Samples> = LazyLock::new(|| {
    let schema = sample::schema_of(&sample::all_types());
    let batch = small_rows(&schema);
    let files = profiles(&schema).iter().map(|profile| segment(&schema, profile, batch.clone())).collect();
    Samples { schema, files }
});

static CHANGES: LazyLock<Samples> = LazyLock::new(|| {
    let schema = sample::plain();
    let files = profiles(&schema).iter().map(|profile| change_segment(&schema, profile)).collect();
    Samples { schema, files }
});

/// Ways to write a table: compressed or not, with dictionaries or without.
fn profiles(schema: &TableSchema) -> Vec<WriterProfile> {
    let plain = WriterProfile::choose(schema, &[], 8_192);
    let mut profiles = vec![];
    for compressed in [true, false] {
        for dictionary in [false, true] {
            let mut profile = plain.clone();
            for column in &mut profile.columns {
                (column.compressed, column.dictionary) = (compressed, dictionary);
            }
            profiles.push(profile);
        }
    }
    profiles
}

fn protection() -> Protection {
    Protection::plain(TableId("0123456789abcdef0123456789abcdef".into()), IdentityKey::new([7; 32]))
}

fn segment(schema: &TableSchema, profile: &WriterProfile, batch: RecordBatch) -> Vec<u8> {
    let writer = SegmentWriter::new(Arc::new(schema.clone()), Arc::new(profile.clone()), protection());
    let digest = RowHasher::new(schema).digest(&batch).expect("rows of the schema");
    let chunk = Chunk { rows: digest.rows, digest, batches: vec![batch], min: None, max: None };
    let id = writer.identity(&chunk).expect("rows of the schema");
    writer.encode(id, &ShardId("0".into()), &chunk).expect("rows of the schema").bytes.to_vec()
}

/// Puts, a patch and a delete of a few rows.
fn change_segment(schema: &TableSchema, profile: &WriterProfile) -> Vec<u8> {
    let rows = small_rows(schema);
    let count = rows.num_rows();
    let ops = (0..count).map(|i| match i % 4 {
        0 => ChangeOp::Patch as i8,
        _ => ChangeOp::PutRow as i8,
    });
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(Int8Array::from_iter_values(ops)),
        Arc::new(Int64Array::from_iter_values(0..count as i64)),
        Arc::new(StringArray::from_iter_values((0..count).map(|_| "0"))),
        Arc::new(StringArray::from_iter_values((0..count).map(|i| i.to_string()))),
        Arc::new(Int32Array::from_iter_values((0..count).map(|_| 0))),
        Arc::new(BinaryArray::from_iter((0..count).map(|i| (i % 4 == 0).then_some([0xff_u8; 8])))),
        Arc::new(Int64Array::from_iter((0..count).map(|_| None))),
    ];
    columns.extend(rows.columns().iter().cloned());
    let batch = RecordBatch::try_new(change_schema(schema), columns).expect("columns of changes");
    let mut writer = ChangeWriter::new(Arc::new(schema.clone()), Arc::new(profile.clone()), protection());
    writer.push(batch).expect("changes");
    writer.finish().expect("changes")[0].bytes.to_vec()
}

/// The file that an input means.
fn stored(samples: &Samples, data: &[u8]) -> Option<Bytes> {
    let (form, rest) = form(data)?;
    let base = &samples.files[usize::from(form >> 4) % samples.files.len()];
    Some(Bytes::from(match form % 3 {
        0 => rest.to_vec(),
        1 => edit::edited(base.clone(), rest),
        _ => edit::footer_edited(base, rest),
    }))
}

pub(crate) fn rows(data: &[u8]) {
    let Some(bytes) = stored(&ROWS, data) else { return };
    let schema = &ROWS.schema;
    let hasher = RowHasher::new(schema);
    read(read_segment(bytes.clone(), schema, None, BATCH_ROWS), |batch| {
        let _ = hasher.digest(batch);
    });
    let first = [schema.columns[0].id];
    read(read_segment(bytes, schema, Some(&first), BATCH_ROWS), |_| ());
}

pub(crate) fn changes(data: &[u8]) {
    let Some(bytes) = stored(&CHANGES, data) else { return };
    let schema = &CHANGES.schema;
    read(read_changes(bytes, schema, BATCH_ROWS), |batch| {
        let _ = change_digest(schema, batch);
    });
}

/// Reads all batches that come; a file gives no more rows than it states.
fn read(batches: Result<SegmentBatches, FormatError>, seen: impl Fn(&RecordBatch)) {
    let Ok(batches) = batches else { return };
    let stated = batches.rows();
    let mut rows = 0;
    for batch in batches {
        let Ok(batch) = batch else { return };
        rows += batch.num_rows() as u64;
        assert!(rows <= stated, "{rows} rows of {stated}");
        // A file may state any number of rows of a column that it lacks.
        if rows > 1 << 16 {
            return;
        }
        seen(&batch);
    }
}

fn seeds_of(samples: &Samples) -> Vec<Vec<u8>> {
    let mut seeds = vec![];
    for (i, file) in samples.files.iter().enumerate() {
        let form = (i as u8) << 4;
        // A raw file in the form that takes it as it is: a multiple of three.
        let raw = (0..3).map(|n| form + n).find(|f| f % 3 == 0).unwrap_or(0);
        seeds.push(seed(raw, file));
        for n in (0..3).filter(|n| !(form + n).is_multiple_of(3)) {
            seeds.push(seed(form + n, &[]));
        }
    }
    seeds
}

pub(crate) fn row_seeds() -> Vec<Vec<u8>> {
    seeds_of(&ROWS)
}

pub(crate) fn change_seeds() -> Vec<Vec<u8>> {
    seeds_of(&CHANGES)
}
