//! Which tables are meant, and shards that must agree.

use crate::common::*;
use keepfast_model::TableName;
use keepfast_mysql::{MySqlStore, Options, ShardedTable};
use keepfast_store::{CutOptions, Store, StoreError};

#[tokio::test]
async fn patterns_find_shards_and_leave_tables_out() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let prefix = fresh("wild");
        for (at, url) in urls.iter().take(2).enumerate() {
            let database = format!("{prefix}_{at}");
            let mut sql = vec![format!("CREATE DATABASE {database}")];
            for table in [
                format!("orders_{at}a"),
                format!("orders_{at}b"),
                format!("orders_old_{at}"),
                format!("log_{at}"),
            ] {
                sql.push(format!("CREATE TABLE {database}.{table} (id INT PRIMARY KEY)"));
            }
            run(url, &sql.iter().map(String::as_str).collect::<Vec<_>>()).await;
        }
        let sharded = ShardedTable {
            shards: format!("{prefix}_*.orders_*"),
            exclude: vec!["*.orders_old*".into()],
            ..ShardedTable::default()
        };
        let store = MySqlStore::new(&Options {
            urls: urls[..2].to_vec(),
            tables: [("orders".to_owned(), sharded)].into(),
            exclude: vec![format!("{prefix}_*.log_1")],
            ..Options::default()
        })
        .unwrap();
        let orders = TableName::bare("orders");
        assert_eq!(store.describe(&orders).await.unwrap().shards.len(), 4);
        let listed = store.list_tables(Some(&format!("{prefix}_0"))).await.unwrap();
        let names: Vec<&str> = listed.iter().map(|name| name.table.as_str()).collect();
        assert_eq!(names, ["log_0", "orders_old_0"]);
        let listed = store.list_tables(Some(&format!("{prefix}_1"))).await.unwrap();
        assert_eq!(listed.len(), 1, "{listed:?}");
        let cut =
            store.open_cut(std::slice::from_ref(&orders), &CutOptions { allow_fuzzy: true }).await.unwrap();
        assert_eq!(read(cut.as_ref(), &orders, 1).await.1, 4);
        cut.release().await.unwrap();
        run(&urls[1], &[&format!("DROP DATABASE {prefix}_1")]).await;
        run(&urls[0], &[&format!("DROP DATABASE {prefix}_0")]).await;
        assert!(matches!(store.describe(&orders).await, Err(StoreError::NoTable { .. })));
    }
}

#[tokio::test]
async fn shards_that_differ_in_an_index_or_an_option_are_named() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (url, database) = (&urls[0], fresh("agree"));
        let shard = |n: u32| format!("{database}.t_{n}");
        let make = |n: u32| {
            format!(
                "CREATE TABLE {} (id INT AUTO_INCREMENT PRIMARY KEY, a INT, b VARCHAR(9), KEY of_a (a), CONSTRAINT c_{n} CHECK (a > 0)) \
                 COMMENT 'shard {n}'",
                shard(n)
            )
        };
        run(url, &[&format!("CREATE DATABASE {database}"), &make(0), &make(1)]).await;
        run(url, &[&format!("INSERT INTO {} (a, b) VALUES (1, 'x')", shard(1))]).await;
        let store = store(&urls[..1], &[("t", &format!("{database}.t_{{0..1}}"))]);
        let table = TableName::bare("t");
        store.describe(&table).await.unwrap();
        for (change, back, named) in [
            ("ADD KEY of_b (b)", "DROP KEY of_b", "of_b"),
            ("DROP KEY of_a, ADD UNIQUE KEY of_a (a)", "DROP KEY of_a, ADD KEY of_a (a)", "of_a"),
            ("ROW_FORMAT=COMPRESSED", "ROW_FORMAT=DEFAULT", "COMPRESSED"),
            ("DEFAULT CHARSET=latin1", "DEFAULT CHARSET=utf8mb4", "latin1"),
            ("ALTER a SET DEFAULT 5", "ALTER a SET DEFAULT NULL", "`a`"),
        ] {
            run(url, &[&format!("ALTER TABLE {} {change}", shard(1))]).await;
            let error = store.describe(&table).await.unwrap_err().to_string();
            assert!(error.contains("in one shard and "), "{change}: {error}");
            assert!(error.contains(named) && error.contains("t_1"), "{change}: {error}");
            run(url, &[&format!("ALTER TABLE {} {back}", shard(1))]).await;
        }
    }
}
