//! Restored rows over the rows of a table that stays.

use crate::common::*;
use crate::foreign_keys::{all_keys, shop};
use keepfast_model::TableName;
use keepfast_mysql::{MySqlStore, testing};
use keepfast_store::{Load, LoadMode, LoadState, OpenCut, Store, StoreError};
use std::sync::Arc;
use std::time::Duration;

/// Begins to merge tables as they are at a cut into those that stand there, and loads all rows.
async fn merging(
    store: &MySqlStore,
    cut: &dyn OpenCut,
    tables: &[&TableName],
) -> Result<Arc<dyn Load>, StoreError> {
    let tables: Vec<(&TableName, &TableName)> = tables.iter().map(|table| (*table, *table)).collect();
    let load = begin(store, cut, &tables, LoadMode::Merge).await?;
    fill(load.as_ref(), cut, &tables, 2).await?;
    Ok(load)
}

#[tokio::test]
async fn loaded_rows_go_over_those_of_equal_key_and_all_others_stay() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (database, url) = (fresh("merge"), &urls[0]);
        let sql = |sql: &str| sql.replace("D.", &format!("`{database}`."));
        run(
            url,
            &[
                &format!("CREATE DATABASE `{database}`"),
                &sql("CREATE TABLE D.t (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(20), u INT UNIQUE, g INT AS (u + 1) STORED, \
                      b BIT(3), f FLOAT, d DATE, at TIMESTAMP(6) NULL DEFAULT NULL ON UPDATE CURRENT_TIMESTAMP(6), KEY (v))"),
                &sql("CREATE TABLE D.child (id INT PRIMARY KEY, t INT, FOREIGN KEY (t) REFERENCES D.t (id) ON DELETE CASCADE \
                      ON UPDATE CASCADE)"),
                &sql("CREATE TABLE D.words (k VARCHAR(9) COLLATE utf8mb4_general_ci, n INT, PRIMARY KEY (k, n)) \
                      DEFAULT CHARSET utf8mb4"),
                "SET sql_mode = 'ALLOW_INVALID_DATES'",
                &sql("INSERT INTO D.t (id, v, u, b, f, d, at) VALUES (1, 'a', 1, 5, 1.17549435e-38, '0000-00-00', '2001-02-03'), \
                      (2, 'b', NULL, 1, 0.1, NULL, NULL), (3, NULL, 3, NULL, NULL, '2020-02-31', '2001-02-03 04:05:06.789')"),
                &sql("INSERT INTO D.child VALUES (1, 1), (2, 2)"),
                &sql("INSERT INTO D.words VALUES ('a', 1), ('b', 1)"),
            ],
        )
        .await;
        let all = sql(
            "SELECT group_concat(concat_ws('/', id, v, u, g, bin(b), f * 1e40, d, at) ORDER BY id) FROM D.t",
        );
        let words = sql("SELECT group_concat(k, n ORDER BY k, n) FROM D.words");
        let before = value(url, &all).await.unwrap();
        let (store, t) = (store(&urls[..1], &[]), named(&database, "t"));
        let (w, new) = (named(&database, "words"), named(&database, "new"));
        let cut = cut_of(&store, &[t.clone(), w.clone()]).await;
        run(
            url,
            &[
                &sql("UPDATE D.t SET v = 'changed', u = id + 10, b = 0, d = '1999-01-01', at = NULL WHERE id < 3"),
                &sql("DELETE FROM D.t WHERE id = 3"),
                &sql("INSERT INTO D.t (id, v, u) VALUES (7, 'later', 77)"),
                &sql("UPDATE D.words SET k = 'A' WHERE k = 'a'"),
                &sql("INSERT INTO D.words VALUES ('a', 2)"),
            ],
        )
        .await;
        let changed = (value(url, &all).await, value(url, &words).await);
        // One table that is new comes with those that are merged.
        let tables = [(&t, &t), (&w, &w), (&w, &new)];
        let load = begin(&store, cut.as_ref(), &tables, LoadMode::Merge).await.unwrap();
        fill(load.as_ref(), cut.as_ref(), &tables, 2).await.unwrap();
        assert_eq!((value(url, &all).await, value(url, &words).await), changed, "not before it is published");
        assert!(store.describe(&new).await.is_err());
        let beside = load.open_cut().await.unwrap();
        let merged = digest(beside.as_ref(), &t).await;
        assert_eq!(digest(beside.as_ref(), &w).await.rows, 3);
        beside.release().await.unwrap();
        let published = load.publish().await.unwrap();
        assert_eq!(published.replaced, vec![None; 3]);
        assert_eq!(load.publish().await.unwrap(), published, "asked again it says the same");
        let now = value(url, &all).await.unwrap();
        assert!(now.starts_with(&format!("{before},7/later/77/78")), "{now}\n{before}");
        assert_eq!(value(url, &words).await.unwrap(), "a1,a2,b1", "letters are those of the backup");
        assert_eq!(value(url, &words.replace("words", "new")).await.unwrap(), "a1,b1");
        assert_eq!(digest_now(&store, &t).await, merged, "it is what was read before");
        // Nothing was deleted on the way.
        assert_eq!(value(url, &sql("SELECT COUNT(*) FROM D.child")).await.unwrap(), "2");
        let refused = store.undo(&published.undo).await.unwrap_err().to_string();
        assert!(refused.contains("rows were merged into") && refused.contains("not kept"), "{refused}");
        assert_eq!(value(url, &all).await.unwrap(), now);
        cut.release().await.unwrap();
        assert_eq!(strays(&urls[..1], &database).await, [""; 0]);
    }
}

