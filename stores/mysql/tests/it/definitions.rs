//! What belongs to tables comes back with them: triggers onto the restored table, the rest where it is missing.

use crate::common::*;
use arrow::array::RecordBatch;
use futures::StreamExt;
use keepfast_model::{RunId, TableName};
use keepfast_mysql::testing::{self, Session, rows};
use keepfast_mysql::{MySqlStore, Options};
use keepfast_store::load::LoadTable;
use keepfast_store::{Load, LoadMode, LoadOptions, Published, Store, StoreError, TableAtCut};
use keepfast_testbed::mysql::MARIADB_URLS;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Everything that a database has, by kind and name, in the server's own words.
pub(crate) async fn everything(url: &str, database: &str) -> BTreeMap<String, String> {
    let schema = |of: &str, kind: &str, name: &str| {
        format!("SELECT {kind}, {name} FROM information_schema.{of} WHERE {name} NOT LIKE '\\_\\_keepfast%'")
    };
    let lists = [
        schema("triggers", "'TRIGGER'", "trigger_name") + " AND trigger_schema = 'D'",
        schema("routines", "routine_type", "routine_name") + " AND routine_schema = 'D'",
        schema("events", "'EVENT'", "event_name") + " AND event_schema = 'D'",
        schema("tables", "REPLACE(REPLACE(table_type, 'BASE ', ''), 'SYSTEM ', '')", "table_name")
            + " AND table_schema = 'D'",
    ];
    let mut all = BTreeMap::new();
    for list in lists {
        for row in rows(url, &list.replace("'D'", &format!("'{database}'"))).await.unwrap() {
            let (kind, name) = (row[0].clone().unwrap(), row[1].clone().unwrap());
            let shown = rows(url, &format!("SHOW CREATE {kind} `{database}`.`{name}`")).await.unwrap();
            // When it was made is told of triggers, as the last.
            let words: Vec<String> = shown[0].iter().take(6).flatten().cloned().collect();
            let text = words.join("\n");
            let mut lines: Vec<&str> = text.lines().map(|line| line.trim_end_matches(',')).collect();
            if kind == "TABLE" {
                // In which order foreign keys are listed says nothing.
                lines.sort_unstable();
            }
            all.insert(format!("{kind} {name}"), lines.join("\n"));
        }
    }
    all
}

/// The triggers of a database by table, in their order.
async fn triggers(url: &str, database: &str) -> Vec<String> {
    let sql = format!(
        "SELECT CONCAT(event_object_table, ': ', trigger_name) FROM information_schema.triggers \
         WHERE trigger_schema = '{database}' ORDER BY event_object_table, CAST(event_manipulation AS CHAR), CAST(action_timing AS CHAR), action_order"
    );
    rows(url, &sql).await.unwrap().into_iter().filter_map(|mut row| row.remove(0)).collect()
}

/// A table `t` with triggers, which write into `log`.
async fn watched(url: &str, database: &str) {
    let mut session = Session::open(url).await.unwrap();
    let at = format!("USE `{database}`");
    session
        .run(&[
            &format!("CREATE DATABASE `{database}`"),
            &at,
            "CREATE TABLE log (n INT AUTO_INCREMENT PRIMARY KEY, x VARCHAR(40))",
            "CREATE TABLE t (id INT PRIMARY KEY, v INT)",
            "INSERT INTO t VALUES (1, 1), (2, 2)",
            "CREATE TRIGGER zweiter AFTER INSERT ON t FOR EACH ROW INSERT INTO log (x) VALUES (CONCAT('second ', NEW.id))",
            "SET sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT'",
            &format!(
                "CREATE TRIGGER \"odd \"\"name\" /* on x */ after insert on `{database}`.\"t\" FOR EACH ROW PRECEDES zweiter \
                 INSERT INTO log (x) VALUES ('first ' || NEW.id)"
            ),
            // Sent as bytes that mean other letters there.
            "SET NAMES latin1",
            "CREATE TRIGGER sent_in_latin1 BEFORE DELETE ON t FOR EACH ROW INSERT INTO log (x) VALUES ('gelöscht')",
        ])
        .await
        .unwrap();
}

