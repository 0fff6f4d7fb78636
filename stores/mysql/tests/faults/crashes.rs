//! Servers that are killed, and servers without room: servers of these tests alone.

use crate::ALONE;
use crate::common::*;
use futures::{StreamExt, TryStreamExt};
use keepfast_model::TableName;
use keepfast_store::{
    CutOptions, Load, LoadMode, LoadState, OpenCut, PlanOptions, ScanOptions, Store, StoreError,
};
use keepfast_testbed::cache_folder;
use keepfast_testbed::mysql::{Kind, MARIADB_URLS, MySql};
use serde_json::json;
use std::sync::Arc;

/// A server of its own; none where the run has none of the kind.
fn own(kind: &str, options: &[&str]) -> Option<MySql> {
    servers(kind)?;
    let exe = std::env::current_exe().unwrap();
    let release = exe.parent().and_then(std::path::Path::parent).unwrap();
    let which = if kind == MARIADB_URLS { Kind::MariaDb } else { Kind::MySql };
    let options: Vec<String> = options.iter().map(|o| (*o).to_owned()).collect();
    Some(MySql::start_with(&cache_folder(release), which, 9, &options).unwrap())
}

const ROWS: &str = "INSERT INTO d.t SELECT 1 + a.n + 10 * b.n + 100 * c.n + 1000 * d.n, REPEAT('x', 1000) FROM \
    (SELECT 0 AS n UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) a, \
    (SELECT 0 AS n UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) b, \
    (SELECT 0 AS n UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) c, \
    (SELECT 0 AS n UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) d";

/// A database `d` with the table `t` of 10,000 rows of 1 kB, and `target` with one row.
async fn filled(url: &str) {
    run(
        url,
        &[
            "CREATE DATABASE d",
            "CREATE TABLE d.t (id INT PRIMARY KEY, v VARCHAR(1000))",
            ROWS,
            "CREATE TABLE d.target (id INT PRIMARY KEY, v VARCHAR(1000))",
            "INSERT INTO d.target VALUES (0, 'old')",
        ],
    )
    .await;
}

/// All of a table by batches.
async fn rows_of(cut: &dyn OpenCut, table: &TableName) -> Vec<arrow::array::RecordBatch> {
    let mut all = vec![];
    for partition in cut.plan(table, &PlanOptions::default()).await.unwrap() {
        let rows = cut.scan(&partition, &ScanOptions { batch_rows: 500, ..ScanOptions::default() }).await;
        all.extend(rows.unwrap().try_collect::<Vec<_>>().await.unwrap());
    }
    all
}

