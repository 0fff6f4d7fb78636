//! Reading makes room for others, and replicas are read where they are named.

use crate::common::*;
use keepfast_mysql::{Limits, MySqlStore, Options};
use keepfast_store::{CutOptions, LoadMode, OpenCut, Store};
use keepfast_testbed::mysql::MARIADB_URLS;
use std::time::{Duration, Instant};

/// A table of some rows.
async fn table(url: &str, database: &str) {
    let rows: Vec<String> = (0..2000).map(|n| format!("({n})")).collect();
    run(
        url,
        &[
            &format!("CREATE DATABASE {database}"),
            &format!("CREATE TABLE {database}.t (id INT PRIMARY KEY)"),
            &format!("INSERT INTO {database}.t VALUES {}", rows.join(",")),
        ],
    )
    .await;
}

/// How long it takes to read the table.
async fn time_to_read(options: Options, database: &str) -> Duration {
    let (store, table) = (MySqlStore::open(&options).unwrap(), named(database, "t"));
    let cut = store.open_cut(std::slice::from_ref(&table), &CutOptions::default()).await.unwrap();
    let started = Instant::now();
    let (batches, _) = read(cut.as_ref(), &table, 1).await;
    assert_eq!(batches.iter().map(|b| b.num_rows()).sum::<usize>(), 2000);
    cut.release().await.unwrap();
    started.elapsed()
}

#[tokio::test]
async fn rows_come_no_faster_than_was_asked() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let database = fresh("slow");
        table(&urls[0], &database).await;
        let options = Options { urls: urls[..1].to_vec(), rows_per_second: Some(1000), ..Options::default() };
        let took = time_to_read(options, &database).await;
        assert!(took >= Duration::from_millis(1900), "{took:?}");
    }
}

