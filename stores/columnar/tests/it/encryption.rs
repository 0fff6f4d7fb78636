//! A store with keys: nothing planted stands anywhere in clear, and every changed byte is found.

use crate::common::{
    PHRASE, all_objects, encrypted_memory, encrypted_over, holding, memory, name, opened_by, over, small,
    store_over,
};
use arrow::array::{RecordBatch, StringArray};
use futures::TryStreamExt;
use keepfast_columnar::{ColumnarStore, Retention};
use keepfast_model::{Coded, ColumnType, KeyRange, RunId, TableSchema};
use keepfast_objects::Target;
use keepfast_objects::faulty::{Fault, Process, Script};
use keepfast_store::load::{LoadTable, StoredSegment};
use keepfast_store::{
    CutOptions, Load, LoadMode, LoadOptions, LoadState, OnDuplicate, Result, Store, StoreError,
};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use std::collections::BTreeMap;
use std::sync::Arc;

pub const WORDS: &[&str] = &["planted_table", "planted_column", "planted-key", "planted-value"];

/// Keys are texts, so that bounds of segments and pages hold planted words, too.
pub fn schema(keyed: bool) -> TableSchema {
    let columns =
        vec![("planted_column".into(), ColumnType::Text, false), ("v".into(), ColumnType::Text, true)];
    TableSchema::of(columns, if keyed { &["planted_column"] } else { &[] }).unwrap()
}

pub fn rows(keyed: bool, range: std::ops::Range<u32>, value: &str) -> RecordBatch {
    let keys = StringArray::from_iter_values(range.clone().map(|i| format!("planted-key {i:05}")));
    let values = StringArray::from_iter_values(range.map(|i| format!("planted-value {value} {i}")));
    RecordBatch::try_new(schema(keyed).physical(), vec![Arc::new(keys), Arc::new(values)]).unwrap()
}

fn table(target: &str, mode: LoadMode) -> LoadTable {
    LoadTable {
        target: name(target),
        schema: schema(true),
        dependents: vec![],
        mode,
        segment_rows: None,
        replaced_tag: "9".into(),
        shard_rule: None,
    }
}

pub async fn begin_load(store: &ColumnarStore, mode: LoadMode) -> Result<Arc<dyn Load>> {
    let tables = vec![table("planted_table", mode)];
    store.begin_load(LoadOptions { run: RunId("run".into()), tables }).await
}

pub async fn insert(store: &ColumnarStore, table: &str, batch: RecordBatch) -> Result<()> {
    let mut change = store.table(&name(table)).await?.begin().await?;
    change.insert(batch, OnDuplicate::Refuse).await?;
    change.commit().await.map(drop)
}

/// All rows of all tables.
pub async fn content(store: &ColumnarStore) -> Result<BTreeMap<String, Vec<RecordBatch>>> {
    let mut all = BTreeMap::new();
    for table in store.tables().await? {
        let head = store.table(&table).await?.head().await?;
        let batches: Vec<RecordBatch> = head.scan(KeyRange::default(), None, 10_000).try_collect().await?;
        let rows = match batches.first() {
            Some(first) => vec![arrow::compute::concat_batches(first.schema_ref(), &batches).unwrap()],
            None => vec![],
        };
        all.insert(table.to_string(), rows);
    }
    Ok(all)
}

/// Everything that a store does with rows, one after the other.
pub async fn everything(store: &ColumnarStore) -> Result<()> {
    for (table, keyed) in [("planted_table", true), ("planted_table_bag", false)] {
        store.create_table(&name(table), &schema(keyed), false).await?;
        insert(store, table, rows(keyed, 0..60, "first")).await?;
    }
    let cut = store.open_cut(&[name("planted_table")], &CutOptions::default()).await?;
    insert(store, "planted_table", rows(true, 60..70, "second")).await?;
    let mut change = store.table(&name("planted_table_bag")).await?.begin().await?;
    change.delete(rows(false, 5..9, "first")).await?;
    change.commit().await?;
    store.compact(&name("planted_table_bag")).await?;
    let load = begin_load(store, LoadMode::Replace).await?;
    load.remember(&serde_json::json!({"purpose": "planted-value"})).await?;
    let part = load
        .write_part(
            &name("planted_table"),
            0,
            Box::pin(futures::stream::iter([Ok(rows(true, 0..50, "loaded"))])),
        )
        .await?;
    load.note("part", &serde_json::json!({"note": "planted-value"})).await?;
    load.finish(vec![(name("planted_table"), vec![part])]).await?;
    let published = load.publish().await?;
    assert_eq!(load.notes().await?.len(), 1);
    load.forget().await?;
    store.undo(&published.undo).await?;
    store.rename(&name("planted_table"), &name("planted_table_renamed")).await?;
    cut.release().await?;
    store.vacuum(None, &Retention::newest()).await?;
    Ok(())
}

pub fn seen_by(process: &Process, objects: &Arc<dyn ObjectStore>) -> ColumnarStore {
    let target = Target::new(objects.clone(), Path::default(), "memory:store");
    ColumnarStore::with_options(process.wrap(&target), opened_by(PHRASE))
}

