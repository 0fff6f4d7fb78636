//! The sample database Sakila goes into an empty server with its foreign keys, views, triggers and routines.
//!
//! A small database of its shape is made here; the whole one is read where its dump lies beside the project.

use crate::common::*;
use crate::definitions::everything;
use keepfast_model::TableName;
use keepfast_mysql::testing::{Session, rows};
use keepfast_store::{LoadMode, Store};
use keepfast_testbed::mysql::MARIADB_URLS;
use std::path::PathBuf;

/// Sakila's shape: two tables that refer to each other, a tree of others, triggers that fill a table, views of views and of
/// functions, functions and procedures that read and write.
const SMALL: &str = r#"
CREATE TABLE language (language_id TINYINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, name CHAR(20) NOT NULL);
CREATE TABLE actor (actor_id SMALLINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, last_name VARCHAR(45) NOT NULL, KEY idx_name (last_name));
CREATE TABLE film (film_id SMALLINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, title VARCHAR(255) NOT NULL, description TEXT,
  language_id TINYINT UNSIGNED NOT NULL, rental_rate DECIMAL(4,2) NOT NULL DEFAULT 4.99, rating ENUM('G','PG','R') DEFAULT 'G',
  special_features SET('Trailers','Scenes'), last_update TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
  KEY idx_title (title), CONSTRAINT fk_film_language FOREIGN KEY (language_id) REFERENCES language (language_id) ON UPDATE CASCADE);
CREATE TABLE film_actor (actor_id SMALLINT UNSIGNED NOT NULL, film_id SMALLINT UNSIGNED NOT NULL, PRIMARY KEY (actor_id, film_id), KEY (film_id),
  CONSTRAINT fk_film_actor_actor FOREIGN KEY (actor_id) REFERENCES actor (actor_id) ON UPDATE CASCADE,
  CONSTRAINT fk_film_actor_film FOREIGN KEY (film_id) REFERENCES film (film_id) ON UPDATE CASCADE);
CREATE TABLE film_text (film_id SMALLINT UNSIGNED NOT NULL PRIMARY KEY, title VARCHAR(255) NOT NULL, description TEXT, FULLTEXT KEY words (title, description));
CREATE TABLE store (store_id TINYINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, manager_staff_id TINYINT UNSIGNED NOT NULL, UNIQUE KEY (manager_staff_id));
CREATE TABLE staff (staff_id TINYINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, name VARCHAR(45) NOT NULL, store_id TINYINT UNSIGNED NOT NULL, KEY (store_id),
  CONSTRAINT fk_staff_store FOREIGN KEY (store_id) REFERENCES store (store_id));
SET foreign_key_checks = 0;
ALTER TABLE store ADD CONSTRAINT fk_store_staff FOREIGN KEY (manager_staff_id) REFERENCES staff (staff_id) ON UPDATE CASCADE;
CREATE TABLE inventory (inventory_id MEDIUMINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, film_id SMALLINT UNSIGNED NOT NULL, store_id TINYINT UNSIGNED NOT NULL,
  KEY (film_id), KEY (store_id, film_id), CONSTRAINT fk_inventory_store FOREIGN KEY (store_id) REFERENCES store (store_id),
  CONSTRAINT fk_inventory_film FOREIGN KEY (film_id) REFERENCES film (film_id));
CREATE TABLE rental (rental_id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, inventory_id MEDIUMINT UNSIGNED NOT NULL, return_date DATETIME DEFAULT NULL,
  UNIQUE KEY once (inventory_id, return_date), CONSTRAINT fk_rental_inventory FOREIGN KEY (inventory_id) REFERENCES inventory (inventory_id) ON DELETE RESTRICT);
CREATE TABLE payment (payment_id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, rental_id INT DEFAULT NULL, amount DECIMAL(5,2) NOT NULL, at DATETIME, KEY (rental_id),
  CONSTRAINT fk_payment_rental FOREIGN KEY (rental_id) REFERENCES rental (rental_id) ON DELETE SET NULL ON UPDATE CASCADE);
CREATE TRIGGER `ins_film` AFTER INSERT ON `film` FOR EACH ROW BEGIN
  INSERT INTO film_text (film_id, title, description) VALUES (new.film_id, new.title, new.description);
