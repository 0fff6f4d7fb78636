//! Objects that are changed, cut short, swapped or missing: an error that names the object, never a panic, never wrong rows.

use crate::common::{batch, begin, memory, name, schema, store_over};
use futures::TryStreamExt;
use keepfast_columnar::ColumnarStore;
use keepfast_model::KeyRange;
use keepfast_store::{OnDuplicate, Result, StoreError};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use std::sync::Arc;

async fn filled() -> Arc<dyn ObjectStore> {
    let objects = memory();
    let store = store_over(&objects);
    for (table, keyed) in [("t", true), ("b", false)] {
        let s = schema(keyed);
        store.create_table(&name(table), &s, false).await.unwrap();
        let rows: Vec<(i64, String)> = (0..200).map(|i| (i, format!("value {i}"))).collect();
        let rows: Vec<(i64, &str)> = rows.iter().map(|(i, v)| (*i, v.as_str())).collect();
        let mut change = begin(&store, table).await;
        change.insert(batch(&s, &rows), OnDuplicate::Refuse).await.unwrap();
        change.commit().await.unwrap();
    }
    objects
}

/// Reads all rows of all tables, and makes a change that touches all of the table with a key.
async fn use_all(store: &ColumnarStore) -> Result<u64> {
    let mut rows = 0;
    for table in store.tables().await? {
        let head = store.table(&table).await?.head().await?;
        let batches: Vec<_> = head.scan(KeyRange::default(), None, 50).try_collect().await?;
        rows += batches.iter().map(|b| b.num_rows() as u64).sum::<u64>();
    }
    Ok(rows)
}

async fn write_all(store: &ColumnarStore) -> Result<()> {
    let s = schema(true);
    let keys: Vec<(i64, &str)> = (0..200).map(|i| (i, "new")).collect();
    let mut change = store.table(&name("t")).await?.begin().await?;
    change.upsert(batch(&s, &keys)).await?;
    change.commit().await?;
    let mut change = store.table(&name("b")).await?.begin().await?;
    change.delete(batch(&schema(false), &[(7, "value 7")])).await?;
    change.commit().await.map(drop)
}

fn names(error: &StoreError, path: &str) -> bool {
    let file = path.rsplit('/').next().unwrap();
    matches!(error, StoreError::Damaged { object, .. } if object.contains(file))
}

async fn copy_of(objects: &Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
    let copy = memory();
    for path in objects_of(objects).await {
        let bytes = objects.get(&path).await.unwrap().bytes().await.unwrap();
        copy.put(&path, bytes.into()).await.unwrap();
    }
    copy
}

async fn objects_of(objects: &Arc<dyn ObjectStore>) -> Vec<Path> {
    let mut all: Vec<Path> = objects.list(None).map_ok(|o| o.location).try_collect().await.unwrap();
    all.sort();
    all
}

#[tokio::test]
async fn every_changed_byte_of_pages_and_segments_is_found_and_named() {
    let clean = filled().await;
    let needed: Vec<Path> = objects_of(&clean)
        .await
        .into_iter()
        .filter(|p| p.as_ref().contains("pages/") || p.as_ref().contains("segments/"))
        .collect();
    assert!(needed.len() > 10);
    for (n, path) in needed.iter().enumerate() {
        let bytes = clean.get(path).await.unwrap().bytes().await.unwrap();
        let mut damaged: Vec<Option<Vec<u8>>> =
            vec![None, Some(vec![]), Some(bytes[..bytes.len() / 2].to_vec())];
        for at in [0, bytes.len() / 3, bytes.len() - 1, (n * 37) % bytes.len()] {
            let mut changed = bytes.to_vec();
            changed[at] ^= 0x10;
            damaged.push(Some(changed));
        }
        for wrong in damaged {
            let objects = copy_of(&clean).await;
            match wrong {
                Some(wrong) => drop(objects.put(path, wrong.into()).await.unwrap()),
                None => objects.delete(path).await.unwrap(),
            }
            let error = use_all(&store_over(&objects)).await.unwrap_err();
            assert!(names(&error, path.as_ref()), "{path}: {error}");
            // Half of the rows lie elsewhere, so a write that does not touch it may be made; one that does is refused.
            if let Err(error) = write_all(&store_over(&objects)).await {
                assert!(names(&error, path.as_ref()), "{path}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn swapped_segments_are_found() {
    let objects = filled().await;
    let segments: Vec<Path> =
        objects_of(&objects).await.into_iter().filter(|p| p.as_ref().contains("segments/")).collect();
    for pair in segments.windows(2) {
        let (a, b) = (
            objects.get(&pair[0]).await.unwrap().bytes().await.unwrap(),
            objects.get(&pair[1]).await.unwrap().bytes().await.unwrap(),
        );
        objects.put(&pair[0], b.clone().into()).await.unwrap();
        objects.put(&pair[1], a.clone().into()).await.unwrap();
        assert!(matches!(use_all(&store_over(&objects)).await, Err(StoreError::Damaged { .. })));
        objects.put(&pair[0], a.into()).await.unwrap();
        objects.put(&pair[1], b.into()).await.unwrap();
    }
    assert_eq!(use_all(&store_over(&objects)).await.unwrap(), 400);
}

#[tokio::test]
async fn catalog_entries_and_versions_that_cannot_be_read_are_named_and_never_taken_for_an_empty_store() {
    let objects = filled().await;
    let head = store_over(&objects).catalog().await.unwrap();
    let mut needed = vec![Path::from(format!("catalog/{:020}.json", head.seq))];
    for table in &head.tables {
        needed.push(Path::from(format!("data/{}/versions/{}", table.id, table.file)));
    }
    for path in needed {
        let bytes = objects.get(&path).await.unwrap().bytes().await.unwrap();
        let wrong_number = String::from_utf8(bytes.to_vec())
            .unwrap()
            .replace(&format!("\"seq\":{}", head.seq), "\"seq\":77")
            .replace("\"version\":2,\"parent\"", "\"version\":77,\"parent\"");
        for wrong in [
            vec![],
            b"{".to_vec(),
            b"[]".to_vec(),
            b"{\"format\":1}".to_vec(),
            vec![0xff; 100],
            wrong_number.into_bytes(),
        ] {
            objects.put(&path, wrong.into()).await.unwrap();
            let error = use_all(&store_over(&objects)).await.unwrap_err();
            assert!(names(&error, path.as_ref()), "{path}: {error}");
        }
        objects.put(&path, b"{\"format\":2,\"new\":true}".to_vec().into()).await.unwrap();
        assert!(matches!(use_all(&store_over(&objects)).await, Err(StoreError::Unsupported { .. })));
        objects.put(&path, bytes.into()).await.unwrap();
    }
    assert_eq!(use_all(&store_over(&objects)).await.unwrap(), 400);
}