pub async fn copy_of(objects: &Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
    let copy = memory();
    for (path, bytes) in all_objects(objects).await {
        copy.put(&path, bytes.into()).await.unwrap();
    }
    copy
}

#[tokio::test]
async fn nothing_planted_is_in_any_object_wherever_the_writer_stops() {
    let plain = memory();
    everything(&store_over(&plain)).await.unwrap();
    assert!(
        holding(&plain, &["planted_column"]).await.len() > 3,
        "the words are found where nothing is encrypted"
    );

    let fresh = encrypted_memory().await;
    let mut stops = 0;
    for operation in 0.. {
        let objects = copy_of(&fresh).await;
        let process = Process::new(Script::at(operation, Fault::DiesAfter));
        let done = everything(&seen_by(&process, &objects)).await;
        assert_eq!(holding(&objects, WORDS).await, [] as [String; 0], "stopped after call {operation}");
        if operation >= process.operations() {
            done.unwrap();
            let found = content(&encrypted_over(&objects)).await.unwrap();
            assert_eq!(found["planted_table_renamed"][0].num_rows(), 70);
            assert_eq!(found["planted_table_bag"][0].num_rows(), 56);
            break;
        }
        stops += 1;
    }
    assert!(stops > 100, "only {stops} calls");
    eprintln!("COUNT {stops} cuts: nothing planted in any object");
}

/// Bytes of this process's deleted files.
#[cfg(target_os = "linux")]
fn in_temporary_files(word: &str) -> usize {
    let mut found = 0;
    for entry in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let path = entry.path();
        let Ok(to) = std::fs::read_link(&path) else { continue };
        if to.to_string_lossy().ends_with("(deleted)") {
            let bytes = std::fs::read(&path).unwrap_or_default();
            found += usize::from(bytes.windows(word.len()).any(|w| w == word.as_bytes()));
        }
    }
    found
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn rows_that_wait_in_temporary_files_are_sealed() {
    let objects = encrypted_memory().await;
    for (store, word, sealed) in
        [(store_over(&memory()), "waiting-open", false), (encrypted_over(&objects), "waiting-sealed", true)]
    {
        store.create_table(&name("t"), &schema(true), false).await.unwrap();
        let mut change = store.table(&name("t")).await.unwrap().begin().await.unwrap();
        for piece in (0..20).rev() {
            // Not in key order, so they are sorted; more than the memory for it.
            change.upsert(rows(true, piece * 1000..(piece + 1) * 1000, word)).await.unwrap();
            change.upsert(rows(true, piece * 1000..piece * 1000 + 10, word)).await.unwrap();
        }
        assert_eq!(in_temporary_files(word) == 0, sealed, "{word}");
        change.commit().await.unwrap();
        assert_eq!(content(&store).await.unwrap()["t"][0].num_rows(), 20_000);
    }
}

#[tokio::test]
async fn without_the_right_key_nothing_opens_and_the_error_says_what_to_give() {
    let objects = encrypted_memory().await;
    insert_small(&encrypted_over(&objects)).await;
    for (options, code) in [(small(), 401), (opened_by("another"), 402)] {
        let store = over(&objects, options);
        let error = store.tables().await.unwrap_err();
        assert_eq!(error.code().0, code, "{error}");
        if code == 401 {
            assert!(error.next_step().contains("KEEPFAST_PASSPHRASE"), "{}", error.next_step());
        } else {
            assert!(error.to_string().contains("office"), "{error}");
        }
        assert!(store.create_table(&name("u"), &schema(true), false).await.is_err());
        assert!(begin_load(&store, LoadMode::Create).await.is_err());
        assert!(store.vacuum(None, &Retention::newest()).await.is_err());
        assert!(store.rotate_keys().await.is_err());
        // Who can open it is no secret.
        assert!(store.has_keys().await.unwrap());
        assert_eq!(store.recipients().await.unwrap().1.len(), 1);
    }
    assert_eq!(content(&encrypted_over(&objects)).await.unwrap().len(), 2);
}

pub async fn insert_small(store: &ColumnarStore) {
    for table in ["t", "u"] {
        store.create_table(&name(table), &schema(true), false).await.unwrap();
        insert(store, table, rows(true, 0..3, table)).await.unwrap();
    }
}

