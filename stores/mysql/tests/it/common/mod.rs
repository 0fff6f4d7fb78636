//! Servers, and statements for them by a client of their own kind.

use arrow::array::RecordBatch;
use futures::{StreamExt, TryStreamExt, stream};
use keepfast_model::{Digest, RowHasher, RunId, TableName};
use keepfast_mysql::{MySqlStore, Options};
use keepfast_store::load::LoadTable;
use keepfast_store::{
    CutOptions, Load, LoadMode, LoadOptions, OpenCut, PlanOptions, Published, ScanOptions, Store, StoreError,
};
use keepfast_testbed::mysql::{MARIADB_URLS, MYSQL_URLS};
pub use keepfast_testbed::skipped;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Both kinds of server.
pub const KINDS: [&str; 2] = [MARIADB_URLS, MYSQL_URLS];

/// URLs of the servers of a kind; none where the run has none, which is said and counted.
pub fn servers(kind: &str) -> Option<Vec<String>> {
    match std::env::var(kind) {
        Ok(urls) if !urls.is_empty() => Some(urls.split(' ').map(str::to_owned).collect()),
        _ => {
            skipped(&format!("{kind} names no servers; `cargo xtask test` starts some"));
            None
        }
    }
}

/// Whether a run may take long (`KEEPFAST_LONG=1`).
pub fn long() -> bool {
    std::env::var_os("KEEPFAST_LONG").is_some()
}

/// A name that no other test has.
pub fn fresh(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{name}_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The store of these servers.
pub fn store(urls: &[String], tables: &[(&str, &str)]) -> MySqlStore {
    let sharded =
        |shards: &str| keepfast_mysql::ShardedTable { shards: shards.to_owned(), ..Default::default() };
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

/// The store of these servers with one table that has shards and a rule.
pub fn sharded(urls: &[String], name: &str, shards: &str, rule: Option<&str>) -> MySqlStore {
    let table = keepfast_mysql::ShardedTable {
        shards: shards.to_owned(),
        shard_rule: rule.map(str::to_owned),
        ..Default::default()
    };
    MySqlStore::new(&Options {
        urls: urls.to_vec(),
        tables: [(name.to_owned(), table)].into(),
        sessions: 2,
        ..Options::default()
    })
    .unwrap()
}

/// The digest of a table at a cut.
pub async fn digest(cut: &dyn OpenCut, table: &TableName) -> Digest {
    let hasher = RowHasher::new(&cut.table(table).await.unwrap().schema);
    let (batches, _) = read(cut, table, 1).await;
    batches.iter().fold(Digest::default(), |sum, batch| sum.merge(hasher.digest(batch).unwrap()))
}

/// A cut of tables now.
pub async fn cut_of(store: &dyn Store, tables: &[TableName]) -> Arc<dyn OpenCut> {
    store.open_cut(tables, &CutOptions { allow_fuzzy: true }).await.unwrap()
}

/// The digest of a table now.
pub async fn digest_now(store: &dyn Store, table: &TableName) -> Digest {
    let cut = cut_of(store, std::slice::from_ref(table)).await;
    let found = digest(cut.as_ref(), table).await;
    cut.release().await.unwrap();
    found
}

/// Begins to load tables as they are at a cut, each under a name.
pub async fn begin(
    store: &dyn Store,
    cut: &dyn OpenCut,
    tables: &[(&TableName, &TableName)],
    mode: LoadMode,
) -> Result<Arc<dyn Load>, StoreError> {
    let mut all = vec![];
    for (from, to) in tables {
        let at = cut.table(from).await.unwrap();
        all.push(LoadTable {
            target: (*to).clone(),
            schema: at.schema,
            dependents: at.dependents,
            mode,
            segment_rows: None,
            replaced_tag: "7".into(),
            shard_rule: None,
        });
    }
    store.begin_load(LoadOptions { run: RunId(fresh("run")), tables: all }).await
}

/// Loads all rows in so many parts of each table, and finishes.
pub async fn fill(
    load: &dyn Load,
    cut: &dyn OpenCut,
    tables: &[(&TableName, &TableName)],
    parts: usize,
) -> Result<(), StoreError> {
    let mut all = vec![];
    for (from, to) in tables {
        let (batches, _) = read(cut, from, 1).await;
        let whole = arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap();
        let size = whole.num_rows().div_ceil(parts);
        let mut written = vec![];
        for part in 0..parts {
            let from = (part * size).min(whole.num_rows());
            let rows = whole.slice(from, size.min(whole.num_rows() - from));
            written.push(load.write_part(to, part as u32, stream::iter([Ok(rows)]).boxed()).await?);
        }
        all.push(((*to).clone(), written));
    }
    load.finish(all).await
}

/// Brings a table of one store into another, compares what is read back before it is visible, and publishes it.
pub async fn restored(
    (from_store, from): (&dyn Store, &TableName),
    (to_store, to): (&dyn Store, &TableName),
    mode: LoadMode,
) -> Published {
    let cut = cut_of(from_store, std::slice::from_ref(from)).await;
    let load = begin(to_store, cut.as_ref(), &[(from, to)], mode).await.unwrap();
    fill(load.as_ref(), cut.as_ref(), &[(from, to)], 3).await.unwrap();
    let beside = load.open_cut().await.unwrap();
    assert_eq!(digest(beside.as_ref(), to).await, digest(cut.as_ref(), from).await);
    beside.release().await.unwrap();
    let published = load.publish().await.unwrap();
    cut.release().await.unwrap();
    published
}

/// Names of unpublished tables and journals in databases whose names begin so.
pub async fn strays(urls: &[String], databases: &str) -> Vec<String> {
    let mut all = vec![];
    for url in urls {
        let sql = format!(
            "SELECT table_name FROM information_schema.tables WHERE table_schema LIKE '{databases}%' \
             AND table_name LIKE '\\_\\_keepfast%'"
        );
        let rows = keepfast_mysql::testing::rows(url, &sql).await.unwrap();
        all.extend(rows.into_iter().filter_map(|mut row| row.remove(0)));
    }
    all
}
