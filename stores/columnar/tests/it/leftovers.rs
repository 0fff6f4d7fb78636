//! What nobody needs any more goes with the commits of those who write on; what somebody needs stays.

use crate::common::{all_objects, batch, begin, map, memory, name, over, schema, small, store_over};
use futures::stream;
use keepfast_columnar::{ColumnarStore, Options, Retention};
use keepfast_model::{RunId, TableName};
use keepfast_store::load::LoadTable;
use keepfast_store::{CutOptions, Load, LoadMode, LoadOptions, LoadState, Store};
use object_store::ObjectStore;
use std::sync::Arc;
use std::time::Duration;

/// A store that keeps these versions of a table whatever their age, and nothing that is left over.
fn keeping(objects: &Arc<dyn ObjectStore>, versions: u64) -> ColumnarStore {
    let none = Duration::ZERO;
    let retention =
        Retention { versions, age: none, leftovers: none, unfinished: none, ..Retention::default() };
    over(objects, Options { retention, ..small() })
}

async fn put(store: &ColumnarStore, table: &str, id: i64, value: &str) {
    let mut change = begin(store, table).await;
    change.upsert(batch(&schema(true), &[(id, value)])).await.unwrap();
    change.commit().await.unwrap();
}

async fn made(store: &ColumnarStore, table: &str) -> String {
    store.create_table(&name(table), &schema(true), false).await.unwrap();
    put(store, table, 1, "kept").await;
    store.table(&name(table)).await.unwrap().id().0.clone()
}

/// Objects in the folder of a table.
async fn objects_of(objects: &Arc<dyn ObjectStore>, id: &str) -> usize {
    let all = all_objects(objects).await;
    all.keys().filter(|path| path.as_ref().starts_with(&format!("data/{id}/"))).count()
}

#[tokio::test]
async fn a_dropped_table_goes_with_a_later_commit_of_anybody_once_its_time_is_over() {
    let objects = memory();
    let usual = store_over(&objects);
    made(&usual, "t").await;
    let id = made(&usual, "u").await;
    usual.drop_table(&name("u"), false).await.unwrap();
    put(&usual, "t", 2, "soon").await;
    assert!(objects_of(&objects, &id).await > 0, "it was dropped just now");
    put(&keeping(&objects, 5), "t", 3, "later").await;
    assert_eq!(objects_of(&objects, &id).await, 0);
    assert!(usual.catalog().await.unwrap().dropped.is_empty());
    assert_eq!(map(&usual, "t").await.len(), 3);
}

#[tokio::test]
async fn a_dropped_table_that_a_cut_holds_stays_until_it_is_released() {
    let objects = memory();
    let store = keeping(&objects, 5);
    made(&store, "t").await;
    let id = made(&store, "u").await;
    let cut = store.open_cut(&[name("u")], &CutOptions::default()).await.unwrap();
    store.drop_table(&name("u"), false).await.unwrap();
    let there = objects_of(&objects, &id).await;
    for i in 0..70 {
        put(&store, "t", i, "beside").await;
    }
    assert_eq!(objects_of(&objects, &id).await, there);
    cut.release().await.unwrap();
    // A process tries once by itself, and again with every 64th entry.
    put(&keeping(&objects, 5), "t", 1, "after").await;
    assert_eq!(objects_of(&objects, &id).await, 0);
}

#[tokio::test]
async fn every_64th_version_of_a_table_is_followed_by_its_vacuum() {
    let objects = memory();
    let store = keeping(&objects, 5);
    made(&store, "t").await;
    let held = store.open_cut(&[name("t")], &CutOptions::default()).await.unwrap();
    let version = |store: ColumnarStore| async move {
        store.table(&name("t")).await.unwrap().versions().await.unwrap()
    };
    for i in 3..64 {
        put(&store, "t", i, "again").await;
    }
    assert_eq!(version(store.clone()).await.len(), 63);
    put(&store, "t", 64, "again").await;
    assert_eq!(version(store.clone()).await, (60..=64).collect::<Vec<u64>>());
    assert_eq!(map(&store, "t").await.len(), 63);
    assert_eq!(held.table(&name("t")).await.unwrap().rows_expected, 1);
    held.release().await.unwrap();

    // The usual retention keeps a hundred, and whatever was the newest in the last two days.
    let usual = store_over(&memory());
    made(&usual, "t").await;
    for i in 3..=128 {
        put(&usual, "t", i, "again").await;
    }
    assert_eq!(version(usual).await.len(), 128);
}

async fn loading(store: &ColumnarStore, target: &TableName) -> Arc<dyn Load> {
    let table = LoadTable {
        target: target.clone(),
        schema: schema(true),
        dependents: vec![],
        mode: LoadMode::Create,
        segment_rows: None,
        replaced_tag: "9".into(),
        shard_rule: None,
    };
    store.begin_load(LoadOptions { run: RunId("run".into()), tables: vec![table] }).await.unwrap()
}

#[tokio::test]
async fn a_load_that_is_remembered_is_not_swept_and_one_that_is_not_hears_of_it() {
    let objects = memory();
    let store = keeping(&objects, 5);
    made(&store, "t").await;
    let mut loads = vec![];
    for (target, remembered) in [("kept", true), ("swept", false)] {
        let load = loading(&store, &name(target)).await;
        if remembered {
            load.remember(&serde_json::json!({})).await.unwrap();
        }
        let rows = batch(&schema(true), &[(1, "loaded"), (2, "loaded")]);
        let part = load.write_part(&name(target), 0, Box::pin(stream::iter([Ok(rows)]))).await.unwrap();
        loads.push((target, load, part));
    }
    for i in 0..70 {
        put(&store, "t", i, "beside").await;
    }
    for (target, load, part) in loads {
        let target = name(target);
        let state = load.state().await.unwrap();
        let finished = load.finish(vec![(target.clone(), vec![part])]).await;
        if target == name("kept") {
            assert!(matches!(state, LoadState::Open), "{state:?}");
            finished.unwrap();
            load.publish().await.unwrap();
            assert_eq!(map(&store, "kept").await.len(), 2);
        } else {
            assert!(finished.is_err() || load.publish().await.is_err());
            assert_eq!(store.tables().await.unwrap().len(), 2);
        }
    }
}

#[tokio::test]
async fn what_was_broken_off_is_never_committed_without_its_rows() {
    let objects = memory();
    let store = store_over(&objects);
    made(&store, "t").await;
    let mut change = begin(&store, "t").await;
    change.upsert(batch(&schema(true), &[(7, "first")])).await.unwrap();
    let many: Vec<(i64, &str)> = (0..5_000).rev().map(|i| (i, "many")).collect();
    {
        let stage = change.upsert(batch(&schema(true), &many));
        futures::pin_mut!(stage);
        assert!(futures::poll!(stage.as_mut()).is_pending(), "it computes on another thread");
    }
    assert!(!change.is_empty());
    assert!(change.upsert(batch(&schema(true), &[(8, "later")])).await.is_err());
    assert!(change.commit().await.is_err());
    assert_eq!(map(&store, "t").await.into_iter().collect::<Vec<_>>(), [(1, "kept".to_owned())]);
}
