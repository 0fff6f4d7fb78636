//! Connections that break and locks that cannot be had: what was, or what comes, on all servers; never half.
//!
//! These tests hold locks for seconds, which keep the servers from being locked for others' cuts: they run one by one, and beside no
//! others.

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../it/common/mod.rs"]
mod common;
mod crashes;
mod cutting;
mod proxy;

use crate::common::*;
use futures::{StreamExt, stream};
use keepfast_model::TableName;
use keepfast_mysql::MySqlStore;
use keepfast_mysql::testing::{self, Session};
use keepfast_store::{LoadMode, LoadState, Store, StoreError};
use serde_json::json;
use std::time::{Duration, Instant};

/// Held by the test that runs.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A table of two shards on two servers with a row each, whose text is `old`, and a plain one whose text is `new`.
struct Shop {
    urls: Vec<String>,
    prefix: String,
    shards: MySqlStore,
    orders: TableName,
    new: TableName,
}

impl Shop {
    async fn make(urls: &[String], name: &str) -> Self {
        let (urls, prefix) = (urls[..2].to_vec(), fresh(name));
        for (at, url) in urls.iter().enumerate() {
            run(
                url,
                &[
                    &format!("CREATE DATABASE {prefix}_{at}"),
                    &format!("CREATE TABLE {prefix}_{at}.orders (id INT PRIMARY KEY, v VARCHAR(9))"),
                    &format!("INSERT INTO {prefix}_{at}.orders VALUES ({at}, 'old')"),
                ],
            )
            .await;
        }
        run(
            &urls[0],
            &[
                &format!("CREATE TABLE {prefix}_0.new (id INT PRIMARY KEY, v VARCHAR(9))"),
                &format!("INSERT INTO {prefix}_0.new VALUES (2, 'new'), (3, 'new'), (5, 'new')"),
            ],
        )
        .await;
        let shards = Self::declared(&urls, &prefix);
        let new = named(&format!("{prefix}_0"), "new");
        Self { urls, prefix, shards, orders: TableName::bare("orders"), new }
    }

    fn declared(urls: &[String], prefix: &str) -> MySqlStore {
        sharded(urls, "orders", &format!("{prefix}_{{0..1}}.orders"), Some("id % 2"))
    }

    /// The texts of the table's shards.
    async fn texts(&self) -> [String; 2] {
        let of = |at: usize| {
            let sql = format!("SELECT GROUP_CONCAT(DISTINCT v) FROM {}_{at}.orders", self.prefix);
            let url = self.urls[at].clone();
            async move { value(&url, &sql).await.unwrap_or_default() }
        };
        [of(0).await, of(1).await]
    }

    async fn loaded(&self) -> std::sync::Arc<dyn keepfast_store::Load> {
        let cut = cut_of(&store(&self.urls, &[]), std::slice::from_ref(&self.new)).await;
        let tables = [(&self.new, &self.orders)];
        let load = begin(&self.shards, cut.as_ref(), &tables, LoadMode::Replace).await.unwrap();
        load.remember(&json!(self.prefix)).await.unwrap();
        fill(load.as_ref(), cut.as_ref(), &tables, 1).await.unwrap();
        cut.release().await.unwrap();
        load
    }

    /// A session of a server that holds a table, so that nobody renames it.
    async fn holding(&self, at: usize, table: &str) -> Session {
        let mut session = Session::open(&self.urls[at]).await.unwrap();
        session.run(&["BEGIN"]).await.unwrap();
        session.run(&[&format!("SELECT COUNT(*) FROM {}_{at}.`{table}`", self.prefix)]).await.unwrap();
        session
    }

    /// The unpublished table of a server.
    async fn staged(&self, at: usize) -> String {
        let found = strays(&self.urls[at..=at], &self.prefix).await;
        found.into_iter().max_by_key(String::len).unwrap()
    }
}

/// Ends all connections of an account.
async fn kill(url: &str, user: &str) -> usize {
    let sql = format!("SELECT id FROM information_schema.processlist WHERE user = '{user}'");
    let mut killed = 0;
    for row in testing::rows(url, &sql).await.unwrap() {
        // It may have ended by itself.
        killed +=
            usize::from(testing::run(url, &[&format!("KILL {}", row[0].as_deref().unwrap())]).await.is_ok());
    }
    killed
}