#[tokio::test]
async fn tables_that_refer_to_one_another_are_merged_together_and_rows_without_partner_refused() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (database, url) = (fresh("merge"), &urls[0]);
        shop(url, &database).await;
        let keys = all_keys(url, &database).await;
        let (store, users, orders) =
            (store(&urls[..1], &[]), named(&database, "users"), named(&database, "orders"));
        let cut = cut_of(&store, &[users.clone(), orders.clone()]).await;
        run(
            url,
            &[
                &format!("DELETE FROM `{database}`.users WHERE id = 2"),
                &format!("INSERT INTO `{database}`.users VALUES (3, 1)"),
            ],
        )
        .await;
        let ids = |table: &str| {
            let sql = format!("SELECT group_concat(id ORDER BY id) FROM `{database}`.{table}");
            async move { value(url, &sql).await.unwrap() }
        };
        assert_eq!((ids("users").await, ids("orders").await), ("1,3".into(), "10,30".into()));
        // Alone, orders would lose the user of one of them.
        let load = merging(&store, cut.as_ref(), &[&orders]).await.unwrap();
        let refused = load.publish().await.unwrap_err();
        assert!(matches!(refused, StoreError::Unsupported { .. }), "{refused:?}");
        let words = format!("1 rows for '{database}.orders' have no row in `{database}`.`users`");
        assert!(refused.to_string().contains(&words), "{refused}");
        assert_eq!(ids("orders").await, "10,30", "nothing changed");
        load.abandon().await.unwrap();
        let load = merging(&store, cut.as_ref(), &[&orders, &users]).await.unwrap();
        load.publish().await.unwrap();
        assert_eq!((ids("users").await, ids("orders").await), ("1,2,3".into(), "10,20,30".into()));
        assert_eq!(all_keys(url, &database).await, keys);
        let lonely = format!("INSERT INTO `{database}`.orders VALUES (50, 9)");
        assert!(testing::run(url, &[&lonely]).await.is_err(), "the key is still at work");
        cut.release().await.unwrap();
        assert_eq!(strays(&urls[..1], &database).await, [""; 0]);
    }
}

