//! What the servers' logs say happened between two cuts is what happened.

use crate::common::*;
use futures::TryStreamExt;
use keepfast_model::{Cut, Position, ShardPosition, TableName};
use keepfast_mysql::MySqlStore;
use keepfast_mysql::testing::Session;
use keepfast_store::conformance::{RowSet, read_table};
use keepfast_store::{CutOptions, OpenCut, Store, StoreError};
use keepfast_testbed::mysql::{MARIADB_URLS, MYSQL_URLS};
use std::sync::Arc;
use tokio::sync::RwLock;

/// Held alone by tests that change a server's settings or purge its log, and together by all that read logs.
pub static LOGS: RwLock<()> = RwLock::const_new(());

/// A cut over tables, and the rows of the first.
async fn at(store: &MySqlStore, tables: &[TableName]) -> (Arc<dyn OpenCut>, Cut, RowSet) {
    let cut = store.open_cut(tables, &CutOptions { allow_fuzzy: true }).await.unwrap();
    let rows = read_table(cut.as_ref(), &tables[0]).await.unwrap();
    // Positions are stored and read again.
    let text = serde_json::to_string(&cut.cut()).unwrap();
    let recorded = serde_json::from_str(&text).unwrap();
    (cut, recorded, rows)
}

async fn changes(cut: &dyn OpenCut, table: &TableName, from: &Cut) -> Result<RowSetChanges, StoreError> {
    let batches: Vec<_> = cut.changes(table, &from.positions).await?.try_collect().await?;
    Ok(RowSetChanges(batches))
}

struct RowSetChanges(Vec<arrow::array::RecordBatch>);

impl RowSetChanges {
    fn rows(&self) -> usize {
        self.0.iter().map(arrow::array::RecordBatch::num_rows).sum()
    }
}

/// Checks that the old rows with what the log says are the rows now; gives what it said, and the new cut.
async fn follows(
    store: &MySqlStore,
    table: &TableName,
    what: &str,
    from: &(Cut, RowSet),
) -> (usize, (Cut, RowSet)) {
    let (cut, recorded, rows) = at(store, std::slice::from_ref(table)).await;
    let said = changes(cut.as_ref(), table, &from.0).await.unwrap_or_else(|e| panic!("{what}: {e}"));
    let mut merged = from.1.clone();
    merged.apply(&said.0).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(merged.difference(&rows), None, "{what}");
    cut.release().await.unwrap();
    (said.rows(), (recorded, rows))
}

/// Why changes since a cut are not given.
async fn refused(store: &MySqlStore, table: &TableName, from: &Cut) -> StoreError {
    let cut = store.open_cut(std::slice::from_ref(table), &CutOptions { allow_fuzzy: true }).await.unwrap();
    match changes(cut.as_ref(), table, from).await {
        Err(e) => e,
        Ok(said) => panic!("{} changes were given", said.rows()),
    }
}

fn gone(error: StoreError, words: &str) {
    assert!(matches!(&error, StoreError::ChangesGone { reason, .. } if reason.contains(words)), "{error}");
}

fn altered(error: StoreError) {
    assert!(matches!(error, StoreError::SchemaChanged { .. }), "{error}");
}

