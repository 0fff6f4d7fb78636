//! Foreign keys come back, and those of other tables refer to the new table.

use crate::common::*;
use keepfast_model::TableName;
use keepfast_mysql::{MySqlStore, Options, ShardedTable, testing};
use keepfast_store::{LoadMode, Store, StoreError};

/// Users, their orders, and notes on orders.
pub(crate) async fn shop(url: &str, database: &str) {
    let sql = |sql: &str| sql.replace("D.", &format!("`{database}`."));
    run(
        url,
        &[
            &format!("CREATE DATABASE `{database}`"),
            &sql("CREATE TABLE D.users (id INT PRIMARY KEY, boss INT, KEY (boss), \
                  CONSTRAINT boss_of FOREIGN KEY (boss) REFERENCES D.users (id))"),
            &sql("CREATE TABLE D.orders (id INT PRIMARY KEY, user_id INT, KEY by_user (user_id), \
                  CONSTRAINT of_user FOREIGN KEY (user_id) REFERENCES D.users (id) ON DELETE CASCADE)"),
            &sql("CREATE TABLE D.notes (id INT PRIMARY KEY, order_id INT, KEY (order_id), \
                  FOREIGN KEY (order_id) REFERENCES D.orders (id) ON DELETE SET NULL)"),
            &sql("INSERT INTO D.users VALUES (1, NULL), (2, 1)"),
            &sql("INSERT INTO D.orders VALUES (10, 1), (20, 2), (30, NULL)"),
            &sql("INSERT INTO D.notes VALUES (100, 10), (200, 20), (300, NULL)"),
        ],
    )
    .await;
}

/// The lines of a table's definition that are foreign keys.
async fn keys(url: &str, database: &str, table: &str) -> Vec<String> {
    let rows = testing::rows(url, &format!("SHOW CREATE TABLE `{database}`.`{table}`")).await.unwrap();
    let text = rows[0][1].clone().unwrap();
    text.lines()
        .filter(|l| l.contains("FOREIGN KEY"))
        .map(|l| l.trim().trim_end_matches(',').to_owned())
        .collect()
}

pub(crate) async fn all_keys(url: &str, database: &str) -> Vec<Vec<String>> {
    let mut all = vec![];
    for table in ["users", "orders", "notes"] {
        all.push(keys(url, database, table).await);
    }
    all
}

#[tokio::test]
async fn foreign_keys_come_back_and_those_of_other_tables_refer_to_the_new_one() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (database, url) = (fresh("fk"), &urls[0]);
        shop(url, &database).await;
        let before = all_keys(url, &database).await;
        assert_eq!(before.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1]);
        let (store, users, orders) =
            (store(&urls[..1], &[]), named(&database, "users"), named(&database, "orders"));
        let cut = cut_of(&store, &[users.clone(), orders.clone()]).await;
        run(url, &[&format!("INSERT INTO `{database}`.orders VALUES (40, 2)")]).await;
        let tables = [(&users, &users), (&orders, &orders)];
        let load = begin(&store, cut.as_ref(), &tables, LoadMode::Replace).await.unwrap();
        fill(load.as_ref(), cut.as_ref(), &tables, 1).await.unwrap();
        let published = load.publish().await.unwrap();
        assert_eq!(all_keys(url, &database).await, before);
        for kept in ["users__replaced_7_1", "orders__replaced_7_1"] {
            assert_eq!(keys(url, &database, kept).await, [""; 0], "what is only kept binds nobody");
        }
        // The new tables are bound to one another, the kept ones to nothing.
        let count = |table: &str| {
            let sql = format!("SELECT COUNT(*) FROM `{database}`.{table}");
            let url = url.clone();
            async move { value(&url, &sql).await.unwrap() }
        };
        assert!(
            testing::run(url, &[&format!("INSERT INTO `{database}`.notes VALUES (400, 40)")]).await.is_err()
        );
        run(url, &[&format!("DELETE FROM `{database}`.users WHERE id = 2")]).await;
        assert_eq!((count("orders").await, count("orders__replaced_7_1").await), ("2".into(), "4".into()));
        store.undo(&published.undo).await.unwrap();
        assert_eq!(all_keys(url, &database).await, before);
        assert_eq!(count("orders").await, "4");
        assert!(
            testing::run(url, &[&format!("INSERT INTO `{database}`.orders VALUES (50, 9)")]).await.is_err()
        );
        assert_eq!(strays(&urls[..1], &database).await, [""; 0]);
        cut.release().await.unwrap();

        // Under another name, beside the one that has the names of the keys.
        let (copy, cut) =
            (named(&database, "orders_copy"), cut_of(&store, std::slice::from_ref(&orders)).await);
        let load = begin(&store, cut.as_ref(), &[(&orders, &copy)], LoadMode::Create).await.unwrap();
        fill(load.as_ref(), cut.as_ref(), &[(&orders, &copy)], 1).await.unwrap();
        load.publish().await.unwrap();
        assert_eq!(
            keys(url, &database, "orders_copy").await[0],
            before[1][0].replace("of_user", "of_user_2")
        );
        assert_eq!(all_keys(url, &database).await, before);
        cut.release().await.unwrap();
    }
}

