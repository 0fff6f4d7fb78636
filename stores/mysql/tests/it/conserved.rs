//! Writers move amounts between rows on two servers; whatever moment a backup is of, the sum is the same, and no transfer is torn.
//!
//! Each transfer writes one row on each server: it moves an amount, sets the row's `transfer`, and adds a row of that number to `moves`.
//! Each backup is restored into other tables of both servers, and what counts is what the servers sum there.

use crate::binlog::LOGS;
use crate::common::*;
use crate::privileges::{account, drop_account};
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use futures::{StreamExt, TryStreamExt};
use keepfast_model::cut::Exactness;
use keepfast_model::{RowHasher, RunId, TableName};
use keepfast_mysql::testing::Session;
use keepfast_mysql::{Lock, Marker, MySqlStore, Options, Pause, ShardedTable, Transactions};
use keepfast_store::conformance::{RowSet, read_table};
use keepfast_store::load::LoadTable;
use keepfast_store::{
    CutOptions, LoadMode, LoadOptions, OpenCut, Past, PlanOptions, ProofRequest, ScanOptions, Store,
    StoreError, Until,
};
use keepfast_testbed::debian::Debian;
use keepfast_testbed::mysql::{DUMP_TOOLS, MARIADB_URLS, MYSQL_URLS};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const ROWS: usize = 40;
const AMOUNT: i64 = 1000;
const WRITERS: usize = 4;

/// How the writers commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Commits {
    Xa,
    /// One COMMIT on each server. Rows say which transfer wrote them.
    Twice,
    /// As that, and each adds a row to a table of intents.
    Intents,
    /// All is written and committed on the one server before the other one is begun.
    OneByOne,
}

/// Backups after which it is said that none of them tears anything.
const MOST: usize = 50;

fn cuts() -> usize {
    if long() { 50 } else { 6 }
}

/// Tables `accounts` and `moves` of one shard on each of two servers, and the same for what is restored.
async fn bank(urls: &[String], options: Options) -> (MySqlStore, String) {
    let prefix = fresh("sum");
    for (at, url) in urls.iter().take(2).enumerate() {
        let database = format!("{prefix}_{at}");
        let rows: Vec<String> = (0..ROWS).map(|n| format!("({}, {AMOUNT}, NULL)", at * ROWS + n)).collect();
        run(
            url,
            &[
                &format!("CREATE DATABASE {database}"),
                &format!("CREATE DATABASE {prefix}_back_{at}"),
                &format!("CREATE TABLE {database}.accounts (id INT PRIMARY KEY, amount BIGINT NOT NULL, transfer BIGINT)"),
                &format!("CREATE TABLE {database}.moves (id BIGINT PRIMARY KEY, server INT NOT NULL)"),
                &format!("INSERT INTO {database}.accounts VALUES {}", rows.join(",")),
                &format!("CREATE DATABASE {prefix}_intents"),
                &format!("CREATE TABLE {prefix}_intents.transfers (id BIGINT PRIMARY KEY, servers INT NOT NULL)"),
            ],
        )
        .await;
    }
    let sharded = |name: &str| {
        let shards = format!("{prefix}_{{0..1}}.{name}");
        (name.to_owned(), ShardedTable { shards, ..Default::default() })
    };
    let back = |name: &str, rule: String| {
        let shards = format!("{prefix}_back_{{0..1}}.{name}");
        (format!("{name}_back"), ShardedTable { shards, shard_rule: Some(rule), ..Default::default() })
    };
    let mut options = options;
    if let Transactions::Marked(Marker::Intents { database, .. }) = &mut options.transactions {
        *database = format!("{prefix}_intents");
    }
    options.urls = urls[..2].to_vec();
    options.tables = [
        sharded("accounts"),
        sharded("moves"),
        back("accounts", format!("id div {ROWS} % 2")),
        back("moves", "id % 2".to_owned()),
    ]
    .into();
    options.sessions = 2;
    (MySqlStore::new(&options).unwrap(), prefix)
}

fn accounts() -> TableName {
    TableName::bare("accounts")
}

fn moves() -> TableName {
    TableName::bare("moves")
}