#[tokio::test]
async fn connections_killed_while_rows_are_loaded_leave_nothing_of_the_part_and_it_is_written_again() {
    let _alone = ALONE.lock().await;
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let shop = Shop::make(&urls, "killed").await;
        let user = fresh("u");
        for url in &shop.urls {
            run(
                url,
                &[&format!("CREATE USER {user} IDENTIFIED BY 'x'"), &format!("GRANT ALL ON *.* TO {user}")],
            )
            .await;
        }
        let other = |url: &String| format!("mysql://{user}:x@{}", url.split_once('@').unwrap().1);
        let theirs: Vec<String> = shop.urls.iter().map(other).collect();
        let target = Shop::declared(&theirs, &shop.prefix);
        let cut = cut_of(&store(&shop.urls, &[]), std::slice::from_ref(&shop.new)).await;
        let tables = [(&shop.new, &shop.orders)];
        let load = begin(&target, cut.as_ref(), &tables, LoadMode::Replace).await.unwrap();
        let (batches, _) = read(cut.as_ref(), &shop.new, 1).await;
        let (urls, name, batch) = (shop.urls.clone(), user.clone(), batches[0].clone());
        let rows = stream::iter(0..2)
            .then(move |n| {
                let (urls, name, batch) = (urls.clone(), name.clone(), batch.clone());
                async move {
                    if n == 1 {
                        // The writers of the first rows are there when they are killed.
                        tokio::time::sleep(Duration::from_millis(700)).await;
                        for url in &urls {
                            assert!(kill(url, &name).await >= 2, "control and writer");
                        }
                    }
                    Ok(if n == 0 { batch.slice(0, 2) } else { batch.slice(2, 1) })
                }
            })
            .boxed();
        let broken = load.write_part(&shop.orders, 0, rows).await.unwrap_err();
        assert!(matches!(broken, StoreError::Unavailable { .. }), "{broken:?}");
        fill(load.as_ref(), cut.as_ref(), &tables, 1).await.unwrap();
        let beside = load.open_cut().await.unwrap();
        assert_eq!(digest(beside.as_ref(), &shop.orders).await, digest(cut.as_ref(), &shop.new).await);
        beside.release().await.unwrap();
        for url in &shop.urls {
            kill(url, &user).await;
        }
        load.publish().await.unwrap();
        assert_eq!(shop.texts().await, ["new", "new"]);
        assert_eq!(strays(&shop.urls, &shop.prefix).await, [""; 0]);
        cut.release().await.unwrap();
    }
}

#[tokio::test]
async fn a_lock_that_cannot_be_had_ends_the_publication_in_time_and_changes_nothing() {
    let _alone = ALONE.lock().await;
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let shop = Shop::make(&urls, "locked").await;
        let load = shop.loaded().await;
        let held = shop.holding(1, "orders").await;
        let started = Instant::now();
        let refused = load.publish().await.unwrap_err();
        assert!(matches!(refused, StoreError::Unavailable { .. }), "{refused:?}");
        let why = std::error::Error::source(&refused).unwrap().to_string();
        assert!(why.contains("another session holds a lock"), "{why}");
        assert!(started.elapsed() < Duration::from_secs(25), "{:?}", started.elapsed());
        assert_eq!(shop.texts().await, ["old", "old"]);
        assert_eq!(load.state().await.unwrap(), LoadState::Open);
        drop(held);
        load.publish().await.unwrap();
        assert_eq!(shop.texts().await, ["new", "new"]);
        load.forget().await.unwrap();
        assert_eq!(strays(&shop.urls, &shop.prefix).await, [""; 0]);
    }
}

