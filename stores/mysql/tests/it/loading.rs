//! What is loaded is what was read, to the last bit, and visible in one step.

use crate::common::*;
use keepfast_model::TableName;
use keepfast_store::{CutOptions, Load, LoadMode, OpenCut, Store, StoreError};
use std::sync::Arc;

/// Begins to load a table as it is at a cut under another name, and loads all of it.
pub(crate) async fn loaded(
    store: &dyn Store,
    cut: &dyn OpenCut,
    from: &TableName,
    to: &TableName,
    mode: LoadMode,
) -> Result<Arc<dyn Load>, StoreError> {
    let load = begin(store, cut, &[(from, to)], mode).await?;
    fill(load.as_ref(), cut, &[(from, to)], 1).await?;
    Ok(load)
}

#[tokio::test]
async fn values_of_every_type_come_back_to_the_last_bit() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let database = fresh("back");
        every_type(&urls[0], &database).await;
        let store = store(&urls[..1], &[]);
        let (from, to) = (named(&database, "every"), named(&database, "again"));
        let cut = store.open_cut(std::slice::from_ref(&from), &CutOptions::default()).await.unwrap();
        let load = loaded(&store, cut.as_ref(), &from, &to, LoadMode::Create).await.unwrap();
        let beside = load.open_cut().await.unwrap();
        assert_eq!(digest(beside.as_ref(), &to).await, digest(cut.as_ref(), &from).await);
        assert!(store.describe(&to).await.is_err(), "nothing is visible before it is published");
        load.publish().await.unwrap();
        // The server's own word, and its own definition.
        for sql in ["CHECKSUM TABLE", "SHOW CREATE TABLE"] {
            let of = |name: &str| format!("{sql} `{database}`.`{name}`");
            let both = [of("every"), of("again")];
            let both = [&both[0], &both[1]].map(|sql| keepfast_mysql::testing::rows(&urls[0], sql));
            let both = futures::future::join_all(both).await;
            let second = |rows: &Result<Vec<Vec<Option<String>>>, String>| {
                rows.as_ref().unwrap()[0][1].clone().unwrap()
            };
            assert_eq!(second(&both[0]).replace("`every`", "`again`"), second(&both[1]));
        }
        cut.release().await.unwrap();
    }
}

#[tokio::test]
async fn a_replaced_table_is_kept_and_comes_back_by_undo_and_an_abandoned_load_leaves_nothing() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (database, url) = (fresh("undo"), &urls[0]);
        let sql = |sql: &str| sql.replace("D.", &format!("`{database}`."));
        run(
            url,
            &[
                &format!("CREATE DATABASE `{database}`"),
                &sql("CREATE TABLE D.t (id INT PRIMARY KEY, v TEXT, KEY (v(9)))"),
            ],
        )
        .await;
        run(url, &[&sql("INSERT INTO D.t VALUES (1, 'a'), (2, 'b')")]).await;
        let (store, table) = (store(&urls[..1], &[]), named(&database, "t"));
        let cut = store.open_cut(std::slice::from_ref(&table), &CutOptions::default()).await.unwrap();
        run(url, &[&sql("UPDATE D.t SET v = 'changed'")]).await;
        let other = loaded(&store, cut.as_ref(), &table, &table, LoadMode::Replace).await.unwrap();
        assert!(!strays(&urls[..1], &database).await.is_empty());
        other.abandon().await.unwrap();
        assert_eq!(strays(&urls[..1], &database).await, [""; 0]);
        assert_eq!(store.list_tables(Some(&database)).await.unwrap(), std::slice::from_ref(&table));
        let load = loaded(&store, cut.as_ref(), &table, &table, LoadMode::Replace).await.unwrap();
        let published = load.publish().await.unwrap();
        assert_eq!(load.publish().await.unwrap(), published, "asked again it says the same");
        let kept = published.replaced[0].clone().unwrap();
        assert_eq!(kept.table, "t__replaced_7_1");
        let texts = "SELECT group_concat(v ORDER BY id) FROM D.t";
        assert_eq!(value(url, &sql(texts)).await.unwrap(), "a,b");
        assert_eq!(
            value(url, &sql(&texts.replace("D.t", "D.t__replaced_7_1"))).await.unwrap(),
            "changed,changed"
        );
        store.undo(&published.undo).await.unwrap();
        assert_eq!(value(url, &sql(texts)).await.unwrap(), "changed,changed");
        assert!(matches!(store.undo(&published.undo).await, Err(StoreError::Conflict { .. })));
        // What was published may have been written to since: it is kept too.
        let undone = named(&database, "t__undone_7_1");
        assert_eq!(value(url, &sql(&texts.replace("D.t", "D.t__undone_7_1"))).await.unwrap(), "a,b");
        assert_eq!(store.list_tables(Some(&database)).await.unwrap(), [table.clone(), undone.clone()]);
        // A load that nobody holds is swept; one that is held is not. The cut's table was renamed: another cut.
        cut.release().await.unwrap();
        let cut = store.open_cut(std::slice::from_ref(&table), &CutOptions::default()).await.unwrap();
        let held = loaded(&store, cut.as_ref(), &table, &table, LoadMode::Replace).await.unwrap();
        assert!(store.sweep().await.unwrap().iter().all(|name| !name.starts_with(&database)));
        drop(held);
        let mut swept = vec![];
        for _ in 0..100 {
            swept.extend(store.sweep().await.unwrap());
            if swept.iter().any(|name| name.starts_with(&database)) {
                break;
            }
            tokio::task::yield_now().await;
        }
        assert!(swept.iter().any(|name| name.starts_with(&database)), "{swept:?}");
        assert_eq!(store.list_tables(Some(&database)).await.unwrap(), [table, undone]);
        assert_eq!(strays(&urls[..1], &database).await, [""; 0]);
    }
}