#[tokio::test]
async fn reading_waits_while_others_run_and_goes_on_after_them() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let database = fresh("busy");
        table(&urls[0], &database).await;
        // Others may run too while this test does.
        let most = 40;
        let url = urls[0].clone();
        let others: Vec<_> = (0..60)
            .map(|_| {
                let url = url.clone();
                tokio::spawn(async move { keepfast_mysql::testing::run(&url, &["SELECT SLEEP(4)"]).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(800)).await;
        let limits = Limits { threads_running: Some(most), ..Limits::default() };
        let options = Options { urls: urls[..1].to_vec(), limits, ..Options::default() };
        let took = time_to_read(options, &database).await;
        for other in others {
            other.await.unwrap().unwrap();
        }
        assert!(took >= Duration::from_millis(1200), "{took:?}");
        assert!(took < Duration::from_secs(19), "{took:?}");
    }
}

/// Makes the second server follow the first one, in one database alone, from here on.
async fn follow(kind: &str, urls: &[String], database: &str) {
    let source = url_parts(&urls[0]);
    let (host, port, user, password) = source;
    if kind == MARIADB_URLS {
        let at = keepfast_mysql::testing::rows(&urls[0], "SHOW MASTER STATUS").await.unwrap().remove(0);
        let (file, offset) = (at[0].clone().unwrap(), at[1].clone().unwrap());
        run(
            &urls[1],
            &[
                &format!("SET GLOBAL replicate_wild_do_table = '{database}.%'"),
                &format!(
                    "CHANGE MASTER TO MASTER_HOST='{host}', MASTER_PORT={port}, MASTER_USER='{user}', MASTER_PASSWORD='{password}', \
                     MASTER_LOG_FILE='{file}', MASTER_LOG_POS={offset}, MASTER_USE_GTID=no"
                ),
                "START SLAVE",
            ],
        )
        .await;
        return;
    }
    let at = keepfast_mysql::testing::rows(&urls[0], "SHOW BINARY LOG STATUS").await.unwrap().remove(0);
    let (file, offset) = (at[0].clone().unwrap(), at[1].clone().unwrap());
    run(
        &urls[1],
        &[
            &format!("CHANGE REPLICATION FILTER REPLICATE_WILD_DO_TABLE = ('{database}.%')"),
            &format!(
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST='{host}', SOURCE_PORT={port}, SOURCE_USER='{user}', SOURCE_PASSWORD='{password}', \
                 SOURCE_LOG_FILE='{file}', SOURCE_LOG_POS={offset}, SOURCE_AUTO_POSITION=0, GET_SOURCE_PUBLIC_KEY=1"
            ),
            "START REPLICA",
        ],
    )
    .await;
}

async fn follow_nobody(kind: &str, url: &str) {
    match kind == MARIADB_URLS {
        true => run(url, &["STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL replicate_wild_do_table = ''"]).await,
        false => {
            run(
                url,
                &[
                    "STOP REPLICA",
                    "RESET REPLICA ALL",
                    "CHANGE REPLICATION FILTER REPLICATE_WILD_DO_TABLE = ()",
                ],
            )
            .await
        }
    }
}

/// Host, port, user and password of a URL.
fn url_parts(url: &str) -> (&str, &str, &str, &str) {
    let rest = url.strip_prefix("mysql://").unwrap();
    let (user, place) = rest.split_once('@').unwrap();
    let ((user, password), (host, port)) = (user.split_once(':').unwrap(), place.split_once(':').unwrap());
    (host, port, user, password)
}

#[tokio::test]
async fn a_replica_is_read_in_place_of_its_server_and_its_positions_say_so() {
    for kind in KINDS {
        let Some(urls) = servers(kind).filter(|urls| urls.len() > 1) else { continue };
        let database = fresh("replica");
        follow(kind, &urls, &database).await;
        table(&urls[0], &database).await;
        let table = named(&database, "t");
        let count = format!("SELECT COUNT(*) FROM {database}.t");
        for _ in 0..200 {
            if keepfast_mysql::testing::rows(&urls[1], &count)
                .await
                .is_ok_and(|r| r[0][0].as_deref() == Some("2000"))
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        run(&urls[1], &[&format!("INSERT INTO {database}.t VALUES (5000)")]).await;
        let options = Options {
            urls: urls[..1].to_vec(),
            replicas: vec![urls[1].clone()],
            sessions: 2,
            ..Options::default()
        };
        let store = MySqlStore::new(&options).unwrap();
        let before = jiff::Timestamp::now();
        let cut = store.open_cut(std::slice::from_ref(&table), &CutOptions::default()).await.unwrap();
        let rows_of = async |cut: &dyn OpenCut| {
            let (batches, _) = read(cut, &table, 1).await;
            batches.iter().map(|b| b.num_rows()).sum::<usize>()
        };
        // A row that only the replica has shows which one is read.
        assert_eq!(rows_of(cut.as_ref()).await, 2001);
        let (place, own) = (urls[0].rsplit_once('@').unwrap().1, urls[1].rsplit_once('@').unwrap().1);
        assert_eq!(cut.cut().positions[0].shard.0, format!("{own} (replica of {place})"));
        assert!(cut.cut().at < before, "the moment is that of the replica, which may be behind");
        cut.release().await.unwrap();
        // Restores go to the server, and the other way round is refused.
        let from = crate::common::store(&urls[..1], &[]);
        let cut = from.open_cut(std::slice::from_ref(&table), &CutOptions::default()).await.unwrap();
        let to = named(&database, "back");
        crate::loading::loaded(&store, cut.as_ref(), &table, &to, LoadMode::Create)
            .await
            .unwrap()
            .publish()
            .await
            .unwrap();
        assert!(from.describe(&to).await.is_ok());
        cut.release().await.unwrap();
        let turned =
            Options { urls: vec![urls[1].clone()], replicas: vec![urls[0].clone()], ..Options::default() };
        let error = MySqlStore::new(&turned)
            .unwrap()
            .open_cut(std::slice::from_ref(&table), &CutOptions::default())
            .await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains("no replica of it"), "{error}");
        // One that has stopped is not read: the server is.
        run(&urls[1], &[if kind == MARIADB_URLS { "STOP SLAVE" } else { "STOP REPLICA" }]).await;
        let cut = store.open_cut(std::slice::from_ref(&table), &CutOptions::default()).await.unwrap();
        assert_eq!(cut.cut().positions[0].shard.0, place);
        assert_eq!(rows_of(cut.as_ref()).await, 2000);
        cut.release().await.unwrap();
        follow_nobody(kind, &urls[1]).await;
        run(&urls[1], &[&format!("DROP DATABASE {database}")]).await;
    }
}
