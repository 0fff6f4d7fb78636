//! Several writers at once: nothing is lost, and what cannot be done together is a clear conflict.

use crate::common::paused::Paused;
use crate::common::{batch, begin, content, head, map, memory, name, schema, store_over};
use keepfast_columnar::{Change, ColumnarStore, Retention};
use keepfast_store::{OnDuplicate, StoreError};
use object_store::ObjectStore;
use std::sync::Arc;

async fn table(store: &ColumnarStore, keyed: bool, rows: &[(i64, &str)]) {
    let schema = schema(keyed);
    store.create_table(&name("t"), &schema, false).await.unwrap();
    if !rows.is_empty() {
        let mut change = begin(store, "t").await;
        change.insert(batch(&schema, rows), OnDuplicate::Refuse).await.unwrap();
        change.commit().await.unwrap();
    }
}

/// A large change is applied before it stands in line, so its base can be outrun.
async fn make_large(change: &mut Change, at: i64) {
    let keys: Vec<(i64, &str)> = (0..30_000).rev().map(|i| (at + i, "filler")).collect();
    change.insert(batch(&schema(true), &keys), OnDuplicate::Refuse).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_add_to_one_counter_and_no_addition_is_lost() {
    let objects = memory();
    table(&store_over(&objects), true, &[(1, "0")]).await;
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            // Half of what follows is another process's store, as far as this code can tell.
            let store = store_over(&objects);
            tokio::spawn(async move {
                let mut conflicts = 0;
                for _ in 0..10 {
                    loop {
                        let mut change = begin(&store, "t").await;
                        let old = content(change.base()).await[0].1.clone();
                        let new = (old.parse::<i64>().unwrap() + 1).to_string();
                        let schema = schema(true);
                        change
                            .update(batch(&schema, &[(1, &old)]), batch(&schema, &[(1, &new)]))
                            .await
                            .unwrap();
                        match change.commit().await {
                            Ok(_) => break,
                            Err(StoreError::Conflict { .. }) => conflicts += 1,
                            Err(e) => panic!("{e}"),
                        }
                    }
                }
                conflicts
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(map(&store_over(&objects), "t").await[&1], "80");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_insert_different_keys_into_one_segment_without_conflict() {
    let objects = memory();
    table(&store_over(&objects), true, &[]).await;
    table_b(&store_over(&objects)).await;
    let tasks: Vec<_> = (0..8i64)
        .map(|task| {
            let store = store_over(&objects);
            tokio::spawn(async move {
                for i in 0..10 {
                    let (keyed, bag) = (schema(true), schema(false));
                    let mut change = begin(&store, "t").await;
                    change.insert(batch(&keyed, &[(i * 8 + task, "x")]), OnDuplicate::Refuse).await.unwrap();
                    change.commit().await.unwrap();
                    let mut change = begin(&store, "b").await;
                    change.insert(batch(&bag, &[(i, "x")]), OnDuplicate::Refuse).await.unwrap();
                    change.commit().await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let store = store_over(&objects);
    assert_eq!(map(&store, "t").await.len(), 80);
    let bag = head(&store, "b").await;
    assert_eq!(content(&bag).await.len(), 80);
    assert!(bag.file().segments() < 40, "small segments are joined: {}", bag.file().segments());
}

async fn table_b(store: &ColumnarStore) {
    store.create_table(&name("b"), &schema(false), false).await.unwrap();
}

#[tokio::test]
async fn a_change_of_a_row_that_another_writer_changed_is_a_conflict_that_names_it() {
    let store = store_over(&memory());
    let s = schema(true);
    table(&store, true, &[(1, "a"), (2, "b")]).await;
    let mut slow = begin(&store, "t").await;
    slow.update(batch(&s, &[(1, "a")]), batch(&s, &[(1, "slow")])).await.unwrap();
    let mut fast = begin(&store, "t").await;
    fast.update(batch(&s, &[(1, "a")]), batch(&s, &[(1, "fast")])).await.unwrap();
    fast.commit().await.unwrap();
    assert!(matches!(slow.commit().await, Err(StoreError::Conflict { .. })));
    assert_eq!(map(&store, "t").await[&1], "fast");

    // Another row of the same segment is no conflict.
    let mut slow = begin(&store, "t").await;
    slow.update(batch(&s, &[(2, "b")]), batch(&s, &[(2, "slow")])).await.unwrap();
    let mut fast = begin(&store, "t").await;
    fast.delete(batch(&s, &[(1, "fast")])).await.unwrap();
    fast.commit().await.unwrap();
    slow.commit().await.unwrap();
    assert_eq!(map(&store, "t").await.into_iter().collect::<Vec<_>>(), [(2, "slow".to_owned())]);

    // A row that is gone cannot be changed.
    let mut slow = begin(&store, "t").await;
    slow.delete(batch(&s, &[(2, "slow")])).await.unwrap();
    let mut fast = begin(&store, "t").await;
    fast.delete_keys(batch(&s, &[(2, "")])).await.unwrap();
    fast.commit().await.unwrap();
    assert!(matches!(slow.commit().await, Err(StoreError::Conflict { .. })));
}

#[tokio::test]
async fn an_inserted_key_that_another_writer_inserted_first_is_a_conflict_and_one_that_stands_is_refused_by_name()
 {
    let store = store_over(&memory());
    let s = schema(true);
    table(&store, true, &[(1, "a")]).await;
    let mut slow = begin(&store, "t").await;
    slow.insert(batch(&s, &[(7, "slow")]), OnDuplicate::Refuse).await.unwrap();
    let mut fast = begin(&store, "t").await;
    fast.insert(batch(&s, &[(7, "fast")]), OnDuplicate::Refuse).await.unwrap();
    fast.commit().await.unwrap();
    assert!(matches!(slow.commit().await, Err(StoreError::Conflict { .. })));
    let mut again = begin(&store, "t").await;
    again.insert(batch(&s, &[(7, "again")]), OnDuplicate::Refuse).await.unwrap();
    match again.commit().await {
        Err(StoreError::Row { reason, .. }) => assert!(reason.contains("id = 7"), "{reason}"),
        other => panic!("{other:?}"),
    }
    let mut twice = begin(&store, "t").await;
    twice.insert(batch(&s, &[(8, "a"), (8, "b")]), OnDuplicate::Refuse).await.unwrap();
    assert!(matches!(twice.commit().await, Err(StoreError::Row { .. })));
    assert_eq!(map(&store, "t").await[&7], "fast");
}

#[tokio::test]
async fn a_large_change_that_was_outrun_is_applied_anew() {
    let store = store_over(&memory());
    let s = schema(true);
    table(&store, true, &[(1, "a"), (2, "b")]).await;
    // Staged rows, and rows written straight behind the last key.
    for (at, ascending) in [(1_000, false), (100_000, true)] {
        let mut slow = begin(&store, "t").await;
        if ascending {
            let rows: Vec<(i64, &str)> = (0..30_000).map(|i| (at + i, "filler")).collect();
            slow.insert(batch(&s, &rows), OnDuplicate::Refuse).await.unwrap();
        } else {
            make_large(&mut slow, at).await;
        }
        slow.update(batch(&s, &[(1, "a")]), batch(&s, &[(1, "a")])).await.unwrap();
        let mut fast = begin(&store, "t").await;
        fast.upsert(batch(&s, &[(2, "fast"), (at + 500_000, "behind")])).await.unwrap();
        fast.commit().await.unwrap();
        slow.commit().await.unwrap();
        let found = map(&store, "t").await;
        assert_eq!(found[&2], "fast");
        assert_eq!(found[&(at + 29_999)], "filler");
        assert_eq!(found[&(at + 500_000)], "behind");
    }
    assert_eq!(map(&store, "t").await.len(), 60_004);
}

#[tokio::test]
async fn a_change_to_a_table_that_was_dropped_or_replaced_meanwhile_is_a_conflict() {
    let store = store_over(&memory());
    let s = schema(true);
    table(&store, true, &[]).await;
    let mut change = begin(&store, "t").await;
    change.insert(batch(&s, &[(1, "x")]), OnDuplicate::Refuse).await.unwrap();
    store.drop_table(&name("T"), false).await.unwrap();
    store.create_table(&name("t"), &s, false).await.unwrap();
    assert!(matches!(change.commit().await, Err(StoreError::Conflict { .. })));
    assert!(map(&store, "t").await.is_empty());
}

#[tokio::test]
async fn a_write_whose_objects_a_vacuum_condemned_is_refused_and_never_visible_in_part() {
    let store = store_over(&memory());
    let s = schema(true);
    table(&store, true, &[(1, "a")]).await;
    let mut change = begin(&store, "t").await;
    make_large(&mut change, 10).await;
    let rows: Vec<(i64, &str)> = (0..10_000).map(|i| (200_000 + i, "straight")).collect();
    let mut straight = begin(&store, "t").await;
    straight.insert(batch(&s, &rows), OnDuplicate::Refuse).await.unwrap();
    // As if both had gone on for longer than leftovers are kept. One has written segments already, one has not.
    let removed = store.vacuum(None, &Retention::newest()).await.unwrap();
    assert!(removed.objects > 0, "{removed:?}");
    assert!(matches!(straight.commit().await, Err(StoreError::Conflict { .. })));
    change.commit().await.unwrap();
    assert_eq!(map(&store, "t").await.len(), 30_001);
}

#[tokio::test]
async fn a_store_that_ran_ahead_of_a_sleeping_writer_takes_its_entry_back() {
    let objects = memory();
    let (asleep, awake) = (store_over(&objects), store_over(&objects));
    let s = schema(true);
    table(&asleep, true, &[]).await;
    let mut change = begin(&asleep, "t").await;
    change.insert(batch(&s, &[(1, "late")]), OnDuplicate::Refuse).await.unwrap();
    for i in 0..200 {
        let mut change = begin(&awake, "t").await;
        change.upsert(batch(&s, &[(2, &i.to_string())])).await.unwrap();
        change.commit().await.unwrap();
    }
    change.commit().await.unwrap();
    for store in [&asleep, &awake] {
        let found = map(store, "t").await;
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [(1, "late".to_owned()), (2, "199".to_owned())]);
    }
    let entries = asleep.catalog().await.unwrap().seq;
    assert_eq!(entries, awake.catalog().await.unwrap().seq);
}

#[tokio::test]
async fn a_first_entry_that_others_overtook_and_removed_is_taken_back_and_made_again() {
    let objects = memory();
    let paused = Paused::at(&objects, "catalog/00000000000000000001.json");
    let asleep = store_over(&(paused.clone() as Arc<dyn ObjectStore>));
    let late = tokio::spawn({
        let asleep = asleep.clone();
        async move { asleep.create_table(&name("late"), &schema(true), false).await }
    });
    paused.reached().await;
    let awake = store_over(&objects);
    awake.create_table(&name("t"), &schema(true), false).await.unwrap();
    for i in 0..100 {
        let mut change = begin(&awake, "t").await;
        change.upsert(batch(&schema(true), &[(i, "awake")])).await.unwrap();
        change.commit().await.unwrap();
    }
    paused.go();
    assert!(late.await.unwrap().unwrap());
    for store in [&asleep, &awake, &store_over(&objects)] {
        assert_eq!(store.tables().await.unwrap(), [name("late"), name("t")]);
        assert_eq!(map(store, "t").await.len(), 100);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_first_entries_at_once_are_one_history() {
    for _ in 0..20 {
        let objects = memory();
        let makers = (0..8).map(|i| {
            let store = store_over(&objects);
            tokio::spawn(async move {
                store.create_table(&name(&format!("t{i}")), &schema(true), false).await.unwrap()
            })
        });
        for maker in makers.collect::<Vec<_>>() {
            assert!(maker.await.unwrap());
        }
        let head = store_over(&objects).catalog().await.unwrap();
        assert_eq!((head.seq, head.tables.len()), (8, 8));
    }
}