END;
CREATE TRIGGER `upd_film` AFTER UPDATE ON `film` FOR EACH ROW BEGIN
  IF (old.title != new.title) OR (old.film_id != new.film_id) THEN
    UPDATE film_text SET title = new.title, film_id = new.film_id WHERE film_id = old.film_id;
  END IF;
END;
CREATE TRIGGER `del_film` AFTER DELETE ON `film` FOR EACH ROW BEGIN DELETE FROM film_text WHERE film_id = old.film_id; END;
SET sql_mode = 'TRADITIONAL';
CREATE TRIGGER payment_date BEFORE INSERT ON payment FOR EACH ROW SET NEW.at = '2006-02-14 15:16:03';
CREATE FUNCTION inventory_in_stock(p INT) RETURNS BOOLEAN READS SQL DATA BEGIN
  DECLARE v_out INT;
  SELECT COUNT(rental_id) INTO v_out FROM rental WHERE inventory_id = p AND return_date IS NULL;
  RETURN v_out = 0;
END;
CREATE PROCEDURE film_in_stock(IN p_film_id INT, OUT p_film_count INT) READS SQL DATA COMMENT 'it''s there' BEGIN
  SELECT COUNT(*) INTO p_film_count FROM inventory WHERE film_id = p_film_id AND inventory_in_stock(inventory_id);
END;
SET sql_mode = '';
CREATE VIEW actor_info AS SELECT a.actor_id, a.last_name, GROUP_CONCAT(f.title ORDER BY f.title SEPARATOR '; ') AS films
  FROM actor a LEFT JOIN film_actor fa ON a.actor_id = fa.actor_id LEFT JOIN film f ON f.film_id = fa.film_id GROUP BY a.actor_id, a.last_name;
CREATE SQL SECURITY INVOKER VIEW film_list AS SELECT f.film_id AS FID, f.title, l.name AS language, f.rental_rate AS price FROM film f JOIN language l USING (language_id);
CREATE VIEW a_stock AS SELECT s.name AS manager, i.inventory_id, fl.title, inventory_in_stock(i.inventory_id) AS here
  FROM inventory i JOIN store USING (store_id) JOIN staff s ON s.staff_id = store.manager_staff_id JOIN film_list fl ON fl.FID = i.film_id;
CREATE VIEW sales AS SELECT fl.title, SUM(p.amount) AS total FROM payment p JOIN rental r USING (rental_id) JOIN inventory i USING (inventory_id)
  JOIN film_list fl ON fl.FID = i.film_id GROUP BY fl.title WITH ROLLUP;
CREATE EVENT old_payments ON SCHEDULE EVERY 1 DAY STARTS '2030-01-01 00:00:00' ON COMPLETION PRESERVE DISABLE DO DELETE FROM payment WHERE at < NOW() - INTERVAL 10 YEAR;
INSERT INTO language VALUES (1, 'English'), (2, 'Français');
INSERT INTO actor VALUES (1, 'GUINESS'), (2, 'WAHLBERG'), (3, 'ÅKERMAN');
INSERT INTO film (title, description, language_id, special_features) VALUES ('ACADEMY DINOSAUR', 'An Epic Drama', 1, 'Trailers,Scenes'),
  ('ACE GOLDFINGER', NULL, 1, ''), ('ADAPTATION HOLES', 'Naïve ☃', 2, NULL);
INSERT INTO film_actor VALUES (1, 1), (1, 2), (2, 3);
INSERT INTO store VALUES (1, 1), (2, 2);
INSERT INTO staff VALUES (1, 'Mike', 1), (2, 'Jon', 2);
INSERT INTO inventory (film_id, store_id) VALUES (1, 1), (1, 2), (2, 1), (3, 2);
INSERT INTO rental (inventory_id, return_date) VALUES (1, NULL), (2, '2005-08-01 10:00:00'), (4, NULL);
INSERT INTO payment (rental_id, amount) VALUES (1, 2.99), (2, 0.99), (3, 4.99), (NULL, 1.50);
"#;

/// What only MariaDB has.
const SEQUENCES: &str = "
CREATE SEQUENCE ticket START WITH 100 INCREMENT BY 7 CACHE 1;
CREATE TABLE visit (id INT PRIMARY KEY DEFAULT NEXTVAL(ticket), who VARCHAR(9));
INSERT INTO visit (who) VALUES ('a'), ('b');
";