/// Moves amounts until told to stop; says how many moves it made. Two writers share their rows with each other.
async fn write(
    urls: Vec<String>,
    prefix: String,
    writer: usize,
    how: Commits,
    state: (Arc<AtomicBool>, Arc<AtomicBool>),
) -> u32 {
    let (stop, pause) = state;
    let mut sessions = [Session::open(&urls[0]).await.unwrap(), Session::open(&urls[1]).await.unwrap()];
    let mut moves = 0;
    while !stop.load(Ordering::Relaxed) {
        if pause.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        }
        let (row, amount) = (writer / 2 % 4 * 10 + moves as usize % 10, i64::from(moves % 7) + 1);
        let id = writer as i64 * 1_000_000 + i64::from(moves) + 1;
        let xid = |at: usize| format!("'{prefix}-{id}','{at}'");
        let begin =
            |at: usize| if how == Commits::Xa { format!("XA START {}", xid(at)) } else { "BEGIN".into() };
        let write = |at: usize| {
            let (sign, row) = if at == 0 { ('-', row) } else { ('+', ROWS + row) };
            let mut all = vec![
                format!(
                    "UPDATE {prefix}_{at}.accounts SET amount = amount {sign} {amount}, transfer = {id} WHERE id = {row}"
                ),
                format!("INSERT INTO {prefix}_{at}.moves VALUES ({}, {at})", id * 2 + at as i64),
            ];
            if how == Commits::Intents {
                all.push(format!("INSERT INTO {prefix}_intents.transfers VALUES ({id}, 2)"));
            }
            all
        };
        let commit =
            |at: usize| if how == Commits::Xa { format!("XA COMMIT {}", xid(at)) } else { "COMMIT".into() };
        if how == Commits::OneByOne {
            for (at, session) in sessions.iter_mut().enumerate() {
                let all = [vec![begin(at)], write(at), vec![commit(at)]].concat();
                session.run(&all.iter().map(String::as_str).collect::<Vec<_>>()).await.unwrap();
            }
            moves += 1;
            continue;
        }
        for (at, session) in sessions.iter_mut().enumerate() {
            let all = [vec![begin(at)], write(at)].concat();
            session.run(&all.iter().map(String::as_str).collect::<Vec<_>>()).await.unwrap();
        }
        if how == Commits::Xa {
            for (at, session) in sessions.iter_mut().enumerate() {
                let end = [format!("XA END {}", xid(at)), format!("XA PREPARE {}", xid(at))];
                session.run(&[&end[0], &end[1]]).await.unwrap();
            }
        }
        for (at, session) in sessions.iter_mut().enumerate() {
            session.run(&[&commit(at)]).await.unwrap();
        }
        moves += 1;
    }
    moves
}

fn sum(rows: &RowSet) -> i64 {
    rows.to_batch().unwrap().column(1).as_primitive::<Int64Type>().iter().flatten().sum()
}

/// Transfers of which one server has a row and the other has none.
fn torn(moves: &RowSet) -> usize {
    let batch = moves.to_batch().unwrap();
    let mut parts = BTreeMap::<i64, usize>::new();
    for id in batch.column(0).as_primitive::<Int64Type>().iter().flatten() {
        *parts.entry(id / 2).or_default() += 1;
    }
    parts.values().filter(|parts| **parts != 2).count()
}

/// What the servers have in the tables that were restored: the sum of amounts, and the transfers of which one server has a row and the other
/// has none.
async fn restored_sum(urls: &[String], prefix: &str) -> (i64, usize) {
    let (mut sum, mut parts) = (0, BTreeMap::<String, usize>::new());
    for (at, url) in urls.iter().take(2).enumerate() {
        let database = format!("{prefix}_back_{at}");
        let amounts = value(url, &format!("SELECT SUM(amount) FROM {database}.accounts")).await;
        sum += amounts.map_or(0, |amounts| amounts.parse::<i64>().unwrap());
        let ids = format!("SELECT id DIV 2 FROM {database}.moves");
        for mut row in keepfast_mysql::testing::rows(url, &ids).await.unwrap() {
            *parts.entry(row.remove(0).unwrap()).or_default() += 1;
        }
    }
    (sum, parts.values().filter(|parts| **parts != 2).count())
}

/// Drops them, for the next ones.
async fn drop_restored(urls: &[String], prefix: &str) {
    for (at, url) in urls.iter().take(2).enumerate() {
        run(url, &[&format!("DROP TABLE {prefix}_back_{at}.accounts, {prefix}_back_{at}.moves")]).await;
    }
}