#[tokio::test]
async fn what_cannot_be_merged_is_refused_with_the_reason_and_changes_nothing() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (database, url) = (fresh("merge"), &urls[0]);
        let sql = |sql: &str| sql.replace("D.", &format!("`{database}`."));
        run(
            url,
            &[
                &format!("CREATE DATABASE `{database}`"),
                &sql("CREATE TABLE D.t (id INT PRIMARY KEY, u INT UNIQUE, v INT NOT NULL, UNIQUE (v))"),
                &sql("CREATE TABLE D.bag (id INT)"),
                &sql("INSERT INTO D.t VALUES (1, 1, 1), (2, 2, 2)"),
            ],
        )
        .await;
        let (store, t) = (store(&urls[..1], &[]), named(&database, "t"));
        let bag = named(&database, "bag");
        let all = sql("SELECT group_concat(concat_ws('/', id, u) ORDER BY id) FROM D.t");
        let cut = cut_of(&store, &[t.clone(), bag.clone()]).await;
        let refused = merging(&store, cut.as_ref(), &[&bag]).await.unwrap_err();
        assert!(refused.to_string().contains("no key"), "{refused}");

        // A value that another row has.
        run(url, &[&sql("UPDATE D.t SET u = 5 WHERE id = 2"), &sql("INSERT INTO D.t VALUES (3, 2, 3)")])
            .await;
        let load = merging(&store, cut.as_ref(), &[&t]).await.unwrap();
        let refused = load.publish().await.unwrap_err();
        let StoreError::Row { table, reason } = &refused else { panic!("{refused:?}") };
        assert_eq!(*table, format!("{database}.t"));
        assert!(reason.contains("Duplicate entry '2'"), "{reason}");
        assert_eq!(value(url, &all).await.unwrap(), "1/1,2/5,3/2");
        assert_eq!(load.state().await.unwrap(), LoadState::Open, "it can be tried again");
        run(url, &[&sql("DELETE FROM D.t WHERE id = 3")]).await;
        load.publish().await.unwrap();
        assert_eq!(value(url, &all).await.unwrap(), "1/1,2/2");

        // A table that is altered, or gone, before the publication.
        let load = merging(&store, cut.as_ref(), &[&t]).await.unwrap();
        run(url, &[&sql("ALTER TABLE D.t MODIFY u BIGINT")]).await;
        let refused = load.publish().await.unwrap_err();
        assert!(matches!(refused, StoreError::Conflict { .. }), "{refused:?}");
        load.abandon().await.unwrap();
        run(url, &[&sql("ALTER TABLE D.t MODIFY u INT, ADD more INT")]).await;
        let tables = [(&t, &t)];
        let refused = begin(&store, cut.as_ref(), &tables, LoadMode::Merge).await.unwrap_err();
        assert!(matches!(refused, StoreError::SchemaChanged { .. }), "{refused:?}");
        run(url, &[&sql("ALTER TABLE D.t DROP more")]).await;
        cut.release().await.unwrap();

        // Other types, and types that do not hold a value without the server saying so.
        for (from, to, bytes, one_form) in
            [("DOUBLE", "FLOAT", "0.1", false), ("VARCHAR(9)", "CHAR(9)", "'a '", true)]
        {
            let (f, g) = (named(&database, &fresh("f")), named(&database, &fresh("g")));
            let make = |table: &TableName, of: &str| {
                sql(&format!("CREATE TABLE D.{} (id INT PRIMARY KEY, f {of})", table.table))
            };
            run(
                url,
                &[
                    &make(&f, from),
                    &make(&g, to),
                    &sql(&format!("INSERT INTO D.{} VALUES (1, {bytes})", f.table)),
                ],
            )
            .await;
            let cut = cut_of(&store, std::slice::from_ref(&f)).await;
            let refused = match begin(&store, cut.as_ref(), &[(&f, &g)], LoadMode::Merge).await {
                Ok(load) => {
                    assert!(one_form);
                    let refused = fill(load.as_ref(), cut.as_ref(), &[(&f, &g)], 1).await.unwrap_err();
                    load.abandon().await.unwrap();
                    refused
                }
                Err(refused) => refused,
            };
            match one_form {
                true => assert!(refused.to_string().contains("the server changed values"), "{refused:?}"),
                false => assert!(matches!(refused, StoreError::SchemaChanged { .. }), "{refused:?}"),
            }
            cut.release().await.unwrap();
        }

        // A foreign key to a column that may change, and a trigger.
        run(url, &[&sql("CREATE TABLE D.c (id INT PRIMARY KEY, v INT, FOREIGN KEY (v) REFERENCES D.t (v))")])
            .await;
        let cut = cut_of(&store, std::slice::from_ref(&t)).await;
        let refused = merging(&store, cut.as_ref(), &[&t]).await.unwrap_err();
        assert!(
            refused.to_string().contains(&format!("'{database}.c' refers to its column 'v'")),
            "{refused}"
        );
        run(url, &[&sql("DROP TABLE D.c")]).await;
        cut.release().await.unwrap();
        let cut = cut_of(&store, std::slice::from_ref(&t)).await;
        let load = merging(&store, cut.as_ref(), &[&t]).await.unwrap();
        run(url, &[&sql("CREATE TRIGGER D.counts BEFORE UPDATE ON D.t FOR EACH ROW SET NEW.u = 9")]).await;
        for refused in
            [load.publish().await.unwrap_err(), merging(&store, cut.as_ref(), &[&t]).await.unwrap_err()]
        {
            assert!(refused.to_string().contains("trigger 'counts'"), "{refused}");
        }
        load.abandon().await.unwrap();
        assert_eq!(value(url, &all).await.unwrap(), "1/1,2/2");
        cut.release().await.unwrap();
        assert_eq!(strays(&urls[..1], &database).await, [""; 0]);
    }
}