async fn logged(url: &str, database: &str) -> Vec<String> {
    let all = rows(url, &format!("SELECT x FROM `{database}`.log ORDER BY n")).await.unwrap();
    all.into_iter().filter_map(|mut row| row.remove(0)).collect()
}

/// A table as it was at a moment.
pub(crate) struct Taken {
    pub at: TableAtCut,
    pub rows: Vec<RecordBatch>,
}

impl Taken {
    pub async fn of(store: &MySqlStore, table: &TableName) -> Self {
        let cut = cut_of(store, std::slice::from_ref(table)).await;
        let taken = Self { at: cut.table(table).await.unwrap(), rows: read(cut.as_ref(), table, 1).await.0 };
        cut.release().await.unwrap();
        taken
    }

    /// What comes back with it, as `kind name`.
    fn with_it(&self) -> Vec<String> {
        self.at.dependents.iter().map(|d| format!("{} {}", d.kind, d.name)).collect()
    }

    async fn load(&self, store: &MySqlStore, to: &TableName, mode: LoadMode) -> Arc<dyn Load> {
        self.try_load(store, to, mode).await.unwrap()
    }

    pub async fn try_load(
        &self,
        store: &MySqlStore,
        to: &TableName,
        mode: LoadMode,
    ) -> Result<Arc<dyn Load>, StoreError> {
        let table = LoadTable {
            target: to.clone(),
            schema: self.at.schema.clone(),
            dependents: self.at.dependents.clone(),
            mode,
            segment_rows: None,
            replaced_tag: "7".into(),
            shard_rule: None,
        };
        let load = store.begin_load(LoadOptions { run: RunId(fresh("run")), tables: vec![table] }).await?;
        let rows = futures::stream::iter(self.rows.clone().into_iter().map(Ok)).boxed();
        let part = load.write_part(to, 0, rows).await?;
        load.finish(vec![(to.clone(), vec![part])]).await?;
        Ok(load)
    }

    async fn restore(&self, store: &MySqlStore, to: &TableName, mode: LoadMode) -> Published {
        self.load(store, to, mode).await.publish().await.unwrap()
    }
}

#[tokio::test]
async fn triggers_stand_on_the_restored_table_as_they_were_and_undo_brings_the_later_ones_back() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (database, url) = (fresh("fired"), &urls[0]);
        watched(url, &database).await;
        let (store, t) = (store(&urls[..1], &[]), named(&database, "t"));
        let then = everything(url, &database).await;
        let then_order = triggers(url, &database).await;
        assert_eq!(then_order, ["t: sent_in_latin1", "t: odd \"name", "t: zweiter"]);
        let taken = Taken::of(&store, &t).await;
        let kinds = taken.with_it();
        assert_eq!(kinds.iter().filter(|k| k.starts_with("mysql trigger")).count(), 3, "{kinds:?}");
        // Later one is another, one is new, and one is gone.
        let mut session = Session::open(url).await.unwrap();
        session
            .run(&[
                &format!("USE `{database}`"),
                "DROP TRIGGER zweiter",
                "DROP TRIGGER sent_in_latin1",
                "CREATE TRIGGER later AFTER INSERT ON t FOR EACH ROW INSERT INTO log (x) VALUES ('later')",
                "CREATE TRIGGER zweiter AFTER INSERT ON t FOR EACH ROW INSERT INTO log (x) VALUES ('other')",
            ])
            .await
            .unwrap();
        let (now, now_order) = (everything(url, &database).await, triggers(url, &database).await);
        let load = taken.load(&store, &t, LoadMode::Replace).await;
        assert_eq!(logged(url, &database).await, [""; 0], "loaded rows fire nothing");
        assert_eq!(triggers(url, &database).await, now_order, "nothing is visible before it is published");
        let published = load.publish().await.unwrap();
        assert_eq!(triggers(url, &database).await, then_order);
        let mut restored = everything(url, &database).await;
        assert!(restored.remove("TABLE t__replaced_7_1").is_some());
        assert_eq!(restored, then);
        run(
            url,
            &[
                &format!("INSERT INTO `{database}`.t VALUES (3, 3)"),
                &format!("DELETE FROM `{database}`.t WHERE id = 1"),
            ],
        )
        .await;
        assert_eq!(logged(url, &database).await, ["first 3", "second 3", "gelÃ¶scht"]);
        // What is only kept fires nothing.
        run(url, &[&format!("INSERT INTO `{database}`.`t__replaced_7_1` VALUES (9, 9)")]).await;
        assert_eq!(logged(url, &database).await.len(), 3);
        store.undo(&published.undo).await.unwrap();
        assert_eq!(triggers(url, &database).await, now_order);
        let mut undone = everything(url, &database).await;
        assert!(undone.remove("TABLE t__undone_7_1").is_some());
        // Its counter has gone on.
        undone.insert("TABLE log".into(), now["TABLE log"].clone());
        assert_eq!(undone, now);
        run(url, &[&format!("INSERT INTO `{database}`.t VALUES (4, 4)")]).await;
        assert_eq!(logged(url, &database).await[3..], ["first 4", "later", "other"]);
        assert_eq!(strays(&urls[..1], &database).await, [""; 0]);
    }
}

