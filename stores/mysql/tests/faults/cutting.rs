//! Connections that are cut at any byte: an error that says so, or all of it; and the same command again succeeds.

use crate::common::*;
use crate::proxy::{Meter, Proxy, WAYS};
use crate::{ALONE, Shop};
use arrow::array::RecordBatch;
use futures::TryStreamExt;
use keepfast_model::{Digest, RowHasher, TableName};
use keepfast_mysql::MySqlStore;
use keepfast_mysql::testing;
use keepfast_store::{
    CutOptions, Load, LoadMode, LoadState, OpenCut, PlanOptions, ProofRequest, ScanOptions, Store, StoreError,
};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// Longer than anything waits for a lock of a process that is gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// Places to cut of so many bytes: the first ones, the last ones, and some between.
fn places(bytes: u64, short: u64) -> Vec<u64> {
    let count = if long() { 150 } else { short };
    let mut all: Vec<u64> =
        (0..count).map(|n| bytes * n / count + n % 7).chain([bytes.saturating_sub(1)]).collect();
    all.retain(|place| *place < bytes);
    all
}

/// Proxies to servers, and the servers' URLs through them.
async fn through(urls: &[String], meter: &Arc<Meter>) -> (Vec<Proxy>, Vec<String>) {
    let (mut proxies, mut theirs) = (vec![], vec![]);
    for url in urls {
        let (head, port) = url.rsplit_once(':').unwrap();
        let proxy = Proxy::to(port.parse().unwrap(), meter.clone()).await;
        theirs.push(format!("{head}:{}", proxy.port));
        proxies.push(proxy);
    }
    (proxies, theirs)
}

/// An error by which a user knows that a connection broke, or what follows from one that did.
fn says_why(error: &StoreError) {
    let known = matches!(
        error,
        StoreError::Unavailable { .. } | StoreError::CutLost { .. } | StoreError::Conflict { .. }
    );
    assert!(known, "{error:?}");
}

async fn backed_up(store: &MySqlStore, table: &TableName) -> Result<Digest, StoreError> {
    let cut = store.open_cut(std::slice::from_ref(table), &CutOptions { allow_fuzzy: true }).await?;
    let hasher = RowHasher::new(&cut.table(table).await?.schema);
    let mut sum = Digest::default();
    for partition in cut.plan(table, &PlanOptions::default()).await? {
        let batches: Vec<RecordBatch> =
            cut.scan(&partition, &ScanOptions::default()).await?.try_collect().await?;
        for batch in &batches {
            sum = sum.merge(hasher.digest(batch)?);
        }
    }
    let proof = cut.prove(table, &ProofRequest { full: true, ranges: vec![] }).await?.unwrap();
    assert_eq!(proof.ranges[0].digest, sum);
    cut.release().await?;
    Ok(sum)
}

#[tokio::test]
async fn a_backup_whose_connection_is_cut_at_any_byte_ends_with_an_error_or_whole() {
    let _alone = ALONE.lock().await;
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let shop = Shop::make(&urls, "cut").await;
        let rows: Vec<String> = (10..1500).map(|n| format!("({n}, 'row {n}')")).collect();
        run(&urls[0], &[&format!("INSERT INTO {}_0.orders VALUES {}", shop.prefix, rows.join(", "))]).await;
        let expected = backed_up(&shop.shards, &shop.orders).await.unwrap();
        let meter = Arc::new(Meter::default());
        let (_proxies, theirs) = through(&shop.urls, &meter).await;
        let store = Shop::declared(&theirs, &shop.prefix);
        meter.begin(None);
        assert_eq!(backed_up(&store, &shop.orders).await.unwrap(), expected);
        let all = meter.passed().0;
        let (mut cuts, mut failed) = (0, 0);
        for way in WAYS {
            for at in places(all[way], 6) {
                meter.begin(Some((way, at)));
                let found = tokio::time::timeout(PATIENCE, backed_up(&store, &shop.orders)).await;
                match found.expect("it ends in time") {
                    Ok(found) => assert_eq!(found, expected, "{kind}: way {way}, byte {at}"),
                    Err(error) => {
                        says_why(&error);
                        failed += 1;
                    }
                }
                cuts += usize::from(meter.passed().1);
                meter.begin(None);
                // No lock is left: others write, and the same command succeeds.
                run(&urls[0], &[&format!("UPDATE {}_0.orders SET v = v WHERE id = 10", shop.prefix)]).await;
                assert_eq!(backed_up(&store, &shop.orders).await.unwrap(), expected);
            }
        }
        assert!(cuts > 5 && failed > cuts / 3, "{kind}: {cuts} cuts, {failed} failures");
        eprintln!("{kind}: {cuts} cuts of {all:?} bytes, {failed} failures");
    }
}