/// A table over two servers, three rows on each, and its store.
async fn spread(urls: &[String], database: &str) -> (MySqlStore, TableName) {
    for (at, url) in urls[..2].iter().enumerate() {
        let rows: Vec<String> = (0..3).map(|n| format!("({}, {n}, 'old')", n * 2 + at)).collect();
        run(
            url,
            &[
                &format!("CREATE DATABASE `{database}_{at}`"),
                &format!("CREATE TABLE `{database}_{at}`.t (id INT PRIMARY KEY, u INT UNIQUE, v VARCHAR(9))"),
                &format!("INSERT INTO `{database}_{at}`.t VALUES {}", rows.join(", ")),
            ],
        )
        .await;
    }
    let store = sharded(&urls[..2], "t", &format!("{database}_{{0..1}}.t"), Some("id % 2"));
    (store, TableName::bare("t"))
}

/// The values of all rows of a shard.
async fn values(urls: &[String], database: &str, at: usize) -> String {
    let sql = format!("SELECT group_concat(v ORDER BY id) FROM `{database}_{at}`.t");
    value(&urls[at], &sql).await.unwrap()
}

#[tokio::test]
async fn a_merge_over_two_servers_is_on_both_or_on_none() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let database = fresh("merge");
        let (store, table) = spread(&urls, &database).await;
        let cut = cut_of(&store, std::slice::from_ref(&table)).await;
        for (at, url) in urls[..2].iter().enumerate() {
            run(url, &[&format!("UPDATE `{database}_{at}`.t SET v = 'new'")]).await;
        }
        // The second server refuses a row.
        let second = format!("`{database}_1`.t");
        run(
            &urls[1],
            &[
                &format!("UPDATE {second} SET u = 100 WHERE u = 1"),
                &format!("INSERT INTO {second} VALUES (77, 1, 'mine')"),
            ],
        )
        .await;
        let load = merging(&store, cut.as_ref(), &[&table]).await.unwrap();
        assert!(load.remember(&serde_json::json!("merge")).await.unwrap());
        let refused = load.publish().await.unwrap_err();
        assert!(matches!(refused, StoreError::Row { .. }), "{refused:?}");
        assert_eq!(values(&urls, &database, 0).await, "new,new,new");
        run(&urls[1], &[&format!("DELETE FROM {second} WHERE id = 77")]).await;

        // A process that dies while the second server waits for somebody else.
        let mut other = testing::Session::open(&urls[1]).await.unwrap();
        let held = format!("UPDATE {second} SET v = 'held' WHERE id = 5");
        other.run(&["BEGIN", &held]).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(2), load.publish()).await.is_err());
        drop(load);
        other.run(&["ROLLBACK"]).await.unwrap();
        assert_eq!(values(&urls, &database, 0).await, "new,new,new");
        let found = store.unfinished_loads().await.unwrap();
        let found = found.into_iter().find(|load| load.targets == [table.clone()]).unwrap();
        let load = store.attach_load(&found.token).await.unwrap();
        assert_eq!(load.state().await.unwrap(), LoadState::Open);
        let published = load.publish().await.unwrap();
        assert_eq!(load.state().await.unwrap(), LoadState::Published(published.clone()));
        for at in 0..2 {
            assert_eq!(values(&urls, &database, at).await, "old,old,old");
        }

        // As if it had died between the two commits: one server has the mark, the other one neither mark nor rows.
        let run_of = found.token["run"].as_str().unwrap();
        let journal = |at: usize| format!("`{database}_{at}`.`__keepfast_load_{run_of}`");
        let first = found.token["server"].as_str().unwrap() == urls[0].split('@').nth(1).unwrap();
        assert!(first, "{}", found.token);
        run(&urls[0], &[&format!("DELETE FROM {} WHERE kind = 'published'", journal(0))]).await;
        run(
            &urls[1],
            &[
                &format!("DELETE FROM {} WHERE kind = 'merged'", journal(1)),
                &format!("UPDATE {second} SET v = 'new'"),
            ],
        )
        .await;
        drop(load);
        let load = store.attach_load(&found.token).await.unwrap();
        assert_eq!(load.state().await.unwrap(), LoadState::Published(published));
        assert_eq!(values(&urls, &database, 1).await, "old,old,old");
        // Other rows are nobody's business; those that were merged are.
        run(&urls[1], &[&format!("INSERT INTO {second} VALUES (9, 9, 'later')")]).await;
        assert!(matches!(load.state().await.unwrap(), LoadState::Published(_)));
        run(&urls[1], &[&format!("UPDATE {second} SET v = 'later' WHERE id = 1")]).await;
        assert!(matches!(load.state().await.unwrap(), LoadState::Over(_)));
        load.forget().await.unwrap();
        assert_eq!(values(&urls, &database, 1).await, "later,old,old,later");
        cut.release().await.unwrap();
        assert_eq!(strays(&urls[..2], &database).await, [""; 0]);
    }
}

#[tokio::test]
async fn a_row_that_may_stand_in_another_shard_is_not_merged() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let database = fresh("merge");
        let (store, table) = spread(&urls, &database).await;
        let by_value = sharded(&urls[..2], "t", &format!("{database}_{{0..1}}.t"), Some("crc32(v) % 2"));
        let cut = cut_of(&store, std::slice::from_ref(&table)).await;
        let refused = merging(&by_value, cut.as_ref(), &[&table]).await.unwrap_err();
        assert!(refused.to_string().contains("reads column 'v', which is not of its key"), "{refused}");
        // Nor where rows stand where the rule does not put them.
        run(&urls[0], &[&format!("INSERT INTO `{database}_0`.t VALUES (9, 9, 'astray')")]).await;
        let refused = merging(&store, cut.as_ref(), &[&table]).await.unwrap_err();
        assert!(matches!(refused, StoreError::Row { .. }), "{refused:?}");
        assert!(refused.to_string().contains(&format!("a row of '{database}_0.t' elsewhere")), "{refused}");
        cut.release().await.unwrap();
    }
}