/// Restores the rows of a cut: loads them, reads them back, publishes.
async fn restore(store: &MySqlStore, cut: &dyn OpenCut, tables: [(TableName, &RowSet); 2]) {
    let (mut asked, mut all) = (vec![], vec![]);
    for (from, rows) in tables {
        let (at, target) = (cut.table(&from).await.unwrap(), TableName::bare(format!("{}_back", from.table)));
        asked.push(LoadTable {
            target: target.clone(),
            schema: at.schema.clone(),
            dependents: at.dependents,
            mode: LoadMode::Create,
            segment_rows: None,
            shard_rule: None,
            replaced_tag: "7".into(),
        });
        all.push((target, at.schema, rows.to_batch().unwrap()));
    }
    let load = store.begin_load(LoadOptions { run: RunId(fresh("run")), tables: asked }).await.unwrap();
    let mut parts = vec![];
    for (target, _, batch) in &all {
        let rows = futures::stream::iter([Ok(batch.clone())]).boxed();
        parts.push((target.clone(), vec![load.write_part(target, 0, rows).await.unwrap()]));
    }
    load.finish(parts).await.unwrap();
    let beside = load.open_cut().await.unwrap();
    for (target, schema, batch) in &all {
        let given = RowHasher::new(schema).digest(batch).unwrap();
        assert_eq!(digest(beside.as_ref(), target).await, given, "{target}");
    }
    beside.release().await.unwrap();
    load.publish().await.unwrap();
    load.forget().await.unwrap();
}

/// What a series of backups under writers had.
#[derive(Debug, Default)]
struct Series {
    cuts: usize,
    /// Those that, restored, had another sum or torn transfers; and all transfers that were torn.
    wrong: usize,
    torn: usize,
    exact: usize,
    moves: u32,
}

impl Series {
    fn goes_on(&self, count: usize, tears: bool) -> bool {
        self.cuts < count || tears && self.wrong == 0 && self.cuts < MOST
    }

    fn add(&mut self, (sum, torn): (i64, usize)) {
        self.cuts += 1;
        self.torn += torn;
        self.wrong += usize::from(torn > 0 || sum != 2 * ROWS as i64 * AMOUNT);
    }
}

/// Writers at work.
struct Writers {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<u32>>,
}

impl Writers {
    async fn begin(urls: &[String], prefix: &str, how: Commits) -> Self {
        let (stop, pause) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let tasks = (0..WRITERS).map(|writer| {
            let state = (stop.clone(), pause.clone());
            tokio::spawn(write(urls.to_vec(), prefix.to_owned(), writer, how, state))
        });
        let tasks = tasks.collect();
        tokio::time::sleep(Duration::from_millis(100)).await;
        Self { stop, tasks }
    }

    /// Ends them; says how many moves they made.
    async fn end(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        let mut moves = 0;
        for task in self.tasks {
            moves += task.await.unwrap();
        }
        moves
    }
}

/// Backups of both tables under writers, each restored, and compared with the last one and the log between them.
///
/// As many as are asked for, and, where something must be shown to be torn, more until it is.
async fn series(
    urls: &[String],
    (store, prefix): &(MySqlStore, String),
    how: Commits,
    (cuts, tears): (usize, bool),
) -> Series {
    let writers = Writers::begin(urls, prefix, how).await;
    let mut series = Series::default();
    let mut last: Option<(keepfast_model::Cut, RowSet)> = None;
    while series.goes_on(cuts, tears) {
        let (at, tables) = (series.cuts, [accounts(), moves()]);
        let cut = store.open_cut(&tables, &CutOptions { allow_fuzzy: true }).await.unwrap();
        // All is scanned before the first table is closed.
        let scanned = (scan(cut.as_ref(), &accounts()).await, scan(cut.as_ref(), &moves()).await);
        let (amounts, made) = (
            closed(cut.as_ref(), scanned.0, &accounts()).await,
            closed(cut.as_ref(), scanned.1, &moves()).await,
        );
        for (table, rows) in [(accounts(), &amounts), (moves(), &made)] {
            let proof = cut.prove(&table, &ProofRequest::default()).await.unwrap();
            assert!(proof.is_none_or(|proof| proof.rows == rows.len()), "cut {at} of {table}");
        }
        if let Some((from, rows)) = &mut last {
            let changes = cut.changes(&accounts(), &from.positions).await.unwrap();
            rows.apply(&changes.try_collect::<Vec<_>>().await.unwrap()).unwrap();
            assert_eq!(rows.difference(&amounts), None, "cut {at} by the log");
        }
        restore(store, cut.as_ref(), [(accounts(), &amounts), (moves(), &made)]).await;
        series.add(restored_sum(urls, prefix).await);
        drop_restored(urls, prefix).await;
        series.exact += usize::from(cut.cut().exactness == Exactness::Exact);
        last = Some((cut.cut(), amounts));
        cut.release().await.unwrap();
    }
    series.moves = writers.end().await;
    assert!(series.moves as usize > series.cuts, "{series:?}: too few moves to show anything");
    series
}