#[tokio::test]
async fn rows_of_the_log_are_the_rows_of_a_scan_bit_by_bit() {
    let _logs = LOGS.read().await;
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (database, url) = (fresh("log_types"), &urls[0]);
        every_type(url, &database).await;
        let store = store(&urls[..1], &[]);
        let every = named(&database, "every");
        run(url, &[&format!("CREATE TABLE `{database}`.empty LIKE `{database}`.every")]).await;
        let empty = named(&database, "empty");
        let (_, from, rows) = at(&store, std::slice::from_ref(&empty)).await;
        let columns = "id, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y";
        let copy =
            format!("INSERT INTO `{database}`.empty ({columns}) SELECT {columns} FROM `{database}`.every");
        run(url, &["SET sql_mode = 'ALLOW_INVALID_DATES'", &copy]).await;
        let (said, from) = follows(&store, &empty, "every type", &(from, rows)).await;
        assert_eq!(said, 2);
        run(url, &[&format!("UPDATE `{database}`.empty SET i = -i, m = '-00:00:00.000001', h = -h")]).await;
        follows(&store, &empty, "every type updated", &from).await;
        assert!(store.describe(&every).await.is_ok());

        // What the other table does not have.
        let own = if kind == MYSQL_URLS {
            "j JSON, v VECTOR(3), gb VARCHAR(9) CHARACTER SET gb2312"
        } else {
            "j JSON, uu UUID, i6 INET6, i4 INET4, gb VARCHAR(9) CHARACTER SET gb2312"
        };
        run(
            url,
            &[&format!(
                "CREATE TABLE `{database}`.more (id INT PRIMARY KEY, {own}, t0 TIME, t1 TIME(1), t2 TIME(2), t3 TIME(3), t4 TIME(4), t5 TIME(5), \
                 d0 DATETIME, d2 DATETIME(2), d4 DATETIME(4), s0 TIMESTAMP NULL, s3 TIMESTAMP(3) NULL, b1 BIT(1), b64 BIT(64), \
                 z DECIMAL(65,30) ZEROFILL, n DECIMAL(20,0), m DECIMAL(9,9), e ENUM('', 'it''s', 'a,b', 'ü', '\\\\n'), st SET('x','y z','ü'), \
                 c1 VARCHAR(40) CHARACTER SET ucs2, c2 VARCHAR(40) CHARACTER SET utf16, c3 VARCHAR(40) CHARACTER SET utf16le, \
                 c4 VARCHAR(40) CHARACTER SET utf32, c5 VARCHAR(40) CHARACTER SET sjis, c6 VARCHAR(40) CHARACTER SET big5, \
                 c7 VARCHAR(40) CHARACTER SET euckr, c8 TEXT CHARACTER SET cp1251, c9 CHAR(9) CHARACTER SET latin2, \
                 ca CHAR(9) CHARACTER SET ascii, cb VARCHAR(40) CHARACTER SET utf8mb3, cc CHAR(255) CHARACTER SET utf8mb4, \
                 cd VARBINARY(400), ce BINARY(255), cf TINYTEXT, cg MEDIUMBLOB, ch LONGTEXT CHARACTER SET gbk, ci CHAR(1) CHARACTER SET latin1, \
                 g GEOMETRY, p POINT, mu MEDIUMINT UNSIGNED, bu BIGINT UNSIGNED, tz TINYINT(3) UNSIGNED ZEROFILL, y YEAR, \
                 gs INT GENERATED ALWAYS AS (id * 2) STORED, gv VARCHAR(20) GENERATED ALWAYS AS (CONCAT('v', id)) VIRTUAL)"
            )],
        )
        .await;
        let more = named(&database, "more");
        let (_, from, rows) = at(&store, std::slice::from_ref(&more)).await;
        let common = "t0 = '-838:59:59', t1 = '-00:00:00.1', t2 = '-01:00:00.99', t3 = '23:59:59.999', t4 = '-12:00:59.0001', t5 = '-00:00:01.00001', \
             d0 = '9999-12-31 23:59:59', d2 = '1000-01-01 00:00:00.01', d4 = '2024-02-29 12:00:00.1234', s0 = '1970-01-01 00:00:01', \
             s3 = '2038-01-19 03:14:07.999', b1 = 1, b64 = 18446744073709551615, z = 1.5, n = -12345678901234567890, m = 0.000000001, \
             e = 'it''s', st = 'x,ü', c1 = 'aé中', c2 = 'aé中😀', c3 = 'aé中😀', c4 = 'aé中😀', c5 = 'aカ日本', c6 = 'a中文', c7 = 'a한국', c8 = 'Привет', \
             c9 = 'Łódź', ca = 'abc', cb = 'aé中', cc = REPEAT('😀', 255), cd = REPEAT('x', 400), ce = x'010000', cf = 'ü', cg = REPEAT('y', 70000), \
             ch = '中文gbk', ci = 'ÿ', g = ST_GeomFromText('LINESTRING(0 0, 1 1)'), p = ST_GeomFromText('POINT(1 2)'), mu = 16777215, \
             bu = 18446744073709551615, tz = 7, y = 1901, gb = '中'";
        let own = if kind == MYSQL_URLS {
            "v = TO_VECTOR('[1,2,3]'), j = JSON_OBJECT('a', JSON_ARRAY(1, -1, 65535, -32769, 4294967295, 18446744073709551615, -9223372036854775808, true, null, 'ü\"\\n\\t/'), \
             'd', CAST(1.50 AS DECIMAL(10,5)), 'b', CAST(REPEAT('a', 100) AS BINARY), 't', CAST('-12:30:00.5' AS TIME(3)), 'day', CAST('2020-01-02' AS DATE), \
             'm', CAST('2020-01-02 03:04:05.678' AS DATETIME(6)), 'bit', b'101', 'o', JSON_OBJECT(), 'e', JSON_ARRAY(), 'long', REPEAT('x', 70000))"
        } else {
            "j = '{\"a\": [1, 2.50]}', uu = 'a1234567-89ab-11ef-8123-456789abcd00', i6 = '1:0:0:3:0:0:0:7', i4 = '1.2.3.0'"
        };
        run(
            url,
            &[
                "SET NAMES utf8mb4",
                &format!("INSERT INTO `{database}`.more SET id = 1, {common}, {own}"),
                &format!("INSERT INTO `{database}`.more (id) VALUES (2)"),
                "SET sql_mode = 'ALLOW_INVALID_DATES'",
                &format!(
                    "INSERT INTO `{database}`.more (id, t0, t1, d0, d2, s0, s3, e, st, z, n, m, b1, y, cc, ce, ch) VALUES (3, '00:00:00', '838:59:59', '0000-00-00', \
                     '2023-02-31 01:02:03.04', '0000-00-00', '0000-00-00', 99, '', 0, 0, -0.5, 0, 0, '', '', '')"
                ),
            ],
        )
        .await;
        if kind == MYSQL_URLS {
            // Numbers of every size, as the server writes them.
            let mut seed = 7_u64;
            let mut numbers = vec![
                "0.0".to_owned(),
                "-0.0".into(),
                "1e15".into(),
                "1e16".into(),
                "5e-324".into(),
                "1.7976931348623157e308".into(),
            ];
            while numbers.len() < 600 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let number = match numbers.len() % 3 {
                    0 => f64::from_bits(seed),
                    1 => (seed >> 40) as f64 / 1000.0,
                    _ => (seed >> 12) as f64 * 10_f64.powi((seed % 40) as i32 - 30),
                };
                if number.is_finite() {
                    numbers.push(format!("{number:e}"));
                }
            }
            let sql = format!(
                "INSERT INTO `{database}`.more (id, j) VALUES (4, JSON_ARRAY({}))",
                numbers.join(", ")
            );
            run(url, &[&sql]).await;
        }
        follows(&store, &more, "more types", &(from, rows)).await;
    }
}

