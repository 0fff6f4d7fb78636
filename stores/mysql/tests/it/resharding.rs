//! A table comes back in any layout: every row once, in the shard where the rule puts it.

use crate::common::*;
use futures::{StreamExt, stream};
use keepfast_model::{Digest, TableName};
use keepfast_store::{LoadMode, Store, StoreError};

/// A plain table of rows with texts, decimals and NULL, on the first server.
async fn plain(url: &str, database: &str, rows: u32) -> TableName {
    let mut values = vec![];
    for id in 0..rows {
        let name = if id % 7 == 0 { "NULL".into() } else { format!("'name é {}\\t{}'", id % 13, id * 31) };
        values.push(format!("({}, {}, {name}, {}.{:02})", id * 3 + 1, id % 997, id, id % 100));
    }
    run(
        url,
        &[
            &format!("CREATE DATABASE `{database}`"),
            &format!(
                "CREATE TABLE `{database}`.orders (order_id BIGINT UNSIGNED PRIMARY KEY, user_id INT NOT NULL, \
                 name VARCHAR(60) CHARACTER SET latin1, amount DECIMAL(12,2), KEY by_user (user_id))"
            ),
            &format!("INSERT INTO `{database}`.orders VALUES {}", values.join(",")),
        ],
    )
    .await;
    named(database, "orders")
}

/// Checks on the servers that each of the tables, in order, has the rows of its number and no others, and how many all have.
async fn in_place(tables: &[(&str, String)], number: &str, expected: u64) {
    let mut all = 0;
    for (at, (url, table)) in tables.iter().enumerate() {
        let sql = format!("SELECT COUNT(*), COALESCE(SUM({number} <> {at}), 0) FROM {table}");
        let row = keepfast_mysql::testing::rows(url, &sql).await.unwrap().remove(0);
        assert_eq!(row[1].as_deref(), Some("0"), "{table} has rows of other shards");
        let rows: u64 = row[0].as_deref().unwrap().parse().unwrap();
        assert!(rows > 0, "{table} is empty");
        all += rows;
    }
    assert_eq!(all, expected);
}

#[tokio::test]
async fn sixteen_tables_on_two_servers_become_twenty_four_in_three_places_and_one_and_go_back() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (urls, prefix) = (&urls[..2], fresh("re"));
        let from = plain(&urls[0], &format!("{prefix}_plain"), 3000).await;
        // The third place is another database of the second server: two servers of a kind run here.
        for (server, databases) in [(0, ["a0", "b0"].as_slice()), (1, &["a1", "b1", "b2"])] {
            for database in databases {
                run(&urls[server], &[&format!("CREATE DATABASE {prefix}_{database}")]).await;
            }
        }
        let orders = TableName::bare("orders");
        let one = store(urls, &[]);
        let few =
            sharded(urls, "orders", &format!("{prefix}_a{{0..1}}.orders_{{00..07}}"), Some("user_id % 16"));
        let many =
            sharded(urls, "orders", &format!("{prefix}_b{{0..2}}.orders_{{0..7}}"), Some("user_id % 24"));
        let whole = digest_now(&one, &from).await;
        assert_eq!(whole.rows, 3000);

        restored((&one, &from), (&few, &orders), LoadMode::Create).await;
        assert_eq!(digest_now(&few, &orders).await, whole);
        let sixteen: Vec<(&str, String)> = (0..16)
            .map(|n| (urls[n / 8].as_str(), format!("{prefix}_a{}.orders_{:02}", n / 8, n % 8)))
            .collect();
        in_place(&sixteen, "user_id % 16", 3000).await;
        let info = few.describe(&orders).await.unwrap();
        assert_eq!((info.shards.len(), info.schema.key_names()), (16, vec!["order_id"]));

        restored((&few, &orders), (&many, &orders), LoadMode::Create).await;
        assert_eq!(digest_now(&many, &orders).await, whole);
        let places: Vec<(&str, String)> = (0..24)
            .map(|n| (urls[(n / 8).min(1)].as_str(), format!("{prefix}_b{}.orders_{}", n / 8, n % 8)))
            .collect();
        in_place(&places, "user_id % 24", 3000).await;
        let index = value(
            places[23].0,
            &format!(
                "SELECT COUNT(*) FROM information_schema.statistics WHERE \
             table_schema = '{prefix}_b2' AND table_name = 'orders_7' AND index_name = 'by_user'"
            ),
        )
        .await;
        assert_eq!(index.as_deref(), Some("1"), "secondary indexes come back in every shard");

        // Back in place of the sixteen, by another rule: 128 numbers, eight each.
        let other =
            sharded(urls, "orders", &format!("{prefix}_a{{0..1}}.orders_{{00..07}}"), Some("user_id % 128"));
        let published = restored((&many, &orders), (&other, &orders), LoadMode::Replace).await;
        assert_eq!(digest_now(&other, &orders).await, whole);
        in_place(&sixteen, "user_id % 128 DIV 8", 3000).await;
        let kept = published.replaced[0].clone().unwrap();
        assert_eq!(kept.table, "orders__replaced_7_1");
        assert_eq!(digest_now(&other, &kept).await, whole, "the replaced shards are one table too");
        other.undo(&published.undo).await.unwrap();
        in_place(&sixteen, "user_id % 16", 3000).await;
        assert!(matches!(other.undo(&published.undo).await, Err(StoreError::Conflict { .. })));

        // And all of it as one plain table.
        let again = named(&format!("{prefix}_plain"), "again");
        restored((&many, &orders), (&one, &again), LoadMode::Create).await;
        assert_eq!(digest_now(&one, &again).await, whole);
        assert_eq!(strays(urls, &prefix).await, [""; 0]);
    }
}