#[tokio::test]
async fn each_row_that_is_written_while_names_change_fires_its_triggers_once() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (database, url) = (fresh("fires"), &urls[0]);
        watched(url, &database).await;
        let (store, t) = (store(&urls[..1], &[]), named(&database, "t"));
        let taken = Taken::of(&store, &t).await;
        let ended = Arc::new(AtomicBool::new(false));
        let writer = tokio::spawn({
            let (ended, url, database) = (ended.clone(), url.clone(), database.clone());
            async move {
                let mut session = Session::open(&url).await.unwrap();
                let mut written = 0;
                while !ended.load(Ordering::Relaxed) {
                    session
                        .run(&[&format!("INSERT INTO `{database}`.t VALUES ({}, 0)", 1000 + written)])
                        .await
                        .unwrap();
                    written += 1;
                }
                written
            }
        });
        for _ in 0..3 {
            taken.restore(&store, &t, LoadMode::Replace).await;
        }
        ended.store(true, Ordering::Relaxed);
        let written: usize = writer.await.unwrap();
        let expected: Vec<String> = (0..written)
            .flat_map(|n| [format!("first {}", 1000 + n), format!("second {}", 1000 + n)])
            .collect();
        assert!(written > 10, "{written}");
        assert_eq!(logged(url, &database).await, expected);
    }
}

#[tokio::test]
async fn a_publication_that_is_dropped_at_any_moment_is_brought_to_its_end_with_its_triggers() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (database, url) = (fresh("dropped"), &urls[0]);
        watched(url, &database).await;
        let (store, t) = (store(&urls[..1], &[]), named(&database, "t"));
        let (then, taken) = (triggers(url, &database).await, Taken::of(&store, &t).await);
        for ms in (if long() { 1..120 } else { 1..13 }).map(|n| if long() { n } else { n * 9 }) {
            let load = taken.load(&store, &t, LoadMode::Replace).await;
            let token = load.token().unwrap();
            let answer = tokio::time::timeout(Duration::from_millis(ms), load.publish()).await;
            drop(load);
            if answer.is_err() {
                // Another process goes on with it; it may have been brought to its end before.
                if let Ok(load) = crate::common::store(&urls[..1], &[]).attach_load(&token).await {
                    load.publish().await.unwrap();
                    load.forget().await.unwrap();
                }
            }
            assert_eq!(triggers(url, &database).await, then, "dropped after {ms} ms");
        }
        assert_eq!(strays(&urls[..1], &database).await, [""; 0]);
    }
}