/// Restores `new` into the shards as a command does: with what an earlier run of it left.
async fn restored(
    store: &MySqlStore,
    shop: &Shop,
    source: &dyn OpenCut,
    expected: Digest,
) -> Result<(), StoreError> {
    let tables = [(&shop.new, &shop.orders)];
    let mut left = store.unfinished_loads().await?;
    left.retain(|load| load.purpose == json!(shop.prefix));
    for left in left {
        let load = store.attach_load(&left.token).await?;
        match load.state().await? {
            LoadState::Open => return brought(load.as_ref(), shop, source, expected).await,
            LoadState::Published(_) => return load.forget().await,
            LoadState::Over(_) => load.forget().await?,
        }
    }
    let load = begin(store, source, &tables, LoadMode::Replace).await?;
    load.remember(&json!(shop.prefix)).await?;
    brought(load.as_ref(), shop, source, expected).await
}

async fn brought(
    load: &dyn Load,
    shop: &Shop,
    source: &dyn OpenCut,
    expected: Digest,
) -> Result<(), StoreError> {
    fill(load, source, &[(&shop.new, &shop.orders)], 2).await?;
    let cut = load.open_cut().await?;
    let hasher = RowHasher::new(&cut.table(&shop.orders).await?.schema);
    let mut sum = Digest::default();
    for partition in cut.plan(&shop.orders, &PlanOptions::default()).await? {
        let batches: Vec<RecordBatch> =
            cut.scan(&partition, &ScanOptions::default()).await?.try_collect().await?;
        for batch in &batches {
            sum = sum.merge(hasher.digest(batch)?);
        }
    }
    assert_eq!(sum, expected);
    cut.release().await?;
    load.publish().await?;
    load.forget().await
}

#[tokio::test]
async fn a_restore_whose_connection_is_cut_at_any_byte_is_brought_to_its_end_by_the_same_command() {
    let _alone = ALONE.lock().await;
    for kind in KINDS {
        let Some(urls) = servers(kind) else { continue };
        let shop = Shop::make(&urls, "cut").await;
        let source = cut_of(&store(&shop.urls, &[]), std::slice::from_ref(&shop.new)).await;
        let expected = digest(source.as_ref(), &shop.new).await;
        let meter = Arc::new(Meter::default());
        let (_proxies, theirs) = through(&shop.urls, &meter).await;
        meter.begin(None);
        let whole = restored(&Shop::declared(&theirs, &shop.prefix), &shop, source.as_ref(), expected).await;
        whole.unwrap();
        let all = meter.passed().0;
        let (mut cuts, mut failed, mut done) = (0, 0, 0);
        for way in WAYS {
            for at in places(all[way], 5) {
                for (server, url) in shop.urls.iter().enumerate() {
                    let orders = format!("{}_{server}.orders", shop.prefix);
                    testing::run(
                        url,
                        &[
                            &format!("DROP TABLE IF EXISTS {orders}__replaced_7_1, {orders}__replaced_7_2, {orders}__undone_1"),
                            &format!("TRUNCATE TABLE {orders}"),
                            &format!("INSERT INTO {orders} VALUES ({server}, 'old')"),
                        ],
                    )
                    .await
                    .unwrap();
                }
                meter.begin(Some((way, at)));
                let target = Shop::declared(&theirs, &shop.prefix);
                let found =
                    tokio::time::timeout(PATIENCE, restored(&target, &shop, source.as_ref(), expected)).await;
                cuts += usize::from(meter.passed().1);
                meter.begin(None);
                if let Err(error) = found.expect("it ends in time") {
                    says_why(&error);
                    failed += 1;
                    drop(target);
                    done += usize::from(shop.texts().await == ["new", "new"]);
                    let again = Shop::declared(&theirs, &shop.prefix);
                    let again = restored(&again, &shop, source.as_ref(), expected);
                    let again = tokio::time::timeout(PATIENCE, again).await.expect("it ends in time");
                    again.unwrap_or_else(|e| panic!("{kind}: way {way}, byte {at}: again: {e:?}"));
                }
                assert_eq!(shop.texts().await, ["new", "new"], "{kind}: way {way}, byte {at}");
                assert_eq!(digest_now(&shop.shards, &shop.orders).await, expected);
                // What was not remembered yet is swept.
                for _ in 0..50 {
                    shop.shards.sweep().await.unwrap();
                    if strays(&shop.urls, &shop.prefix).await.is_empty() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                assert_eq!(strays(&shop.urls, &shop.prefix).await, [""; 0], "{kind}: way {way}, byte {at}");
            }
        }
        assert!(cuts > 5 && failed > cuts / 3, "{kind}: {cuts} cuts, {failed} failures");
        eprintln!(
            "{kind}: {cuts} cuts of {all:?} bytes, {failed} failures, {done} of them after all was visible"
        );
        source.release().await.unwrap();
    }
}
