//! From MariaDB to MySQL and back: what both have comes across; what one has alone is refused or named, and nothing half done stays.

use crate::common::*;
use crate::definitions::{Taken, everything};
use keepfast_mysql::testing::Session;
use keepfast_mysql::{MySqlStore, Options};
use keepfast_store::{LoadMode, Store, StoreError};
use keepfast_testbed::mysql::{MARIADB_URLS, MYSQL_URLS};
use std::sync::{Mutex, Once};

/// A server of each family, the one that is backed up first: both ways.
fn ways() -> Vec<(&'static str, String, String)> {
    let (Some(mariadb), Some(mysql)) = (servers(MARIADB_URLS), servers(MYSQL_URLS)) else { return vec![] };
    let (mariadb, mysql) = (mariadb[0].clone(), mysql[0].clone());
    vec![(MARIADB_URLS, mariadb.clone(), mysql.clone()), (MYSQL_URLS, mysql, mariadb)]
}

/// Runs statements in a database of its own.
async fn make(url: &str, database: &str, statements: &[&str]) {
    let first = [format!("CREATE DATABASE `{database}`"), format!("USE `{database}`")];
    let all = [&[first[0].as_str(), &first[1]], statements].concat();
    Session::open(url).await.unwrap().run(&all).await.unwrap();
}

/// All warnings of this process.
static SAID: Mutex<Vec<String>> = Mutex::new(vec![]);

struct Listener;

impl tracing::Subscriber for Listener {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::Id {
        tracing::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::Id, _: &tracing::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut Words);
    }
    fn enter(&self, _: &tracing::Id) {}
    fn exit(&self, _: &tracing::Id) {}
}

struct Words;

impl tracing::field::Visit for Words {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            SAID.lock().unwrap().push(format!("{value:?}"));
        }
    }
}

fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(Listener).unwrap());
}

/// Warnings that have this word.
fn warnings(word: &str) -> Vec<String> {
    SAID.lock().unwrap().iter().filter(|said| said.contains(word)).cloned().collect()
}

#[tokio::test]
async fn tables_go_from_one_family_into_the_other_to_the_last_bit() {
    listen();
    for (kind, from, to) in ways() {
        let database = fresh("across");
        every_type(&from, &database).await;
        let mut session = Session::open(&from).await.unwrap();
        session
            .run(&[
                &format!("USE `{database}`"),
                "CREATE TABLE docs (id INT PRIMARY KEY, j JSON, n INT AS (id * 2) STORED, t TEXT NOT NULL, \
                 made TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3), KEY by_n (n), FULLTEXT KEY words (t), \
                 CONSTRAINT some CHECK (id > 0))",
                "INSERT INTO docs (id, j, t, made) VALUES (1, '{\"a\": [1, 2.50, \"ü\"]}', 'x', '2024-01-02 03:04:05.678'), (2, NULL, '', '2024-01-02')",
                "CREATE TABLE parts (id INT NOT NULL, at DATE NOT NULL, v VARCHAR(20) CHARACTER SET latin1, PRIMARY KEY (id)) \
                 PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN MAXVALUE)",
                "INSERT INTO parts VALUES (1, '2024-01-01', 'é'), (11, '2024-01-01', NULL)",
                "CREATE TABLE items (id INT PRIMARY KEY, doc INT, CONSTRAINT of_doc FOREIGN KEY (doc) REFERENCES docs (id) ON DELETE CASCADE)",
                "INSERT INTO items VALUES (1, 1), (2, NULL)",
                "CREATE TABLE hidden (id INT PRIMARY KEY, v INT INVISIBLE DEFAULT 7)",
                "INSERT INTO hidden (id) VALUES (1), (2)",
                // Each family's own collations where none is named.
                "CREATE TABLE texts (t VARCHAR(30) CHARACTER SET utf8mb4 NOT NULL PRIMARY KEY, u VARCHAR(30) COLLATE utf8mb4_bin)",
                "INSERT INTO texts VALUES ('Straße', 'ß'), ('x', NULL), ('x ☃', '😀')",
            ])
            .await
            .unwrap();
        let (source, target) = (store(&[from], &[]), store(std::slice::from_ref(&to), &[]));
        for name in ["every", "docs", "parts", "texts", "items", "hidden"] {
            let table = named(&database, name);
            restored((&source, &table), (&target, &table), LoadMode::Create).await;
        }
        let mut said = warnings("table 'hidden'");
        said.retain(|said| said.contains("INVISIBLE"));
        assert_eq!(said.len(), usize::from(kind == MYSQL_URLS), "what is lost is said: {said:?}");
        // Again, over the first one.
        let table = named(&database, "docs");
        restored((&source, &table), (&target, &table), LoadMode::Replace).await;
        let rows = format!(
            "SELECT GROUP_CONCAT(HEX(t), HEX(IFNULL(u, 'none')) ORDER BY HEX(t)) FROM `{database}`.texts"
        );
        let said = value(&to, &rows).await.unwrap();
        assert!(said.contains("F09F9880") && said.contains(&hex("Straße")), "{kind}: {said}");
        let gone = [format!("DELETE FROM `{database}`.docs WHERE id = 1")];
        run(&to, &[&gone[0]]).await;
        assert_eq!(
            value(&to, &format!("SELECT GROUP_CONCAT(id) FROM `{database}`.items")).await.unwrap(),
            "2"
        );
        let broken = Session::open(&to)
            .await
            .unwrap()
            .run(&[&format!("INSERT INTO `{database}`.docs (id, t) VALUES (0, '')")])
            .await;
        assert!(broken.is_err(), "checks hold");
        assert_eq!(strays(&[to], &database).await, [""; 0]);
    }
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02X}")).collect()
}