#[tokio::test]
async fn what_stands_there_stays_and_nothing_is_made_for_another_name() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (database, other, url) = (fresh("beside"), fresh("elsewhere"), &urls[0]);
        watched(url, &database).await;
        let at = |sql: &str| sql.replace("D.", &format!("`{database}`."));
        run(
            url,
            &[
                &format!("CREATE DATABASE `{other}`"),
                &at("CREATE VIEW D.b_view AS SELECT * FROM D.t"),
                &at("CREATE VIEW D.b_view_of_nothing AS SELECT 1 AS one"),
                &at("CREATE FUNCTION D.twice(n INT) RETURNS INT DETERMINISTIC RETURN 2 * n"),
            ],
        )
        .await;
        run(url, &[&at("CREATE VIEW D.a_view AS SELECT v + 1 AS w FROM D.b_view")]).await;
        let (store, t) = (store(&urls[..1], &[]), named(&database, "t"));
        let taken = Taken::of(&store, &t).await;
        let kept = taken.with_it();
        for wanted in ["mysql view a_view", "mysql view b_view", "mysql function twice"] {
            assert!(kept.iter().any(|k| k == wanted), "{wanted}: {kept:?}");
        }
        assert!(!kept.iter().any(|k| k.contains("of_nothing")), "only views of these tables: {kept:?}");
        // One is gone with the view that it reads, one is another now.
        run(
            url,
            &[
                &at("DROP VIEW D.a_view"),
                &at("DROP VIEW D.b_view"),
                &at("DROP FUNCTION D.twice"),
                &at("CREATE FUNCTION D.twice(n INT) RETURNS INT DETERMINISTIC RETURN 3 * n"),
            ],
        )
        .await;
        taken.restore(&store, &t, LoadMode::Replace).await;
        assert_eq!(value(url, &at("SELECT SUM(w) FROM D.a_view")).await.unwrap(), "5");
        assert_eq!(value(url, &at("SELECT D.twice(1)")).await.unwrap(), "3");
        let before = everything(url, &database).await;
        for to in [named(&database, "copy"), named(&other, "t")] {
            taken.restore(&store, &to, LoadMode::Create).await;
        }
        let mut after = everything(url, &database).await;
        assert!(after.remove("TABLE copy").is_some());
        assert_eq!(after, before);
        assert_eq!(everything(url, &other).await.into_keys().collect::<Vec<_>>(), ["TABLE t"]);
    }
}

#[tokio::test]
async fn an_account_that_may_not_see_triggers_says_so_and_a_restore_keeps_those_that_stand() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (database, url, name) = (fresh("unseen"), &urls[0], fresh("kf_blind"));
        watched(url, &database).await;
        let position = if kind == MARIADB_URLS { "BINLOG MONITOR" } else { "REPLICATION CLIENT" };
        let who = format!("'{name}'@'127.0.0.1'");
        run(
            url,
            &[
                &format!("CREATE USER {who} IDENTIFIED BY 'only-for-this-test'"),
                &format!("GRANT RELOAD, {position} ON *.* TO {who}"),
                &format!("GRANT SELECT ON `{database}`.* TO {who}"),
            ],
        )
        .await;
        let blind = format!("mysql://{name}:only-for-this-test@{}", url.rsplit_once('@').unwrap().1);
        let t = named(&database, "t");
        let before = triggers(url, &database).await;
        let taken = Taken::of(&store(&[blind], &[]), &t).await;
        let said = taken.at.dependents.iter().find(|d| d.kind == "not mysql triggers").unwrap();
        let grant = format!("GRANT TRIGGER, SHOW VIEW, EVENT ON `{database}`.* TO `{name}`");
        assert!(said.definition.contains(&grant), "{said:?}");
        let store = store(&urls[..1], &[]);
        taken.restore(&store, &t, LoadMode::Replace).await;
        assert_eq!(triggers(url, &database).await, before);
        run(url, &[&format!("DROP USER {who}")]).await;
    }
}