#[tokio::test]
async fn rows_that_would_lose_their_partner_are_named_and_nothing_changes() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (database, url) = (fresh("fk"), &urls[0]);
        shop(url, &database).await;
        let (store, orders) = (store(&urls[..1], &[]), named(&database, "orders"));
        let cut = cut_of(&store, std::slice::from_ref(&orders)).await;
        run(
            url,
            &[
                &format!("INSERT INTO `{database}`.orders VALUES (40, 2)"),
                &format!("INSERT INTO `{database}`.notes VALUES (400, 40)"),
            ],
        )
        .await;
        let before = all_keys(url, &database).await;
        let tables = [(&orders, &orders)];
        let load = begin(&store, cut.as_ref(), &tables, LoadMode::Replace).await.unwrap();
        fill(load.as_ref(), cut.as_ref(), &tables, 1).await.unwrap();
        let refused = load.publish().await.unwrap_err().to_string();
        let words = format!("1 rows of '{database}.notes' have no row in '{database}.orders'");
        assert!(refused.contains(&words), "{refused}");
        assert_eq!(all_keys(url, &database).await, before);
        load.abandon().await.unwrap();
        assert_eq!(strays(&urls[..1], &database).await, [""; 0]);
        cut.release().await.unwrap();

        // A key to a table that is not there is refused before any row is loaded.
        let cut = cut_of(&store, std::slice::from_ref(&orders)).await;
        let other = named(&format!("{database}_other"), "orders");
        let refused = begin(&store, cut.as_ref(), &[(&orders, &other)], LoadMode::Create).await.unwrap_err();
        assert!(matches!(refused, StoreError::Unsupported { .. }), "{refused:?}");
        assert!(
            refused.to_string().contains(&format!("'of_user' of 'orders' to '{database}_other.users'")),
            "{refused}"
        );
        cut.release().await.unwrap();
    }
}

/// The store of these servers with users and their orders in shards of these patterns.
fn shards(urls: &[String], users: (&str, &str), orders: (&str, &str)) -> MySqlStore {
    let table = |(shards, rule): (&str, &str)| ShardedTable {
        shards: shards.to_owned(),
        shard_rule: Some(rule.to_owned()),
        ..ShardedTable::default()
    };
    let tables = [("users".to_owned(), table(users)), ("orders".to_owned(), table(orders))].into();
    MySqlStore::new(&Options { urls: urls.to_vec(), tables, sessions: 2, ..Options::default() }).unwrap()
}

/// Users whose boss is in their shard, and their orders: of four parts these, in tables with these endings.
async fn part(url: &str, database: &str, end: &str, parts: &[i32]) {
    let all = |of: &dyn Fn(i32) -> String| parts.iter().map(|n| of(*n)).collect::<Vec<_>>().join(", ");
    let sql = |sql: &str| sql.replace("D.", &format!("`{database}`.")).replace("_E", end);
    run(
        url,
        &[
            &sql("CREATE TABLE D.users_E (id INT PRIMARY KEY, boss INT, \
                  CONSTRAINT boss_E FOREIGN KEY (boss) REFERENCES D.users_E (id))"),
            &sql("CREATE TABLE D.orders_E (id INT PRIMARY KEY, user_id INT NOT NULL, \
                  CONSTRAINT user_E FOREIGN KEY (user_id) REFERENCES D.users_E (id) ON DELETE CASCADE)"),
            &sql(&format!(
                "INSERT INTO D.users_E VALUES {}",
                all(&|n| format!("({n}, NULL), ({}, {n})", n + 4))
            )),
            &sql(&format!("INSERT INTO D.orders_E VALUES {}", all(&|n| format!("({}, {})", n + 10, n + 4)))),
        ],
    )
    .await;
}

/// Foreign keys without their names.
async fn unnamed(url: &str, database: &str, table: &str) -> Vec<String> {
    let of = |key: String| key.split_once("FOREIGN KEY").unwrap().1.to_owned();
    keys(url, database, table).await.into_iter().map(of).collect()
}

