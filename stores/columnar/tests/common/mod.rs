//! A fresh store in a folder, and rows to put into it.

#![allow(dead_code)]

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use futures::TryStreamExt;
use keepfast_columnar::{Change, ColumnarStore, Options, TableVersion};
use keepfast_model::{KeyRange, RowHasher, TableName};
use std::collections::HashSet;
use keepfast_objects::open_target;
use std::path::Path;

/// Few rows a segment, so that small tables have many.
pub fn small() -> Options {
    Options { target_rows: 16, sort_memory: 64 << 10, ..Options::default() }
}

pub fn store_in(folder: &Path) -> ColumnarStore {
    ColumnarStore::with_options(open_target(folder.to_str().unwrap()).unwrap(), small())
}

pub fn name(text: &str) -> TableName {
    text.parse().unwrap()
}

/// All rows of a version, in the order of a scan; the digest kept must be theirs.
pub async fn rows(version: &TableVersion) -> Vec<RecordBatch> {
    let batches: Vec<RecordBatch> =
        version.scan(KeyRange::default(), None, 1000).try_collect().await.expect("the version can be read");
    let hasher = RowHasher::new(version.schema());
    let digest = batches
        .iter()
        .map(|b| hasher.digest(b).unwrap())
        .fold(Default::default(), |a: keepfast_model::Digest, b| a.merge(b));
    assert_eq!(digest, version.digest(), "the digest kept is that of the rows");
    batches
}

/// Removes every row of a bag that equals one of these.
pub async fn delete_equal(change: &mut Change, rows: &RecordBatch) -> keepfast_columnar::Result<()> {
    let hasher = RowHasher::new(change.base().schema());
    let wanted: HashSet<u128> = hasher.hash(rows)?.rows.into_iter().collect();
    let base = change.base().clone();
    let batches: Vec<RecordBatch> = base.scan(KeyRange::default(), None, 1000).try_collect().await?;
    for batch in batches {
        let equal: BooleanArray =
            hasher.hash(&batch)?.rows.iter().map(|h| Some(wanted.contains(h))).collect();
        change.delete(filter_record_batch(&batch, &equal).unwrap()).await?;
    }
    Ok(())
}