#[tokio::test]
async fn definitions_go_from_one_family_into_the_other_and_those_that_cannot_are_named() {
    listen();
    for (kind, from, to) in ways() {
        let database = fresh("definitions_across");
        let mut all = vec![
            "CREATE TABLE log (n INT AUTO_INCREMENT PRIMARY KEY, x VARCHAR(40))",
            "INSERT INTO log (x) VALUES ('first')",
            "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))",
            "INSERT INTO t VALUES (1, 'a'), (2, 'b')",
            "CREATE TRIGGER noted AFTER INSERT ON t FOR EACH ROW INSERT INTO log (x) VALUES (CONCAT('new ', NEW.v))",
            "CREATE TRIGGER checked BEFORE INSERT ON t FOR EACH ROW BEGIN IF NEW.v = 'bad' COLLATE utf8mb4_bin THEN SET NEW.v = 'good'; END IF; END",
            "CREATE FUNCTION twice(n INT) RETURNS INT DETERMINISTIC RETURN 2 * n",
            "CREATE FUNCTION greeting(who VARCHAR(20)) RETURNS VARCHAR(40) DETERMINISTIC RETURN CONCAT('hello ', who)",
            "CREATE PROCEDURE fill(IN n INT) MODIFIES SQL DATA BEGIN INSERT INTO t VALUES (n, 'filled'); END",
            "CREATE VIEW seen AS SELECT id, twice(id) AS d, greeting(v) AS g FROM t WHERE v <> 'bad'",
            "CREATE VIEW seen_again AS SELECT SUM(d) AS s FROM seen",
            "CREATE EVENT later ON SCHEDULE EVERY 1 DAY STARTS '2030-01-01 00:00:00' DISABLE DO DELETE FROM t",
        ];
        // What the other one has not.
        all.extend(match kind {
            MARIADB_URLS => [
                "CREATE SEQUENCE ticket START WITH 5",
                "CREATE FUNCTION looped(n INT) RETURNS INT DETERMINISTIC BEGIN DECLARE s INT DEFAULT 0; FOR i IN 1..n DO SET s = s + i; END FOR; RETURN s; END",
            ],
            _ => [
                "CREATE FUNCTION arrowed(j JSON) RETURNS INT DETERMINISTIC RETURN j->>'$.a'",
                "CREATE VIEW grouped AS SELECT v, GROUPING(v) AS g FROM t GROUP BY v WITH ROLLUP",
            ],
        });
        make(&from, &database, &all).await;
        let (source, target) =
            (store(std::slice::from_ref(&from), &[]), store(std::slice::from_ref(&to), &[]));
        let log = named(&database, "log");
        restored((&source, &log), (&target, &log), LoadMode::Create).await;
        let t = named(&database, "t");
        let taken = Taken::of(&source, &t).await;
        let load = taken.try_load(&target, &t, LoadMode::Create).await.unwrap();
        load.publish().await.unwrap();
        let (then, now) = (everything(&from, &database).await, everything(&to, &database).await);
        let missing: Vec<&String> = then.keys().filter(|what| !now.contains_key(*what)).collect();
        let refused = match kind {
            MARIADB_URLS => ["FUNCTION looped", "SEQUENCE ticket"],
            _ => ["FUNCTION arrowed", "VIEW grouped"],
        };
        assert_eq!(missing, refused, "{kind}: {:?}", warnings(&database));
        for what in refused {
            let (kind, name) = what.split_once(' ').unwrap();
            let said = warnings(&format!("{} '{database}.{name}'", kind.to_lowercase()));
            assert!(!said.is_empty(), "{what}: {:?}", warnings(&database));
            eprintln!("{}", said.join("\n"));
            if name == "ticket" {
                assert!(said[0].contains("this server has no sequences"), "{said:?}");
            }
        }
        let mut session = Session::open(&to).await.unwrap();
        session
            .run(&[&format!("USE `{database}`"), "INSERT INTO t VALUES (3, 'bad')", "CALL fill(4)"])
            .await
            .unwrap();
        let text = async |sql: &str| value(&to, &sql.replace("D.", &format!("`{database}`."))).await.unwrap();
        assert_eq!(text("SELECT GROUP_CONCAT(x ORDER BY n) FROM D.log").await, "first,new good,new filled");
        assert_eq!(
            text("SELECT GROUP_CONCAT(g ORDER BY id) FROM D.seen").await,
            "hello a,hello b,hello good,hello filled"
        );
        assert_eq!(text("SELECT s FROM D.seen_again").await, "20");
        let event = format!("SELECT status FROM information_schema.events WHERE event_schema = '{database}'");
        assert_eq!(value(&to, &event).await.unwrap(), "DISABLED");
        assert_eq!(strays(&[to], &database).await, [""; 0]);
    }
}