#[tokio::test]
async fn a_definer_that_may_not_be_named_is_said_before_any_name_changes() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (database, url, name) = (fresh("definer"), &urls[0], fresh("kf_other"));
        watched(url, &database).await;
        let who = format!("'{name}'@'127.0.0.1'");
        run(
            url,
            &[
                &format!("CREATE USER {who} IDENTIFIED BY 'only-for-this-test'"),
                &format!("GRANT ALL ON `{database}`.* TO {who}"),
            ],
        )
        .await;
        let other = format!("mysql://{name}:only-for-this-test@{}", url.rsplit_once('@').unwrap().1);
        let (t, admin) = (named(&database, "t"), store(&urls[..1], &[]));
        let taken = Taken::of(&admin, &t).await;
        let before = everything(url, &database).await;
        let load = taken.load(&store(&[other], &[]), &t, LoadMode::Replace).await;
        let refused = load.publish().await.unwrap_err();
        let all = format!("{refused}: {:?}", std::error::Error::source(&refused).map(ToString::to_string));
        assert!(matches!(refused, StoreError::Denied { .. }), "{all}");
        assert!(all.contains("make trigger") && all.contains("privilege"), "{all}");
        load.abandon().await.unwrap();
        assert_eq!(everything(url, &database).await, before);
        assert_eq!(strays(&urls[..1], &database).await, [""; 0]);
        run(url, &[&format!("DROP USER {who}")]).await;
    }
}

#[tokio::test]
async fn accounts_and_their_grants_come_back_where_they_are_asked_for() {
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (database, url, name, role) = (fresh("accounts"), &urls[0], fresh("kf_who"), fresh("kf_role"));
        watched(url, &database).await;
        let who = format!("'{name}'@'127.0.0.1'");
        run(
            url,
            &[
                &format!("CREATE ROLE '{role}'"),
                &format!("GRANT SELECT ON `{database}`.* TO '{role}'"),
                &format!("CREATE USER {who} IDENTIFIED BY 'only-for-this-test'"),
                &format!("GRANT INSERT (id), UPDATE ON `{database}`.t TO {who}"),
                &format!("GRANT '{role}' TO {who}"),
            ],
        )
        .await;
        let grants = async |url: &str| {
            let mut all: Vec<_> = rows(url, &format!("SHOW GRANTS FOR {who}")).await.unwrap();
            all.sort();
            all
        };
        let then = grants(url).await;
        let asked = |url: &String| {
            MySqlStore::new(&Options {
                urls: vec![url.clone()],
                sessions: 2,
                accounts: true,
                ..Options::default()
            })
            .unwrap()
        };
        let t = named(&database, "t");
        let plain = Taken::of(&store(&urls[..1], &[]), &t).await;
        assert!(plain.at.dependents.iter().all(|d| d.kind != "mysql user"));
        let taken = Taken::of(&asked(url), &t).await;
        // Not unasked.
        run(&urls[1], &[&format!("CREATE DATABASE `{database}`")]).await;
        taken.restore(&store(&urls[1..2], &[]), &t, LoadMode::Create).await;
        assert!(rows(&urls[1], &format!("SHOW GRANTS FOR {who}")).await.is_err());
        taken.restore(&asked(&urls[1]), &t, LoadMode::Replace).await;
        assert_eq!(grants(&urls[1]).await, then);
        let entry = format!("mysql://{name}:only-for-this-test@{}", urls[1].rsplit_once('@').unwrap().1);
        testing::run(
            &entry,
            &[&format!("SET ROLE '{role}'"), &format!("SELECT COUNT(*) FROM `{database}`.t")],
        )
        .await
        .unwrap();
        for url in &urls[..2] {
            run(url, &[&format!("DROP USER {who}"), &format!("DROP ROLE '{role}'")]).await;
        }
    }
}