#[tokio::test]
async fn changes_of_all_shards_on_top_of_the_old_rows_give_the_new_rows() {
    let _logs = LOGS.read().await;
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let prefix = fresh("follow");
        for (at, url) in urls.iter().take(2).enumerate() {
            let d = format!("{prefix}_{at}");
            run(url, &[&format!("CREATE DATABASE {d}"), &format!("CREATE TABLE {d}.bag (v INT, t TEXT)")])
                .await;
            for n in 0..2 {
                run(url, &[&format!("CREATE TABLE {d}.t_{n} (a VARCHAR(20) CHARACTER SET latin1, b INT, v TEXT, PRIMARY KEY (a, b))")]).await;
            }
        }
        let pattern = format!("{prefix}_{{0..1}}.t_{{0..1}}");
        let store = store(&urls[..2], &[("t", &pattern), ("bags", &format!("{prefix}_{{0..1}}.bag"))]);
        let (table, bags) = (TableName::bare("t"), TableName::bare("bags"));
        let (_, from, rows) = at(&store, std::slice::from_ref(&table)).await;
        let first = (from, rows);
        let (_, bag_from, bag_rows) = at(&store, std::slice::from_ref(&bags)).await;
        let all = |sql: &str| {
            let (sql, prefix, urls) = (sql.to_owned(), prefix.clone(), urls.clone());
            async move {
                for (at, url) in urls.iter().take(2).enumerate() {
                    for n in 0..2 {
                        let sql = sql
                            .replace("SHARD", &format!("{prefix}_{at}.t_{n}"))
                            .replace("K!!", &format!("k{at}{n}"));
                        run(url, &sql.split(';').collect::<Vec<_>>()).await;
                    }
                }
            }
        };
        all("INSERT INTO SHARD VALUES ('K!!', 1, 'a'), ('K!!', 2, NULL), ('K!!é', 3, 'c')").await;
        let (said, mut last) = follows(&store, &table, "inserts", &first).await;
        assert_eq!(said, 12);
        let rounds = [
            (
                "updates",
                "UPDATE SHARD SET v = CONCAT(v, 'x') WHERE b = 1;UPDATE SHARD SET v = 'y' WHERE b > 1",
                Some(12),
            ),
            (
                "keys change",
                "UPDATE SHARD SET b = b + 10 ORDER BY b DESC;UPDATE SHARD SET b = b + 1 ORDER BY b DESC",
                Some(48),
            ),
            ("deletes", "DELETE FROM SHARD WHERE v = 'y'", Some(8)),
            ("nothing", "UPDATE SHARD SET v = v", Some(0)),
            ("undone", "BEGIN;INSERT INTO SHARD VALUES ('K!!z', 9, 'z');ROLLBACK", Some(0)),
            (
                "there and gone",
                "INSERT INTO SHARD VALUES ('K!!', 5, 'a');DELETE FROM SHARD WHERE b = 5;REPLACE INTO SHARD VALUES ('K!!', 5, 'b'), ('K!!', 6, 'b');\
                 REPLACE INTO SHARD VALUES ('K!!', 5, 'c');INSERT INTO SHARD VALUES ('K!!', 5, 'd') ON DUPLICATE KEY UPDATE v = 'e'",
                None,
            ),
            // More than stays in memory.
            (
                "many",
                "INSERT INTO SHARD WITH RECURSIVE n AS (SELECT 100 b UNION ALL SELECT b + 1 FROM n WHERE b < 900) SELECT 'K!!', b, REPEAT('w', 2000) FROM n",
                Some(3204),
            ),
        ];
        for (what, sql, expected) in rounds {
            all(sql).await;
            let (said, now) = follows(&store, &table, what, &last).await;
            if let Some(expected) = expected {
                assert_eq!(said, expected, "{what}");
            }
            last = now;
        }
        for url in &urls[..2] {
            run(url, &["FLUSH BINARY LOGS"]).await;
        }
        all("DELETE FROM SHARD WHERE b % 3 = 0").await;
        follows(&store, &table, "over the end of a file", &last).await;
        follows(&store, &table, "all of it at once", &first).await;
        // Tables without a key change by counts.
        let bag = format!("{prefix}_1.bag");
        let sql = |sql: &str| sql.replace("BAG", &bag);
        run(
            &urls[1],
            &[
                &sql("INSERT INTO BAG VALUES (1, 'a'), (1, 'a'), (2, NULL)"),
                &sql("DELETE FROM BAG WHERE v = 1 LIMIT 1"),
            ],
        )
        .await;
        let (_, last) = follows(&store, &bags, "a bag", &(bag_from, bag_rows)).await;
        run(&urls[1], &[&sql("UPDATE BAG SET t = 'b'"), &sql("INSERT INTO BAG VALUES (1, 'b')")]).await;
        let (said, _) = follows(&store, &bags, "a bag updated", &last).await;
        assert_eq!(said, 5);
        // Both from one reading, in one cut.
        let tables = [table.clone(), bags.clone()];
        let (cut, _, rows) = at(&store, &tables).await;
        let mut merged = last.1.clone();
        let said = changes(cut.as_ref(), &bags, &last.0).await;
        assert!(said.is_ok());
        merged.apply(&said.unwrap().0).unwrap();
        assert_eq!(merged.difference(&read_table(cut.as_ref(), &bags).await.unwrap()), None);
        gone(changes(cut.as_ref(), &table, &last.0).await.err().unwrap(), "not part of the earlier cut");
        assert!(!rows.is_empty());
    }
}