async fn scan(cut: &dyn OpenCut, table: &TableName) -> RowSet {
    let mut rows = RowSet::new(&cut.table(table).await.unwrap().schema);
    for partition in cut.plan(table, &PlanOptions::default()).await.unwrap() {
        let stream = cut.scan(&partition, &ScanOptions::default()).await.unwrap();
        for batch in stream.try_collect::<Vec<_>>().await.unwrap() {
            rows.add(&partition.shard, &batch).unwrap();
        }
    }
    rows
}

async fn closed(cut: &dyn OpenCut, mut rows: RowSet, table: &TableName) -> RowSet {
    if let Some(changes) = cut.closing_changes(table).await.unwrap() {
        rows.apply(&changes.try_collect::<Vec<_>>().await.unwrap()).unwrap();
    }
    rows
}

fn marker() -> Transactions {
    Transactions::Marked(Marker::Column("transfer".into()))
}

fn intents() -> Transactions {
    Transactions::Marked(Marker::Intents { database: String::new(), table: "transfers".into() })
}

/// Every backup has the sum and no torn transfer, and is exact.
async fn holds(kind: &str, how: Commits, transactions: Transactions, lock: Lock) {
    let _logs = LOGS.read().await;
    let Some(urls) = servers(kind) else { return };
    let bank = bank(&urls, Options { transactions, lock, ..Options::default() }).await;
    let started = Instant::now();
    let series = series(&urls, &bank, how, (cuts(), false)).await;
    eprintln!(
        "COUNT {} whole backups restored: {kind} {how:?} {lock:?}, {series:?} in {:?}",
        series.cuts - series.wrong,
        started.elapsed()
    );
    assert_eq!((series.wrong, series.exact), (0, series.cuts), "{series:?}");
}

macro_rules! holds {
    ($($name:ident: $kind:expr, $how:expr, $transactions:expr, $lock:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            holds($kind, $how, $transactions, $lock).await;
        }
    )*};
}

holds! {
    xa_transfers_are_whole_behind_a_barrier_on_mariadb: MARIADB_URLS, Commits::Xa, Transactions::Xa, Lock::Barrier;
    xa_transfers_are_whole_behind_a_barrier_on_mysql: MYSQL_URLS, Commits::Xa, Transactions::Xa, Lock::Barrier;
    xa_transfers_are_whole_without_a_lock_on_mariadb: MARIADB_URLS, Commits::Xa, Transactions::Xa, Lock::None;
    xa_transfers_are_whole_without_a_lock_on_mysql: MYSQL_URLS, Commits::Xa, Transactions::Xa, Lock::None;
    marked_transfers_are_whole_behind_a_barrier_on_mariadb: MARIADB_URLS, Commits::Twice, marker(), Lock::Barrier;
    marked_transfers_are_whole_behind_a_barrier_on_mysql: MYSQL_URLS, Commits::OneByOne, marker(), Lock::Barrier;
    marked_transfers_are_whole_without_a_lock_on_mariadb: MARIADB_URLS, Commits::OneByOne, marker(), Lock::None;
    marked_transfers_are_whole_without_a_lock_on_mysql: MYSQL_URLS, Commits::Twice, marker(), Lock::None;
    transfers_with_intents_are_whole_behind_a_barrier_on_mariadb: MARIADB_URLS, Commits::Intents, intents(), Lock::Barrier;
    transfers_with_intents_are_whole_without_a_lock_on_mysql: MYSQL_URLS, Commits::Intents, intents(), Lock::None;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_alone_tears_transfers_and_says_so() {
    let _logs = LOGS.read().await;
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        for lock in [Lock::Barrier, Lock::None] {
            let bank = bank(&urls, Options { lock, ..Options::default() }).await;
            let series = series(&urls, &bank, Commits::Twice, (cuts(), true)).await;
            eprintln!(
                "COUNT {} torn backups behind a lock alone, {} backups behind a lock alone: {kind} {lock:?}, {series:?}",
                series.wrong, series.cuts
            );
            assert_eq!(series.exact, 0);
            assert!(series.torn > 0, "the load does not show what closing is for: {series:?}");
        }
    }
}

