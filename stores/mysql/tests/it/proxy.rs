//! Transactions that a ShardingSphere-Proxy makes of an application's are in a backup as a whole.

use crate::binlog::LOGS;
use crate::common::*;
use crate::loading::loaded;
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use keepfast_model::TableName;
use keepfast_model::cut::Exactness;
use keepfast_mysql::{MySqlStore, Options, ShardedTable, Transactions};
use keepfast_store::conformance::read_table;
use keepfast_store::{CutOptions, LoadMode, OpenCut, Store};
use keepfast_testbed::sharding_sphere::ShardingProxy;
use keepfast_testbed::{Missing, cache_folder};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const ROWS: usize = 80;
const AMOUNT: i64 = 1000;
const WRITERS: usize = 4;
/// Backups at most.
const CUTS: usize = 50;
/// As many where a run is short, and some of their snapshots were torn.
const FEW: usize = 5;

/// Moves amounts between rows of both servers by the proxy alone, as an application does. Each writer has rows of its own.
fn write(mut client: Command, writer: usize, stop: &AtomicBool) -> Result<usize, String> {
    let said = |e: std::io::Error| e.to_string();
    let mut running =
        client.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(said)?;
    let mut statements = running.stdin.take().ok_or("it reads nothing")?;
    let mut moves = 0;
    while !stop.load(Ordering::Relaxed) {
        // An even one and an odd one.
        let (from, amount) = (writer * 20 + moves % 10 * 2, moves % 7 + 1);
        let sent = writeln!(
            statements,
            "BEGIN; UPDATE accounts SET amount = amount - {amount} WHERE id = {from}; \
             UPDATE accounts SET amount = amount + {amount} WHERE id = {}; COMMIT; -- {}",
            from + 1,
            // Few wait between it and the client.
            "x".repeat(4000)
        );
        if sent.is_err() {
            break;
        }
        moves += 1;
    }
    drop(statements);
    let ended = running.wait_with_output().map_err(said)?;
    if ended.status.success() { Ok(moves) } else { Err(String::from_utf8_lossy(&ended.stderr).into_owned()) }
}

/// The sum of amounts as the snapshots alone have it.
async fn snapshots(cut: &dyn OpenCut, table: &TableName) -> i64 {
    let (batches, _) = read(cut, table, 2).await;
    batches.iter().flat_map(|batch| batch.column(1).as_primitive::<Int64Type>().iter().flatten()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_backup_tears_a_transaction_of_a_sharding_sphere_proxy() {
    let _logs = LOGS.read().await;
    let program = std::env::current_exe().unwrap();
    let cache = cache_folder(program.parent().unwrap().parent().unwrap());
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let prefix = fresh("proxied");
        let shards = [0, 1].map(|at| (urls[at].clone(), format!("{prefix}_{at}")));
        for (at, (url, database)) in shards.iter().enumerate() {
            let all: Vec<String> =
                (0..ROWS).filter(|n| n % 2 == at).map(|n| format!("({n}, {AMOUNT})")).collect();
            run(
                url,
                &[
                    &format!("CREATE DATABASE {database}"),
                    &format!("CREATE TABLE {database}.accounts (id INT PRIMARY KEY, amount BIGINT NOT NULL)"),
                    &format!("INSERT INTO {database}.accounts VALUES {}", all.join(",")),
                ],
            )
            .await;
        }
        let proxy = match ShardingProxy::start(&cache, &shards) {
            Ok(proxy) => proxy,
            Err(Missing::Tool(why)) => return skipped(&why),
            Err(Missing::Failed(why)) => panic!("{why}"),
        };
        let sharded =
            ShardedTable { shards: format!("{prefix}_{{0..1}}.accounts"), ..ShardedTable::default() };
        let store = MySqlStore::new(&Options {
            urls: urls[..2].to_vec(),
            tables: [("accounts".to_owned(), sharded)].into(),
            sessions: 2,
            transactions: Transactions::Xa,
            ..Options::default()
        })
        .unwrap();
        let (table, total) = (TableName::bare("accounts"), ROWS as i64 * AMOUNT);
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let client = proxy.client(&cache).unwrap_or_else(|e| panic!("{e}"));
                let stop = stop.clone();
                tokio::task::spawn_blocking(move || write(client, writer, &stop))
            })
            .collect();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let (mut torn, mut cuts) = (0, 0);
        while cuts < if long() || torn == 0 { CUTS } else { FEW } {
            let cut = store.open_cut(std::slice::from_ref(&table), &CutOptions::default()).await.unwrap();
            torn += usize::from(snapshots(cut.as_ref(), &table).await != total);
            let batch = read_table(cut.as_ref(), &table).await.unwrap().to_batch().unwrap();
            let sum: i64 = batch.column(1).as_primitive::<Int64Type>().iter().flatten().sum();
            assert_eq!((sum, cut.cut().exactness), (total, Exactness::Exact), "{kind}: cut {cuts}");
            cuts += 1;
            cut.release().await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stop.store(true, Ordering::Relaxed);
        let mut moves = 0;
        for writer in writers {
            moves += writer.await.unwrap().unwrap();
        }
        eprintln!(
            "COUNT {cuts} backups under a ShardingSphere-Proxy, {torn} of their snapshots torn: {kind}, {moves} transfers, no closed cut torn"
        );
        assert!(moves > cuts, "{moves} moves are too few to show anything");
        assert!(torn > 0, "without closing nothing was torn either, so this shows nothing");
    }
}