/// Bytes of a server's log.
async fn logged(url: &str) -> u64 {
    let files = keepfast_mysql::testing::rows(url, "SHOW BINARY LOGS").await.unwrap();
    files.iter().map(|file| file[1].as_ref().unwrap().parse::<u64>().unwrap()).sum()
}

#[tokio::test]
async fn compressed_logs_are_followed() {
    let _logs = LOGS.write().await;
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (database, url) = (fresh("packed"), &urls[0]);
        let (on, off) = match kind {
            MARIADB_URLS => (
                "SET GLOBAL log_bin_compress = ON, GLOBAL log_bin_compress_min_len = 10",
                "SET GLOBAL log_bin_compress = OFF",
            ),
            _ => (
                "SET GLOBAL binlog_transaction_compression = ON",
                "SET GLOBAL binlog_transaction_compression = OFF",
            ),
        };
        run(
            url,
            &[
                on,
                &format!("CREATE DATABASE {database}"),
                &format!("CREATE TABLE {database}.t (id INT PRIMARY KEY, v LONGTEXT)"),
            ],
        )
        .await;
        let (store, table) = (store(&urls[..1], &[]), named(&database, "t"));
        let (_, from, rows) = at(&store, std::slice::from_ref(&table)).await;
        let before = logged(url).await;
        let mut session = Session::open(url).await.unwrap();
        let t = format!("{database}.t");
        session
            .run(&[
                &format!(
                    "INSERT INTO {t} VALUES (1, REPEAT('abc', 10000)), (2, 'b'), (3, REPEAT('xy', 3000000))"
                ),
                "BEGIN",
                &format!("UPDATE {t} SET v = CONCAT(v, 'tail of some length')"),
                &format!("DELETE FROM {t} WHERE id = 2"),
                "COMMIT",
                &format!("INSERT INTO {t} SELECT id + 10, v FROM {t}"),
            ])
            .await
            .unwrap();
        run(url, &[off]).await;
        let (said, _) = follows(&store, &table, "compressed", &(from, rows)).await;
        assert_eq!(said, 9);
        // It was compressed, or this shows nothing.
        let grown = logged(url).await - before;
        assert!(grown < 1_000_000, "{grown} bytes");
    }
}