/// Begins a publication, and kills it when the first server has its new names and the second one has not.
async fn killed_half_way(shop: &Shop) -> serde_json::Value {
    let load = shop.loaded().await;
    let token = load.token().unwrap();
    let held = shop.holding(1, &shop.staged(1).await).await;
    let publishing = tokio::spawn(async move { load.publish().await });
    for _ in 0..400 {
        if shop.texts().await[0] == "new" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    publishing.abort();
    let _ = publishing.await;
    assert_eq!(shop.texts().await, ["new", "old"], "it is half way");
    drop(held);
    token
}

#[tokio::test]
async fn a_publication_killed_between_two_servers_is_brought_to_its_end_by_whoever_comes_next() {
    let _alone = ALONE.lock().await;
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        // The same restore asks how far it was.
        let shop = Shop::make(&urls, "half").await;
        let token = killed_half_way(&shop).await;
        let next = Shop::declared(&shop.urls, &shop.prefix);
        assert!(next.unfinished_loads().await.unwrap().iter().any(|left| left.token == token));
        let load = next.attach_load(&token).await.unwrap();
        let LoadState::Published(published) = load.state().await.unwrap() else { panic!("not published") };
        assert_eq!(shop.texts().await, ["new", "new"]);
        assert_eq!(load.publish().await.unwrap(), published, "asked again it says the same");
        load.forget().await.unwrap();
        assert_eq!(strays(&shop.urls, &shop.prefix).await, [""; 0]);
        next.undo(&published.undo).await.unwrap();
        assert_eq!(shop.texts().await, ["old", "old"]);
        assert_eq!(strays(&shop.urls, &shop.prefix).await, [""; 0]);

        // Another load of any tables, and a sweep, do so too.
        let shop = Shop::make(&urls, "half").await;
        killed_half_way(&shop).await;
        let load = shop.loaded().await;
        assert_eq!(shop.texts().await, ["new", "new"]);
        load.abandon().await.unwrap();
        let shop = Shop::make(&urls, "half").await;
        killed_half_way(&shop).await;
        shop.shards.sweep().await.unwrap();
        assert_eq!(shop.texts().await, ["new", "new"]);
    }
}