/// The way of mydumper's that others go by: a dump of each server, which locks it for its moment.
fn dumping(tools: &Debian, url: &str, database: &str, folder: &Path) -> Child {
    let (who, place) = url.strip_prefix("mysql://").unwrap().split_once('@').unwrap();
    let ((user, password), (host, port)) = (who.split_once(':').unwrap(), place.split_once(':').unwrap());
    let login = format!("host={host}\nport={port}\nuser={user}\npassword={password}\n");
    let file = folder.join(format!("{database}.login"));
    std::fs::write(&file, format!("[client]\n{login}[mydumper]\n{login}")).unwrap();
    let mut command = tools.command(&tools.path("usr/bin/mydumper"));
    command.arg(format!("--defaults-file={}", file.display()));
    command.arg(format!("--outputdir={}", folder.join(database).display()));
    command.args(["--threads=1", "--no-schemas", &format!("--database={database}")]);
    // It gives up beside statements that run longer than a minute, as those of other tests may.
    command.arg("--long-query-guard=3600");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn dumped(dump: Child) {
    let ended = dump.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

/// Dumps of both servers, at once or one after the other, each restored.
async fn dumps(tools: &Debian, urls: &[String], how: Commits, at_once: bool, count: usize) -> Series {
    let (_, prefix) = bank(urls, Options::default()).await;
    let writers = Writers::begin(urls, &prefix, how).await;
    let mut series = Series::default();
    while series.goes_on(count, true) {
        let folder = tempfile::tempdir().unwrap();
        let names = [0, 1].map(|at| format!("{prefix}_{at}"));
        let begin = |at: usize| dumping(tools, &urls[at], &names[at], folder.path());
        let first = begin(0);
        if at_once {
            let second = begin(1);
            tokio::task::block_in_place(|| [first, second].into_iter().for_each(dumped));
        } else {
            tokio::task::block_in_place(|| dumped(first));
            let second = begin(1);
            tokio::task::block_in_place(|| dumped(second));
        }
        for (at, url) in urls.iter().take(2).enumerate() {
            let mut session = Session::open(url).await.unwrap();
            session.run(&[&format!("USE {prefix}_back_{at}")]).await.unwrap();
            for table in ["accounts", "moves"] {
                session.run(&[&format!("CREATE TABLE {table} LIKE {prefix}_{at}.{table}")]).await.unwrap();
                let file = folder.path().join(&names[at]).join(format!("{}.{table}.sql", names[at]));
                // A table without rows has no file.
                let Ok(statements) = std::fs::read_to_string(file) else { continue };
                for statement in statements.split(";\n").filter(|statement| !statement.trim().is_empty()) {
                    session.run(&[statement]).await.unwrap();
                }
            }
        }
        series.add(restored_sum(urls, &prefix).await);
        drop_restored(urls, &prefix).await;
    }
    series.moves = writers.end().await;
    series
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_of_each_server_by_mydumper_tears_transfers() {
    let _logs = LOGS.read().await;
    let Some(tools) = std::env::var_os(DUMP_TOOLS) else {
        skipped(&format!("{DUMP_TOOLS} names no folder with mydumper; `cargo xtask test` fetches it"));
        return;
    };
    let tools = Debian::at(tools.into());
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        for how in [Commits::Twice, Commits::Xa] {
            for at_once in [false, true] {
                let (started, series) = (Instant::now(), dumps(&tools, &urls, how, at_once, cuts()).await);
                let when = if at_once { "at once" } else { "one after the other" };
                eprintln!(
                    "COUNT {} torn dumps by mydumper, {} dumps by mydumper: {kind} {how:?}, servers {when}, {series:?} in {:?}",
                    series.wrong,
                    series.cuts,
                    started.elapsed()
                );
                assert!(
                    series.wrong > 0,
                    "nothing was torn, so this shows nothing: {kind} {how:?} {when} {series:?}"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_whose_second_half_comes_late_is_waited_for_and_a_half_one_is_not_called_exact() {
    let _logs = LOGS.read().await;
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let bank = bank(&urls, Options { transactions: intents(), ..Options::default() }).await;
        let (store, prefix) = &bank;
        let half = |at: usize, id: i64| {
            let (sign, row) = if at == 0 { ('-', 3) } else { ('+', ROWS + 3) };
            vec![
                "BEGIN".to_owned(),
                format!(
                    "UPDATE {prefix}_{at}.accounts SET amount = amount {sign} 5, transfer = {id} WHERE id = {row}"
                ),
                format!("INSERT INTO {prefix}_intents.transfers VALUES ({id}, 2)"),
                "COMMIT".to_owned(),
            ]
        };
        let tables = [accounts()];
        let commit = async |at: usize, id: i64| {
            let all = half(at, id);
            run(&urls[at], &all.iter().map(String::as_str).collect::<Vec<_>>()).await;
        };
        commit(0, 1).await;
        let late = async {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            // It writes the row that the transfer will write.
            let update =
                format!("UPDATE {prefix}_1.accounts SET amount = amount + 100 WHERE id = {}", ROWS + 3);
            run(&urls[1], &[&update]).await;
            commit(1, 1).await;
        };
        let options = CutOptions::default();
        let (cut, ()) = tokio::join!(store.open_cut(&tables, &options), late);
        let cut = cut.unwrap();
        let rows = read_table(cut.as_ref(), &accounts()).await.unwrap();
        assert_eq!(sum(&rows), 2 * ROWS as i64 * AMOUNT + 100, "with what wrote the same row before it");
        assert_eq!(cut.cut().exactness, Exactness::Exact);
        // Nothing of it is counted twice.
        let next = store.open_cut(&tables, &options).await.unwrap();
        let changes = next.changes(&accounts(), &cut.cut().positions).await.unwrap();
        let changes: Vec<_> = changes.try_collect().await.unwrap();
        assert_eq!(changes.iter().map(|batch| batch.num_rows()).sum::<usize>(), 0);
        // A half that stays one.
        commit(0, 2).await;
        let refused = store.open_cut(&tables, &options).await.unwrap_err();
        assert!(
            matches!(&refused, StoreError::Unsupported { what, .. } if what.contains("1 marked transactions were not committed")),
            "{refused}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_between_pause_and_resume_is_exact_and_the_application_goes_on() {
    let _logs = LOGS.read().await;
    let folder = tempfile::tempdir().unwrap();
    for (kind, lock) in [(MARIADB_URLS, Lock::Barrier), (MYSQL_URLS, Lock::None)] {
        let Some(urls) = servers(kind) else { continue };
        // The application watches a file.
        let flag = folder.path().join(kind);
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let path = flag.display().to_string();
        let pause = Pause {
            pause: words(&[
                "sh",
                "-c",
                &format!("touch {path}; while [ ! -e {path}.quiet ]; do sleep 0.01; done"),
            ]),
            resume: words(&["rm", &path, &format!("{path}.quiet")]),
            limit: Duration::from_secs(60),
        };
        let (store, prefix) = bank(&urls, Options { lock, pause: Some(pause), ..Options::default() }).await;
        let (stop, at_rest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (ended, flag_of) = (stop.clone(), flag.clone());
        let urls_of = urls.clone();
        let application = tokio::spawn(async move {
            let mut moves = 0;
            while !ended.load(Ordering::Relaxed) {
                // A few moves by all writers, until the file is there; then none, until it is gone.
                let stop = Arc::new(AtomicBool::new(false));
                let state = (stop.clone(), at_rest.clone());
                let writer = tokio::spawn(write(
                    urls_of.clone(),
                    prefix.clone(),
                    moves as usize + 8,
                    Commits::Twice,
                    state,
                ));
                while !flag_of.exists() && !ended.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                stop.store(true, Ordering::Relaxed);
                moves += writer.await.unwrap().min(1);
                if flag_of.exists() {
                    let _ = std::fs::write(flag_of.with_extension("quiet"), "");
                }
                while flag_of.exists() {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
            moves
        });
        for _ in 0..cuts() {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let cut = store.open_cut(&[accounts()], &CutOptions::default()).await.unwrap();
            let rows = read_table(cut.as_ref(), &accounts()).await.unwrap();
            assert_eq!((sum(&rows), cut.cut().exactness), (2 * ROWS as i64 * AMOUNT, Exactness::Exact));
            assert!(!flag.exists());
            cut.release().await.unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        assert!(application.await.unwrap() > 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_lock_tables_without_a_key_and_accounts_that_cannot_read_the_log_are_refused() {
    let _logs = LOGS.read().await;
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let name = fresh("bag");
        run(&urls[0], &[&format!("CREATE DATABASE {name}"), &format!("CREATE TABLE {name}.bag (a INT)")])
            .await;
        let options =
            Options { urls: urls[..1].to_vec(), lock: Lock::None, sessions: 1, ..Options::default() };
        let store = MySqlStore::new(&options).unwrap();
        let refused = store.open_cut(&[named(&name, "bag")], &CutOptions::default()).await.unwrap_err();
        assert!(refused.to_string().contains("has no key"), "{refused}");
        // All that a backup with a lock needs, and the rows; but not the log.
        run(&urls[0], &[&format!("CREATE TABLE {name}.keyed (id INT PRIMARY KEY)")]).await;
        let mut grants = vec![format!("SELECT ON {name}.*"), "RELOAD, PROCESS ON *.*".to_owned()];
        grants.push(match kind == MARIADB_URLS {
            true => "BINLOG MONITOR, REPLICA MONITOR ON *.*".to_owned(),
            false => "REPLICATION CLIENT, XA_RECOVER_ADMIN ON *.*".to_owned(),
        });
        let who = fresh("kf_no_log");
        let store =
            MySqlStore::new(&Options { urls: vec![account(&urls[0], &who, &grants).await], ..options });
        let refused =
            store.unwrap().open_cut(&[named(&name, "keyed")], &CutOptions::default()).await.unwrap_err();
        assert!(refused.to_string().contains("may not read its binary log (REPLICATION SLAVE)"), "{refused}");
        drop_account(&urls[0], &who).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moments_that_are_over_have_the_sum_too() {
    let _logs = LOGS.read().await;
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        for (how, transactions) in
            [(Commits::Xa, Transactions::Xa), (Commits::Twice, marker()), (Commits::Intents, intents())]
        {
            let (store, prefix) =
                bank(&urls, Options { transactions, lock: Lock::Barrier, ..Options::default() }).await;
            let (stop, pause) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let state = (stop.clone(), pause.clone());
                    tokio::spawn(write(urls.to_vec(), prefix.clone(), writer, how, state))
                })
                .collect();
            let tables = [accounts(), moves()];
            let cut = store.open_cut(&tables, &CutOptions::default()).await.unwrap();
            let scanned = (scan(cut.as_ref(), &accounts()).await, scan(cut.as_ref(), &moves()).await);
            let first = (
                closed(cut.as_ref(), scanned.0, &accounts()).await,
                closed(cut.as_ref(), scanned.1, &moves()).await,
            );
            let (at, since) = (cut.cut().at, cut.cut().positions);
            cut.release().await.unwrap();
            let early =
                Past { until: Until::Time(at), at: at + Duration::from_secs(1), since: since.clone() };
            assert!(store.open_past_cut(&tables, &early).await.unwrap().is_none(), "it is before the cut");
            let mut moments = vec![];
            for _ in 0..4 {
                tokio::time::sleep(Duration::from_millis(900)).await;
                moments.push(jiff::Timestamp::now());
            }
            // Some transactions are always under way at a moment.
            tokio::time::sleep(Duration::from_millis(300)).await;
            stop.store(true, Ordering::Relaxed);
            for writer in writers {
                writer.await.unwrap();
            }
            let mut made = vec![];
            for time in moments {
                let past = Past { until: Until::Time(time), at, since: since.clone() };
                let cut = store.open_past_cut(&tables, &past).await.unwrap().expect("a time needs no name");
                assert_eq!((cut.cut().exactness, cut.cut().at), (Exactness::Exact, time), "{kind} {how:?}");
                let (mut amounts, mut moved) = first.clone();
                for (table, rows) in tables.iter().zip([&mut amounts, &mut moved]) {
                    let changes = cut.changes(table, &since).await.unwrap();
                    rows.apply(&changes.try_collect::<Vec<_>>().await.unwrap()).unwrap();
                }
                assert_eq!((torn(&moved), sum(&amounts)), (0, 2 * ROWS as i64 * AMOUNT), "{kind} {how:?}");
                assert!(cut.plan(&accounts(), &PlanOptions::default()).await.is_err(), "it has no rows");
                assert!(cut.prove(&accounts(), &ProofRequest::default()).await.unwrap().is_none());
                made.push(moved.len());
            }
            eprintln!("{kind} {how:?}: rows of moves at four moments: {made:?}");
            assert!(made.is_sorted() && made[0] < made[3], "{made:?}");
        }
    }
}