#[tokio::test]
async fn what_a_log_does_not_say_is_refused_and_named() {
    let _logs = LOGS.read().await;
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (database, url) = (fresh("refuse"), &urls[0]);
        let sql = |sql: &str| sql.replace("D.", &format!("{database}."));
        run(
            url,
            &[
                &format!("CREATE DATABASE {database}"),
                &sql("CREATE TABLE D.t (id INT PRIMARY KEY, v INT)"),
                &sql("CREATE TABLE D.parent (id INT PRIMARY KEY)"),
                &sql("CREATE TABLE D.child (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES D.parent (id) ON DELETE CASCADE)"),
                &sql("INSERT INTO D.t VALUES (1, 1)"),
            ],
        )
        .await;
        let (store, table) = (store(&urls[..1], &[]), named(&database, "t"));
        let now = || async { at(&store, std::slice::from_ref(&table)).await.1 };
        // Statements that name other tables do no harm.
        let from = now().await;
        run(
            url,
            &[
                &sql("CREATE TABLE D.other (t INT)"),
                &sql("CREATE VIEW D.seen AS SELECT * FROM D.t"),
                &sql("CREATE INDEX i ON D.t (v)"),
                &sql("ANALYZE TABLE D.t"),
                &format!("CREATE DATABASE {database}_x"),
                &format!("CREATE TABLE {database}_x.t (id INT)"),
                &format!("DROP DATABASE {database}_x"),
            ],
        )
        .await;
        let cut = store.open_cut(std::slice::from_ref(&table), &CutOptions::default()).await.unwrap();
        assert_eq!(changes(cut.as_ref(), &table, &from).await.unwrap().rows(), 0);
        for statement in ["TRUNCATE D.t", "ALTER TABLE D.t ADD w INT", "ALTER TABLE D.t DROP w, FORCE"] {
            let from = now().await;
            run(url, &[&sql(statement)]).await;
            altered(refused(&store, &table, &from).await);
        }
        let from = now().await;
        run(url, &[&sql("RENAME TABLE D.t TO D.t2"), &sql("CREATE TABLE D.t LIKE D.t2")]).await;
        altered(refused(&store, &table, &from).await);
        // A part of the row only.
        let from = now().await;
        let mut session = Session::open(url).await.unwrap();
        session.run(&[&sql("INSERT INTO D.t VALUES (1, 1)")]).await.unwrap();
        session.run(&["SET SESSION binlog_row_image = MINIMAL", &sql("UPDATE D.t SET v = 2")]).await.unwrap();
        gone(refused(&store, &table, &from).await, "binlog_row_image");
        // Rows that a cascade removes are in no log.
        let child = named(&database, "child");
        let (_, from, _) = at(&store, std::slice::from_ref(&child)).await;
        gone(refused(&store, &child, &from).await, "cascade");
        // Another table's place, another log's, and none.
        let from = now().await;
        gone(refused(&store, &child, &from).await, "cascade");
        gone(refused(&store, &named(&database, "parent"), &from).await, "not part of the earlier cut");
        let with = |edit: &dyn Fn(&mut ShardPosition)| {
            let mut from = from.clone();
            from.positions.iter_mut().for_each(edit);
            from
        };
        let edited = with(&|p| {
            if let Position::Token(text) = &mut p.position {
                *text = text.replace("\"begun\":", "\"begun\":1");
            }
        });
        // A number that is too large is no record at all.
        let error = refused(&store, &table, &edited).await;
        assert!(matches!(error, StoreError::ChangesGone { .. }), "{error}");
        let edited = with(&|p| {
            if let Position::Token(text) = &mut p.position {
                let mut record: serde_json::Value = serde_json::from_str(text).unwrap();
                record["begun"] = 7.into();
                *text = record.to_string();
            }
        });
        gone(refused(&store, &table, &edited).await, "set up anew");
        let edited = with(&|p| {
            if let Position::File { file, .. } = &mut p.position {
                *file = file.replace("binlog.0", "binlog.9");
            }
        });
        gone(refused(&store, &table, &edited).await, "purged");
        let edited = with(&|p| {
            if let Position::File { offset, .. } = &mut p.position {
                *offset = u64::MAX;
            }
        });
        gone(refused(&store, &table, &edited).await, "ends before");
        gone(
            refused(&store, &table, &with(&|p| p.position = Position::Token("of another store".into())))
                .await,
            "no place",
        );
        let empty = Cut { positions: vec![], ..from.clone() };
        gone(refused(&store, &table, &empty).await, "no place");
        if kind == MYSQL_URLS {
            run(url, &[&sql("CREATE TABLE D.odd (id INT PRIMARY KEY, v VARCHAR(9) CHARACTER SET gb18030)")])
                .await;
            let odd = named(&database, "odd");
            let (_, from, _) = at(&store, std::slice::from_ref(&odd)).await;
            run(url, &[&sql("INSERT INTO D.odd VALUES (1, 'a')")]).await;
            gone(refused(&store, &odd, &from).await, "gb18030");
        }
    }
}