#[tokio::test]
async fn a_rule_over_texts_is_what_the_server_says_of_them_and_rows_without_a_shard_are_refused() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (urls, prefix) = (&urls[..2], fresh("rule"));
        let from = plain(&urls[0], &format!("{prefix}_plain"), 500).await;
        for (at, url) in urls.iter().enumerate() {
            run(url, &[&format!("CREATE DATABASE {prefix}_{at}")]).await;
        }
        let (one, orders) = (store(urls, &[]), TableName::bare("orders"));
        let shards = format!("{prefix}_{{0..1}}.orders_{{0..1}}");
        let by_name = sharded(urls, "orders", &shards, Some("crc32(name) % 4"));
        let cut = cut_of(&one, std::slice::from_ref(&from)).await;
        let load = begin(&by_name, cut.as_ref(), &[(&from, &orders)], LoadMode::Create).await.unwrap();
        let refused = fill(load.as_ref(), cut.as_ref(), &[(&from, &orders)], 2).await.unwrap_err();
        assert!(matches!(refused, StoreError::Row { .. }), "{refused:?}");
        assert!(refused.to_string().contains("column 'name' is NULL"), "{refused}");
        load.abandon().await.unwrap();
        assert_eq!(strays(urls, &prefix).await, [""; 0]);
        cut.release().await.unwrap();

        run(&urls[0], &[&format!("UPDATE `{prefix}_plain`.orders SET name = order_id WHERE name IS NULL")])
            .await;
        restored((&one, &from), (&by_name, &orders), LoadMode::Create).await;
        let tables: Vec<(&str, String)> =
            (0..4).map(|n| (urls[n / 2].as_str(), format!("{prefix}_{}.orders_{}", n / 2, n % 2))).collect();
        in_place(&tables, "crc32(convert(name using utf8mb4)) % 4", 500).await;

        run(&urls[0], &[&format!("UPDATE `{prefix}_plain`.orders SET user_id = -3 WHERE order_id = 1")])
            .await;
        let signed = sharded(urls, "orders", &shards, Some("user_id % 4"));
        let cut = cut_of(&one, std::slice::from_ref(&from)).await;
        let load = begin(&signed, cut.as_ref(), &[(&from, &orders)], LoadMode::Replace).await.unwrap();
        let refused =
            fill(load.as_ref(), cut.as_ref(), &[(&from, &orders)], 1).await.unwrap_err().to_string();
        assert!(refused.contains("gives -3, and no shard has a number below zero"), "{refused}");
        load.abandon().await.unwrap();
        cut.release().await.unwrap();
        let unsigned = sharded(urls, "orders", &shards, Some("abs(user_id) % 4"));
        restored((&one, &from), (&unsigned, &orders), LoadMode::Replace).await;
        in_place(&tables, "abs(user_id) % 4", 500).await;
    }
}

#[tokio::test]
async fn what_a_declaration_lacks_is_said_before_anything_is_made() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (urls, prefix) = (&urls[..2], fresh("lacks"));
        let from = plain(&urls[0], &format!("{prefix}_plain"), 10).await;
        let (one, orders) = (store(urls, &[]), TableName::bare("orders"));
        let cut = cut_of(&one, std::slice::from_ref(&from)).await;
        let shards = format!("{prefix}_{{0..1}}.orders_{{0..1}}");
        let none = sharded(urls, "orders", &shards, Some("user_id % 4"));
        let refused = begin(&none, cut.as_ref(), &[(&from, &orders)], LoadMode::Create).await.unwrap_err();
        let words = format!("CREATE DATABASE `{prefix}_0`; CREATE DATABASE `{prefix}_1`;");
        assert!(refused.to_string().contains(&words), "{refused}");
        for url in urls {
            run(url, &[&format!("CREATE DATABASE {prefix}_0")]).await;
        }
        run(&urls[1], &[&format!("CREATE DATABASE {prefix}_1")]).await;
        let refused = begin(&none, cut.as_ref(), &[(&from, &orders)], LoadMode::Create).await.unwrap_err();
        assert!(refused.to_string().contains("its database is on 127.0.0.1:"), "{refused}");
        run(&urls[1], &[&format!("DROP DATABASE {prefix}_0")]).await;
        for (rule, words) in [
            (None, "without a rule"),
            (Some("who % 4"), "not among its columns"),
            (Some("name % 4"), "crc32(name)"),
        ] {
            let store = sharded(urls, "orders", &shards, rule);
            let refused =
                begin(&store, cut.as_ref(), &[(&from, &orders)], LoadMode::Create).await.unwrap_err();
            assert!(refused.to_string().contains(words), "{refused}");
        }
        let keyed = keepfast_mysql::MySqlStore::new(&keepfast_mysql::Options {
            urls: urls.to_vec(),
            tables: [(
                "orders".to_owned(),
                keepfast_mysql::ShardedTable {
                    shards: shards.clone(),
                    key: vec!["name".into()],
                    shard_rule: Some("user_id % 4".into()),
                    ..Default::default()
                },
            )]
            .into(),
            sessions: 1,
            ..Default::default()
        });
        let refused =
            begin(&keyed.unwrap(), cut.as_ref(), &[(&from, &orders)], LoadMode::Create).await.unwrap_err();
        assert!(refused.to_string().contains("declared key (name) must be unique"), "{refused}");
        run(&urls[0], &[&format!("CREATE TABLE {prefix}_0.orders_1 (id INT)")]).await;
        let refused = begin(&none, cut.as_ref(), &[(&from, &orders)], LoadMode::Create).await.unwrap_err();
        assert!(matches!(refused, StoreError::TableExists { .. }), "{refused:?}");
        assert_eq!(strays(urls, &prefix).await, [""; 0]);
        cut.release().await.unwrap();
    }
}

