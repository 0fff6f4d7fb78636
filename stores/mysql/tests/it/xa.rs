//! Transactions over several servers are in a backup as a whole.

use crate::binlog::LOGS;
use crate::common::*;
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use futures::TryStreamExt;
use keepfast_model::cut::Exactness;
use keepfast_model::{RowHasher, TableName};
use keepfast_mysql::testing::Session;
use keepfast_mysql::{MySqlStore, Options, ShardedTable, Transactions};
use keepfast_store::conformance::{RowSet, read_table};
use keepfast_store::{CutOptions, OpenCut, ProofRequest, Store, StoreError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// Rows on each server, and what stands in each at first.
const ROWS: usize = 40;
const AMOUNT: i64 = 1000;

/// A table `accounts` of one shard on each of two servers.
async fn accounts(urls: &[String], transactions: Transactions) -> (MySqlStore, String) {
    let prefix = fresh("bank");
    for (at, url) in urls.iter().take(2).enumerate() {
        let table = format!("{prefix}_{at}.accounts");
        let rows: Vec<String> = (0..ROWS).map(|n| format!("({}, {AMOUNT})", at * ROWS + n)).collect();
        run(
            url,
            &[
                &format!("CREATE DATABASE {prefix}_{at}"),
                &format!("CREATE TABLE {table} (id INT PRIMARY KEY, amount BIGINT NOT NULL)"),
                &format!("INSERT INTO {table} VALUES {}", rows.join(",")),
            ],
        )
        .await;
    }
    let shards = format!("{prefix}_{{0..1}}.accounts");
    let store = MySqlStore::new(&Options {
        urls: urls[..2].to_vec(),
        tables: [("accounts".to_owned(), ShardedTable { shards, ..Default::default() })].into(),
        sessions: 2,
        transactions,
        ..Options::default()
    });
    (store.unwrap(), prefix)
}

fn sum(rows: &RowSet) -> i64 {
    let batch = rows.to_batch().unwrap();
    batch.column(1).as_primitive::<Int64Type>().iter().flatten().sum()
}

fn table() -> TableName {
    TableName::bare("accounts")
}

/// The rows of the snapshots alone.
async fn snapshots(cut: &dyn OpenCut) -> RowSet {
    let (batches, _) = read(cut, &table(), 2).await;
    RowSet::of(&cut.table(&table()).await.unwrap().schema, &batches).unwrap()
}

/// Moves amounts between the servers until told to stop; says how many moves it made. Each writer has rows of its own.
async fn write(urls: Vec<String>, prefix: String, writer: usize, xa: bool, stop: Arc<AtomicBool>) -> u32 {
    let mut sessions = [Session::open(&urls[0]).await.unwrap(), Session::open(&urls[1]).await.unwrap()];
    let mut moves = 0;
    while !stop.load(Ordering::Relaxed) {
        let (row, amount) = (writer * 10 + moves as usize % 10, i64::from(moves % 7) + 1);
        let xid = format!("'{prefix}{writer}-{moves}'");
        for (at, session) in sessions.iter_mut().enumerate() {
            let begin = if xa { format!("XA START {xid},'{at}'") } else { "BEGIN".into() };
            let (sign, id) = if at == 0 { ('-', row) } else { ('+', ROWS + row) };
            let update =
                format!("UPDATE {prefix}_{at}.accounts SET amount = amount {sign} {amount} WHERE id = {id}");
            session.run(&[&begin, &update]).await.unwrap();
        }
        if xa {
            for (at, session) in sessions.iter_mut().enumerate() {
                session
                    .run(&[&format!("XA END {xid},'{at}'"), &format!("XA PREPARE {xid},'{at}'")])
                    .await
                    .unwrap();
            }
        }
        for (at, session) in sessions.iter_mut().enumerate() {
            let commit = if xa { format!("XA COMMIT {xid},'{at}'") } else { "COMMIT".into() };
            session.run(&[&commit]).await.unwrap();
        }
        moves += 1;
    }
    moves
}

/// Sums of snapshots alone and of closed cuts, under writers.
async fn sums(
    urls: &[String],
    store: &MySqlStore,
    prefix: &str,
    xa: bool,
    cuts: u32,
) -> Vec<(i64, i64, Exactness)> {
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|writer| tokio::spawn(write(urls.to_vec(), prefix.to_owned(), writer, xa, stop.clone())))
        .collect();
    let mut sums = vec![];
    let mut last: Option<(keepfast_model::Cut, RowSet)> = None;
    for _ in 0..cuts {
        let cut = store.open_cut(&[table()], &CutOptions { allow_fuzzy: !xa }).await.unwrap();
        let alone = snapshots(cut.as_ref()).await;
        let closed = read_table(cut.as_ref(), &table()).await.unwrap();
        assert_eq!(cut.needs_closing(), cut.closing_changes(&table()).await.unwrap().is_some());
        let proof = cut.prove(&table(), &ProofRequest::default()).await.unwrap().unwrap();
        assert_eq!(proof.rows, closed.len());
        // The same point by the log, from the last one.
        if let Some((from, rows)) = &mut last {
            let changes = cut.changes(&table(), &from.positions).await.unwrap();
            rows.apply(&changes.try_collect::<Vec<_>>().await.unwrap()).unwrap();
            assert_eq!(rows.difference(&closed), None, "cut {}", sums.len());
        }
        sums.push((sum(&alone), sum(&closed), cut.cut().exactness));
        last = Some((cut.cut(), closed));
        cut.release().await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut moves = 0;
    for writer in writers {
        moves += writer.await.unwrap();
    }
    assert!(moves > cuts, "{moves} moves are too few to show anything");
    sums
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_backup_tears_an_xa_transaction() {
    let _logs = LOGS.read().await;
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (store, prefix) = accounts(&urls, Transactions::Xa).await;
        let total = 2 * ROWS as i64 * AMOUNT;
        let sums = sums(&urls, &store, &prefix, true, 30).await;
        for (at, (_, closed, exactness)) in sums.iter().enumerate() {
            assert_eq!((*closed, *exactness), (total, Exactness::Exact), "cut {at}");
        }
        let torn = sums.iter().filter(|(alone, ..)| *alone != total).count();
        eprintln!("COUNT {torn} snapshots alone torn: of {}, and no closed cut, {kind}", sums.len());
        assert!(torn > 0, "without closing nothing was torn either, so this shows nothing");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_double_commits_are_torn_and_labelled_so() {
    let _logs = LOGS.read().await;
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (store, prefix) = accounts(&urls, Transactions::Unknown).await;
        let total = 2 * ROWS as i64 * AMOUNT;
        let refused = store.open_cut(&[table()], &CutOptions::default()).await.unwrap_err().to_string();
        assert!(refused.contains("transactions = \"xa\""), "{refused}");
        let sums = sums(&urls, &store, &prefix, false, 40).await;
        assert!(sums.iter().all(|(_, _, exactness)| matches!(exactness, Exactness::Bounded { .. })));
        let torn = sums.iter().filter(|(_, closed, _)| *closed != total).count();
        eprintln!("{kind}: {torn} of {} cuts tore a plain transaction", sums.len());
        assert!(torn > 0, "the barrier alone is said to be no consistent cut");
    }
}

/// Branches of one transaction on both servers, with one move between them, prepared.
async fn prepared(urls: &[String], prefix: &str, name: &str, row: usize) -> Vec<Session> {
    let mut sessions = vec![];
    for (at, url) in urls.iter().take(2).enumerate() {
        let mut session = Session::open(url).await.unwrap();
        let (sign, id) = if at == 0 { ('-', row) } else { ('+', ROWS + row) };
        session
            .run(&[
                &format!("XA START '{prefix}{name}','{at}'"),
                &format!("UPDATE {prefix}_{at}.accounts SET amount = amount {sign} 5 WHERE id = {id}"),
                &format!("INSERT INTO {prefix}_{at}.accounts VALUES ({}, 0)", 1000 + id),
                &format!("XA END '{prefix}{name}','{at}'"),
                &format!("XA PREPARE '{prefix}{name}','{at}'"),
            ])
            .await
            .unwrap();
        sessions.push(session);
    }
    sessions
}

/// Rows by the log since an earlier cut, compared with those of a cut now, which are given back.
async fn follow(store: &MySqlStore, from: (&keepfast_model::Cut, &RowSet)) -> (keepfast_model::Cut, RowSet) {
    let cut = store.open_cut(&[table()], &CutOptions { allow_fuzzy: true }).await.unwrap();
    let now = read_table(cut.as_ref(), &table()).await.unwrap();
    let mut rows = from.1.clone();
    let changes = cut.changes(&table(), &from.0.positions).await.unwrap();
    rows.apply(&changes.try_collect::<Vec<_>>().await.unwrap()).unwrap();
    assert_eq!(rows.difference(&now), None);
    (cut.cut(), now)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_is_half_committed_at_the_barrier_is_rolled_forward_once() {
    let _logs = LOGS.read().await;
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (store, prefix) = accounts(&urls, Transactions::Xa).await;
        let total = 2 * ROWS as i64 * AMOUNT;
        let first = store.open_cut(&[table()], &CutOptions::default()).await.unwrap();
        assert!(!first.needs_closing());
        let base = read_table(first.as_ref(), &table()).await.unwrap();
        let commit = |at: usize, name: &str| format!("XA COMMIT '{prefix}{name}','{at}'");
        let mut sessions = prepared(&urls, &prefix, "half", 0).await;
        sessions[0].run(&[&commit(0, "half")]).await.unwrap();
        let opened = AtomicU32::new(0);
        let late = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            assert_eq!(opened.load(Ordering::Relaxed), 0, "the cut does not stand before all is decided");
            sessions[1].run(&[&commit(1, "half")]).await.unwrap();
        };
        let options = CutOptions::default();
        let tables = [table()];
        let open = async {
            let cut = store.open_cut(&tables, &options).await.unwrap();
            opened.store(1, Ordering::Relaxed);
            cut
        };
        let (cut, ()) = tokio::join!(open, late);
        assert!(cut.needs_closing());
        assert_eq!(cut.cut().exactness, Exactness::Exact);
        assert_eq!(sum(&snapshots(cut.as_ref()).await), total - 5, "the snapshots have one half");
        let rows = read_table(cut.as_ref(), &table()).await.unwrap();
        assert_eq!((sum(&rows), rows.len()), (total, 2 * ROWS as u64 + 2));
        let full = ProofRequest { full: true, ranges: vec![] };
        let proof = cut.prove(&table(), &full).await.unwrap().unwrap();
        let hasher = RowHasher::new(&cut.table(&table()).await.unwrap().schema);
        let digest = hasher.digest(&rows.to_batch().unwrap()).unwrap();
        assert_eq!(
            (proof.rows, proof.ranges[0].digest),
            (rows.len(), digest),
            "of the moment, not of the snapshots"
        );
        // By the log from the first cut it is the same point.
        let changes = cut.changes(&table(), &first.cut().positions).await.unwrap();
        let mut by_log = base.clone();
        by_log.apply(&changes.try_collect::<Vec<_>>().await.unwrap()).unwrap();
        assert_eq!(by_log.difference(&rows), None);
        // What the cut was closed over is not counted again, though its commit stands behind the cut's place.
        let next = store.open_cut(&tables, &options).await.unwrap();
        let changes = next.changes(&table(), &cut.cut().positions).await.unwrap();
        assert_eq!(
            changes.try_collect::<Vec<_>>().await.unwrap().iter().map(|b| b.num_rows()).sum::<usize>(),
            0
        );
        let (from, rows) = follow(&store, (&next.cut(), &rows)).await;

        // One that is undone after the barrier was never there.
        let mut sessions = prepared(&urls, &prefix, "undone", 1).await;
        let late = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            for (at, session) in sessions.iter_mut().enumerate() {
                session.run(&[&format!("XA ROLLBACK '{prefix}undone','{at}'")]).await.unwrap();
            }
        };
        let (cut, ()) = tokio::join!(store.open_cut(&tables, &options), late);
        let cut = cut.unwrap();
        assert!(!cut.needs_closing());
        assert_eq!(sum(&read_table(cut.as_ref(), &table()).await.unwrap()), total);
        let (from, rows) = follow(&store, (&from, &rows)).await;

        // One whose second branch is prepared behind the barrier is in no part of the cut, and in the next one as a whole.
        let mut second = Session::open(&urls[1]).await.unwrap();
        let mut one = Session::open(&urls[0]).await.unwrap();
        one.run(&[
            &format!("XA START '{prefix}late','0'"),
            &format!("UPDATE {prefix}_0.accounts SET amount = amount - 9 WHERE id = 2"),
            &format!("XA END '{prefix}late','0'"),
            &format!("XA PREPARE '{prefix}late','0'"),
        ])
        .await
        .unwrap();
        second
            .run(&[
                &format!("XA START '{prefix}late','1'"),
                &format!("UPDATE {prefix}_1.accounts SET amount = amount + 9 WHERE id = {}", ROWS + 2),
                &format!("XA END '{prefix}late','1'"),
            ])
            .await
            .unwrap();
        let late = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            second.run(&[&format!("XA PREPARE '{prefix}late','1'"), &commit(1, "late")]).await.unwrap();
            one.run(&[&commit(0, "late")]).await.unwrap();
        };
        let (cut, ()) = tokio::join!(store.open_cut(&tables, &options), late);
        let cut = cut.unwrap();
        assert_eq!((cut.needs_closing(), cut.cut().exactness), (false, Exactness::Exact));
        let before = read_table(cut.as_ref(), &table()).await.unwrap();
        assert_eq!(before.difference(&rows), None);
        let (_, after) = follow(&store, (&cut.cut(), &before)).await;
        assert_eq!(sum(&after), total);
        assert!(after.difference(&before).is_some());
        follow(&store, (&from, &rows)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn branches_in_doubt_are_counted_when_they_are_committed_and_a_cut_over_them_is_not_called_exact() {
    // Others' cuts would wait for its branches.
    let _logs = LOGS.write().await;
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (store, prefix) = accounts(&urls, Transactions::Xa).await;
        let total = 2 * ROWS as i64 * AMOUNT;
        let mut sessions = prepared(&urls, &prefix, "long", 3).await;
        let mut others = prepared(&urls, &prefix, "never", 4).await;
        let refused = store.open_cut(&[table()], &CutOptions::default()).await;
        assert!(
            matches!(&refused, Err(StoreError::Unsupported { what, .. }) if what.contains("2 XA transactions were still in doubt")),
            "{refused:?}"
        );
        let cut = store.open_cut(&[table()], &CutOptions { allow_fuzzy: true }).await.unwrap();
        assert!(matches!(cut.cut().exactness, Exactness::Bounded { .. }));
        let rows = read_table(cut.as_ref(), &table()).await.unwrap();
        assert_eq!((sum(&rows), rows.len()), (total, 2 * ROWS as u64));
        // Prepared before the cut, in a file before the last, and committed after it.
        for (at, url) in urls.iter().take(2).enumerate() {
            run(url, &["FLUSH BINARY LOGS"]).await;
            sessions[at].run(&[&format!("XA COMMIT '{prefix}long','{at}'")]).await.unwrap();
            others[at].run(&[&format!("XA ROLLBACK '{prefix}never','{at}'")]).await.unwrap();
            let id = ROWS * at + 3;
            run(url, &[&format!("UPDATE {prefix}_{at}.accounts SET amount = amount * 2 WHERE id = {id}")])
                .await;
            run(url, &[&format!("UPDATE {prefix}_{at}.accounts SET amount = amount / 2 WHERE id = {id}")])
                .await;
        }
        let (from, rows) = follow(&store, (&cut.cut(), &rows)).await;
        assert_eq!((sum(&rows), rows.len()), (total, 2 * ROWS as u64 + 2));
        // In one phase, and a branch that only reads.
        let mut session = Session::open(&urls[0]).await.unwrap();
        session
            .run(&[
                &format!("XA START '{prefix}one'"),
                &format!("UPDATE {prefix}_0.accounts SET amount = 0 WHERE id = 5"),
                &format!("XA END '{prefix}one'"),
                &format!("XA COMMIT '{prefix}one' ONE PHASE"),
                &format!("XA START '{prefix}reads'"),
                &format!("SELECT * FROM {prefix}_0.accounts"),
                &format!("XA END '{prefix}reads'"),
                &format!("XA PREPARE '{prefix}reads'"),
                &format!("XA COMMIT '{prefix}reads'"),
            ])
            .await
            .unwrap();
        follow(&store, (&from, &rows)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_table_was_before_a_branch_of_others_was_prepared_does_not_matter() {
    let _logs = LOGS.read().await;
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let (store, prefix) = accounts(&urls, Transactions::Xa).await;
        let (table_of, xid) = (format!("{prefix}_0.accounts"), format!("'{prefix}-foreign','0'"));
        let rows: Vec<String> = (0..ROWS).map(|n| format!("({n}, {AMOUNT})")).collect();
        // The same name with other columns, then a branch of somebody else's, long before the backup.
        run(
            &urls[0],
            &[
                &format!("DROP TABLE {table_of}"),
                &format!("CREATE TABLE {table_of} (id INT PRIMARY KEY, a INT, b INT, c TEXT)"),
                &format!("INSERT INTO {table_of} VALUES (1, 2, 3, 'x')"),
                &format!("DROP TABLE {table_of}"),
                &format!("CREATE TABLE {table_of} (id INT PRIMARY KEY, amount BIGINT NOT NULL)"),
                &format!("INSERT INTO {table_of} VALUES {}", rows.join(",")),
                &format!("CREATE TABLE {prefix}_0.others (id INT PRIMARY KEY)"),
            ],
        )
        .await;
        let mut session = Session::open(&urls[0]).await.unwrap();
        let insert = format!("INSERT INTO {prefix}_0.others VALUES (1)");
        let prepare =
            [&format!("XA START {xid}"), &insert, &format!("XA END {xid}"), &format!("XA PREPARE {xid}")];
        session.run(&prepare.map(String::as_str)).await.unwrap();
        let decided = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(3)).await;
            session.run(&[&format!("XA COMMIT {xid}")]).await.unwrap();
        });
        let cut = store.open_cut(&[table()], &CutOptions::default()).await;
        decided.await.unwrap();
        let cut = cut.unwrap();
        assert_eq!(cut.cut().exactness, Exactness::Exact);
        assert_eq!(sum(&snapshots(cut.as_ref()).await), 2 * ROWS as i64 * AMOUNT);
        cut.release().await.unwrap();
    }
}