/// Statements of a script; they end with their line, and a body with `END;` or with its own delimiter.
fn statements(script: &str) -> Vec<String> {
    let (mut all, mut current, mut delimiter) = (vec![], String::new(), ";".to_owned());
    for line in script.lines() {
        if let Some(other) = line.trim().strip_prefix("DELIMITER ") {
            other.trim().clone_into(&mut delimiter);
            continue;
        }
        if current.is_empty() && (line.trim().is_empty() || line.starts_with("--")) {
            continue;
        }
        current += line;
        current.push('\n');
        let begins = current.contains(" BEGIN\n") && delimiter == ";";
        let ends = if begins { line == "END;" } else { line.trim_end().ends_with(&delimiter) };
        if ends {
            let text = current.trim_end();
            all.push(text[..text.len() - delimiter.len()].to_owned());
            current.clear();
        }
    }
    assert_eq!(current.trim(), "", "the script's last statement does not end");
    all
}

async fn run_script(url: &str, script: &str) {
    let all = statements(script);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    Session::open(url).await.unwrap().run(&all).await.unwrap();
}

/// Brings all tables of a database from one server into another that has nothing of it, and compares everything.
async fn round_trip((from, to): (&String, &String), database: &str) {
    let (source, target) = (store(std::slice::from_ref(from), &[]), store(std::slice::from_ref(to), &[]));
    let tables = source.list_tables(Some(database)).await.unwrap();
    let then = everything(from, database).await;
    let cut = cut_of(&source, &tables).await;
    let all: Vec<(&TableName, &TableName)> = tables.iter().zip(&tables).collect();
    let load = begin(&target, cut.as_ref(), &all, LoadMode::Create).await.unwrap();
    fill(load.as_ref(), cut.as_ref(), &all, 1).await.unwrap();
    let beside = load.open_cut().await.unwrap();
    for table in &tables {
        assert_eq!(digest(beside.as_ref(), table).await, digest(cut.as_ref(), table).await, "{table}");
    }
    beside.release().await.unwrap();
    load.publish().await.unwrap();
    cut.release().await.unwrap();
    let now = everything(to, database).await;
    assert_eq!(now.keys().collect::<Vec<_>>(), then.keys().collect::<Vec<_>>());
    for (what, definition) in &then {
        assert_eq!(now[what], *definition, "{what}");
    }
    // What is seen through views, and what the server says of tables.
    for what in then.keys() {
        let sql = match what.split_once(' ').unwrap() {
            ("VIEW", name) => format!("SELECT * FROM `{database}`.`{name}`"),
            ("TABLE", name) => format!("CHECKSUM TABLE `{database}`.`{name}`"),
            _ => continue,
        };
        let (mut a, mut b) = (rows(from, &sql).await.unwrap(), rows(to, &sql).await.unwrap());
        a.sort();
        b.sort();
        assert!(!a.is_empty(), "{what}");
        assert_eq!(a, b, "{what}");
    }
    assert_eq!(strays(std::slice::from_ref(to), database).await, [""; 0]);
}

