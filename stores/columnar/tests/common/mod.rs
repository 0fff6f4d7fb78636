//! Fresh stores, rows to put into them, and what they hold.

#![allow(dead_code)]

pub mod paused;

use arrow::array::{AsArray, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use futures::TryStreamExt;
use keepfast_columnar::{Change, ColumnarStore, Options, TableVersion};
use keepfast_keys::{Cost, Credentials, NewRecipient, Passphrase};
use keepfast_model::{ColumnType, Digest, KeyRange, RowHasher, TableName, TableSchema};
use keepfast_objects::{Target, open_target};
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// Few rows a segment and little memory, so that small tables have many segments and sorts spill.
pub fn small() -> Options {
    Options { target_rows: 16, sort_memory: 64 << 10, ..Options::default() }
}

pub fn store_in(folder: &Path) -> ColumnarStore {
    ColumnarStore::with_options(open_target(folder.to_str().unwrap()).unwrap(), small())
}

/// Segments large enough that a folder is not mostly waiting for the disk.
pub fn middling(options: Options) -> Options {
    Options { target_rows: 512, ..options }
}

pub fn in_folder(folder: &Path, options: Options) -> ColumnarStore {
    ColumnarStore::with_options(open_target(folder.to_str().unwrap()).unwrap(), options)
}

pub fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

/// A store over these objects, as a process of its own sees it.
pub fn store_over(objects: &Arc<dyn ObjectStore>) -> ColumnarStore {
    ColumnarStore::with_options(Target::new(objects.clone(), ObjectPath::default(), "memory:"), small())
}

/// The passphrase of every store with keys here.
pub const PHRASE: &str = "a passphrase";

/// As [`small`], for a store that this passphrase opens.
pub fn opened_by(phrase: &str) -> Options {
    Options { credentials: Credentials::passphrase(phrase), ..small() }
}

/// One who can open a store, without the cost that makes guessing slow.
pub fn passphrase(phrase: &str) -> NewRecipient {
    NewRecipient::Passphrase(Passphrase::new(phrase.into()), Cost::TRIVIAL)
}

pub fn over(objects: &Arc<dyn ObjectStore>, options: Options) -> ColumnarStore {
    ColumnarStore::with_options(Target::new(objects.clone(), ObjectPath::default(), "memory:"), options)
}

/// A store with keys over these objects, as a process of its own sees it.
pub fn encrypted_over(objects: &Arc<dyn ObjectStore>) -> ColumnarStore {
    over(objects, opened_by(PHRASE))
}

/// Objects of a store that has keys and no table.
pub async fn encrypted_memory() -> Arc<dyn ObjectStore> {
    let objects = memory();
    encrypted_over(&objects).add_recipient("office", &passphrase(PHRASE)).await.unwrap();
    objects
}

/// Every object by its path.
pub async fn all_objects(objects: &Arc<dyn ObjectStore>) -> BTreeMap<ObjectPath, Bytes> {
    let paths: Vec<ObjectPath> = objects.list(None).map_ok(|o| o.location).try_collect().await.unwrap();
    let mut all = BTreeMap::new();
    for path in paths {
        let bytes = objects.get(&path).await.unwrap().bytes().await.unwrap();
        all.insert(path, bytes);
    }
    all
}

/// Objects in which one of these words stands.
pub async fn holding(objects: &Arc<dyn ObjectStore>, words: &[&str]) -> Vec<String> {
    let holds = |bytes: &[u8], word: &str| bytes.windows(word.len()).any(|w| w == word.as_bytes());
    let all = all_objects(objects).await;
    all.iter()
        .filter(|(_, bytes)| words.iter().any(|word| holds(bytes, word)))
        .map(|(path, _)| path.to_string())
        .collect()
}

pub fn name(text: &str) -> TableName {
    text.parse().unwrap()
}

/// `id` and `v`; with `id` as the key, or a bag.
pub fn schema(keyed: bool) -> TableSchema {
    let columns = vec![("id".into(), ColumnType::Int64, false), ("v".into(), ColumnType::Text, true)];
    TableSchema::of(columns, if keyed { &["id"] } else { &[] }).unwrap()
}

pub fn batch(schema: &TableSchema, rows: &[(i64, &str)]) -> RecordBatch {
    let ids = Int64Array::from_iter_values(rows.iter().map(|r| r.0));
    let values = StringArray::from_iter_values(rows.iter().map(|r| r.1));
    RecordBatch::try_new(schema.physical(), vec![Arc::new(ids), Arc::new(values)]).unwrap()
}

/// All rows of a version, in the order of a scan; the digest kept must be theirs.
pub async fn rows(version: &TableVersion) -> Vec<RecordBatch> {
    let batches: Vec<RecordBatch> =
        version.scan(KeyRange::default(), None, 1000).try_collect().await.expect("the version can be read");
    let hasher = RowHasher::new(version.schema());
    let digest =
        batches.iter().fold(Digest::default(), |d, b| d.merge(hasher.digest(b).expect("physical batches")));
    assert_eq!(digest, version.digest(), "the digest kept is that of the rows");
    let segments = version.segments().await.unwrap();
    let sum = segments.iter().fold(Digest::default(), |d, s| d.merge(s.digest));
    assert_eq!(sum, digest, "so is the sum of the segments'");
    if !version.schema().is_bag() {
        assert!(
            segments.windows(2).all(|w| w[0].max < w[1].min),
            "segments are in key order and do not overlap"
        );
    }
    batches
}

/// The rows of a table of [`schema`], sorted.
pub async fn content(version: &TableVersion) -> Vec<(i64, String)> {
    let mut found = vec![];
    for batch in rows(version).await {
        let (ids, values) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_string::<i32>());
        found.extend((0..batch.num_rows()).map(|i| (ids.value(i), values.value(i).to_owned())));
    }
    if version.schema().is_bag() {
        found.sort();
    } else {
        assert!(found.windows(2).all(|w| w[0].0 < w[1].0), "rows come in key order");
    }
    found
}

pub async fn head(store: &ColumnarStore, table: &str) -> TableVersion {
    store.table(&name(table)).await.unwrap().head().await.unwrap()
}

pub async fn map(store: &ColumnarStore, table: &str) -> BTreeMap<i64, String> {
    content(&head(store, table).await).await.into_iter().collect()
}

pub async fn begin(store: &ColumnarStore, table: &str) -> Change {
    store.table(&name(table)).await.unwrap().begin().await.unwrap()
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