#[tokio::test]
async fn a_connection_killed_while_it_renames_is_made_anew_and_the_publication_goes_on() {
    let _alone = ALONE.lock().await;
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let shop = Shop::make(&urls, "rename").await;
        let load = shop.loaded().await;
        let run = load.token().unwrap()["run"].as_str().unwrap().to_owned();
        let held = shop.holding(1, &shop.staged(1).await).await;
        let publishing = tokio::spawn(async move { (load.publish().await, load) });
        let mut half = false;
        for _ in 0..400 {
            half = shop.texts().await == ["new", "old"];
            if half {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(half, "it never was half way");
        let sql = format!("SELECT IS_USED_LOCK('keepfast {run}')");
        let id = value(&shop.urls[1], &sql).await.unwrap();
        testing::run(&shop.urls[1], &[&format!("KILL {id}")]).await.unwrap();
        drop(held);
        let (published, load) = publishing.await.unwrap();
        published.unwrap();
        assert_eq!(shop.texts().await, ["new", "new"]);
        load.forget().await.unwrap();
        assert_eq!(strays(&shop.urls, &shop.prefix).await, [""; 0]);
    }
}

#[tokio::test]
async fn an_undo_killed_between_two_servers_is_brought_to_its_end_by_the_same_command() {
    let _alone = ALONE.lock().await;
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let shop = Shop::make(&urls, "undo").await;
        let load = shop.loaded().await;
        let undo = load.publish().await.unwrap().undo;
        load.forget().await.unwrap();
        let held = shop.holding(1, "orders__replaced_7_1").await;
        let (store, token) = (Shop::declared(&shop.urls, &shop.prefix), undo.clone());
        let undoing = tokio::spawn(async move { store.undo(&token).await });
        for _ in 0..400 {
            if shop.texts().await[0] == "old" {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        undoing.abort();
        let _ = undoing.await;
        assert_eq!(shop.texts().await, ["old", "new"], "it is half way");
        drop(held);
        shop.shards.undo(&undo).await.unwrap();
        assert_eq!(shop.texts().await, ["old", "old"]);
        assert!(matches!(shop.shards.undo(&undo).await, Err(StoreError::Conflict { .. })));
        assert_eq!(strays(&shop.urls, &shop.prefix).await, [""; 0]);
    }
}

#[tokio::test]
async fn what_was_written_since_a_publication_is_not_what_it_published() {
    let _alone = ALONE.lock().await;
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let shop = Shop::make(&urls, "since").await;
        let load = shop.loaded().await;
        let published = load.publish().await.unwrap();
        let again = shop.shards.attach_load(&load.token().unwrap()).await.unwrap();
        assert_eq!(again.state().await.unwrap(), LoadState::Published(published.clone()));
        run(&shop.urls[1], &[&format!("UPDATE {}_1.orders SET v = 'other' WHERE id = 3", shop.prefix)]).await;
        assert!(matches!(again.state().await.unwrap(), LoadState::Over(_)));
        drop(load);
        again.forget().await.unwrap();
        assert_eq!(shop.texts().await[0], "new", "what was published stays");
        // Rows that were written since are kept by an undo.
        shop.shards.undo(&published.undo).await.unwrap();
        assert_eq!(shop.texts().await, ["old", "old"]);
        let kept = format!("SELECT v FROM {}_1.orders__undone_7_1 WHERE id = 3", shop.prefix);
        assert_eq!(value(&shop.urls[1], &kept).await.as_deref(), Some("other"));
        assert_eq!(strays(&shop.urls, &shop.prefix).await, [""; 0]);
    }
}

#[tokio::test]
async fn a_server_that_refuses_its_names_sends_the_others_back() {
    let _alone = ALONE.lock().await;
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let shop = Shop::make(&urls, "refused").await;
        let load = shop.loaded().await;
        let staged = shop.staged(1).await;
        let held = shop.holding(1, &staged).await;
        let publishing = tokio::spawn(async move {
            let published = load.publish().await;
            (load, published)
        });
        for _ in 0..400 {
            if shop.texts().await[0] == "new" {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Rows that are written now are nowhere else.
        run(&shop.urls[0], &[&format!("INSERT INTO {}_0.orders VALUES (8, 'late')", shop.prefix)]).await;
        // Somebody takes the name under which the replaced table is to be kept; the wait before ends by its time limit.
        run(&shop.urls[1], &[&format!("CREATE TABLE {}_1.orders__replaced_7_1 (id INT)", shop.prefix)]).await;
        drop(held);
        let (load, published) = publishing.await.unwrap();
        assert!(published.is_err(), "the second server took a name that was not free");
        assert_eq!(shop.texts().await, ["old", "old"]);
        assert!(matches!(load.state().await.unwrap(), LoadState::Over(_)));
        let late = format!("SELECT v FROM {}_0.orders__undone_1 WHERE id = 8", shop.prefix);
        assert_eq!(value(&shop.urls[0], &late).await.as_deref(), Some("late"));
        load.forget().await.unwrap();
        assert_eq!(strays(&shop.urls, &shop.prefix).await, [""; 0]);
    }
}

#[tokio::test]
async fn a_load_with_binlog_off_writes_nothing_into_the_log() {
    let _alone = ALONE.lock().await;
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        for (option, logged) in [("?binlog=off", false), ("", true)] {
            let shop = Shop::make(&urls, "log").await;
            run(&shop.urls[0], &["FLUSH BINARY LOGS"]).await;
            let logs = testing::rows(&shop.urls[0], "SHOW BINARY LOGS").await.unwrap();
            let file = logs.last().unwrap()[0].clone().unwrap();
            let theirs: Vec<String> = shop.urls.iter().map(|url| format!("{url}{option}")).collect();
            let target = Shop::declared(&theirs, &shop.prefix);
            let source = store(&shop.urls, &[]);
            let published = restored((&source, &shop.new), (&target, &shop.orders), LoadMode::Replace).await;
            target.undo(&published.undo).await.unwrap();
            let events =
                testing::rows(&shop.urls[0], &format!("SHOW BINLOG EVENTS IN '{file}'")).await.unwrap();
            let ours = events.iter().any(|row| {
                row.last().and_then(Option::as_deref).is_some_and(|info| info.contains(&shop.prefix))
            });
            assert_eq!(ours, logged, "binlog option '{option}'");
        }
    }
}