#[tokio::test]
async fn foreign_keys_of_shards_refer_to_the_part_in_their_own_database() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (one, two) = (fresh("fks"), fresh("fkt"));
        for n in 0..4_usize {
            run(&urls[n / 2], &[&format!("CREATE DATABASE `{one}_{n}`")]).await;
            part(&urls[n / 2], &format!("{one}_{n}"), "", &[n as i32]).await;
        }
        let from = shards(
            &urls[..2],
            (&format!("{one}_{{0..3}}.users"), "id % 4"),
            (&format!("{one}_{{0..3}}.orders"), "user_id % 4"),
        );
        let (users, orders) = (TableName::bare("users"), TableName::bare("orders"));
        let cut = cut_of(&from, &[users.clone(), orders.clone()]).await;
        let tables = [(&users, &users), (&orders, &orders)];
        let load = begin(&from, cut.as_ref(), &tables, LoadMode::Replace).await.unwrap();
        fill(load.as_ref(), cut.as_ref(), &tables, 2).await.unwrap();
        load.publish().await.unwrap();
        for n in 0..4_usize {
            let (url, database) = (&urls[n / 2], format!("{one}_{n}"));
            let of_user = " (`user_id`) REFERENCES `users` (`id`) ON DELETE CASCADE";
            assert_eq!(unnamed(url, &database, "orders").await, [of_user]);
            assert_eq!(unnamed(url, &database, "users").await, [" (`boss`) REFERENCES `users` (`id`)"]);
        }
        run(&urls[0], &[&format!("DELETE FROM `{one}_0`.users WHERE id = 4")]).await;
        let left = |table: &str| format!("SELECT COUNT(*) FROM `{one}_0`.{table}");
        assert_eq!(value(&urls[0], &left("orders")).await.unwrap(), "0");
        assert_eq!(value(&urls[0], &left("orders__replaced_7_1")).await.unwrap(), "1");

        // Into fewer databases, and nowhere without the users.
        for (n, url) in urls[..2].iter().enumerate() {
            run(url, &[&format!("CREATE DATABASE `{two}_{n}`")]).await;
        }
        let to = shards(
            &urls[..2],
            (&format!("{two}_{{0..1}}.users"), "id % 4"),
            (&format!("{two}_{{0..1}}.orders"), "user_id % 4"),
        );
        cut.release().await.unwrap();
        let cut = cut_of(&from, &[users.clone(), orders.clone()]).await;
        let refused =
            begin(&to, cut.as_ref(), &[(&orders, &orders)], LoadMode::Create).await.unwrap_err().to_string();
        assert!(refused.contains(&format!("of 'orders' to '{two}_0.users'")), "{refused}");
        let load = begin(&to, cut.as_ref(), &tables, LoadMode::Create).await.unwrap();
        fill(load.as_ref(), cut.as_ref(), &tables, 2).await.unwrap();
        load.publish().await.unwrap();
        for (n, url) in urls[..2].iter().enumerate() {
            assert_eq!(unnamed(url, &format!("{two}_{n}"), "orders").await.len(), 1);
            let lonely = format!("INSERT INTO `{two}_{n}`.orders VALUES (99, 99)");
            assert!(testing::run(url, &[&lonely]).await.is_err());
        }
        cut.release().await.unwrap();
        assert_eq!(strays(&urls[..2], &one).await, [""; 0]);
        assert_eq!(strays(&urls[..2], &two).await, [""; 0]);
    }
}

#[tokio::test]
async fn foreign_keys_between_shards_of_one_database_refer_to_the_shard_of_the_same_number() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (one, two, url) = (fresh("fkn"), fresh("fkm"), &urls[0]);
        run(url, &[&format!("CREATE DATABASE `{one}`"), &format!("CREATE DATABASE `{two}`")]).await;
        part(url, &one, "_0", &[0, 1]).await;
        part(url, &one, "_1", &[2, 3]).await;
        let layout = |database: &str, users: usize, orders: usize| {
            shards(
                &urls[..1],
                (&format!("{database}.users_{{0..{}}}", users - 1), "id % 4"),
                (&format!("{database}.orders_{{0..{}}}", orders - 1), "user_id % 4"),
            )
        };
        let from = layout(&one, 2, 2);
        let (users, orders) = (TableName::bare("users"), TableName::bare("orders"));
        let cut = cut_of(&from, &[users.clone(), orders.clone()]).await;
        let tables = [(&users, &users), (&orders, &orders)];
        let refused = begin(&layout(&two, 2, 4), cut.as_ref(), &tables, LoadMode::Create).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("table 'users', which has 2 parts in that database"), "{refused}");
        let before = digest(cut.as_ref(), &orders).await;
        for (store, database, mode) in
            [(layout(&two, 4, 4), &two, LoadMode::Create), (layout(&one, 2, 2), &one, LoadMode::Replace)]
        {
            let load = begin(&store, cut.as_ref(), &tables, mode).await.unwrap();
            fill(load.as_ref(), cut.as_ref(), &tables, 2).await.unwrap();
            load.publish().await.unwrap();
            for n in 0..if database == &one { 2 } else { 4 } {
                let of_user = format!(" (`user_id`) REFERENCES `users_{n}` (`id`) ON DELETE CASCADE");
                assert_eq!(unnamed(url, database, &format!("orders_{n}")).await, [of_user]);
                let boss = format!(" (`boss`) REFERENCES `users_{n}` (`id`)");
                assert_eq!(unnamed(url, database, &format!("users_{n}")).await, [boss]);
            }
            assert_eq!(digest_now(&store, &orders).await, before);
            assert_eq!(strays(&urls[..1], database).await, [""; 0]);
        }
        cut.release().await.unwrap();
    }
}