#[tokio::test]
async fn a_trigger_that_the_other_family_does_not_know_is_refused_before_any_name_changes() {
    for (kind, from, to) in ways() {
        let database = fresh("trigger_across");
        let trigger = match kind {
            MARIADB_URLS => {
                "CREATE TRIGGER own BEFORE INSERT ON t FOR EACH ROW FOR i IN 1..2 DO SET NEW.n = NEW.n + i; END FOR"
            }
            _ => "CREATE TRIGGER own BEFORE INSERT ON t FOR EACH ROW SET NEW.n = NEW.j->>'$.a'",
        };
        make(
            &from,
            &database,
            &[
                "CREATE TABLE t (id INT PRIMARY KEY, n INT, j LONGTEXT)",
                "INSERT INTO t VALUES (1, 1, '{}')",
                trigger,
            ],
        )
        .await;
        let (source, target) = (store(&[from], &[]), store(std::slice::from_ref(&to), &[]));
        let t = named(&database, "t");
        let taken = Taken::of(&source, &t).await;
        let load = taken.try_load(&target, &t, LoadMode::Create).await.unwrap();
        let refused = load.publish().await.unwrap_err();
        assert!(matches!(refused, StoreError::Unsupported { .. }), "{refused:?}");
        let refused = refused.to_string();
        assert!(
            refused.contains(&format!("make trigger '{database}.own' on the restored table")),
            "{refused}"
        );
        assert!(refused.contains("error 1064"), "{refused}");
        load.abandon().await.unwrap();
        assert_eq!(target.list_tables(Some(&database)).await.unwrap(), []);
        // Under another name it comes without it.
        let other = named(&database, "u");
        taken.try_load(&target, &other, LoadMode::Create).await.unwrap().publish().await.unwrap();
        assert_eq!(everything(&to, &database).await.into_keys().collect::<Vec<_>>(), ["TABLE u"]);
        assert_eq!(strays(&[to], &database).await, [""; 0]);
    }
}