/// What the proxy answers.
async fn ask(mut client: Command, sql: String) -> String {
    let run = move || {
        let output = client.args(["--batch", "--skip-column-names", "--execute"]).arg(sql).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_come_back_to_where_a_sharding_sphere_proxy_of_the_same_configuration_looks_for_them() {
    let _logs = LOGS.read().await;
    let program = std::env::current_exe().unwrap();
    let cache = cache_folder(program.parent().unwrap().parent().unwrap());
    let Some(urls) = KINDS.iter().find_map(|kind| servers(kind)) else { return };
    let prefix = fresh("ruled");
    let shards = [0, 1].map(|at| (urls[at].clone(), format!("{prefix}_{at}")));
    for (url, database) in &shards {
        run(url, &[&format!("CREATE DATABASE {database}")]).await;
        for table in ["accounts (id INT PRIMARY KEY)".to_owned()].into_iter().chain((0..4).map(|n| {
            format!(
                "orders_{n} (user_id BIGINT, order_id BIGINT, note TEXT, PRIMARY KEY (order_id, user_id))"
            )
        })) {
            run(url, &[&format!("CREATE TABLE {database}.{table}")]).await;
        }
    }
    let proxy = match ShardingProxy::start(&cache, &shards) {
        Ok(proxy) => proxy,
        Err(Missing::Tool(why)) => return skipped(&why),
        Err(Missing::Failed(why)) => panic!("{why}"),
    };
    let client = || proxy.client(&cache).unwrap_or_else(|e| panic!("{e}"));
    let keys: Vec<(u32, u32)> = (0..160).map(|n| (n * 7 % 31, n)).collect();
    let rows = keys.iter().map(|(user, order)| format!("({user}, {order}, 'of {user}')"));
    let rows = rows.collect::<Vec<_>>().join(", ");
    ask(client(), format!("INSERT INTO orders (user_id, order_id, note) VALUES {rows}")).await;
    let places = || async {
        let mut all = vec![];
        for (url, database) in &shards {
            for n in 0..4 {
                let keys = format!(
                    "SELECT GROUP_CONCAT(user_id, '/', order_id ORDER BY order_id) FROM {database}.orders_{n}"
                );
                all.push(value(url, &keys).await);
            }
        }
        all
    };
    let before = places().await;
    assert!(before.iter().all(Option::is_some), "the proxy puts rows into every table: {before:?}");
    let store = MySqlStore::new(&Options {
        urls: urls[..2].to_vec(),
        sharding_sphere: Some(proxy.tables().to_owned()),
        sessions: 2,
        transactions: Transactions::Xa,
        ..Options::default()
    })
    .unwrap();
    let table = TableName::bare("orders");
    let cut = store.open_cut(std::slice::from_ref(&table), &CutOptions::default()).await.unwrap();
    for (url, database) in &shards {
        for n in 0..4 {
            run(url, &[&format!("DELETE FROM {database}.orders_{n}")]).await;
        }
    }
    let load = loaded(&store, cut.as_ref(), &table, &table, LoadMode::Replace).await.unwrap();
    load.publish().await.unwrap();
    cut.release().await.unwrap();
    assert_eq!(places().await, before);
    let asked = keys.iter().map(|(user, order)| {
        format!("SELECT note FROM orders WHERE user_id = {user} AND order_id = {order};")
    });
    let found = ask(client(), asked.collect()).await;
    let notes: Vec<String> = keys.iter().map(|(user, _)| format!("of {user}")).collect();
    assert_eq!(found.lines().collect::<Vec<_>>(), notes);
}