#[tokio::test]
async fn purged_logs_and_logs_of_statements_are_refused_with_what_to_set() {
    let _logs = LOGS.write().await;
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (database, url) = (fresh("purge"), &urls[0]);
        let sql = |sql: &str| sql.replace("D.", &format!("{database}."));
        run(
            url,
            &[&format!("CREATE DATABASE {database}"), &sql("CREATE TABLE D.t (id INT PRIMARY KEY, v INT)")],
        )
        .await;
        let (store, table) = (store(&urls[..1], &[]), named(&database, "t"));
        let now = || async { at(&store, std::slice::from_ref(&table)).await.1 };
        let from = now().await;
        run(url, &["SET SESSION binlog_format = STATEMENT", &sql("INSERT INTO D.t VALUES (1, 1)")]).await;
        gone(refused(&store, &table, &from).await, "binlog_format = 'ROW'");
        let from = now().await;
        run(url, &["SET GLOBAL binlog_row_image = MINIMAL"]).await;
        let error = refused(&store, &table, &from).await;
        run(url, &["SET GLOBAL binlog_row_image = FULL"]).await;
        gone(error, "SET GLOBAL binlog_row_image = 'FULL'");
        run(url, &["FLUSH BINARY LOGS", &sql("INSERT INTO D.t VALUES (2, 2)")]).await;
        let last = keepfast_mysql::testing::rows(url, "SHOW BINARY LOGS").await.unwrap();
        let last = last.last().unwrap()[0].clone().unwrap();
        // The server keeps a file that a reader of it has not left yet.
        for _ in 0..50 {
            run(url, &[&format!("PURGE BINARY LOGS TO '{last}'")]).await;
            let files = keepfast_mysql::testing::rows(url, "SHOW BINARY LOGS").await.unwrap();
            if files.len() == 1 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        gone(refused(&store, &table, &from).await, "purged");
    }
}
