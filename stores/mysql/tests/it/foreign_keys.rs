//! Foreign keys come back, and those of other tables refer to the new table.

use crate::common::*;
use keepfast_mysql::testing;
use keepfast_store::{LoadMode, Store, StoreError};

/// Users, their orders, and notes on orders.
async fn shop(url: &str, database: &str) {
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

async fn all_keys(url: &str, database: &str) -> Vec<Vec<String>> {
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