#[tokio::test]
async fn a_server_killed_during_a_backup_and_during_a_restore_leaves_nothing_half_done() {
    let _alone = ALONE.lock().await;
    for kind in KINDS {
        let Some(mut server) = own(kind, &[]) else { continue };
        let url = server.url();
        filled(&url).await;
        let store = store(std::slice::from_ref(&url), &[]);
        let (from, to) = (named("d", "t"), named("d", "target"));
        let expected = digest_now(&store, &from).await;

        // During a backup: an error, and afterwards the same backup.
        let cut = store.open_cut(std::slice::from_ref(&from), &CutOptions::default()).await.unwrap();
        let partition = cut.plan(&from, &PlanOptions::default()).await.unwrap().remove(0);
        let mut rows =
            cut.scan(&partition, &ScanOptions { batch_rows: 50, ..ScanOptions::default() }).await.unwrap();
        let first = rows.next().await.unwrap();
        assert!(first.is_ok());
        server.kill();
        let lost = rows.try_collect::<Vec<_>>().await.unwrap_err();
        assert!(matches!(lost, StoreError::CutLost { .. }), "{lost:?}");
        let again = cut.plan(&from, &PlanOptions::default()).await;
        assert!(
            matches!(again, Err(StoreError::CutLost { .. } | StoreError::Unavailable { .. })),
            "{again:?}"
        );
        let gone = store.open_cut(std::slice::from_ref(&from), &CutOptions::default()).await.unwrap_err();
        assert!(matches!(gone, StoreError::Unavailable { .. }), "{gone:?}");
        drop(cut);
        server.again().unwrap();
        assert_eq!(digest_now(&store, &from).await, expected);

        // During a restore: the parts that stand stay, the one under way is written again.
        let source = cut_of(&store, std::slice::from_ref(&from)).await;
        let batches = rows_of(source.as_ref(), &from).await;
        let (before, behind) = batches.split_at(batches.len() / 2);
        let load = begin(&store, source.as_ref(), &[(&from, &to)], LoadMode::Replace).await.unwrap();
        load.remember(&json!("killed")).await.unwrap();
        let write = async |load: &dyn Load, part: u32, batches: &[arrow::array::RecordBatch]| {
            let rows = futures::stream::iter(batches.iter().cloned().map(Ok).collect::<Vec<_>>()).boxed();
            load.write_part(&to, part, rows).await
        };
        let first = write(load.as_ref(), 0, before).await.unwrap();
        let left = behind.to_vec();
        let (tell, told) = tokio::sync::oneshot::channel();
        let killed = futures::stream::unfold((Some(tell), left.into_iter()), |(tell, mut left)| async {
            let next = left.next()?;
            match tell {
                // Some of its rows are with the server when it is killed.
                Some(tell) => {
                    let _ = tell.send(());
                    Some((Ok(next), (None, left)))
                }
                None => {
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    Some((Ok(next), (None, left)))
                }
            }
        });
        let writing = {
            let (load, to) = (load.clone(), to.clone());
            tokio::spawn(async move { load.write_part(&to, 1, killed.boxed()).await })
        };
        told.await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        server.kill();
        let broken = writing.await.unwrap().unwrap_err();
        assert!(matches!(broken, StoreError::Unavailable { .. }), "{broken:?}");
        drop(load);
        server.again().unwrap();
        assert_eq!(value(&url, "SELECT v FROM d.target").await.as_deref(), Some("old"));
        let left = store.unfinished_loads().await.unwrap().remove(0);
        let load: Arc<dyn Load> = store.attach_load(&left.token).await.unwrap();
        assert_eq!(load.state().await.unwrap(), LoadState::Open);
        let second = write(load.as_ref(), 1, behind).await.unwrap();
        load.finish(vec![(to.clone(), vec![first, second])]).await.unwrap();
        // Before the names change, too.
        server.kill();
        assert!(load.publish().await.is_err());
        server.again().unwrap();
        let load: Arc<dyn Load> = store.attach_load(&left.token).await.unwrap();
        load.publish().await.unwrap();
        load.forget().await.unwrap();
        assert_eq!(digest_now(&store, &to).await, expected);
        store.sweep().await.unwrap();
        assert_eq!(strays(std::slice::from_ref(&url), "d").await, [""; 0]);
    }
}

#[tokio::test]
async fn a_server_without_room_refuses_the_restore_and_the_target_stays() {
    let _alone = ALONE.lock().await;
    for kind in KINDS {
        let options = ["--innodb-file-per-table=0", "--innodb-data-file-path=ibdata1:12M:autoextend:max:32M"];
        let Some(server) = own(kind, &options) else { continue };
        let url = server.url();
        // The rows stand elsewhere.
        run(&url, &["SET GLOBAL innodb_file_per_table = 1"]).await;
        filled(&url).await;
        run(
            &url,
            &[
                "CREATE TABLE d.more LIKE d.t",
                "INSERT INTO d.more SELECT id, v FROM d.t",
                "INSERT INTO d.more SELECT id + 10000, v FROM d.t",
                "INSERT INTO d.more SELECT id + 20000, v FROM d.t",
                "SET GLOBAL innodb_file_per_table = 0",
            ],
        )
        .await;
        let store = store(std::slice::from_ref(&url), &[]);
        let (from, to) = (named("d", "more"), named("d", "target"));
        let source = cut_of(&store, std::slice::from_ref(&from)).await;
        let load = begin(&store, source.as_ref(), &[(&from, &to)], LoadMode::Replace).await.unwrap();
        load.remember(&json!("full")).await.unwrap();
        let full = fill(load.as_ref(), source.as_ref(), &[(&from, &to)], 1).await.unwrap_err();
        let why = std::error::Error::source(&full).map(ToString::to_string).unwrap_or_default();
        assert!(matches!(full, StoreError::Unavailable { .. }) && why.contains("is full"), "{full:?}");
        assert_eq!(value(&url, "SELECT v FROM d.target").await.as_deref(), Some("old"));
        // With room again, a new load succeeds; nothing of the first one is left.
        run(&url, &["SET GLOBAL innodb_file_per_table = 1"]).await;
        load.abandon().await.unwrap();
        drop(load);
        let load = begin(&store, source.as_ref(), &[(&from, &to)], LoadMode::Replace).await.unwrap();
        fill(load.as_ref(), source.as_ref(), &[(&from, &to)], 3).await.unwrap();
        load.publish().await.unwrap();
        assert_eq!(digest_now(&store, &to).await, digest(source.as_ref(), &from).await);
        assert_eq!(strays(std::slice::from_ref(&url), "d").await, [""; 0]);
        source.release().await.unwrap();
    }
}
