//! Table handles, as a program uses them: made, appended to, read before they are closed, replaced.

use crate::common::{memory, name, schema, store_over};
use futures::TryStreamExt;
use keepfast_columnar::ColumnarStore;
use keepfast_columnar::handle::{Info, Mode, TableHandle, Value, create_table, open_table};
use keepfast_store::StoreError;

async fn filled(store: &ColumnarStore, table: &str, rows: i64) -> Info {
    store.create_table(&name(table), &schema(true), false).await.unwrap();
    let mut handle = open_table(store, &name(table), Mode::Write).await.unwrap();
    for i in 0..rows {
        handle.append_row(row(i)).await.unwrap();
    }
    let info = handle.get_info().await.unwrap();
    handle.close().await.unwrap();
    info
}

fn row(i: i64) -> Vec<Value> {
    vec![Value::Int(i), if i % 3 == 0 { Value::Null } else { Value::Text(format!("v{i}")) }]
}

async fn rows_of(handle: &mut TableHandle) -> Vec<Vec<Value>> {
    handle.iter_rows().await.unwrap().try_collect().await.unwrap()
}

#[tokio::test]
async fn a_table_is_copied_row_by_row_and_gives_the_same_bytes() {
    let store = store_over(&memory());
    let info = filled(&store, "original", 100).await;
    assert_eq!((info.name.as_str(), info.rows, &info.key), ("original", 100, &vec!["id".to_owned()]));
    assert_eq!(
        info.columns.iter().map(|c| (c.name.as_str(), c.nullable)).collect::<Vec<_>>(),
        [("id", false), ("v", true)]
    );
    assert!(info.bytes > 0);
    let mut original = open_table(&store, &name("original"), Mode::Read).await.unwrap();
    let mut copy = create_table(&store, &name("copy"), &info).await.unwrap();
    for row in rows_of(&mut original).await {
        copy.append_row(row).await.unwrap();
    }
    // No close between: a handle reads its own writes.
    assert_eq!(copy.read_data().await.unwrap(), original.read_data().await.unwrap());
    let pieces: Vec<_> = copy.iter_data().await.unwrap().try_collect().await.unwrap();
    assert_eq!(pieces.concat(), original.read_data().await.unwrap());
    copy.append_row(row(100)).await.unwrap();
    assert_ne!(copy.read_data().await.unwrap(), original.read_data().await.unwrap());
    assert_eq!(copy.get_info().await.unwrap().rows, 101);
    copy.close().await.unwrap();
    let expected: Vec<Vec<Value>> = (0..101).map(row).collect();
    assert_eq!(rows_of(&mut open_table(&store, &name("copy"), Mode::Read).await.unwrap()).await, expected);
}

#[tokio::test]
async fn batches_are_appended_whole() {
    let store = store_over(&memory());
    let info = filled(&store, "t", 50).await;
    let mut original = open_table(&store, &name("t"), Mode::Read).await.unwrap();
    let batches: Vec<_> = original.iter_batches().await.unwrap().try_collect().await.unwrap();
    let mut copy = create_table(&store, &name("u"), &info).await.unwrap();
    for batch in &batches {
        copy.append_batch(batch).await.unwrap();
    }
    assert_eq!(copy.read_data().await.unwrap(), original.read_data().await.unwrap());
}

#[tokio::test]
async fn creating_an_existing_table_replaces_it_at_the_commit_and_keeps_the_old_one() {
    let store = store_over(&memory());
    let info = filled(&store, "t", 5).await;
    let mut new = create_table(&store, &name("t"), &info).await.unwrap();
    new.append_row(row(7)).await.unwrap();
    assert_eq!(rows_of(&mut open_table(&store, &name("t"), Mode::Read).await.unwrap()).await.len(), 5);
    new.close().await.unwrap();
    assert_eq!(rows_of(&mut open_table(&store, &name("t"), Mode::Read).await.unwrap()).await, [row(7)]);
    let kept: Vec<_> =
        store.tables().await.unwrap().into_iter().filter(|t| t.table.starts_with("t__replaced_")).collect();
    let [kept] = &kept[..] else { panic!("{kept:?}") };
    assert_eq!(rows_of(&mut open_table(&store, kept, Mode::Read).await.unwrap()).await.len(), 5);
}

#[tokio::test]
async fn what_a_handle_cannot_do_is_an_error_and_changes_nothing() {
    let store = store_over(&memory());
    assert!(matches!(open_table(&store, &name("none"), Mode::Read).await, Err(StoreError::NoTable { .. })));
    filled(&store, "t", 5).await;
    let mut reader = open_table(&store, &name("t"), Mode::Read).await.unwrap();
    assert!(reader.append_row(row(9)).await.is_err());
    let mut writer = open_table(&store, &name("t"), Mode::Write).await.unwrap();
    assert!(matches!(writer.append_row(vec![Value::Int(9)]).await, Err(StoreError::Row { .. })));
    let taken = writer.append_row(vec![Value::Text("nine".into()), Value::Null]).await;
    assert!(taken.is_err() || writer.commit().await.is_err());
    let mut writer = open_table(&store, &name("t"), Mode::Write).await.unwrap();
    writer.append_row(row(3)).await.unwrap();
    assert!(matches!(writer.close().await, Err(StoreError::Row { .. })));
    // Dropped without a close: nothing is left.
    let mut dropped = open_table(&store, &name("t"), Mode::Write).await.unwrap();
    dropped.append_row(row(10)).await.unwrap();
    drop(dropped);
    assert_eq!(rows_of(&mut reader).await, (0..5).map(row).collect::<Vec<_>>());
}