#[tokio::test]
async fn a_table_that_the_other_family_cannot_have_is_refused_with_its_name_and_nothing_of_it_stays() {
    for (kind, from, to) in ways() {
        let database = fresh("table_across");
        let tables: &[(&str, &str, &str)] = match kind {
            MARIADB_URLS => &[
                ("counted", "(id INT PRIMARY KEY DEFAULT NEXTVAL(ticket))", "has no sequences"),
                ("named", "(id UUID PRIMARY KEY)", "make table 'named'"),
                ("addressed", "(id INT PRIMARY KEY, a INET6)", "make table 'addressed'"),
                ("versioned", "(id INT PRIMARY KEY) WITH SYSTEM VERSIONING", "make table 'versioned'"),
            ],
            _ => &[
                ("computed", "(id INT PRIMARY KEY, a INT, KEY k ((a + 1)))", "index"),
                (
                    "spoken",
                    "(id VARCHAR(9) COLLATE utf8mb4_sv_0900_ai_ci PRIMARY KEY)",
                    "utf8mb4_sv_0900_ai_ci",
                ),
            ],
        };
        make(&from, &database, if kind == MARIADB_URLS { &["CREATE SEQUENCE ticket"] } else { &[] }).await;
        let (source, target) =
            (store(std::slice::from_ref(&from), &[]), store(std::slice::from_ref(&to), &[]));
        for (name, columns, why) in tables {
            let all = [format!("USE `{database}`"), format!("CREATE TABLE {name} {columns}")];
            run(&from, &[&all[0], &all[1]]).await;
            run(
                &from,
                &[&format!(
                    "INSERT INTO `{database}`.{name} (id) VALUES ({})",
                    match *name {
                        "named" => "UUID()",
                        _ => "1",
                    }
                )],
            )
            .await;
            let t = named(&database, name);
            let taken = Taken::of(&source, &t).await;
            let refused = match taken.try_load(&target, &t, LoadMode::Create).await {
                Err(refused) => {
                    assert!(matches!(refused, StoreError::Unsupported { .. }), "{refused:?}");
                    refused.to_string()
                }
                Ok(_) => panic!("{kind}: {name} came across"),
            };
            eprintln!("{kind}: {name}: {refused}");
            assert!(refused.contains(why), "{name}: {refused}");
            target.sweep().await.unwrap();
            let there =
                format!("SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = '{database}'");
            assert_eq!(value(&to, &there).await.unwrap(), "0", "{name}");
        }
    }
}

#[tokio::test]
async fn accounts_of_the_other_family_are_named_without_their_hashes() {
    listen();
    for (_, from, to) in ways() {
        let (database, name) = (fresh("accounts_across"), fresh("kf_across"));
        let who = format!("'{name}'@'127.0.0.1'");
        let user = format!("CREATE USER {who} IDENTIFIED BY 'only-for-this-test'");
        make(&from, &database, &["CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1)", &user])
            .await;
        let of = |url: &String| {
            let options =
                Options { urls: vec![url.clone()], sessions: 2, accounts: true, ..Options::default() };
            MySqlStore::new(&options).unwrap()
        };
        let t = named(&database, "t");
        let taken = Taken::of(&of(&from), &t).await;
        taken.try_load(&of(&to), &t, LoadMode::Create).await.unwrap().publish().await.unwrap();
        let said = warnings(&format!("account `{name}`@`127.0.0.1`"));
        assert!(said.iter().any(|said| said.contains("the server refuses it with error")), "{said:?}");
        assert!(said.iter().all(|said| !said.contains("IDENTIFIED")), "{said:?}");
        let there = format!("SELECT COUNT(*) FROM mysql.user WHERE user = '{name}'");
        assert_eq!(value(&to, &there).await.unwrap(), "0");
        run(&from, &[&format!("DROP USER {who}")]).await;
    }
}
