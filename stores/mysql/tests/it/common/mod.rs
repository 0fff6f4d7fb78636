//! Servers, and statements for them by a client of their own kind.

use arrow::array::RecordBatch;
use futures::TryStreamExt;
use keepfast_model::TableName;
use keepfast_mysql::{MySqlStore, Options};
use keepfast_store::{OpenCut, PlanOptions, ScanOptions};
use keepfast_testbed::mysql::{MARIADB_URLS, MYSQL_URLS};
use std::sync::atomic::{AtomicU32, Ordering};

/// Both kinds of server.
pub const KINDS: [&str; 2] = [MARIADB_URLS, MYSQL_URLS];

/// URLs of the servers of a kind; none where the run has none, which is said and counted.
pub fn servers(kind: &str) -> Option<Vec<String>> {
    match std::env::var(kind) {
        Ok(urls) if !urls.is_empty() => Some(urls.split(' ').map(str::to_owned).collect()),
        _ => {
            eprintln!("SKIPPED: {kind} names no servers");
            None
        }
    }
}

/// A name that no other test has.
pub fn fresh(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{name}_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The store of these servers.
pub fn store(urls: &[String], tables: &[(&str, &str)]) -> MySqlStore {
    let sharded = |shards: &str| keepfast_mysql::ShardedTable { shards: shards.to_owned(), key: vec![] };
    MySqlStore::new(&Options {
        urls: urls.to_vec(),
        tables: tables.iter().map(|(name, shards)| ((*name).to_owned(), sharded(shards))).collect(),
        sessions: 2,
        ..Options::default()
    })
    .unwrap()
}

/// Runs statements on a server.
pub async fn run(url: &str, statements: &[&str]) {
    keepfast_mysql::testing::run(url, statements).await.unwrap();
}

/// The first value of a statement's first row.
pub async fn value(url: &str, sql: &str) -> Option<String> {
    keepfast_mysql::testing::rows(url, sql).await.unwrap().remove(0).remove(0)
}

/// A table `every` with a column of every type, and two rows: the ends of each, and what no column of ours holds.
pub async fn every_type(url: &str, database: &str) {
    run(
            url,
            &[
                &format!("CREATE DATABASE `{database}`"),
                &format!(
                    "CREATE TABLE `{database}`.`every` (id BIGINT UNSIGNED PRIMARY KEY, a TINYINT, b SMALLINT UNSIGNED, c MEDIUMINT, \
                     d INT UNSIGNED, e BIGINT, f FLOAT, g DOUBLE, h DECIMAL(65,30), i DECIMAL(10,2), j BIT(13), k YEAR, \
                     l DATE, m TIME(6), n DATETIME(6), o TIMESTAMP(6) NULL, p CHAR(5), q VARCHAR(300), r TEXT, \
                     s BINARY(4), t VARBINARY(20), u BLOB, v ENUM('x','y'), w SET('p','q'), x VARCHAR(20) CHARACTER SET latin1, \
                     y VARCHAR(20) CHARACTER SET gbk, z INT GENERATED ALWAYS AS (a + 1) VIRTUAL)"
                ),
                "SET sql_mode = ''",
                &format!(
                    "INSERT INTO `{database}`.`every` (id, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y) VALUES \
                     (18446744073709551615, -128, 65535, -8388608, 4294967295, -9223372036854775808, 1.17549435e-38, 4.9406564584124654e-324, \
                      12345678901234567890123456789012345.5, -1234567.89, b'1000000000001', 2155, '1000-01-01', '-838:59:58.999999', \
                      '9999-12-31 23:59:59.999999', '2038-01-19 03:14:07.999999', 'ab', 'naïve ☃ 😀', 'text', x'0001', x'00ff', x'', \
                      'y', 'p,q', 'é', '中'), \
                     (1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 1.5, NULL, NULL, NULL, '0000-00-00', '12:30:00.5', \
                      '2020-00-00 10:11:12', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)"
                ),
            ],
        )
        .await;
}

/// All rows of a table at a cut, and in how many partitions they came.
pub async fn read(cut: &dyn OpenCut, table: &TableName, partitions: u32) -> (Vec<RecordBatch>, usize) {
    let plan = cut.plan(table, &PlanOptions { partitions, bounds: vec![] }).await.unwrap();
    let mut all = vec![];
    for partition in &plan {
        let stream = cut.scan(partition, &ScanOptions::default()).await.unwrap();
        all.extend(stream.try_collect::<Vec<_>>().await.unwrap());
    }
    (all, plan.len())
}

pub fn named(database: &str, table: &str) -> TableName {
    TableName { store: None, database: database.to_owned(), table: table.to_owned() }
}