#[tokio::test]
async fn every_changed_byte_is_an_error_or_changes_nothing() {
    let fresh = encrypted_memory().await;
    insert_small(&encrypted_over(&fresh)).await;
    let cut = encrypted_over(&fresh).open_cut(&[name("t")], &CutOptions::default()).await.unwrap();
    cut.keep();
    drop(cut);
    let expected = content(&encrypted_over(&fresh)).await.unwrap();
    let long = std::env::var_os("KEEPFAST_LONG").is_some_and(|value| value == "1");
    let (mut refused, mut same) = (0, 0);
    for (path, bytes) in all_objects(&fresh).await {
        let end = bytes.len();
        for at in (0..end).filter(|at| long || *at < 40 || at + 40 >= end || at % 11 == 0) {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1 << (at % 8);
            fresh.put(&path, changed.into()).await.unwrap();
            match content(&encrypted_over(&fresh)).await {
                Ok(found) => {
                    assert_eq!(found, expected, "{path}, byte {at}");
                    same += 1;
                }
                Err(_) => refused += 1,
            }
        }
        fresh.put(&path, bytes.into()).await.unwrap();
    }
    assert_eq!(content(&encrypted_over(&fresh)).await.unwrap(), expected);
    eprintln!(
        "COUNT {} flipped bytes: {refused} refused, {same} changed nothing that was read",
        refused + same
    );
    assert!(refused > 1000 && same > 100, "{refused} {same}");
}

#[tokio::test]
async fn objects_in_each_others_place_are_refused() {
    let fresh = encrypted_memory().await;
    let store = encrypted_over(&fresh);
    insert_small(&store).await;
    insert(&store, "t", rows(true, 3..4, "t")).await.unwrap();
    let expected = content(&store).await.unwrap();
    let all = all_objects(&fresh).await;
    let (mut refused, mut same) = (0, 0);
    for (path, bytes) in &all {
        for (other, instead) in &all {
            if path == other || instead == bytes {
                continue;
            }
            fresh.put(path, instead.clone().into()).await.unwrap();
            match content(&encrypted_over(&fresh)).await {
                Ok(found) => {
                    assert_eq!(found, expected, "{other} as {path}");
                    same += 1;
                }
                Err(_) => refused += 1,
            }
        }
        fresh.put(path, bytes.clone().into()).await.unwrap();
    }
    eprintln!("COUNT {} swaps: {refused} refused, {same} were not read", refused + same);
    assert!(refused > 100 && same > 100, "{refused} {same}");

    // A store without keys is put in its place, as far as a thief can: entries in clear, behind those that are sealed.
    let plain = memory();
    store_over(&plain).create_table(&name("t"), &schema(true), false).await.unwrap();
    let forged =
        all_objects(&plain).await.into_iter().find(|(p, _)| p.as_ref().starts_with("catalog/")).unwrap().1;
    let head = store.catalog().await.unwrap().seq;
    let text =
        String::from_utf8(forged.to_vec()).unwrap().replace("\"seq\":1,", &format!("\"seq\":{},", head + 1));
    let name = Path::from(format!("catalog/{:020}.json", head + 1));
    fresh.put(&name, text.into_bytes().into()).await.unwrap();
    for reader in [&store, &encrypted_over(&fresh)] {
        let error = content(reader).await.unwrap_err();
        assert!(matches!(&error, StoreError::Damaged { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_load_of_a_vaults_plain_segments_is_encrypted_and_another_process_goes_on_with_it() {
    let plain_objects = memory();
    let plain = store_over(&plain_objects);
    plain.create_table(&name("planted_table"), &schema(true), false).await.unwrap();
    insert(&plain, "planted_table", rows(true, 0..100, "taken")).await.unwrap();
    let source = plain.table(&name("planted_table")).await.unwrap().head().await.unwrap();
    let profile = serde_json::to_value(source.file().profile.as_ref().unwrap()).unwrap();

    let objects = encrypted_memory().await;
    let store = encrypted_over(&objects);
    assert!(plain.capabilities().segments);
    let load = begin_load(&store, LoadMode::Create).await.unwrap();
    assert!(!store.capabilities().segments);
    load.remember(&serde_json::json!({})).await.unwrap();
    let elsewhere = encrypted_over(&objects);
    let attached = elsewhere.attach_load(&load.token().unwrap()).await.unwrap();
    let mut segments = vec![];
    for entry in source.segments().await.unwrap() {
        let path = Path::from(format!("data/{}/segments/{}", source.table(), entry.file_name()));
        let bytes = plain_objects.get(&path).await.unwrap().bytes().await.unwrap();
        segments.push(Ok(StoredSegment { entry: serde_json::to_value(&entry).unwrap(), bytes }));
    }
    let stream = Box::pin(futures::stream::iter(segments));
    let part = attached.take_segments(&name("planted_table"), 0, profile, stream).await.unwrap();
    assert_eq!(part.digest, source.digest());
    assert_eq!(encrypted_over(&objects).unfinished_loads().await.unwrap().len(), 1);
    assert!(matches!(attached.state().await.unwrap(), LoadState::Open));
    load.finish(vec![(name("planted_table"), vec![part])]).await.unwrap();
    load.publish().await.unwrap();
    assert_eq!(content(&store).await.unwrap(), content(&plain).await.unwrap());
    assert_eq!(holding(&objects, WORDS).await, [] as [String; 0]);
    let cut = store.open_cut(&[name("planted_table")], &CutOptions::default()).await.unwrap();
    let token = cut.token().unwrap();
    let there = encrypted_over(&objects).attach_cut(&token).await.unwrap();
    assert_eq!(there.table(&name("planted_table")).await.unwrap().rows_expected, 100);
    cut.release().await.unwrap();
}