#[tokio::test]
async fn a_part_counts_once_however_often_it_is_written_and_by_whom() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (urls, prefix) = (&urls[..2], fresh("once"));
        let from = plain(&urls[0], &format!("{prefix}_plain"), 600).await;
        // Without a key nothing but the part's mark keeps rows from standing twice.
        run(&urls[0], &[&format!("ALTER TABLE `{prefix}_plain`.orders DROP PRIMARY KEY")]).await;
        for (at, url) in urls.iter().enumerate() {
            run(url, &[&format!("CREATE DATABASE {prefix}_{at}")]).await;
        }
        let (one, orders) = (store(urls, &[]), TableName::bare("orders"));
        let declared = || sharded(urls, "orders", &format!("{prefix}_{{0..1}}.orders"), Some("user_id % 2"));
        let target = declared();
        let cut = cut_of(&one, std::slice::from_ref(&from)).await;
        let (batches, _) = read(cut.as_ref(), &from, 1).await;
        let load = begin(&target, cut.as_ref(), &[(&from, &orders)], LoadMode::Create).await.unwrap();
        assert!(load.remember(&serde_json::json!("once")).await.unwrap());
        // The source fails in the middle: nothing of the part stands.
        let broken = StoreError::Unsupported { store: "the source".into(), what: "go on".into() };
        let rows = stream::iter(vec![Ok(batches[0].slice(0, 200)), Err(broken)]).boxed();
        assert!(load.write_part(&orders, 0, rows).await.is_err());
        let rows = |from, count| stream::iter(vec![Ok(batches[0].slice(from, count))]).boxed();
        let first = load.write_part(&orders, 0, rows(0, 300)).await.unwrap();
        assert_eq!(load.write_part(&orders, 0, rows(0, 300)).await.unwrap(), first);
        assert!(matches!(load.write_part(&orders, 0, rows(0, 299)).await, Err(StoreError::Conflict { .. })));
        // One server has a part's rows, the other lost them: another process writes it again.
        let token = load.token().unwrap();
        drop(load);
        let elsewhere = declared();
        let left = elsewhere.unfinished_loads().await.unwrap();
        let left = left.iter().find(|l| l.token == token).unwrap();
        assert_eq!(
            (left.purpose.as_str(), left.targets.as_slice()),
            (Some("once"), [orders.clone()].as_slice())
        );
        let load = elsewhere.attach_load(&token).await.unwrap();
        let second = load.write_part(&orders, 1, rows(300, 300)).await.unwrap();
        let mut there = strays(&urls[1..], &prefix).await;
        there.sort_by_key(String::len);
        let [journal, staged] = there.as_slice() else { panic!("{there:?}") };
        run(
            &urls[1],
            &[
                &format!("DELETE FROM {prefix}_1.`{journal}` WHERE name = '0/1'"),
                &format!("DELETE FROM {prefix}_1.`{staged}` WHERE order_id > 900"),
            ],
        )
        .await;
        let missing = load.finish(vec![(orders.clone(), vec![first.clone(), second.clone()])]).await;
        assert!(matches!(missing, Err(StoreError::Damaged { .. })), "{missing:?}");
        assert_eq!(load.write_part(&orders, 1, rows(300, 300)).await.unwrap(), second);
        let left_out = load.finish(vec![(orders.clone(), vec![first.clone()])]).await;
        assert!(matches!(left_out, Err(StoreError::Conflict { .. })), "{left_out:?}");
        load.finish(vec![(orders.clone(), vec![first, second])]).await.unwrap();
        load.publish().await.unwrap();
        load.forget().await.unwrap();
        let (found, expected): (Digest, Digest) =
            (digest_now(&elsewhere, &orders).await, digest(cut.as_ref(), &from).await);
        assert_eq!(found, expected);
        assert_eq!(strays(urls, &prefix).await, [""; 0]);
        cut.release().await.unwrap();
    }
}
