//! A store is given its first keys: its tables are sealed, others at work lose nothing, and nothing plain stays behind.

use crate::common::paused::Paused;
use crate::common::{
    PHRASE, all_objects, encrypted_over, holding, in_folder, memory, name, opened_by, passphrase, store_over,
};
use crate::encryption::{
    WORDS, begin_load, content, copy_of, everything, insert, insert_small, rows, schema, seen_by,
};
use keepfast_columnar::Retention;
use keepfast_model::Coded;
use keepfast_objects::faulty::{Fault, Process, Script};
use keepfast_store::{CutOptions, LoadMode, OnDuplicate, Store, StoreError};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use std::sync::Arc;

#[tokio::test]
async fn a_store_with_tables_is_sealed_by_its_first_keys_and_what_was_plain_is_removed() {
    let objects = memory();
    let store = encrypted_over(&objects);
    everything(&store).await.unwrap();
    assert!(matches!(store.rotate_keys().await, Err(StoreError::NoKeys { .. })));
    let before = content(&store).await.unwrap();
    assert!(!holding(&objects, WORDS).await.is_empty());
    // Others are at work: with a load, with a change, with a cut, and with a table to be made. None of them knows of keys yet.
    let loading = encrypted_over(&objects);
    let load = begin_load(&loading, LoadMode::Create).await.unwrap();
    load.remember(&serde_json::json!({"purpose": "planted-value"})).await.unwrap();
    let target = name("planted_table_renamed");
    let mut change = encrypted_over(&objects).table(&target).await.unwrap().begin().await.unwrap();
    change.insert(rows(true, 900..910, "late"), OnDuplicate::Refuse).await.unwrap();
    let cut = encrypted_over(&objects)
        .open_cut(std::slice::from_ref(&target), &CutOptions::default())
        .await
        .unwrap();
    let keyless = store_over(&objects);
    assert_eq!(keyless.tables().await.unwrap().len(), 2);

    store.add_recipient("office", &passphrase(PHRASE)).await.unwrap();
    assert_eq!(holding(&objects, WORDS).await, [] as [String; 0]);
    assert_eq!(content(&store).await.unwrap(), before);
    assert_eq!(content(&encrypted_over(&objects)).await.unwrap(), before);
    cut.release().await.unwrap();
    let changed = change.commit().await;
    assert!(matches!(changed, Err(StoreError::Conflict { .. })), "{changed:?}");
    let made = keyless.create_table(&name("t"), &schema(true), false).await;
    assert!(matches!(made, Err(StoreError::Locked { .. })), "{made:?}");
    let target = name("planted_table");
    let stream = Box::pin(futures::stream::iter([Ok(rows(true, 0..5, "late"))]));
    let part = load.write_part(&target, 0, stream).await.unwrap();
    load.finish(vec![(target, vec![part])]).await.unwrap();
    let published = load.publish().await;
    assert!(matches!(published, Err(StoreError::Conflict { .. })), "{published:?}");
    // What they wrote until they were refused goes with the next change of keys.
    assert!(!holding(&objects, WORDS).await.is_empty());
    store.add_recipient("second", &passphrase("the second")).await.unwrap();
    assert_eq!(holding(&objects, WORDS).await, [] as [String; 0]);
    assert_eq!(content(&store).await.unwrap(), before);
    for table in store.tables().await.unwrap() {
        store.drop_table(&table, false).await.unwrap();
    }
    everything(&store).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_others_commit_while_a_store_gets_its_first_keys_are_sealed_with_it() {
    let objects = memory();
    let store = encrypted_over(&objects);
    store.create_table(&name("planted_table"), &schema(true), false).await.unwrap();
    insert(&store, "planted_table", rows(true, 0..500, "before")).await.unwrap();
    // The first entry with keys waits until others have committed: what was sealed until then is not all of it.
    let first = store.catalog().await.unwrap().seq + 1;
    let paused = Paused::at(&objects, &format!("catalog/{first:020}.json"));
    let giver = encrypted_over(&(paused.clone() as Arc<dyn ObjectStore>));
    let giving = tokio::spawn(async move { giver.add_recipient("office", &passphrase(PHRASE)).await });
    paused.reached().await;
    insert(&store, "planted_table", rows(true, 500..510, "during")).await.unwrap();
    store.create_table(&name("planted_table_made"), &schema(true), false).await.unwrap();
    let writers = (1..4u32).map(|w| {
        let store = encrypted_over(&objects);
        tokio::spawn(async move {
            for i in 0..40 {
                let row = rows(true, w * 1000 + i..w * 1000 + i + 1, "during");
                for tried in 0.. {
                    match insert(&store, "planted_table", row.clone()).await {
                        Ok(()) => break,
                        // The table is another one, or its plain objects are gone.
                        Err(
                            StoreError::Conflict { .. }
                            | StoreError::Damaged { .. }
                            | StoreError::NoTable { .. },
                        ) if tried < 20 => {}
                        Err(e) => panic!("writer {w}, row {i}: {e}"),
                    }
                }
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    paused.go();
    giving.await.unwrap().unwrap();
    for writer in writers {
        writer.await.unwrap();
    }
    let store = encrypted_over(&objects);
    let since = store.catalog().await.unwrap().sealed_since.unwrap();
    assert!(since >= first + 2, "{since}: two entries came between");
    let content = content(&store).await.unwrap();
    assert_eq!(content["planted_table"][0].num_rows(), 630);
    assert!(content["planted_table_made"].is_empty());
    store.add_recipient("second", &passphrase("the second")).await.unwrap();
    assert_eq!(holding(&objects, WORDS).await, [] as [String; 0]);
}

#[tokio::test]
async fn first_keys_that_stop_anywhere_leave_nothing_plain_once_they_are_typed_again() {
    let plain = memory();
    insert_plain(&plain).await;
    let expected = content(&store_over(&plain)).await.unwrap();
    let counted = Process::default();
    seen_by(&counted, &copy_of(&plain).await).add_recipient("office", &passphrase(PHRASE)).await.unwrap();
    let mut stops = 0;
    for operation in counted.trace() {
        for fault in [
            Fault::DiesBefore,
            Fault::DiesAfter,
            Fault::LosesAnswer,
            Fault::Refused,
            Fault::PowerFails { seed: 7 * operation.number + 3 },
        ] {
            if !fault.fits(operation.kind) {
                continue;
            }
            let said = format!("{fault} at {operation}");
            let objects = copy_of(&plain).await;
            let process = Process::new(Script::at(operation.number, fault));
            let done = seen_by(&process, &objects).add_recipient("office", &passphrase(PHRASE)).await;
            let next = encrypted_over(&objects);
            assert_eq!(content(&next).await.unwrap(), expected, "{said}");
            if done.is_ok() {
                assert_eq!(
                    holding(&objects, WORDS).await,
                    [] as [String; 0],
                    "{said}, and it was said to be done"
                );
            }
            // Either of them ends it: a vacuum that comes by, or the same command.
            let beside = copy_of(&objects).await;
            if next.has_keys().await.unwrap() {
                encrypted_over(&beside).vacuum(None, &Retention::default()).await.unwrap();
                assert_eq!(holding(&beside, WORDS).await, [] as [String; 0], "{said}, after a vacuum");
            }
            match next.add_recipient("office", &passphrase(PHRASE)).await {
                Ok(()) => {}
                Err(StoreError::Keys(e)) if e.code().0 == 247 => {}
                Err(e) => panic!("{said}: again: {e}"),
            }
            assert_eq!(holding(&objects, WORDS).await, [] as [String; 0], "{said}");
            assert_eq!(content(&encrypted_over(&objects)).await.unwrap(), expected, "{said}");
            stops += 1;
        }
    }
    eprintln!("COUNT {stops} cuts: of first keys");
    assert!(stops > 100, "{stops}");
}

/// Tables, a dropped one, a hold, and a load that is remembered.
async fn insert_plain(objects: &Arc<dyn ObjectStore>) {
    let store = store_over(objects);
    insert_small(&store).await;
    store.create_table(&name("planted_table"), &schema(true), false).await.unwrap();
    insert(&store, "planted_table", rows(true, 0..40, "dropped")).await.unwrap();
    let cut = store.open_cut(&[name("planted_table")], &CutOptions::default()).await.unwrap();
    cut.keep();
    store.drop_table(&name("planted_table"), false).await.unwrap();
    let load = begin_load(&store, LoadMode::Create).await.unwrap();
    load.remember(&serde_json::json!({"purpose": "planted-value"})).await.unwrap();
    let stream = Box::pin(futures::stream::iter([Ok(rows(true, 0..5, "loaded"))]));
    load.write_part(&name("planted_table"), 0, stream).await.unwrap();
}

#[tokio::test]
async fn what_plain_writers_leave_behind_goes_with_any_change_of_keys_and_sealed_loads_go_on() {
    let objects = memory();
    insert_plain(&objects).await;
    let before = all_objects(&objects).await;
    let store = encrypted_over(&objects);
    store.add_recipient("office", &passphrase(PHRASE)).await.unwrap();
    let load = begin_load(&store, LoadMode::Create).await.unwrap();
    load.remember(&serde_json::json!({"purpose": "planted-value"})).await.unwrap();
    let stream = Box::pin(futures::stream::iter([Ok(rows(true, 0..5, "loaded"))]));
    let part = load.write_part(&name("planted_table"), 0, stream).await.unwrap();
    // Writers that knew of no keys end late, one after the other.
    for act in 0..3 {
        for (path, bytes) in &before {
            if !path.as_ref().starts_with("catalog/") {
                let path = path.as_ref().replacen("data/", &format!("data/{act:032}"), act);
                objects.put(&Path::from(path), bytes.clone().into()).await.unwrap();
            }
        }
        assert!(!holding(&objects, WORDS).await.is_empty());
        match act {
            0 => store.add_recipient("second", &passphrase("the second")).await.unwrap(),
            // Refused, and all the same.
            1 => assert_eq!(store.remove_recipient("nobody").await.unwrap_err().code().0, 246),
            _ => assert_eq!(store.rotate_keys().await.unwrap_err().code().0, 249),
        }
        assert_eq!(holding(&objects, WORDS).await, [] as [String; 0], "act {act}");
    }
    load.finish(vec![(name("planted_table"), vec![part])]).await.unwrap();
    load.publish().await.unwrap();
    let found = content(&encrypted_over(&objects)).await.unwrap();
    assert_eq!(found["planted_table"][0].num_rows(), 5);
}

#[tokio::test]
async fn half_written_files_of_dead_plain_writers_go_with_the_first_keys() {
    let folder = tempfile::tempdir().unwrap();
    let store = in_folder(folder.path(), opened_by(PHRASE));
    insert_small(&store).await;
    let table = store.table(&name("t")).await.unwrap().id().clone();
    let half = folder.path().join(format!("data/{table}/segments/x.parquet.tmp-0123456789abcdef"));
    std::fs::write(&half, "planted-value").unwrap();
    store.add_recipient("office", &passphrase(PHRASE)).await.unwrap();
    assert!(!half.exists());
    // One that is written later may be that of a writer at work.
    let at_work = folder.path().join("catalog/x.json.tmp-0123456789abcdef");
    std::fs::write(&at_work, "sealed").unwrap();
    assert!(store.add_recipient("office", &passphrase(PHRASE)).await.is_err());
    assert!(at_work.exists());
}