#[tokio::test]
async fn a_small_sakila_comes_back_into_an_empty_server_with_all_that_belongs_to_it() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (database, from, to) = (fresh("small_sakila"), &urls[0], &urls[1]);
        let mut script = format!("CREATE DATABASE `{database}`;\nUSE `{database}`;\n{SMALL}");
        if kind == MARIADB_URLS {
            script += SEQUENCES;
        }
        run_script(from, &script).await;
        // The sequence is where it was: each of these takes a number.
        round_trip((from, to), &database).await;
        for url in [from, to] {
            let mut session = Session::open(url).await.unwrap();
            session
                .run(&[
                    &format!("USE `{database}`"),
                    "INSERT INTO film (title, language_id) VALUES ('NEW FILM', 1)",
                    "UPDATE film SET title = 'RENAMED' WHERE film_id = 2",
                    "DELETE FROM film_actor",
                    "INSERT INTO payment (rental_id, amount) VALUES (1, 1)",
                ])
                .await
                .unwrap();
            let refused = session.run(&["INSERT INTO inventory (film_id, store_id) VALUES (99, 1)"]).await;
            assert!(refused.is_err(), "foreign keys hold");
        }
        let mut asked = vec![
            "SELECT film_id, title FROM D.film_text ORDER BY 1",
            "SELECT at FROM D.payment ORDER BY payment_id DESC LIMIT 1",
            "SELECT inventory_id, D.inventory_in_stock(inventory_id) FROM D.inventory ORDER BY 1",
            "SELECT * FROM D.a_stock ORDER BY inventory_id",
            "SELECT * FROM D.sales ORDER BY 1",
            "SELECT status FROM information_schema.events WHERE event_schema = REPLACE('D.', '.', '')",
        ];
        if kind == MARIADB_URLS {
            run(from, &[&format!("INSERT INTO `{database}`.visit (who) VALUES ('c')")]).await;
            run(to, &[&format!("INSERT INTO `{database}`.visit (who) VALUES ('c')")]).await;
            asked.push("SELECT * FROM D.visit ORDER BY id");
        }
        for sql in asked {
            let sql = sql.replace("'D.'", &format!("'{database}.'")).replace("D.", &format!("`{database}`."));
            let (a, b) = (rows(from, &sql).await.unwrap(), rows(to, &sql).await.unwrap());
            assert!(!a.is_empty(), "{sql}");
            assert_eq!(a, b, "{sql}");
        }
        assert_eq!(
            value(to, &format!("SELECT title FROM `{database}`.film_text WHERE film_id = 2")).await.unwrap(),
            "RENAMED"
        );
        let call = [format!("CALL `{database}`.film_in_stock(1, @n)")];
        for url in [from, to] {
            let mut session = Session::open(url).await.unwrap();
            session
                .run(&[
                    &call[0],
                    &format!("INSERT INTO `{database}`.language (name) VALUES (CONCAT('stock ', @n))"),
                ])
                .await
                .unwrap();
            let said =
                value(url, &format!("SELECT MAX(name) FROM `{database}`.language WHERE name LIKE 'stock%'"))
                    .await;
            assert_eq!(said.unwrap(), "stock 1");
        }
    }
}

#[tokio::test]
async fn sakila_comes_back_into_an_empty_server() {
    let folder =
        PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("../../../shared/data/sakila");
    let read = |name: &str| std::fs::read_to_string(folder.join(name));
    let (Ok(schema), Ok(data)) = (read("sakila-mv-schema.sql"), read("sakila-mv-data.sql")) else {
        skipped("no Sakila dump at ../shared/data/sakila beside the project");
        return;
    };
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (database, from, to) = (fresh("sakila"), &urls[0], &urls[1]);
        let named = |script: &str| {
            let here = script
                .replace("SCHEMA sakila;", &format!("SCHEMA {database};"))
                .replace("USE sakila;", &format!("USE {database};"));
            here.replace("EXISTS sakila;", &format!("EXISTS {database};"))
                .replace("sakila.", &format!("{database}."))
        };
        run_script(from, &named(&schema)).await;
        run_script(from, &named(&data)).await;
        round_trip((from, to), &database).await;
        let counted = |table: &str| format!("SELECT COUNT(*) FROM `{database}`.{table}");
        assert_eq!(value(to, &counted("film_text")).await.unwrap(), "1000");
        assert_eq!(value(to, &counted("sales_by_store")).await.unwrap(), "2");
        for sql in [
            "SELECT customer_id, D.get_customer_balance(customer_id, '2005-08-01 00:00:00') FROM D.customer WHERE customer_id < 30 ORDER BY 1",
            "SELECT inventory_id, D.inventory_in_stock(inventory_id), D.inventory_held_by_customer(inventory_id) FROM D.inventory WHERE inventory_id < 100 ORDER BY 1",
        ] {
            let sql = sql.replace("D.", &format!("`{database}`."));
            assert_eq!(rows(to, &sql).await.unwrap(), rows(from, &sql).await.unwrap(), "{sql}");
        }
        let new = format!("INSERT INTO `{database}`.film (title, language_id) VALUES ('NEW FILM', 1)");
        run(to, &[&new, &format!("DELETE FROM `{database}`.film WHERE title = 'NEW FILM'")]).await;
        assert_eq!(
            value(to, &counted("film_text")).await.unwrap(),
            "1000",
            "triggers put it in and took it out"
        );
        run(from, &[&format!("DROP DATABASE {database}")]).await;
        run(to, &[&format!("DROP DATABASE {database}")]).await;
    }
}
